"""The files that a training run leaves, taken for weights: its folder, its best weights, its checkpoints.

Best weights and checkpoints hold a model's arrays by their number, in the order of `model.weights`. What they belong to
stands in the file itself and in the run's configuration, in both by these names:

- `builder`: short name of the builder, or null for another model;
- `architecture`: class and configuration of a `VideoClassifier` as Keras serializes it, or null for another model;
- `input_shape`: `[frames, height, width, 3]`, where frames may be null;
- `class_names`: one name a class, or null; `multi_label`: whether a clip can have several labels.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.utils.checks import did_you_mean
from keras_video_focalnet.weights.addresses import is_address, without_any_secret
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.keras3_file import MAX_CONFIG_BYTES, read_keras_config
from keras_video_focalnet.weights.safetensors_file import read_safetensors_metadata

WHOLE_MODEL = "model.keras"
BEST = "best.safetensors"
CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
# Under what best weights and checkpoints keep what they belong to, as JSON.
FACTS = "model"
_CHECKPOINT_TEXT = "about"

_IN_CHECKPOINT = re.compile(r"(?:model/)?(\d{5,})")


def find_weights(path: str | os.PathLike, name: str = "weights") -> Path:
    """Find the file that holds the weights: the path itself or, of the folder of a run, the best that is there.

    That is the model of the best epoch, its weights while the run goes on, or the newest checkpoint. `name` is what
    errors call the argument.
    """
    if is_address(path) and not os.path.exists(path):
        raise FileNotFoundError(
            f"{name}={without_any_secret(path)!r} is an address, where a file or folder of this machine is wanted; "
            "download it and pass its path, or give weights that lie there to the function that builds their model, "
            "as its weights."
        )
    path = Path(path).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"{name}={str(path)!r}: there is no such file{_similar(path) or '.'}")
        return path
    for file in (WHOLE_MODEL, BEST):
        if (path / file).is_file():
            return path / file
    checkpoints = [*path.glob("step-*.safetensors"), *(path / CHECKPOINTS).glob("step-*.safetensors")]
    if checkpoints:
        return max(checkpoints, key=lambda file: (len(file.name), file.name))
    if (path / "saved_model.pb").is_file():
        return path
    raise FileNotFoundError(
        f"{name}={str(path)!r} is a folder without {WHOLE_MODEL}, {BEST} or {CHECKPOINTS}, so no run has saved "
        "anything in it; pass the folder of a run or a file of weights."
    )


def is_run(path: str | os.PathLike) -> bool:
    """Tell whether a path is that of a run's folder or of a file that a run writes."""
    path = Path(path).expanduser()
    if path.is_dir():
        return (path / CONFIG).is_file() or (path / BEST).is_file() or (path / CHECKPOINTS).is_dir()
    return path.is_file() and is_of_a_run(path)


def read_run(path: str | os.PathLike) -> dict[str, Any]:
    """Read what a file or folder of a run belongs to, by the names above, and the rest of the run's configuration.

    Best weights and checkpoints say it themselves, wherever they lie. The result is empty where nothing says it.
    """
    path = Path(path).expanduser().absolute()
    if facts := _facts_inside(path):
        return facts
    for folder in (path, *path.parents[:2]):
        config = folder / CONFIG
        try:
            if config.stat().st_size <= MAX_CONFIG_BYTES:
                found = json.loads(config.read_text(encoding="utf-8"))
                return found if _is_of_ours(found) else {}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError):
            return {}
    return {}


def _facts_inside(path: Path) -> dict[str, Any]:
    """What best weights and checkpoints say themselves; empty for any other file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        texts = read_safetensors_metadata(path)
        facts = json.loads(texts[FACTS]) if FACTS in texts else json.loads(texts.get(_CHECKPOINT_TEXT, "{}")).get(FACTS)
        return {**facts, "model": facts.get("builder")} if isinstance(facts, dict) else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        # Opening the file says what is wrong with it.
        return {}


def _is_of_ours(config: Any) -> bool:
    """Whether a configuration is that of a run; other programs write files of this name too."""
    if not isinstance(config, dict):
        return False
    names = config.get("class_names")
    return isinstance(names, list) or (names is None and "class_names" in config and "values" in config)


def trained_with(path: str | os.PathLike) -> dict[str, Any]:
    """Read the configuration of the model in a file, as far as the file or its run says it; empty where nothing does.

    Where a run tells whether clips have several labels, `classifier_activation` is what makes scores of its logits.
    """
    try:
        path = find_weights(path)
        run = run_of(path)
        if path.suffix == ".keras":
            config = read_keras_config(path)
        else:
            architecture = run.get("architecture")
            config = architecture.get("config") if isinstance(architecture, dict) else None
            config = config if isinstance(config, dict) else {}
    except (OSError, WeightsFileError):
        return {}
    return config | ({"classifier_activation": score_activation(run)} if run and path.suffix != ".keras" else {})


def score_activation(run: Mapping[str, Any]) -> str:
    """Name the activation that makes scores of the logits that a run trains."""
    return "sigmoid" if run.get("multi_label") else "softmax"


def trained_shape(path: str | os.PathLike, default: tuple[int, int, int, int]) -> tuple[int | None, ...] | None:
    """Tell which clips `(frames, height, width, 3)` the model in a file was made for; None where nothing says so.

    `default` stands for what the configuration of a run leaves to the model.
    """
    try:
        path = find_weights(path)
        if path.suffix == ".keras":
            shape = read_keras_config(path).get("input_shape")
        else:
            run = run_of(path)
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


def run_of(path: Path) -> dict[str, Any]:
    """What is to be known of the run of a file: a file that no run writes may lie in the folder of one all the same."""
    return read_run(path) if is_of_a_run(path) else _facts_inside(path)


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
