"""The state that a training run continues from: weights, optimizer, metrics and random state, as arrays by name."""

import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras.src.random import seed_generator

from keras_video_focalnet.models.kept import keeps, refresh_kept

TORCH_GENERATOR = "random/torch"


def capture(model: keras.Model) -> dict[str, np.ndarray]:
    """Copy the entire training state of a compiled model between two steps, as arrays by name.

    That is the variables of the model, of the optimizer, of the metrics and of Keras's global seed generator, and on
    PyTorch the state of torch's own generator. `save_weights` and `.keras` files leave out how far the random layers
    are in their sequences; this does not. bfloat16 is widened to float32.
    """
    refresh_kept(model)
    state = {name: _array(variable) for name, variable in _variables(model).items()}
    if keras.backend.backend() == "torch":
        # Keras has imported torch, because it is the backend.
        state[TORCH_GENERATOR] = sys.modules["torch"].get_rng_state().numpy()
    return state


def restore(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Put a model of the same architecture, optimizer and metrics back into a state that `capture` copied. ValueError
    names the first variable that differs, and the model is left as it was.
    """
    variables = _variables(model)
    expected = {*variables, *([TORCH_GENERATOR] if keras.backend.backend() == "torch" else [])}
    differing = sorted(expected ^ state.keys())
    if differing:
        owner = "this model" if differing[0] in expected else "the state"
        raise ValueError(f"state does not fit the model: only {owner} has {differing[0]!r}; resume what was saved.")
    for name, variable in variables.items():
        if tuple(variable.shape) != state[name].shape:
            raise ValueError(
                f"state does not fit the model: {name!r} is {state[name].shape} in the state and "
                f"{tuple(variable.shape)} in the model; resume what was saved."
            )
    for name, variable in variables.items():
        variable.assign(state[name])
    restore_generator(state)


def restore_generator(state: Mapping[str, np.ndarray]) -> None:
    """Restore torch's own random generator, where the state has it."""
    if TORCH_GENERATOR in state:
        torch = sys.modules["torch"]
        torch.set_rng_state(torch.from_numpy(np.array(state[TORCH_GENERATOR])))


def averaged_weights(model: keras.Model) -> list[np.ndarray]:
    """Copy, in the order of `model.get_weights()`, the weights by which a model is judged: their moving averages
    where the optimizer keeps them, and what layers keep of these.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = []
    if optimizer.use_ema and optimizer.built:
        averages = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))
    if keeps(model):
        trained = [(variable, _array(variable)) for variable, _ in averages]
        try:
            for variable, average in averages:
                variable.assign(_array(average))
            refresh_kept(model)
            return [_array(variable) for variable in model.weights]
        finally:
            for variable, array in trained:
                variable.assign(array)
    averages = {id(variable): average for variable, average in averages}
    return [_array(averages.get(id(variable), variable)) for variable in model.weights]


def _variables(model: keras.Model) -> dict[str, Any]:
    """List every variable of a run by kind and number, because Keras's own names depend on the models made before."""
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
        "random": [seed_generator.global_seed_generator().state],
    }
    return {f"{group}/{n:05d}": variable for group, members in groups.items() for n, variable in enumerate(members)}


def _array(variable: Any) -> np.ndarray:
    array = np.array(keras.ops.convert_to_numpy(variable))
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
