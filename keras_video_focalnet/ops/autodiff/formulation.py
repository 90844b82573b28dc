"""Which of an operation's formulations runs: the one that its rule prefers, or one that a context forces."""

import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import keras

from keras_video_focalnet.ops import Tensor

# Formulation by operation. None where this context forces nothing itself and may be part of one that does.
_forced: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("forced_formulations", default=None)


@contextlib.contextmanager
def force(**choices: str) -> Iterator[None]:
    """Run operations in the given formulations, by operation, instead of those that the rules prefer.

    `force(temporal_conv="winograd")` names one; `device="cpu"` or `"gpu"` lets the rules choose as there. A choice is
    made when a function is traced: what is traced inside stays so, what was traced before stays as it was. It belongs
    to the context that makes it (`contextvars`), so other threads compute as they would without it. The threads in
    which `tf.distribute` traces its replicas are part of that context. What runs in threads of a backend while a graph
    runs, such as the function of `tf.py_function`, is not: force inside that function.
    """
    if choices.get("device", "cpu") not in ("cpu", "gpu"):
        raise ValueError(f"device must be cpu or gpu, received {choices['device']!r}.")
    choices = MappingProxyType({**forced_choices(), **choices})
    with _shown_to_replicas(choices):
        token = _forced.set(choices)
        try:
            yield
        finally:
            _forced.reset(token)


def forced_choices() -> Mapping[str, str]:
    """What the running context forces: formulation by operation."""
    choices = _forced.get()
    return _forced_by_strategy() if choices is None else choices


def with_forced_choices(function: Callable) -> Callable:
    """`function` as it computes here, whenever and in whatever thread it runs.

    A backward pass that computes again what the forward pass did may run in another thread, or outside the context that
    forced the forward pass.
    """
    if keras.backend.backend() == "torch" and sys.modules["torch"].compiler.is_dynamo_compiling():
        return function  # `torch.compile` traces the backward pass along with the forward pass.
    choices = forced_choices()

    @functools.wraps(function)
    def call(*arguments):
        token = _forced.set(choices)
        try:
            return function(*arguments)
        finally:
            _forced.reset(token)

    return call


class _Carrier:
    """A variable creator that changes nothing: TensorFlow hands creators on to the threads of replicas.

    `MirroredStrategy` traces each replica in a thread of its own, which does not inherit context variables but does
    inherit the stack of variable creators.
    """

    def __init__(self, choices):
        self.choices = choices
        self.thread = threading.get_ident()

    def __call__(self, next_creator, **arguments):
        return next_creator(**arguments)


def _shown_to_replicas(choices):
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return sys.modules["tensorflow"].variable_creator_scope(_Carrier(choices))


def _forced_by_strategy():
    """What the thread forces that started this one as a replica of a `tf.distribute` strategy."""
    if keras.backend.backend() == "tensorflow":
        graph = sys.modules["tensorflow"].compat.v1.get_default_graph()
        # No public function gives the creators.
        for _, creator in reversed(getattr(graph, "_variable_creator_stack", ())):
            # The thread that forces has the context variable; another task of its event loop is not meant.
            if isinstance(creator, _Carrier) and creator.thread != threading.get_ident():
                return creator.choices
    return {}


def _forced_formulation(operation):
    return forced_choices().get(operation)


if keras.backend.backend() == "torch":
    # `torch.compile` cannot trace a context variable; what it finds while it traces is what it compiles.
    _forced_formulation = sys.modules["torch"].compiler.assume_constant_result(_forced_formulation)


def choose(operation: str, formulations: Mapping[str, Any], default: str) -> Any:
    """The formulation to run, of functions by name: the one that is forced, else the one that the operation's rule
    prefers.
    """
    name = _forced_formulation(operation) or default
    if name not in formulations:
        raise ValueError(f"{operation} has no formulation {name!r}; force one of {', '.join(formulations)}.")
    return formulations[name]


def on_cpu(x: Tensor) -> bool:
    """Whether an operation on `x` runs on a CPU; on PyTorch that is where `x` lies, elsewhere the default device."""
    device = _forced_formulation("device")
    if device is not None:
        return device == "cpu"
    backend = keras.backend.backend()
    if backend == "torch":
        return x.device.type == "cpu"
    if backend == "jax":
        return sys.modules["jax"].default_backend() == "cpu"
    if backend == "tensorflow":
        return not any(map(sys.modules["tensorflow"].config.list_logical_devices, ("GPU", "TPU")))
    return True


def half_precision_by_context(x: Tensor) -> bool:
    """Whether PyTorch's autocast will compute in half precision on `x`, which comes in float32."""
    if keras.backend.backend() != "torch":
        return False
    torch, device = sys.modules["torch"], x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def compiled_by_torch(*tensors: Tensor) -> bool:
    """Whether PyTorch traces what is computed here on `tensors`, for `torch.compile` or `torch.export`."""
    torch = sys.modules["torch"]
    if not torch.compiler.is_compiling():
        return False
    # While one thread exports, PyTorch says so in every thread. In the one that does, tensors are of other types.
    ordinary = (torch.Tensor, torch.nn.Parameter)
    return torch.compiler.is_dynamo_compiling() or any(type(tensor) not in ordinary for tensor in tensors)


def compiled_by_xla() -> bool:
    """Whether what is traced here will be compiled by XLA: always on JAX, in `jit_compile=True` on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    # `tf.function(jit_compile=True)` traces in a control flow context of this kind; no public function says so.
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(sys.modules["tensorflow"].compat.v1.get_default_graph())
