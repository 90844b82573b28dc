"""Whether a processor multiplies matrices faster in half precision than in float32."""

import functools
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def multiplies_faster_in(dtype: str, cpuinfo: str) -> bool:
    r"""Whether a processor multiplies matrices of `"bfloat16"` or `"float16"` clearly faster than matrices of float32.

    Matrix units (AMX) are many times as fast. The vector instructions of AVX512_BF16 have twice the rate of float32 on
    AMD's processors, and half of it on Intel's, where the libraries use them all the same. Of float16 only the matrix
    units count, since the libraries keep sums in float32. Arm's `bf16` multiplies small matrices in one instruction.

    Args:
        dtype: `"bfloat16"` or `"float16"`.
        cpuinfo: What Linux writes in `/proc/cpuinfo`. An empty text, of a system that has no such file, gives False.

    Example:
    >>> multiplies_faster_in("bfloat16", "vendor_id : AuthenticAMD\nflags : fma avx512f avx512_bf16")
    True
    """
    fields = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        # The first of several cores stands for all.
        fields.setdefault(name.strip(), value.strip())
    # A processor of x86 tells flags, one of Arm features.
    flags, features = (fields.get(name, "").split() for name in ("flags", "Features"))
    if dtype == "float16":
        return "amx_fp16" in flags
    by_vectors = "avx512_bf16" in flags and fields.get("vendor_id") != "GenuineIntel"
    return "amx_bf16" in flags or by_vectors or "bf16" in features


@functools.cache
def this_one_multiplies_faster_in(dtype: str) -> bool:
    """`multiplies_faster_in` of the processor that runs this; it is read once."""
    if platform.system() != "Linux":
        return False
    try:
        return multiplies_faster_in(dtype, _CPUINFO.read_text(errors="replace"))
    except OSError:
        return False
