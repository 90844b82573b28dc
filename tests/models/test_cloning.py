"""`keras.models.clone_model` gives a model of the same class that knows what the cloned one knows."""

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from tests.exporting.small_model import SMALL, clips_like, small

SHAPE = SMALL["input_shape"]


def same_as(source, clone, clips):
    assert type(clone) is type(source) and clone.labels == source.labels and clone.name == source.name
    assert clone is not source and not set(map(id, clone.weights)) & set(map(id, source.weights))
    assert list(kvf.feature_taps(clone)) == list(kvf.feature_taps(source))
    clone.set_weights(source.get_weights())
    np.testing.assert_allclose(clone.predict(clips, verbose=0), source.predict(clips, verbose=0), atol=1e-6)
    assert clone.with_classifier(3, labels=list("xyz")).labels == ("x", "y", "z")


def test_a_clone_keeps_class_labels_frozen_layers_and_compilation():
    model = small()
    kvf.freeze_stages(model, 2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    clone = keras.models.clone_model(model)
    assert clone.compiled and type(clone.optimizer) is type(model.optimizer)
    assert [weight.path for weight in clone.trainable_weights] == [weight.path for weight in model.trainable_weights]
    same_as(model, clone, clips_like(model))


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_clone_on_other_tensors(tmp_path):
    model = small()
    clips = clips_like(model)
    source = keras.Input(SHAPE, name="source")
    clone = keras.models.clone_model(model, input_tensors=source)
    assert clone.input is source
    same_as(model, clone, clips)
    # As Keras does, a tensor from within a graph stands for an input of its shape.
    same_as(model, keras.models.clone_model(model, input_tensors=keras.layers.Rescaling(0.5)(source)), clips)
    half = small(input_tensor=keras.layers.Rescaling(0.5, name="half")(source), input_shape=None)
    for clone in (
        keras.models.clone_model(half),
        keras.models.clone_model(half, input_tensors=keras.Input(SHAPE, name="other")),
    ):
        assert clone.get_layer("half").scale == 0.5
        same_as(half, clone, clips)
    clone.save(tmp_path / "clone.keras")
    loaded = keras.saving.load_model(tmp_path / "clone.keras")
    np.testing.assert_allclose(loaded.predict(clips, verbose=0), half.predict(clips, verbose=0), atol=1e-6)


def test_a_clone_inside_another_model():
    model = small()
    outer = keras.Sequential([model, keras.layers.Dense(2)])
    for recursive in (False, True):
        inner = keras.models.clone_model(outer, recursive=recursive).layers[0]
        assert type(inner) is type(model) and inner.labels == model.labels


def test_functions_that_clone_layers():
    """Copies keep what the function gave them; other layers make a model of another architecture, as Keras makes it."""
    model = small()

    def with_weights(layer):
        copy = type(layer).from_config(layer.get_config())
        if getattr(layer, "weights", None):
            copy.build(layer.input.shape)
            copy.set_weights(layer.get_weights())
        return copy

    clips = clips_like(model)
    clone = keras.models.clone_model(model, clone_function=with_weights)
    assert type(clone) is type(model)
    np.testing.assert_allclose(clone.predict(clips, verbose=0), model.predict(clips, verbose=0), atol=1e-6)
    shared = keras.models.clone_model(model, clone_function=lambda layer: layer)
    assert type(shared) is not type(model) and shared.get_layer("head") is model.get_layer("head")

    def other_head(layer):
        return keras.layers.Dense(7, name="head") if layer.name == "head" else with_weights(layer)

    assert keras.models.clone_model(model, clone_function=other_head).output_shape == (None, 7)


def test_a_subclass_with_arguments_of_its_own():
    @keras.saving.register_keras_serializable(package="test_cloning")
    class Own(kvf.VideoFocalNet):
        def __init__(self, mark=None, **kwargs):
            super().__init__(**kwargs)
            self.mark = mark

        def get_config(self):
            return {**super().get_config(), "mark": self.mark}

    model = Own(mark="kept", **SMALL)
    assert keras.models.clone_model(model).mark == "kept"


def test_a_clone_that_is_begun_and_not_made_leaves_nothing():
    model = small()
    source = keras.Input(SHAPE)
    # What Keras does first.
    model._run_through_graph(source, operation_fn=lambda layer: layer, call_fn=None)
    assert type(small()) is type(model)
