"""Which processors multiply faster in half precision."""

import pytest

from keras_video_focalnet.ops.processor import multiplies_faster_in

pytestmark = pytest.mark.backend_free

ONE_OF_TWO_CORES = (
    "processor\t: {core}\nvendor_id\t: {vendor}\nmodel name\t: Any: one\nflags\t\t: fpu {flags} sse4_2\n\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {features} crc32\nCPU implementer\t: 0x41\n"


def x86(vendor, flags):
    return "".join(ONE_OF_TWO_CORES.format(core=core, vendor=vendor, flags=flags) for core in range(2))


@pytest.mark.parametrize(
    "cpuinfo,bfloat16,float16",
    [
        (x86("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile"), True, False),
        (x86("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_fp16 amx_tile"), True, True),
        (x86("GenuineIntel", "avx512f avx512_bf16 avx512_fp16"), False, False),
        (x86("GenuineIntel", "avx2 avx512f avx512_vnni"), False, False),
        (x86("AuthenticAMD", "avx512f avx512_bf16"), True, False),
        (x86("AuthenticAMD", "avx2 avx512f"), False, False),
        (x86("HygonGenuine", "avx2 avx512_bf16_of_a_name_that_begins_alike"), False, False),
        (ARM.format(features="i8mm bf16"), True, False),
        (ARM.format(features="asimdhp svebf16"), False, False),
        ("", False, False),
        ("no fields\n::\nflags\n", False, False),
    ],
    ids=["amx", "amx_fp16", "intel_vectors", "intel", "amd_vectors", "amd", "other", "arm", "older_arm", "none", "odd"],
)
def test_by_features_and_vendor(cpuinfo, bfloat16, float16):
    assert multiplies_faster_in("bfloat16", cpuinfo) == bfloat16
    assert multiplies_faster_in("float16", cpuinfo) == float16
