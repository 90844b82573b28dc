"""Small videos and a model, for the tests of commands that classify."""

import numpy as np
import pytest

from tests.clips import encode
from tests.colours import COLOURS, colour_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A video of each colour, one that turns from red to blue, and broken files."""
    folder = tmp_path_factory.mktemp("videos")
    for name, colour in COLOURS.items():
        encode(folder / f"{name}.mp4", np.broadcast_to(np.uint8(colour), (10, 48, 64, 3)), options={"crf": "20"})
    turning = np.repeat(np.uint8([COLOURS["red"], COLOURS["blue"]]), 20, axis=0)
    encode(folder / "turning.mp4", np.broadcast_to(turning[:, None, None], (40, 48, 64, 3)), options={"crf": "20"})
    (folder / "page.mp4").write_text("<html></html>" * 100)
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "colours.keras"
    colour_model().save(path)
    return str(path)
