"""Golden data of SIFA: of a small part a copy is in the repository, the rest is read where it lies beside it."""

import json

import numpy as np
import pytest

from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.golden import PLACES

# What float32 adds by rounding, relative to the largest value of an array; and what float64 does.
VALUES, GRADIENTS, DOUBLE = 1e-5, 1e-4, 1e-9
# What a checkpoint holds that is computed from sizes alone.
FIXED = (".def_cor.weight", ".relative_position_index", ".attn_mask", ".num_batches_tracked")


def file(folder, name):
    """The path of a file of golden data, the whole one where it is there, or None."""
    places = (place / "sifa" / folder / name for place in reversed(PLACES))
    return next((path for path in places if path.exists()), None)


def present(folder, name):
    """As `file`; skips the test where it is absent."""
    path = file(folder, name)
    if path is None:
        pytest.skip(f"golden data 'sifa/{folder}/{name}' is absent, in tests/data as in ../shared/golden")
    return path


def expected(folder, *needed):
    """The arrays of a folder; skips the test where the copy in the repository leaves out what is needed."""
    data = np.load(present(folder, "expected.npz"))
    for name in needed:
        if name not in data:
            pytest.skip(f"golden array {name!r} of 'sifa/{folder}' is absent: ../shared/golden has it")
    return data


def config(folder):
    return json.loads(present(folder, "config.json").read_text())


def checkpoint(folder):
    """The original's checkpoint as a state."""
    return read_state_dict(present(folder, "checkpoint.pth"))


def weights(state, prefix=""):
    """What is learnt of a state, without a prefix of its names."""
    return {
        name.removeprefix(prefix): array
        for name, array in state.items()
        if name.startswith(prefix) and not f".{name}".endswith(FIXED)
    }


def error(actual, wanted):
    """The greatest difference, relative to the largest value."""
    actual = np.asarray(actual).reshape(wanted.shape)
    return float(np.abs(actual - wanted).max() / max(np.abs(wanted).max(), np.finfo("float64").tiny))
