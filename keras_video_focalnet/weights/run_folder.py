"""The files that a training run leaves, taken for weights: its folder, its best weights, its checkpoints.

Best weights and checkpoints hold a model's arrays by their number, in the order of `model.weights`; what they belong to
stands in the run's configuration.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.utils.checks import did_you_mean
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.keras3_file import MAX_CONFIG_BYTES, read_keras_config

WHOLE_MODEL = "model.keras"
BEST = "best.safetensors"
CHECKPOINTS = "checkpoints"
CONFIG = "config.json"

_IN_CHECKPOINT = re.compile(r"(?:model/)?(\d{5,})")


def find_weights(path: str | os.PathLike) -> Path:
    """Find the file that holds the weights: the path itself or, of the folder of a run, the best that is there.

    That is the model of the best epoch, its weights while the run goes on, or the newest checkpoint.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"weights={str(path)!r}: there is no such file{_similar(path) or '.'}")
        return path
    for name in (WHOLE_MODEL, BEST):
        if (path / name).is_file():
            return path / name
    checkpoints = [*path.glob("step-*.safetensors"), *(path / CHECKPOINTS).glob("step-*.safetensors")]
    if checkpoints:
        return max(checkpoints, key=lambda file: (len(file.name), file.name))
    if (path / "saved_model.pb").is_file():
        return path
    raise FileNotFoundError(
        f"weights={str(path)!r} is a folder without {WHOLE_MODEL}, {BEST} or {CHECKPOINTS}, so no run has saved "
        "anything in it; pass the folder of a run or a file of weights."
    )


def read_run(path: str | os.PathLike) -> dict[str, Any]:
    """Read the configuration of the run that a file or folder belongs to; empty where it belongs to none."""
    path = Path(path).expanduser().absolute()
    for folder in (path, *path.parents[:2]):
        config = folder / CONFIG
        try:
            if config.stat().st_size <= MAX_CONFIG_BYTES:
                found = json.loads(config.read_text(encoding="utf-8"))
                # Other programs write files of this name too.
                return found if isinstance(found, dict) and isinstance(found.get("class_names"), list) else {}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError):
            return {}
    return {}


def trained_shape(path: str | os.PathLike, default: tuple[int, int, int, int]) -> tuple[int | None, ...] | None:
    """Tell which clips `(frames, height, width, 3)` the model in a file was made for; None where nothing says so.

    `default` stands for what the configuration of a run leaves to the model.
    """
    try:
        path = find_weights(path)
        if path.suffix == ".keras":
            shape = read_keras_config(path).get("input_shape")
        else:
            run = read_run(path) if is_of_a_run(path) else {}
            values = values if isinstance(values := run.get("values"), dict) else {}
            frames, side = values.get("num_frames"), values.get("size")
            shape = [frames or default[0], side or default[1], side or default[2], 3] if frames or side else None
            shape = run.get("input_shape", shape)
    except (OSError, WeightsFileError):
        # Opening the file says what is wrong with it.
        return None
    sides = shape[:3] if isinstance(shape, list) and len(shape) == 4 and shape[3] == 3 else [0]
    valid = all(type(side) is int and side > 0 for side in sides[1:]) and (sides[0] is None or type(sides[0]) is int)
    return tuple(shape) if valid and sides != [0] else None


def is_of_a_run(path: Path) -> bool:
    """Tell by its name whether a file is one that a run writes."""
    return path.name in (WHOLE_MODEL, BEST) or path.match("step-*.safetensors")


def numbered(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The weights in best weights or a checkpoint, by number alone; None where the state names its arrays.

    A checkpoint also holds the optimizer's state, and seeds of random layers among the weights.
    """
    arrays = {match[1]: state[name] for name in sorted(state) if (match := _IN_CHECKPOINT.fullmatch(name))}
    others = [name for name in state if not _IN_CHECKPOINT.fullmatch(name)]
    if not arrays or not all(name.startswith(("optimizer/", "metrics/", "random/")) for name in others):
        return None
    weights = [array for array in arrays.values() if array.dtype.kind == "f"]
    return {f"{number:05d}": array for number, array in enumerate(weights)}


def is_numbered(names: Collection[str]) -> bool:
    """Tell whether a state has numbers for names."""
    return bool(names) and all(re.fullmatch(r"\d{5,}", name) for name in names)


def _similar(path: Path) -> str:
    """A question whether a file beside `path` was meant, for messages."""
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, beside)
