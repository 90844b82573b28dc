"""What an exported file takes and gives: it travels inside the file, and as JSON beside it."""

import dataclasses
import json
import pathlib

from keras_video_focalnet.exporting.errors import ExportedFileError

KEY = "keras_video_focalnet"
"""Name of the metadata entry that holds the contract."""

VERSION = 1

SAVED_MODEL_CONTRACT = f"assets.extra/{KEY}.json"
"""Where it lies in a SavedModel's folder; TensorFlow leaves `assets.extra` to others."""


@dataclasses.dataclass(frozen=True)
class Contract:
    """The interface of an exported file.

    Attributes:
        format: Name of the format, a key of `FORMATS`.
        precision: Name of the precision, one of the format's.
        model: Name of the model.
        input_shape: `(frames, height, width, 3)` of one clip.
        input_dtype: dtype of the pixels.
        batched: Whether clips come as a batch of any size, `(batch, frames, height, width, 3)`, or one by one.
        outputs: Names of the outputs, that of the model itself first: `"scores"` and `"logits"`, `"logits"`, or
            `"features"`.
        classes: Number of classes, or None without a classifier.
        labels: Names of the classes, or None.
    """

    format: str
    precision: str
    model: str
    input_shape: tuple
    input_dtype: str
    batched: bool
    outputs: tuple
    classes: int | None = None
    labels: tuple | None = None

    def to_json(self):
        """The contract as JSON, with what a reader without this package has to know."""
        return json.dumps(
            {
                "written_by": KEY,
                "version": VERSION,
                "format": self.format,
                "precision": self.precision,
                "model": self.model,
                "input": {
                    "name": "clip",
                    "shape": [*([None] if self.batched else []), *self.input_shape],
                    "dtype": self.input_dtype,
                    "layout": ("batch, " if self.batched else "") + "frames, height, width, channels",
                    "channels": "red, green, blue",
                    "range": [0, 255],
                },
                "outputs": list(self.outputs),
                "classes": self.classes,
                "labels": None if self.labels is None else list(self.labels),
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text, path):
        """The contract that `to_json` wrote, found in the file at `path`.

        Raises:
            ExportedFileError: It is none.
        """
        try:
            told = json.loads(text)
            if told["version"] != VERSION:
                raise ValueError(f"version {told['version']}")
            taken = told["input"]
            batched = taken["shape"][0] is None
            return cls(
                format=told["format"],
                precision=told["precision"],
                model=told["model"],
                input_shape=tuple(map(int, taken["shape"][-4:])),
                input_dtype=taken["dtype"],
                batched=batched,
                outputs=tuple(told["outputs"]),
                classes=told["classes"],
                labels=None if told["labels"] is None else tuple(told["labels"]),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ExportedFileError(
                f"{path} holds no contract that this version reads ({type(error).__name__}: {error}); export it again."
            ) from error


def json_beside(path):
    """Where the contract of the file at `path` lies as JSON."""
    path = pathlib.Path(path)
    return path.with_name(f"{path.name}.json")
