"""What packets of MPEG-4 tell without being decoded."""

import contextlib

import pytest

from keras_video_focalnet.data.mpeg4 import display_order, frame_kind
from keras_video_focalnet.data.video import open_video
from tests.clips import encode, numbered_frames

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    ("kinds", "places"),
    [
        ([0, 1, 2, 2, 1, 2], [1, 4, 2, 3, 6, 5]),
        ([0, 1, 1], [1, 2, 3]),
        ([0], [1]),
        ([], []),
    ],
)
def test_display_order(kinds, places):
    assert display_order(kinds) == places


@pytest.mark.parametrize("both_sides", ["0", "2"])
def test_the_order_of_a_file_is_that_of_its_times(tmp_path, both_sides):
    path = encode(tmp_path / "video.mp4", numbered_frames(24), "mpeg4", options={"bf": both_sides, "g": "8"})
    with contextlib.closing(open_video(path)) as video:
        packets = [packet for packet in video.packets() if packet.size]
    kinds, times = [frame_kind(packet) for packet in packets], [packet.pts for packet in packets]
    assert (2 in kinds) == (both_sides == "2") and None not in kinds
    places = display_order(kinds)
    assert sorted(range(24), key=places.__getitem__) == sorted(range(24), key=times.__getitem__)


class Packet(bytes):
    """Bytes that know their length as packets do."""

    size = property(len)


@pytest.mark.parametrize(
    "data", [b"\0\0\1\xb6\x10", bytes(40), (b"\0\0\1\xb6\x10" + bytes(20)) * 2, bytes(36) + b"\0\0\1\xb6"]
)
def test_packets_without_a_frame_or_with_two(data):
    assert frame_kind(Packet(data)) is None
    assert frame_kind(Packet(b"\0\0\1\xb6\x90" + bytes(20))) == 2
