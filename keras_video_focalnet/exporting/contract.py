"""The contract of an exported file, its inputs and outputs. It is stored in the file, and as JSON beside the file."""

import dataclasses
import json
import pathlib

from keras_video_focalnet.exporting.errors import ExportedFileError

KEY = "keras_video_focalnet"
"""Name of the metadata entry that holds the contract."""

VERSION = 1

MAX_JSON_BYTES = 4 << 20
"""What is read of a contract at most; a thousand names of classes take a hundredth of it."""

SAVED_MODEL_CONTRACT = f"assets.extra/{KEY}.json"
"""Path of the contract in a SavedModel's folder. TensorFlow reserves `assets.extra` for files of users."""


_MEANING = {
    "scores": "one number for each class, as the model's activation gives it: after a softmax or sigmoid from 0 to 1",
    "logits": "one number for each class, before any activation",
    "features": "the model's features, which are of no class",
}
_NO_SCORES = (
    "one number for each class, without bounds: the model has no activation, so there are no scores in the file. Where "
    "the model was trained with a softmax, softmax(logits) gives them"
)


@dataclasses.dataclass(frozen=True)
class Contract:
    """The interface of an exported file.

    Attributes:
        format: Name of the format, a key of `FORMATS`.
        precision: Name of the precision, one of the format's.
        model: Name of the model.
        input_shape: `(frames, height, width, 3)` of one clip.
        input_dtype: dtype of the pixels.
        batched: Whether the file takes a batch of any size, `(batch, frames, height, width, 3)`, or a single clip.
        outputs: Names of the outputs in the file's order, beginning with the model's own output: `"scores"` and
            `"logits"`, one of the two, or `"features"`.
        classes: Number of classes, or None without a classifier.
        labels: Names of the classes, or None.
        crop_fraction: The part of a resized frame's tighter side that the centre crop shows.
        interpolation: How frames are resized, `"bilinear"` or `"bicubic"`.
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
    crop_fraction: float = 224 / 256
    interpolation: str = "bilinear"

    @property
    def resize_rule(self) -> dict:
        """What `read_clip` and `CenterCrop` take to resize and crop frames for the model, by the names there."""
        return {"crop_fraction": self.crop_fraction, "interpolation": self.interpolation}

    @property
    def meaning(self) -> dict:
        """What the numbers of each output are, in words."""
        words = {name: _MEANING.get(name, "") for name in self.outputs}
        return words if self.outputs != ("logits",) else {"logits": _NO_SCORES}

    @property
    def preparation(self) -> dict:
        """How a clip is made of a video's decoded frames, in numbers, with formulas for people to read."""
        frames, height, width, _ = self.input_shape
        rows, columns = round(height / self.crop_fraction), round(width / self.crop_fraction)
        return {
            "frames": "decoded pictures, turned upright, with square pixels",
            "sampling": {
                "rule": "the middle frame of each of equal segments of the video; a short video repeats frames",
                "frames": frames,
                "index": f"(2 * i + 1) * total // {2 * frames}",
                "where": f"i is 0 to {frames - 1}; total is the number of frames of the video",
            },
            "resize": {
                "covers": [rows, columns],
                "scale": f"max({rows} / height, {columns} / width)",
                "rows": "int(height * scale + 0.5)",
                "columns": "int(width * scale + 0.5)",
                "filter": self.interpolation,
                "antialias": True,
                "as": f"PIL.Image.resize((columns, rows), PIL.Image.Resampling.{self.interpolation.upper()})",
            },
            "crop": {
                "size": [height, width],
                "top": f"(rows - {height}) // 2",
                "left": f"(columns - {width}) // 2",
            },
            "normalization": "inside the file",
        }

    def to_json(self):
        """Return the contract as JSON, with all that a program without this package needs to know."""
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
                    "crop_fraction": self.crop_fraction,
                    "interpolation": self.interpolation,
                    "preparation": self.preparation,
                },
                "outputs": list(self.outputs),
                "meaning": self.meaning,
                "classes": self.classes,
                "labels": None if self.labels is None else list(self.labels),
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text, path):
        """The contract that `to_json` wrote, found in the file at `path`."""
        try:
            if len(text) > MAX_JSON_BYTES:
                raise ValueError(f"{len(text)} characters")
            entries = json.loads(text)
            if entries["version"] != VERSION:
                raise ValueError(f"version {entries['version']}")
            taken = entries["input"]
            batched = taken["shape"][0] is None
            labels, classes = entries["labels"], entries["classes"]
            if labels is not None and not (
                isinstance(labels, list) and len(labels) == classes and all(isinstance(name, str) for name in labels)
            ):
                raise ValueError(f"labels {str(labels)[:80]} for {classes} classes")
            return cls(
                format=entries["format"],
                precision=entries["precision"],
                model=entries["model"],
                input_shape=tuple(map(int, taken["shape"][-4:])),
                input_dtype=taken["dtype"],
                batched=batched,
                outputs=tuple(entries["outputs"]),
                classes=classes,
                labels=None if labels is None else tuple(labels),
                # Files of version 0.1.0 do not have these two.
                crop_fraction=float(taken.get("crop_fraction", cls.crop_fraction)),
                interpolation=str(taken.get("interpolation", cls.interpolation)),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, MemoryError) as error:
            raise ExportedFileError(
                f"{path} holds no contract that this version reads ({type(error).__name__}: {error}); export it again."
            ) from error


def json_beside(path):
    """Return the path of the JSON file beside the exported file at `path`."""
    path = pathlib.Path(path)
    return path.with_name(f"{path.name}.json")
