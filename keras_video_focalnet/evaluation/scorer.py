"""A model that scores the views of many videos, or gives their features; and how it travels to other processes."""

import dataclasses
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.data.clip_rule import clip_rule
from keras_video_focalnet.evaluation.views import gives_logits, number_of_classes

# By how much a softmax may leave the range of 0 to 1.
_ROUNDING = 1e-3


class Scorer:
    """Computes one row of numbers a video from its views: the mean of their scores, or of their pooled features.

    Every call of the model gets as many clips, with zeros in the place of those that are missing: so a model is
    compiled once, and what it gives for a video does not depend on how many others there are beside it.

    Args:
        network: A Keras model of clips, or what `load_exported` gives.
        batch: Clips that the model takes at once.
        features: Whether to give what the classifier reads instead of scores, False by default.

    Attributes:
        width: How many numbers there are for a video.

    Raises:
        ValueError: The model gives no scores, or no features.
    """

    def __init__(self, network: Any, batch: int, features: bool = False):
        self.network, self.batch, self.features = network, batch, features
        self._exported = hasattr(network, "contract")
        self._logits = None if features else gives_logits(network)
        if features:
            self._model = _exported_features(network) if self._exported else _keras_features(network)
        else:
            self._model = network
        self._prepare = None if self._exported else clip_rule(network).prepare
        self.width = self._width()

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Score videos.

        Args:
            clips: uint8 pixels of shape `(videos, views, frames, height, width, 3)`.

        Returns:
            float32 array of shape `(videos, width)`: shares of 1, also of a model that gives logits; or features.
        """
        count, views = clips.shape[:2]
        flat = clips.reshape(count * views, *clips.shape[2:])
        batches = [self._batch(flat[start : start + self.batch]) for start in range(0, len(flat), self.batch)]
        rows = np.concatenate(batches).reshape(count, views, -1)
        return rows.mean(axis=1).astype(np.float32)

    def _batch(self, clips):
        """float64 rows of at most `batch` clips."""
        if self._exported and not self._model.contract.batched:
            return self._rows(self._model.predict(clips))
        filled = self._filled(clips)
        if self._exported:
            return self._rows(self._model.predict(filled))[: len(clips)]
        inputs = filled.astype("float32") if self._prepare is None else self._prepare(filled)
        with _whole(self.network):
            given = self._model.predict_on_batch(inputs)
        return self._rows(np.asarray(given))[: len(clips)]

    def _filled(self, clips):
        if len(clips) == self.batch:
            return clips
        filled = np.zeros((self.batch, *clips.shape[1:]), clips.dtype)
        filled[: len(clips)] = clips
        return filled

    def _rows(self, given):
        rows = np.asarray(given, np.float64)
        if self.features:
            # Of a grid the mean over space, then over frames, as the classifier takes it.
            while rows.ndim > 2:
                rows = rows.mean(axis=tuple(range(2, rows.ndim - 1)) or 1)
            return rows
        if self._logits is None:
            # Each row by itself: what is said of a video does not depend on its neighbours.
            is_logits = (rows.min(axis=-1) < -_ROUNDING) | (rows.max(axis=-1) > 1 + _ROUNDING)
        else:
            is_logits = np.full(len(rows), self._logits)
        shares = np.exp(rows - rows.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return np.where(is_logits[:, None], shares, rows)

    def _width(self):
        if not self.features:
            return number_of_classes(self.network)
        if not self._exported:
            return self._model.output_shape[-1]
        # A file does not tell the number of its features.
        return self._rows(self._model.predict(np.zeros((1, *self._model.input_shape), np.uint8))).shape[-1]


def _exported_features(network):
    if network.contract.outputs[0] == "features":
        return network
    raise ValueError(
        f"{network.path} gives {' and '.join(network.contract.outputs)}, no features; export a model that was built "
        'with include_top=False, pooling="avg", or pass the model itself.'
    )


def _keras_features(network):
    """A model from clips to what the classifier of the network of ours reads, without a copy of the weights."""
    import keras

    from keras_video_focalnet.models.network import find_network

    found = find_network(network)
    if found.classifier is None:
        if len(network.output_shape) < 2 or network is not found.model:
            raise ValueError(f"the model {network.name!r} ends in no features; pass the network inside it.")
        return network
    if network is not found.model:
        raise ValueError(
            f"features of {network.name!r}, a model around {found.model.name!r}, are not known; pass the network "
            "inside it."
        )
    return keras.Model(network.input, found.classifier.input, name=f"{network.name}_pooled")


def _whole(network):
    """What Keras does with variables that another model shares leaves them whole, on JAX."""
    from keras_video_focalnet.models.jax_state import whole

    return whole(network)


def fingerprint(network: Any) -> str:
    """Hexadecimal digits that differ where the weights of two models do."""
    digest = hashlib.sha256()
    if hasattr(network, "contract"):
        for name, content in sorted(_files(Path(network.path)).items()):
            digest.update(name.encode() + b"\0" + content)
    else:
        import keras

        from keras_video_focalnet.models.kept import refresh_kept

        refresh_kept(network)
        for weight in network.weights:
            array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(f"{array.shape} {array.dtype}".encode() + b"\0")
            digest.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return digest.hexdigest()[:32]


def _files(path):
    """The content of an exported file, with what belongs to it, by names relative to its folder."""
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*") if file.is_file())
    else:
        paths = [file for file in (path, path.with_suffix(".bin")) if file.is_file()]
        paths = paths if path.suffix == ".xml" else paths[:1]
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in paths}


@dataclasses.dataclass(frozen=True)
class PackedModel:
    """A model as bytes: an exported file, or a `.keras` file; other machines need not see the file.

    Attributes:
        name: Name of the file or folder.
        files: Dict from the name of each file to its content.
        backend: Keras's backend; None for an exported file, which needs none.
        kind: Class of an exported file, which opens it; None for a Keras model.
        precision: What an exported file is computed in, see `load_exported`.
    """

    name: str
    files: dict[str, bytes]
    backend: str | None = None
    kind: type | None = None
    precision: str | None = None

    @classmethod
    def pack(cls, network: Any) -> "PackedModel":
        """Pack a Keras model, which is saved whole for it, or what `load_exported` gave."""
        if hasattr(network, "contract"):
            path = Path(network.path)
            return cls(path.name, _files(path), None, type(network), getattr(network, "_precision", None))
        import keras

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            network.save(path)
            return cls(path.name, {path.name: path.read_bytes()}, keras.backend.backend())

    def load(self, threads: int | None = None) -> Any:
        """Load the model in a process that has not imported Keras yet; `threads` compute, None for one a core."""
        if threads is not None:
            # The names that PyTorch, TensorFlow and JAX's processor client read when they are imported.
            for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):
                os.environ[name] = str(threads)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            path = Path(folder) / self.name
            if self.kind is not None:
                precision = {} if self.precision is None else {"precision": self.precision}
                return self.kind(path, threads=threads, **precision)
            os.environ["KERAS_BACKEND"] = self.backend
            import keras

            from keras_video_focalnet.models import registry

            # This registers the classes that a .keras file names.
            registry.architectures()
            return keras.saving.load_model(path, compile=False)
