"""From what a user passes as `weights=` to a loaded model."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keras_video_focalnet.labels import find_data_set, load_labels
from keras_video_focalnet.weights import download, registry
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.formats import SUFFIXES, weights_format
from keras_video_focalnet.weights.keras2_h5 import read_keras2_h5
from keras_video_focalnet.weights.keras3_file import read_keras3
from keras_video_focalnet.weights.mapping import check_head, check_temporal_init, load_state
from keras_video_focalnet.weights.safetensors_file import read_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict

BUNDLED = Path(__file__).parent / "bundled"
# Under what the cached file keeps the class names of the published one, as JSON.
LABELS = "labels"


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

    def __post_init__(self):
        # A file that somebody put into the cache was not checked when it was converted.
        check_head(self.state or {}, self.origin)

    @property
    def classes(self):
        """The number of classes, or None where there is no classifier."""
        return len(self.state["head.bias"]) if self.state and "head.bias" in self.state else None

    def load_into(self, model, temporal_init="identity"):
        """Load into a built model, see `mapping.load_state`; what does not fit leaves the cache as it was."""
        check_temporal_init(temporal_init)
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
        weights: None, a published name, a path, or a URL. A string is a path where it has a separator or the ending of
            a weights file; any other is looked for among the published names first, then among files.

    Returns:
        `Weights`.

    Raises:
        TypeError: for what is none of these.
        ValueError: for an unknown name; the message lists those that exist.
        FileNotFoundError: for a path without a file.
        WeightsFileError: for a file that cannot be read.
        WeightsDownloadError: for a URL that cannot be fetched.
    """
    if weights is None:
        return Weights("random initialization")
    text = os.fspath(weights) if isinstance(weights, (str, os.PathLike)) else weights
    if not isinstance(text, str):
        raise TypeError(
            f"weights={weights!r} is of type {type(weights).__name__}; pass None, a published name, a path or a URL, "
            "as a str or a pathlib.Path."
        )
    if "://" in text:
        # A mirror stands in for the published addresses alone, not for one that the user wrote out.
        return _fetch(text, use_base_url=False)
    if isinstance(weights, os.PathLike) or _is_path(text):
        path = os.path.expanduser(text)
        return Weights(path, *read_state(path))
    if architecture is None:
        raise ValueError(f"weights={text!r} is no path or URL; published names are for VideoFocalNetT and so on.")
    entry = registry.find(architecture, text)
    labels = None if entry.labels is None else tuple(load_labels(entry.labels))
    if entry.bundled:
        return Weights(f"{architecture}/{entry.name}", read_safetensors(BUNDLED / entry.bundled), labels)
    return _fetch(entry.url, labels, file_name=entry.cache_name, sha256=entry.sha256)


def _is_path(text):
    separators = filter(None, (os.sep, os.altsep, "/"))
    if any(separator in text for separator in separators) or text.lower().endswith(SUFFIXES):
        return True
    # A file that happens to be called as a data set must not take its place.
    return find_data_set(text) is None and Path(text).is_file()


def _fetch(url, labels=None, file_name=None, **options):
    fetched = []

    def convert(path):
        fetched.append(path)
        state, own = read_state(path)
        return state, {} if own is None else {LABELS: json.dumps(own)}

    undo = download.undo(url, file_name)
    state, metadata = download.fetch_state(url, convert=convert, file_name=file_name, **options)
    if labels is None and LABELS in metadata:
        labels = json.loads(metadata[LABELS])
    return Weights(url, state, labels, undo if fetched else None)


def load_weights(model, weights, temporal_init="identity"):
    """Load a file of weights into a model that is already built, whatever its options.

    Args:
        model: a built `VideoFocalNet`.
        weights: a path or a URL, as the builders take; None leaves the model as it is.
        temporal_init: of weights that have no temporal branch: `"identity"` or `"random"`, see `VideoFocalNetT`.

    Returns:
        List of the reference's names of what was left as it was: a classifier with other classes, a temporal branch.

    Raises:
        ValueError: if the weights do not fit the model; the message names the first tensor that does not. Or if
            `temporal_init` is unknown, before anything is opened.

    Example:
    >>> model = VideoFocalNet(embed_dim=8, depths=(1, 1, 2, 1), input_shape=(8, 48, 48, 3), classes=7)
    >>> load_weights(model, "tests/data/micro/checkpoint.pth")
    []
    """
    check_temporal_init(temporal_init)
    return open_weights(None, weights).load_into(model, temporal_init)


def read_state(path):
    """Read a file of weights of any format we know, told apart by its name, else by its content.

    Args:
        path: `.pth`, `.pt`, `.bin` (PyTorch), `.weights.h5`, `.keras` (Keras 3), `.h5` (Keras 2), `.safetensors`, or
            one of these formats under a name of another or no ending. `~` stands for the home folder.

    Returns:
        The state, and the class names that the file carries, or None.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsFileError: if it cannot be read; the message names the file and the first offending thing.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r}: there is no such file.")
    kind = weights_format(path)
    labels = None
    if kind == "torch":
        state = read_state_dict(path)
    elif kind == "keras3":
        state, labels = read_keras3(path)
    elif kind == "keras2":
        state = read_keras2_h5(path)
    else:
        state = read_safetensors(path)
    check_head(state, path)
    return state, labels
