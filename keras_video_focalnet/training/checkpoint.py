"""Checkpoints of a run: each is complete or absent, and the newest readable one is found again."""

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata, write_safetensors

_NAME = "step-{:08d}.safetensors"
_PATTERN = re.compile(r"step-(\d{8,})\.safetensors")


class CheckpointFolder:
    """A folder of checkpoints, one file a step, of which the last few are kept: 2 or more, as a file that a failing
    disk damages must have one before it.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder = Path(folder)
        self.keep = check_integer("keep", keep, minimum=2, remedy="a damaged checkpoint needs one before it")

    def save(self, step: int, state: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Path:
        """Write a training state, as `capture` gives it, and what else a resumed run must know, as JSON."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _NAME.format(step)
        write_safetensors(path, state, {"about": json.dumps(metadata)})
        for _, old in self.files()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
        """Read `(step, state, metadata)` of the newest checkpoint that can be read, and pass over one that cannot with
        a warning; None where there is none, ValueError where none can be read.
        """
        files = self.files()
        for number, (step, path) in enumerate(files):
            try:
                metadata = json.loads(read_safetensors_metadata(path)["about"])
                state = read_safetensors(path)
            except (WeightsFileError, OSError, KeyError, json.JSONDecodeError) as error:
                warnings.warn(f"checkpoint {path} cannot be read ({error}); the one before it is taken.", stacklevel=2)
                continue
            for _, damaged in files[:number]:
                # A damaged file must not count among those that are kept.
                damaged.rename(damaged.with_suffix(".damaged"))
            return step, state, metadata
        if files:
            raise ValueError(
                f"none of the {len(files)} checkpoints in {self.folder} can be read; begin in a new folder."
            )
        return None

    def files(self) -> list[tuple[int, Path]]:
        """List `(step, path)` of all checkpoints, the newest first."""
        found = ((_PATTERN.fullmatch(path.name), path) for path in self.folder.glob("step-*.safetensors"))
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)
