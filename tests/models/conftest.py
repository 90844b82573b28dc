"""Models that tests of entrances share."""

import numpy as np
import pytest

from tests.exporting.small_model import around
from tests.models.entrances import CLIPS, LABELS, compiled


@pytest.fixture(scope="module")
def model():
    """A model that knows all functions and, on TensorFlow, more than one size of batch already."""
    model = compiled()
    model.optimizer.learning_rate = 0.0
    for count in (1, 2):
        model.predict(CLIPS[:count], verbose=0)
    model.fit(CLIPS, LABELS, verbose=0)
    model.evaluate(CLIPS, LABELS, verbose=0)
    return model


@pytest.fixture
def whole(model):
    """The model has its weights and scores after the test."""
    weights, scores = model.get_weights(), model.predict(CLIPS, verbose=0)
    yield
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(model.predict(CLIPS, verbose=0), scores)


@pytest.fixture(scope="module")
def outer():
    """Keras's own model around one of ours."""
    model = around()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model
