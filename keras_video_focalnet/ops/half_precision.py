"""What a CPU computes in float32 where a layer asks for half precision.

On many processors half precision takes longer than float32: products have a lower rate, and every small step widens
what it reads and rounds what it gives. There a layer widens its inputs once, computes in float32, and rounds its
results once, which is also more exact.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_torch, compiled_by_xla, force, on_cpu
from keras_video_focalnet.ops.processor import this_one_multiplies_faster_in

HALF = ("bfloat16", "float16")
_told: set[str] = set()


def computes_in(dtype: str) -> str:
    """The dtype that stands for `dtype` here: float32 for half precision inside a layer that widens it."""
    if dtype not in HALF:
        return dtype
    return choose("computed_in", {"half": dtype, "float32": "float32"}, "half")


def is_widened(dtype: str, x: Tensor) -> bool:
    """Whether a layer that begins to compute on `x` in `dtype` widens it to float32. Where half precision does not pay,
    the first layer that finds so warns for the process.

    `force(half_products="native")` and `"widened"` choose without regard to the processor, and without a warning.
    """
    if computes_in(dtype) not in HALF or not on_cpu(x):
        return False
    if keras.backend.backend() == "torch" and compiled_by_torch(x):
        return False  # `torch.compile` cannot trace what forces a choice, and fuses the steps between products itself.
    pays = not compiled_by_xla() and this_one_multiplies_faster_in(dtype)
    formulations = {"native": lambda: False, "widened": lambda: True, "rule": lambda: not pays and _tell(dtype)}
    return choose("half_products", formulations, "rule")()


def _tell(dtype):
    if dtype not in _told:
        _told.add(dtype)
        whose = "XLA multiplies" if compiled_by_xla() else "This processor is not known to multiply"
        more = "no faster" if compiled_by_xla() else "faster"
        graph = " Compiled with jit_compile=False they may be faster." if _faster_without_xla(dtype) else ""
        warnings.warn(
            f"{whose} matrices of {dtype} {more} than those of float32. Layers of {dtype} compute in float32 here and "
            f'give results in {dtype}; with dtype="float32" they are as fast and more exact.{graph}',
            stacklevel=2,
        )
    return True


def _faster_without_xla(dtype):
    return keras.backend.backend() == "tensorflow" and compiled_by_xla() and this_one_multiplies_faster_in(dtype)


@contextlib.contextmanager
def widened() -> Iterator[None]:
    """Have layers and variables of half precision compute in float32 here."""
    # Keras has no public name for it.
    from keras.src.backend import AutocastScope

    with force(computed_in="float32"), AutocastScope("float32"):
        yield


def cast_half(structure: Any, dtype: str) -> Any:
    """Cast the tensors of half precision in a structure, or those of float32 to half precision; keep all others."""
    source = HALF if dtype == "float32" else ("float32",)

    def cast(x):
        if ops.is_tensor(x) and keras.backend.standardize_dtype(x.dtype) in source:
            return ops.cast(x, dtype)
        return x

    return keras.tree.map_structure(cast, structure)
