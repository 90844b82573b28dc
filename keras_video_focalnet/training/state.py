"""All that a training run would go on from: weights, optimizer, metrics and random state, as arrays by name."""

import sys

import keras
import numpy as np
from keras.src.random import seed_generator

TORCH_GENERATOR = "random/torch"


def capture(model):
    """Copy a compiled model's whole training state.

    `save_weights` and `.keras` files leave out where the random layers are in their sequences; this does not.

    Args:
        model: a compiled Keras model, between two steps.

    Returns:
        Dict of NumPy arrays: the model's variables (seed generators among them), the optimizer's, the metrics', Keras's
        global seed generator's, and on PyTorch the state of torch's own generator. bfloat16 is widened to float32.

    Example:
    >>> model = VideoFocalNetNano(weights=None, classes=4)
    >>> model.compile("sgd", "categorical_crossentropy")
    >>> state = capture(model)
    >>> restore(model, state)
    """
    state = {name: _array(variable) for name, variable in _variables(model).items()}
    if keras.backend.backend() == "torch":
        # Imported by Keras, whose backend it is.
        state[TORCH_GENERATOR] = sys.modules["torch"].get_rng_state().numpy()
    return state


def restore(model, state):
    """Put a model back into a state that `capture` copied.

    Args:
        model: a compiled Keras model of the same architecture, optimizer and metrics.
        state: what `capture` returned.

    Raises:
        ValueError: the state is of another model, optimizer or backend; the message names the first variable that
            differs. The model is left as it was.
    """
    variables = _variables(model)
    expected = {*variables, *([TORCH_GENERATOR] if keras.backend.backend() == "torch" else [])}
    differing = sorted(expected ^ state.keys())
    if differing:
        where = "this model" if differing[0] in expected else "the state"
        raise ValueError(f"state does not fit the model: only {where} has {differing[0]!r}; resume what was saved.")
    for name, variable in variables.items():
        if tuple(variable.shape) != state[name].shape:
            raise ValueError(
                f"state does not fit the model: {name!r} is {state[name].shape} in the state and "
                f"{tuple(variable.shape)} in the model; resume what was saved."
            )
    for name, variable in variables.items():
        variable.assign(state[name])
    restore_generator(state)


def restore_generator(state):
    """Put torch's own generator back, where the state has it.

    Args:
        state: what `capture` returned.
    """
    if TORCH_GENERATOR in state:
        torch = sys.modules["torch"]
        torch.set_rng_state(torch.from_numpy(np.array(state[TORCH_GENERATOR])))


def averaged_weights(model):
    """The weights by which a model is to be judged: their moving averages where the optimizer keeps them.

    Args:
        model: a compiled Keras model.

    Returns:
        List of arrays as `model.get_weights()` gives them.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = {}
    if optimizer.use_ema and optimizer.built:
        moving = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
        averages = {id(variable): average for variable, average in moving}
    return [_array(averages.get(id(variable), variable)) for variable in model.weights]


def _variables(model):
    """Every variable of a run, by kind and number: what Keras names itself depends on what was named before."""
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
        "random": [seed_generator.global_seed_generator().state],
    }
    return {f"{group}/{n:05d}": variable for group, members in groups.items() for n, variable in enumerate(members)}


def _array(variable):
    array = np.array(keras.ops.convert_to_numpy(variable))
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
