"""How XLA compiles our models for a CPU on JAX."""

import functools
import os
from collections.abc import Mapping
from types import MappingProxyType

import keras

# XLA's own libraries for products are slower than Eigen's at ours.
_ALWAYS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INVALID"}
# One operation after the other, each with all threads, instead of several side by side.
_INFERENCE = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def compiler_options(training: bool) -> Mapping[str, str]:
    """The options with which `jax.jit` compiles a step of a model of ours the fastest, by their names.

    There are some on a CPU alone. What the environment variable `XLA_FLAGS` names stays as it says, and an option that
    the installed JAX does not know is left out. They change speed, and results by rounding at most.
    """
    if keras.backend.backend() != "jax":
        return MappingProxyType({})
    import jax

    return _supported(training) if jax.default_backend() == "cpu" else MappingProxyType({})


@functools.cache
def _supported(training):
    import jax

    options, flags = {}, os.environ.get("XLA_FLAGS", "")
    for name, value in {**_ALWAYS, **({} if training else _INFERENCE)}.items():
        if f"--{name}=" in flags:
            continue
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except Exception:  # JAX raises errors of several kinds for what it does not know.
            continue
        options[name] = value
    return MappingProxyType(options)
