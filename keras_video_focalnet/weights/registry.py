"""What weights are published, as data: where they lie, what they were trained on and how well they do."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from keras_video_focalnet.labels import DATA_SETS, find_data_set

_KERAS_PORT = "https://github.com/innat/Video-FocalNets/releases/download/v1.0/"
_FOCALNET = "https://github.com/microsoft/FocalNet/releases/download/v1.0.0/"

_KERAS_NOTE = "Keras 2 port of the authors' checkpoint"
_IMAGENET_NOTE = (
    "FocalNet SRF image classifier on ImageNet-1K, which initializes the spatial branch; the paper of Video-FocalNets "
    "reports no accuracy for it"
)
_BUNDLED_NOTE = "trained by examples/camera_motion on synthesized clips; ships inside the package"


@dataclass(frozen=True)
class Entry:
    """One published set of weights.

    Attributes:
        architecture: name of the builder, as `"VideoFocalNetT"`.
        name: key of the data set, which `weights=` takes, as `"k400"`.
        long_name: the data set's name in words.
        classes: number of classes of the classifier.
        labels: name of the file of class names in `keras_video_focalnet/labels`, without its ending; None: no file.
        input_shape: what it was trained on, `(frames, height, width, 3)`; an image model has 1 frame.
        parameters: number of parameters with this classifier; None: not counted here.
        gmac: multiply-adds in 10^9 of one view of `input_shape`; None: not counted here.
        top1: accuracy in percent that the paper reports (tables 2 to 6); None: it reports none.
        views: `(clips, crops)` a video that `top1` is the mean of (section 4.1); None: no `top1`.
        url: address of the published file; None: it ships with the package.
        bundled: name of the file inside the package; None: it is downloaded.
        licence: licence of the published file.
        source: who made the file.
        sha256: digest of the published file; None: not known, so it is recorded at the first download.
        google_drive: id of the authors' own `.pth` on Google Drive, which a script cannot fetch; None: it has none.
    """

    architecture: str
    name: str
    long_name: str
    classes: int
    labels: str | None
    input_shape: tuple[int, int, int, int]
    parameters: int | None = None
    gmac: float | None = None
    top1: float | None = None
    views: tuple[int, int] | None = None
    url: str | None = None
    bundled: str | None = None
    licence: str = "MIT"
    source: str = _KERAS_NOTE
    sha256: str | None = None
    google_drive: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the published or bundled file."""
        return self.bundled or PurePosixPath(urlsplit(self.url).path).name

    @property
    def cache_name(self) -> str:
        """Name of the converted file in the cache."""
        return f"{self.architecture}_{self.name}.safetensors"


# Clips and crops a video that the paper tests with (section 4.1).
_VIEWS = {"k400": (4, 3), "k600": (4, 3), "ssv2": (1, 3), "diving48": (1, 3), "activitynet": (1, 3)}

# architecture: (letter in file names, FocalNet's name, width of the classifier's input, parameters at 400, GMAC)
_ARCHITECTURES = {
    "VideoFocalNetT": ("T", "tiny", 768, 49_553_272, 63.00),
    "VideoFocalNetS": ("S", "small", 768, 88_735_168, 124.33),
    "VideoFocalNetB": ("B", "base", 1024, 157_389_216, 220.65),
}
_NAMES_OF_ARCHITECTURES = {
    **{
        alias: architecture
        for architecture, (letter, size, *_) in _ARCHITECTURES.items()
        for alias in (letter.lower(), size, f"videofocalnet{letter.lower()}", f"videofocalnet{size}")
    },
    "n": "VideoFocalNetNano",
    "nano": "VideoFocalNetNano",
    "videofocalnetnano": "VideoFocalNetNano",
}

# (architecture, data set, data set in the file's name, top-1, Google Drive id)
_VIDEO = (
    ("VideoFocalNetT", "k400", "K400", 79.8, "1wsUjJbPVQd7pf-OocD9mVU8pak0gdBTP"),
    ("VideoFocalNetS", "k400", "K400", 81.4, "1gO4_tluuoR4mn2bSQRNyy9_wFCnUSiQ0"),
    ("VideoFocalNetB", "k400", "K400", 83.6, "1tc1AKKmvHN7Hzxpd53QsBIMQZmLH8ozX"),
    ("VideoFocalNetB", "k600", "K600", 86.7, "16u1dij3dde0KmaajiB5lAFy8FaRvQDmS"),
    ("VideoFocalNetB", "ssv2", "SSV2", 71.1, "1MIPLjMVDmYEY5jmJs8pRRIj4gKNVqETg"),
    ("VideoFocalNetB", "diving48", "D48", 90.8, "1MMZeDucN1cfC5MiTGIft8xNfo5358dA2"),
    ("VideoFocalNetB", "activitynet", "ANET", 89.8, "1Zku86i9Ol1gabqBqf0h1vtL-_H5gglA3"),
)


def _data_set(architecture: str, name: str) -> dict:
    data_set = DATA_SETS[name]
    return {
        "architecture": architecture,
        "name": name,
        "long_name": data_set.long_name,
        "classes": data_set.classes,
        "labels": data_set.file,
    }


def _video(architecture: str, name: str, file_part: str, top1: float, google_drive: str) -> Entry:
    letter, _, width, parameters, gmac = _ARCHITECTURES[architecture]
    classes = DATA_SETS[name].classes
    return Entry(
        **_data_set(architecture, name),
        input_shape=(8, 224, 224, 3),
        parameters=parameters + (classes - 400) * (width + 1),
        gmac=gmac,
        top1=top1,
        views=_VIEWS[name],
        url=f"{_KERAS_PORT}TFVideoFocalNet{letter}_{file_part}_8x224.h5",
        google_drive=google_drive,
    )


def _imagenet(architecture: str) -> Entry:
    return Entry(
        **_data_set(architecture, "imagenet"),
        input_shape=(1, 224, 224, 3),
        url=f"{_FOCALNET}focalnet_{_ARCHITECTURES[architecture][1]}_srf.pth",
        source=_IMAGENET_NOTE,
    )


def _camera_motion() -> Entry:
    return Entry(
        **_data_set("VideoFocalNetNano", "camera_motion"),
        input_shape=(8, 64, 64, 3),
        bundled="nano_camera_motion.safetensors",
        licence="Apache-2.0",
        source=_BUNDLED_NOTE,
    )


REGISTRY: tuple[Entry, ...] = (
    *(_video(*row) for row in _VIDEO),
    *(_imagenet(architecture) for architecture in _ARCHITECTURES),
    _camera_motion(),
)


def find(architecture: str, weights: str) -> Entry:
    """Finds the entry of an architecture and a data set.

    Args:
        architecture: `"VideoFocalNetT"`, or short `"tiny"` or `"t"`; likewise S, B and Nano.
        weights: any name of a data set, see `labels.find_data_set`.

    Returns:
        The entry.

    Raises:
        ValueError: no such architecture, or no such weights for it; tells which there are.

    Example:
        >>> find("tiny", "Kinetics-400").top1
        79.8
    """
    name = _architecture(architecture)
    wanted = find_data_set(weights)
    for entry in REGISTRY:
        if entry.architecture == name and entry.name == wanted:
            return entry
    raise ValueError(
        f"weights={weights!r} is not published for {name}; use one of {', '.join(map(repr, list_models(name)))}, "
        "None, or the path or URL of a weights file."
    )


def list_models(architecture: str | None = None) -> list[str]:
    """Lists what is published.

    Args:
        architecture: as for `find`; None lists all.

    Returns:
        Names that `weights=` takes for that architecture, or all as `"VideoFocalNetT/k400"`.

    Raises:
        ValueError: no such architecture.

    Example:
        >>> list_models("tiny")
        ['k400', 'imagenet']
    """
    if architecture is None:
        return [f"{entry.architecture}/{entry.name}" for entry in REGISTRY]
    name = _architecture(architecture)
    return [entry.name for entry in REGISTRY if entry.architecture == name]


def _architecture(name: str) -> str:
    try:
        return _NAMES_OF_ARCHITECTURES[_plain(name)]
    except KeyError:
        known = ", ".join(sorted(set(_NAMES_OF_ARCHITECTURES.values())))
        raise ValueError(f"architecture={name!r} is not known; use one of {known}.") from None


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", str(name)).lower()
