"""From what a user passes as `weights=` to a loaded model."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.weights import download, registry
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.keras2_h5 import read_keras2_h5
from keras_video_focalnet.weights.keras3_file import read_keras3
from keras_video_focalnet.weights.mapping import load_state
from keras_video_focalnet.weights.safetensors_file import read_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict

BUNDLED = Path(__file__).parent / "bundled"
TORCH_SUFFIXES = (".pth", ".pt", ".bin")
KERAS3_SUFFIXES = (".weights.h5", ".keras")
KERAS2_SUFFIXES = (".h5", ".hdf5")
SAFETENSORS_SUFFIXES = (".safetensors",)
SUFFIXES = TORCH_SUFFIXES + KERAS3_SUFFIXES + KERAS2_SUFFIXES + SAFETENSORS_SUFFIXES


@dataclass(frozen=True)
class Weights:
    """Opened weights.

    Attributes:
        origin: what to call them in messages: a file, a URL, or a published name.
        state: the arrays; None leaves a model random.
        labels: class names, where they are known.
        discard: takes out of the cache what was downloaded just now; None where nothing was.
    """

    origin: str
    state: dict | None = None
    labels: tuple | None = None
    discard: Callable[[], None] | None = None

    @property
    def classes(self):
        """The number of classes, or None where there is no classifier."""
        return len(self.state["head.bias"]) if self.state and "head.bias" in self.state else None

    def load_into(self, model, temporal_init="identity"):
        """Load into a built model, see `mapping.load_state`; what does not fit leaves the cache as it was."""
        if self.state is None:
            return []
        try:
            return load_state(model, self.state, self.origin, temporal_init)
        except WeightsFileError:
            if self.discard is not None:
                self.discard()
            raise


def open_weights(architecture, weights):
    """Open what a user passed as `weights=`.

    Args:
        architecture: str, the builder's name, such as `"VideoFocalNetB"`; None where only a file or a URL will do.
        weights: None, a name of the registry, a path, or a URL.

    Returns:
        `Weights`.

    Raises:
        ValueError: for an unknown name; the message lists those that exist.
        FileNotFoundError: for a path without a file.
        WeightsFileError: for a file that cannot be read.
        WeightsDownloadError: for a URL that cannot be fetched.
    """
    if weights is None:
        return Weights("random initialization")
    weights = os.fspath(weights)
    if "://" in weights:
        # A mirror stands in for the published addresses alone, not for one that the user wrote out.
        return _fetch(weights, use_base_url=False)
    if _looks_like_a_path(weights):
        state, labels = read_state(weights)
        return Weights(weights, state, labels)
    if architecture is None:
        raise ValueError(f"weights={weights!r} is no path or URL; published names are for VideoFocalNetT and so on.")
    entry = registry.find(architecture, weights)
    labels = None if entry.labels is None else tuple(load_labels(entry.labels))
    if entry.bundled:
        return Weights(f"{architecture}/{entry.name}", read_safetensors(BUNDLED / entry.bundled), labels)
    return _fetch(entry.url, labels, file_name=entry.cache_name, sha256=entry.sha256)


def _fetch(url, labels=None, file_name=None, **options):
    fetched = []

    def convert(path):
        fetched.append(path)
        return read_state(path)[0]

    state = download.fetch_state(url, convert=convert, file_name=file_name, **options)
    return Weights(url, state, labels, partial(download.forget, url, file_name) if fetched else None)


def load_weights(model, weights, temporal_init="identity"):
    """Load a file of weights into a model that is already built, whatever its options.

    Args:
        model: a built `VideoFocalNet`.
        weights: a path or a URL, as the builders take.
        temporal_init: of weights that have no temporal branch: `"identity"` or `"random"`, see `VideoFocalNetT`.

    Returns:
        List of the reference's names of what was left as it was: a classifier with other classes, a temporal branch.

    Raises:
        ValueError: if the weights do not fit the model; the message names the first tensor that does not.

    Example:
    >>> model = VideoFocalNet(embed_dim=8, depths=(1, 1, 2, 1), input_shape=(8, 48, 48, 3), classes=7)
    >>> load_weights(model, "tests/data/micro/checkpoint.pth")
    []
    """
    return open_weights(None, weights).load_into(model, temporal_init)


def read_state(path):
    """Read a file of weights of any format we know, told apart by its name.

    Args:
        path: `.pth`, `.pt`, `.bin` (PyTorch), `.weights.h5`, `.keras` (Keras 3), `.h5` (Keras 2) or `.safetensors`.

    Returns:
        The state, and the class names that the file carries, or None.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsFileError: if it cannot be read; the message names the file and the first offending thing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r}: there is no such file.")
    name = path.name.lower()
    if name.endswith(TORCH_SUFFIXES):
        return read_state_dict(path), None
    if name.endswith(KERAS3_SUFFIXES):
        return read_keras3(path)
    if name.endswith(KERAS2_SUFFIXES):
        return read_keras2_h5(path), None
    if name.endswith(SAFETENSORS_SUFFIXES):
        return read_safetensors(path), None
    raise WeightsFileError(f"{path}: unknown kind of file; pass one that ends in {', '.join(SUFFIXES)}.")


def _looks_like_a_path(weights):
    return os.sep in weights or "/" in weights or weights.lower().endswith(SUFFIXES) or Path(weights).is_file()
