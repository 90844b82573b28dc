"""Which of an operation's formulations runs: by rule, or forced by a test or a benchmark."""

import contextlib
import sys

import keras

_forced = {}


@contextlib.contextmanager
def force(**choices):
    """Run operations in the given formulations instead of those that the rules choose.

    A choice is made when a function is traced: what is traced inside stays so, what was traced before stays as it was.

    Args:
        **choices: formulation by operation: `temporal_conv="winograd"`; `device="cpu"` or `"gpu"` lets the rules
            choose as there.

    Example:
    >>> from keras_video_focalnet.ops.depthwise import depthwise_conv2d
    >>> with force(depthwise_conv2d="shifted"):
    ...     y = depthwise_conv2d(np.ones((1, 5, 5, 2), "float32"), np.ones((3, 3, 2, 1), "float32"))
    """
    if choices.get("device", "cpu") not in ("cpu", "gpu"):
        raise ValueError(f"device must be cpu or gpu, received {choices['device']!r}.")
    before = dict(_forced)
    _forced.update(choices)
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


def choose(operation, formulations, default):
    """The formulation to run of `formulations`, a dict from name to function: the forced one, else `default`."""
    name = _forced.get(operation, default)
    if name not in formulations:
        raise ValueError(f"{operation} has no formulation {name!r}; force one of {', '.join(formulations)}.")
    return formulations[name]


def on_cpu(x):
    """Whether an operation on `x` runs on a CPU; on PyTorch that is where `x` lies, elsewhere the default device."""
    if "device" in _forced:
        return _forced["device"] == "cpu"
    backend = keras.backend.backend()
    if backend == "torch":
        return x.device.type == "cpu"
    if backend == "jax":
        return sys.modules["jax"].default_backend() == "cpu"
    if backend == "tensorflow":
        return not any(map(sys.modules["tensorflow"].config.list_logical_devices, ("GPU", "TPU")))
    return True


def half_precision_by_context(x):
    """Whether PyTorch's autocast will compute in half precision on `x`, which comes in float32."""
    if keras.backend.backend() != "torch":
        return False
    torch, device = sys.modules["torch"], x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def compiled_by_xla():
    """Whether what is traced now will be compiled by XLA: always on JAX, in `jit_compile=True` on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    # No public function tells: `tf.function(jit_compile=True)` traces in a context of this kind.
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(sys.modules["tensorflow"].compat.v1.get_default_graph())
