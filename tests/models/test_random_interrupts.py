"""Whatever is raised inside a model's methods, at any place, leaves the model with its weights, optimizer and answers.

An error is raised when the calling thread enters its n-th function of Python inside the method, for random n. Before
it, one undisturbed call tells how many there are.
"""

import sys

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from tests.exporting.small_model import around, small

BACKEND = keras.backend.backend()
CLIPS = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2])


class Stop(Exception):
    """An error whose text is kept where Keras raises another in its place."""

    def __init__(self, text="Stop"):
        super().__init__(text)


class Raiser:
    """Counts the functions that are entered, and raises in one of them."""

    def __init__(self, error=None, at=None):
        self.error, self.at, self.count = error, at, 0

    def __call__(self, frame, event, argument):
        # An error in a finalizer, or in what Python itself calls, never reaches the caller.
        if event == "call" and "/keras" in frame.f_code.co_filename and frame.f_code.co_name != "__del__":
            self.count += 1
            if self.count == self.at:
                raise self.error

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)


def compiled(make=small):
    model = make()
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


CALLS = {
    "predict": lambda model: model.predict(CLIPS, batch_size=1, verbose=0),
    "evaluate": lambda model: model.evaluate(CLIPS, LABELS, batch_size=1, verbose=0),
    "fit": lambda model: model.fit(CLIPS, LABELS, batch_size=1, shuffle=False, verbose=0),
    "validate": lambda model: model.fit(CLIPS, LABELS, shuffle=False, validation_data=(CLIPS, LABELS), verbose=0),
}


class States:
    """What the weights are before each step of training, and how to go back to the first."""

    def __init__(self, model, call):
        self.model, self.weights = model, [model.get_weights()]
        if call in ("fit", "validate"):
            end = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: self.weights.append(model.get_weights())
            )
            model.fit(CLIPS, LABELS, batch_size=1 if call == "fit" else 3, shuffle=False, verbose=0, callbacks=[end])
        self.reset()
        self.answer = model.predict(CLIPS, verbose=0)

    def reset(self):
        self.model.set_weights(self.weights[0])
        self.model.optimizer.iterations.assign(0)

    def check(self):
        """Every weight is that of one step or, where it was cut short between two weights, of the next."""
        step = int(self.model.optimizer.iterations.value)
        known = self.weights[max(step - 1, 0) : step + 2]
        for number, weight in enumerate(self.model.get_weights()):
            assert min(np.abs(weight - weights[number]).max() for weights in known) < 1e-5
        self.reset()
        np.testing.assert_allclose(self.model.predict(CLIPS, verbose=0), self.answer, atol=1e-5)


@pytest.fixture(scope="module", params=[small, pytest.param(around, marks=pytest.mark.slow)])
def model(request):
    return compiled(request.param)


@pytest.mark.parametrize(
    ("call", "cold", "trials"),
    [
        ("predict", False, 2),
        ("fit", False, 2),
        *(pytest.param(call, cold, 12, marks=pytest.mark.slow) for call in CALLS for cold in (False, True)),
    ],
)
def test_an_error_anywhere(model, call, cold, trials):
    """With `cold` the functions are compiled anew each time, and errors come while they are traced too."""
    states, rng = States(model, call), np.random.default_rng(len(call))

    def prepare():
        states.reset()
        if cold:
            model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")

    if not cold:
        CALLS[call](model)
    prepare()
    with Raiser() as undisturbed:
        CALLS[call](model)
    assert undisturbed.count > 30
    raised = 0
    for error in (Stop, KeyboardInterrupt) * (trials // 2):
        prepare()
        try:
            with Raiser(error, rng.integers(undisturbed.count) + 1):
                CALLS[call](model)
        except BaseException as caught:
            # TensorFlow makes its own error of one in a function that it traces.
            assert isinstance(caught, error) or "Stop" in repr(caught) or "Interrupt" in repr(caught), repr(caught)
            raised += 1
        states.check()
    assert raised >= trials // 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".tflite", ""])
def test_an_error_anywhere_in_an_export(model, tmp_path, ending):
    states, rng = States(model, "export"), np.random.default_rng(0)

    def export(name):
        kvf.export(model, tmp_path / f"{name}{ending}", clips=CLIPS)

    told = []
    with Raiser() as undisturbed:
        export("whole")
    for trial, error in enumerate((Stop, KeyboardInterrupt) * 3):
        try:
            with Raiser(error, rng.integers(undisturbed.count // 2) + 1):
                export(f"broken_{trial}")
        except BaseException as caught:
            told.append(caught)
        states.check()
    assert len(told) >= 3
    export("again")
    clips = kvf.load_exported(tmp_path / f"again{ending}").predict(CLIPS)
    np.testing.assert_allclose(clips, states.answer, atol=1e-4)
