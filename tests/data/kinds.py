"""Every kind of file that a video comes in, small, and what a reader can know of each."""

import functools

import numpy as np

from keras_video_focalnet.data.clip import read_frames
from tests.clips import real_clips

FRAMES = 72
UNEVEN = np.cumsum(np.r_[0, np.tile([1, 1, 5, 2], FRAMES)])[:FRAMES].tolist()


def x264(**options):
    """Options of libx264; what is not an option of FFmpeg's wrapper goes to the library itself."""
    library = {"scenecut": 0, **options.pop("library", {})}
    text = ":".join(f"{name}={value}" for name, value in library.items())
    return {"preset": "veryfast", "x264-params": text, **options}


# Name: ending, encoder, its options, other arguments of `encode`, and whether a few frames are found by seeking.
KINDS = {
    "H.264, one key frame": ("mp4", "libx264", x264(g="250"), {}, True),
    "H.264, keys every 7, no B frames": ("mp4", "libx264", x264(g="7", bf="0"), {}, True),
    "H.264, keys every 2": ("mp4", "libx264", x264(g="2", bf="3"), {}, True),
    "H.264, only key frames": ("mkv", "libx264", x264(g="1"), {}, True),
    "H.264, pyramid of B frames": ("mkv", "libx264", x264(g="24", bf="6", library={"b-pyramid": "normal"}), {}, True),
    "H.264, open GOP, mp4": ("mp4", "libx264", x264(g="12", bf="5", library={"open-gop": 1, "b-adapt": 0}), {}, True),
    "H.264, open GOP, mkv": ("mkv", "libx264", x264(g="12", bf="5", library={"open-gop": 1, "b-adapt": 0}), {}, True),
    "H.264, intra refresh": ("mp4", "libx264", x264(g="20", bf="0", library={"intra-refresh": 1}), {}, True),
    "H.264, interlaced": ("mp4", "libx264", x264(g="12", bf="2", library={"tff": 1}), {}, False),
    "H.264, variable rate": ("mp4", "libx264", x264(g="12", bf="3"), {"times": UNEVEN}, True),
    "H.264, fragments": ("mp4", "libx264", x264(g="12"), {"container": {"movflags": "frag_keyframe+empty_moov"}}, True),
    "H.264, transport stream": ("ts", "libx264", x264(g="12", bf="3"), {}, True),
    "H.264, avi, B frames": ("avi", "libx264", x264(g="12", bf="3"), {}, False),
    "H.264, flv": ("flv", "libx264", x264(g="12", bf="3"), {}, True),
    "H.264, raw": ("h264", "libx264", x264(g="12", bf="3"), {}, False),
    "H.264, turned": (
        "mov",
        "libx264",
        x264(g="12"),
        {"prepare": lambda stream: stream.set_display_rotation(90)},
        True,
    ),
    "H.264, odd size": ("mkv", "libx264", x264(g="12"), {"pix_fmt": "yuv444p"}, True),
    "MPEG-4, avi": ("avi", "mpeg4", {"g": "12"}, {}, True),
    "MPEG-4, avi, B frames": ("avi", "mpeg4", {"g": "12", "bf": "2"}, {}, True),
    "MPEG-4, mp4, B frames": ("mp4", "mpeg4", {"g": "12", "bf": "2"}, {}, True),
    "MPEG-2": ("mpg", "mpeg2video", {"g": "12", "bf": "2"}, {}, False),
    "VP9, hidden frames": ("webm", "libvpx-vp9", {"g": "30", "cpu-used": "5", "lag-in-frames": "16"}, {}, True),
    "VP9, mp4, keys every 9": ("mp4", "libvpx-vp9", {"g": "9", "cpu-used": "8", "deadline": "realtime"}, {}, True),
    "AV1": ("mp4", "libsvtav1", {"g": "24", "preset": "12", "svtav1-params": "lp=1"}, {}, True),
    "AV1, mkv": ("mkv", "libsvtav1", {"g": "16", "preset": "12", "svtav1-params": "lp=1"}, {}, True),
    "HEVC, open GOP": (
        "mp4",
        "libx265",
        {"preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:keyint=12:open-gop=1:bframes=4"},
        {},
        True,
    ),
    "HEVC, closed": (
        "mkv",
        "libx265",
        {"preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:keyint=20:open-gop=0:bframes=2"},
        {},
        True,
    ),
    "HEVC, one key frame": (
        "mp4",
        "libx265",
        {"preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:keyint=250"},
        {},
        True,
    ),
    "FFV1": ("mkv", "ffv1", {}, {}, False),
}


@functools.cache
def footage():
    """Real frames with changes of scene, `(FRAMES, 96, 160, 3)`."""
    return read_frames(real_clips() / "bikes.mp4", range(FRAMES), short_side=96)[:, :, 20:180]
