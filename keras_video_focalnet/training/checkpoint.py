"""Checkpoints of a run: written whole or not at all, the newest readable one found again."""

import json
import re
import warnings
from pathlib import Path

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata, write_safetensors

_NAME = "step-{:08d}.safetensors"
_PATTERN = re.compile(r"step-(\d{8,})\.safetensors")


class CheckpointFolder:
    """A folder of checkpoints, one file a step, of which the last few are kept.

    Args:
        folder: where the files are; made with the first.
        keep: int >= 2: a file that is damaged by a failing disk must have one before it.

    Raises:
        ValueError: `keep` is below 2.

    Example:
    >>> checkpoints = CheckpointFolder("run/checkpoints")
    >>> checkpoints.save(7, {"weight": np.ones(2)}, {"note": "before lunch"}).name
    'step-00000007.safetensors'
    >>> step, state, about = checkpoints.newest()
    >>> step, about
    (7, {'note': 'before lunch'})
    """

    def __init__(self, folder, keep=2):
        if keep < 2:
            raise ValueError(
                f"keep must be 2 or more, so that a damaged checkpoint has one before it; received {keep}."
            )
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step, state, about):
        """Write a training state.

        Args:
            step: int, training steps taken.
            state: dict of arrays, see `capture`.
            about: what else is to be known of the run, as JSON can hold it.

        Returns:
            The file's path.

        Raises:
            OSError: the file cannot be written; those that exist are left as they are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _NAME.format(step)
        write_safetensors(path, state, {"about": json.dumps(about)})
        for _, old in self.files()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def newest(self):
        """Read the newest checkpoint that can be read; one that cannot is passed over with a warning.

        Returns:
            `(step, state, about)` for `restore`, or None where there is no checkpoint.

        Raises:
            ValueError: there are checkpoints, but none of them can be read.
        """
        files = self.files()
        for number, (step, path) in enumerate(files):
            try:
                about = json.loads(read_safetensors_metadata(path)["about"])
                state = read_safetensors(path)
            except (WeightsFileError, OSError, KeyError, json.JSONDecodeError) as error:
                warnings.warn(f"checkpoint {path} cannot be read ({error}); the one before it is taken.", stacklevel=2)
                continue
            for _, damaged in files[:number]:
                # Out of the way: it must not count among those that are kept.
                damaged.rename(damaged.with_suffix(".damaged"))
            return step, state, about
        if files:
            raise ValueError(
                f"none of the {len(files)} checkpoints in {self.folder} can be read; begin in a new folder."
            )
        return None

    def files(self):
        """List `(step, path)` of all checkpoints, the newest first."""
        found = ((_PATTERN.fullmatch(path.name), path) for path in self.folder.glob("step-*.safetensors"))
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)
