"""From what a user passes as `weights=` to opened weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.weights import download, hub
from keras_video_focalnet.weights.addresses import without_secret
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError, named_errors
from keras_video_focalnet.weights.formats import is_path, weights_format
from keras_video_focalnet.weights.keras3_file import MAX_CONFIG_BYTES, check_labels, parse_config, read_keras3_variables
from keras_video_focalnet.weights.run_folder import find_weights, is_numbered, numbered, read_run
from keras_video_focalnet.weights.safetensors_file import read_safetensors
from keras_video_focalnet.weights.slots import State, check_classifier
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from keras_video_focalnet.weights.wrappers import without_prefix

LABELS = "labels"
"""Under what the cached file keeps the class names of the published one, as JSON."""


class Published(Protocol):
    """What is to be known of published weights to open them."""

    architecture: str
    name: str
    labels: str | None
    url: str | None
    bundled: Path | None
    page: str | None
    sha256: str | None
    cache_name: str


Reader = Callable[[str | os.PathLike], tuple[State, list[str] | None]]


@dataclass(frozen=True)
class Layout:
    """How weights of an architecture lie in files.

    Attributes:
        find: Function from a published name to what is `Published`; None where only a file or an address will do.
        reader: Function from a format whose layout depends on the architecture (`"keras2"`, `"keras3"`) to a function
            that reads such a file, or to None.
        classifier: Names of the classifier's matrix and bias in the reference's checkpoint; of several heads, those of
            each in turn.
    """

    find: Callable[[str], Published] | None = None
    reader: Callable[[str], Reader | None] = lambda kind: None
    classifier: tuple[str, ...] = ("head.weight", "head.bias")


@dataclass(frozen=True)
class Weights:
    """Opened weights.

    Attributes:
        origin: What to call them in messages: a file, an address, or a published name.
        state: The arrays by the reference's names, or, for a Keras 3 file of an architecture that has no reader of its
            own, by the paths of variables in the file (`"layers/dense/vars/0"`); None leaves a model random.
        labels: Class names, where they are known.
        discard: Takes out of the cache what was downloaded just now; None where nothing was.
    """

    origin: str
    state: State | None = None
    labels: tuple[str, ...] | None = None
    discard: Callable[[], None] | None = None

    def load(self, load_state: Callable[[State, str], Any]) -> Any:
        """Hand the state to a function that loads it; where it does not fit, the cache is left as it was."""
        if self.state is None:
            return []
        try:
            return load_state(self.state, self.origin)
        except WeightsFileError:
            if self.discard is not None:
                self.discard()
            raise


def open_weights(weights: str | os.PathLike | None, layout: Layout = Layout()) -> Weights:  # noqa: B008
    """Open what a user passed as `weights=`."""
    if weights is None:
        return Weights("random initialization")
    text = os.fspath(weights) if isinstance(weights, (str, os.PathLike)) else weights
    if not isinstance(text, str):
        raise TypeError(
            f"weights={weights!r} is of type {type(weights).__name__}; pass None, a published name, a path or a URL, "
            "as a str or a pathlib.Path."
        )
    if "://" in text:
        address, given, sha256 = text.partition("#sha256=")
        # A mirror stands in for the published addresses alone, not for one that the user wrote out.
        return _fetch(address, layout, sha256=sha256 if given else None, use_base_url=False)
    if is_path(weights):
        path = find_weights(text)
        state, labels = read_state(path, layout)
        return Weights(os.fspath(path), state, None if labels is None else tuple(labels))
    if layout.find is None:
        raise ValueError(f"weights={text!r} is no path or URL; published names are for the builders.")
    entry = layout.find(text)
    labels = None if entry.labels is None else tuple(load_labels(entry.labels))
    if entry.bundled:
        return Weights(f"{entry.architecture}/{entry.name}", read_safetensors(entry.bundled), labels)
    if entry.url is None:
        raise WeightsDownloadError(
            f"weights={text!r}: {entry.architecture}/{entry.name} is on Google Drive alone, from which no program may "
            f"fetch it. Open {entry.page} in a browser, download the file, and pass its path as weights."
        )
    return _fetch(entry.url, layout, labels, file_name=entry.cache_name, sha256=entry.sha256)


def _fetch(
    url: str, layout: Layout, labels=None, file_name: str | None = None, sha256: str | None = None, **options
) -> Weights:
    if url.startswith(hub.SCHEME):
        return _fetch_from_hub(url, layout, labels, sha256)
    shown = without_secret(url)
    fetched = []

    def convert(path):
        fetched.append(path)
        state, own = read_state(path, layout)
        return state, {} if own is None else {LABELS: json.dumps(own)}

    undo = download.fetch_undoer(url, file_name)
    state, metadata = download.fetch_state(url, convert=convert, file_name=file_name, sha256=sha256, **options)
    # A file that somebody put into the cache was not checked when it was converted.
    check_classifier(state, layout.classifier, shown)
    if labels is None and LABELS in metadata:
        with named_errors(shown):
            own = json.loads(metadata[LABELS])
            check_labels(own, classes_of(state, layout.classifier))
        labels = tuple(own)
    return Weights(shown, state, labels, undo if fetched else None)


def _fetch_from_hub(address: str, layout: Layout, labels: tuple[str, ...] | None, sha256: str | None) -> Weights:
    path, origin = hub.fetch_from_hub(address, sha256)
    try:
        state, own = read_state(path, layout)
        if path.name == hub.KERAS_WEIGHTS:
            own = _labels_beside(path)
            check_labels(own, classes_of(state, layout.classifier))
    except WeightsFileError as error:
        folder, _, _ = origin.rpartition("/")
        raise WeightsFileError(str(error).replace(os.fspath(path.parent), folder)) from error
    return Weights(origin, state, tuple(own) if labels is None and own is not None else labels)


def _labels_beside(path: Path) -> list[str] | None:
    """Reads the class names out of the configuration that Keras saves beside a model's numbers."""
    config = path.with_name(hub.KERAS_CONFIG)
    if not config.is_file() or config.stat().st_size > MAX_CONFIG_BYTES:
        return None
    with named_errors(config):
        return parse_config(config.read_bytes()).get("labels")


def read_state(path: str | os.PathLike, layout: Layout = Layout()) -> tuple[State, list[str] | None]:  # noqa: B008
    """Read a file of weights of any format we know, told apart by its name, else by its content."""
    path = find_weights(path)
    kind = weights_format(path)
    own, labels = layout.reader(kind), None
    if kind == "torch":
        state = read_state_dict(path)
    elif kind == "safetensors":
        state = read_safetensors(path)
        weights = numbered(state)
        if weights is not None:
            state, labels = weights, read_run(path).get("class_names")
            check_labels(labels, classes_of(state, layout.classifier))
    elif own is not None:
        state, labels = own(path)
    elif kind == "keras3":
        state, labels = read_keras3_variables(path)
    else:
        raise WeightsFileError(
            f"{path}: this architecture has no weights in Keras 2 files; pass a .pth or a Keras 3 file."
        )
    state = without_prefix(state, layout.classifier)
    check_classifier(state, layout.classifier, str(path))
    return state, labels


def classes_of(state: Mapping[str, np.ndarray] | None, classifier: tuple[str, ...]) -> int | None:
    """The number of classes of the classifier in a state, or None where it has none."""
    if not state:
        return None
    # An image model has one head where a video model may have several.
    if all(name in state for name in classifier):
        return len(state[classifier[0]])
    paths = classifier_paths(state, len(classifier))
    return state[paths[0]].shape[-1] if paths else None


def classifier_paths(state: Mapping[str, np.ndarray], count: int = 2) -> tuple[str, ...] | None:
    """The paths of the classifier's matrix and bias in a Keras 3 file: the last dense layer of the model itself.

    A classifier of several heads has `count` arrays, matrices and biases in turn. Where a run saved the arrays by
    number, they are the last ones. A classifier of one array alone is not told by such names.
    """
    if count == 1:
        return None
    if is_numbered(state) and len(state) >= count:
        paths = tuple(sorted(state)[-count:])
        pairs = zip(paths[::2], paths[1::2], strict=True)
        fit = all(state[matrix].shape[1:] == state[bias].shape for matrix, bias in pairs)
        return paths if fit else None
    biases = [name for name in state if name.startswith("layers/dense") and name.endswith("/vars/1")]
    if not biases:
        return None
    # Keras counts layers of one class: dense, dense_1, ..., dense_10.
    last = max(biases, key=lambda name: (len(name), name))
    return tuple(f"{last[:-1]}{place}" for place in range(count))
