"""Where the golden data is."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PLACES = (ROOT / "tests" / "data", ROOT.parent / "shared" / "golden")
MICRO = ("micro", "micro_16f_rect", "micro_tubelet2", "micro_options", "micro_levels")


def golden(name):
    """The folder of golden data of that name; skips the test where it is absent."""
    for place in PLACES:
        if (place / name).is_dir():
            return place / name
    pytest.skip(f"golden data {name!r} is absent: neither tests/data/{name} nor ../shared/golden/{name} exists")


def expected(name):
    return np.load(golden(name) / "expected.npz")


def options(name):
    """The reference's configuration as arguments of `VideoFocalNet`, for clips that are already normalized."""
    config = json.loads((golden(name) / "config.json").read_text())
    config.pop("batch", None)
    shape = (config.pop("num_frames", 8), *config.pop("image_size"), 3)
    classes = config.pop("num_classes")
    return {
        **config,
        "classes": classes,
        "input_shape": shape,
        "include_preprocessing": False,
        "classifier_activation": None,
    }
