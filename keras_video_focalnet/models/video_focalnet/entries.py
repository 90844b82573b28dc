"""The builders of Video-FocalNet and the weights that are published for them, as data."""

from __future__ import annotations

from pathlib import Path

from keras_video_focalnet.labels import DATA_SETS
from keras_video_focalnet.models.registry import Builder, Entry

BUILDERS = (
    Builder("VideoFocalNetT", ("tiny", "t", "videofocalnettiny"), "k400"),
    Builder("VideoFocalNetS", ("small", "s", "videofocalnetsmall"), "k400"),
    Builder("VideoFocalNetB", ("base", "b", "videofocalnetbase"), "k400"),
    Builder("VideoFocalNetNano", ("nano", "n", "videofocalnetnano"), "camera_motion", (8, 64, 64, 3)),
)

_KERAS_PORT = "https://github.com/innat/Video-FocalNets/releases/download/v1.0/"
_FOCALNET = "https://github.com/microsoft/FocalNet/releases/download/v1.0.0/"

_KERAS_NOTE = "Keras 2 port of the authors' checkpoint"
_IMAGENET_NOTE = (
    "FocalNet SRF image classifier on ImageNet-1K, which initializes the spatial branch; the paper of Video-FocalNets "
    "reports no accuracy for it"
)
_BUNDLED_NOTE = "trained by examples/camera_motion on synthesized clips; ships inside the package"

# Clips and crops a video that the Video-FocalNets paper tests with (section 4.1).
_VIEWS = {"k400": (4, 3), "k600": (4, 3), "ssv2": (1, 3), "diving48": (1, 3), "activitynet": (1, 3)}

# Builder: (letter in file names, FocalNet's name, channels that the classifier reads, parameters at 400 classes, GMAC)
_SIZES = {
    "VideoFocalNetT": ("T", "tiny", 768, 49_553_272, 63.00),
    "VideoFocalNetS": ("S", "small", 768, 88_735_168, 124.33),
    "VideoFocalNetB": ("B", "base", 1024, 157_389_216, 220.65),
}

# (builder, data set, data set in the file's name, top-1 of the paper's tables 2 to 6, Google Drive id)
_VIDEO = (
    ("VideoFocalNetT", "k400", "K400", 79.8, "1wsUjJbPVQd7pf-OocD9mVU8pak0gdBTP"),
    ("VideoFocalNetS", "k400", "K400", 81.4, "1gO4_tluuoR4mn2bSQRNyy9_wFCnUSiQ0"),
    ("VideoFocalNetB", "k400", "K400", 83.6, "1tc1AKKmvHN7Hzxpd53QsBIMQZmLH8ozX"),
    ("VideoFocalNetB", "k600", "K600", 86.7, "16u1dij3dde0KmaajiB5lAFy8FaRvQDmS"),
    ("VideoFocalNetB", "ssv2", "SSV2", 71.1, "1MIPLjMVDmYEY5jmJs8pRRIj4gKNVqETg"),
    ("VideoFocalNetB", "diving48", "D48", 90.8, "1MMZeDucN1cfC5MiTGIft8xNfo5358dA2"),
    ("VideoFocalNetB", "activitynet", "ANET", 89.8, "1Zku86i9Ol1gabqBqf0h1vtL-_H5gglA3"),
)


def _entry(architecture: str, name: str, **values) -> Entry:
    data_set = DATA_SETS[name]
    return Entry(architecture, name, data_set.long_name, data_set.classes, data_set.file, **values)


def _video(architecture: str, name: str, file_part: str, top1: float, google_drive: str) -> Entry:
    letter, _, channels, parameters, gmac = _SIZES[architecture]
    return _entry(
        architecture,
        name,
        parameters=parameters + (DATA_SETS[name].classes - 400) * (channels + 1),
        gmac=gmac,
        top1=top1,
        views=_VIEWS[name],
        url=f"{_KERAS_PORT}TFVideoFocalNet{letter}_{file_part}_8x224.h5",
        licence="MIT",
        source=_KERAS_NOTE,
        google_drive=google_drive,
    )


def _imagenet(architecture: str) -> Entry:
    url = f"{_FOCALNET}focalnet_{_SIZES[architecture][1]}_srf.pth"
    return _entry(architecture, "imagenet", input_shape=(1, 224, 224, 3), url=url, licence="MIT", source=_IMAGENET_NOTE)


_CAMERA_MOTION = _entry(
    "VideoFocalNetNano",
    "camera_motion",
    input_shape=(8, 64, 64, 3),
    bundled=Path(__file__).parent / "bundled" / "nano_camera_motion.safetensors",
    licence="Apache-2.0",
    source=_BUNDLED_NOTE,
)

ENTRIES = (*(_video(*row) for row in _VIDEO), *map(_imagenet, _SIZES), _CAMERA_MOTION)
