"""`config.json`: what a run is, so that nothing but its folder is needed to go on with it."""

import contextlib
import dataclasses
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_video_focalnet import __version__
from keras_video_focalnet.models import registry
from keras_video_focalnet.models.opening import reopen
from keras_video_focalnet.training.recipe import FINETUNE, RENAMED, Recipe, get_recipe
from keras_video_focalnet.utils.deprecation import rename_keys
from keras_video_focalnet.utils.files import atomic_write
from keras_video_focalnet.weights.addresses import is_address, without_any_secret, without_secret
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.formats import is_path
from keras_video_focalnet.weights.run_folder import trained_shape

CONFIG = "config.json"
# Values that may be paths.
PLACES = ("data", "val", "root", "model", "weights")

# What a run is: it is resumed with the same values. None is what is not used, as in files from before there was such an
# option, and `data`, `val` and `model` are None where a program passed objects in their place.
WHAT: dict[str, Any] = {
    "data": None,
    "val": None,
    "root": None,
    "model": None,
    "weights": None,
    "recipe": FINETUNE,
    "set": (),
    "batch_size": 8,
    "seed": 0,
    "val_split": None,
    "train_rows": None,
    "val_rows": None,
    "multi_label": None,
    "balanced": None,
    "class_weights": None,
}
# How it is run: a resumed run may change it.
HOW: dict[str, Any] = {
    "workers": 2,
    "max_broken": 0.1,
    "save_every": None,
    "distribute": None,
    "tensorboard": None,
}


def settle(given: Mapping[str, Any], out: Path, resume: bool) -> tuple[dict[str, Any], Recipe]:
    """Complete what is given, where None is nothing, by what the folder of a resumed run says or else by the defaults.

    Also gives the recipe: `given["recipe"]` is its name or the recipe itself. ValueError names the first value in which
    a resumed run differs from what it was begun with.
    """
    stored = (read_config(out) if resume else None) or {}
    stored |= {name: _found(name, stored[name], out) for name in PLACES if stored.get(name) is not None}
    given = {**given, **_trained_before(given)}
    config = {}
    for name, default in (WHAT | HOW).items():
        value, before = _located(name, given.get(name)), stored.get(name, default)
        config[name] = _plain(before if value is None or isinstance(value, Recipe) else value)
        # In place of these a program may have passed objects.
        is_object = before is None and name in ("data", "val", "model", "weights")
        if stored and name in WHAT and not is_object and name not in ("recipe", "set"):
            if _is_place(name, before) and (_is_same_place(config[name], before) or not os.path.exists(before)):
                # What was moved or copied lies elsewhere now.
                continue
            _check_same(name, _kept(name, config[name]), before, out)
    if config["model"] is not None and config["weights"] is None and not _is_place("model", config["model"]):
        config["weights"] = registry.find_builder(config["model"]).weights or "none"
    before = list(stored.get("set", ()))
    config["set"] = before + [change for change in config["set"] if change not in before]
    recipe = _settle_recipe(given, stored, None if _is_place("model", config["model"]) else config["model"])
    if stored:
        config["recipe"] = stored.get("recipe")
        check_same_settings(dataclasses.asdict(recipe), stored["values"], out)
    elif isinstance(given.get("recipe"), Recipe):
        config["recipe"] = None
    return config, recipe


def check_places(config: Mapping[str, Any], names: Iterable[str], out: Path) -> None:
    """Raise a FileNotFoundError where what a resumed run needs no longer lies where its configuration says."""
    for name in names:
        path = config[name]
        if _is_place(name, path) and not os.path.exists(path):
            argument = {"data": "training= (--data)", "val": "validation= (--val)"}.get(name, f"{name}= (--{name})")
            raise FileNotFoundError(
                f"{path} is not there, with which the run in {out} was begun as its {name}; put it back, or pass "
                f"{argument} with the place where it lies now."
            )


def _trained_before(given):
    """The builder and the weights in place of a model that is named by the run that trained it."""
    model, weights = given.get("model"), given.get("weights")
    if is_address(model):
        raise ValueError(
            f"model={without_any_secret(model)!r} is an address; pass it as weights= with the model that it is of, or "
            "download it and pass its path."
        )
    if not _is_place("model", model):
        return {}
    if weights is not None:
        raise ValueError(f"model={model!r} has weights of its own; leave out weights={str(weights)!r}.")
    builder = registry.trained_builder(model)
    return {} if builder is None else {"model": builder.short_name, "weights": model}


def _is_place(name: str, value: Any) -> bool:
    """Whether a value is a path of this machine."""
    if name not in PLACES or not isinstance(value, (str, os.PathLike)):
        return False
    if name == "weights":
        return str(value).lower() != "none" and is_path(value)
    if name == "model":
        with contextlib.suppress(ValueError):
            registry.find_builder(os.fspath(value))
            return False
        return is_path(value)
    return True


def _located(name: str, value: Any) -> Any:
    """A value with its path from the root, so that it means the same in any working folder."""
    return os.path.abspath(os.path.expanduser(value)) if _is_place(name, value) else value


def _found(name: str, value: Any, out: Path) -> Any:
    """A value that a file holds, in which runs of earlier versions wrote paths as they were typed."""
    if not _is_place(name, value) or os.path.isabs(value):
        return value
    beside = os.path.join(os.path.abspath(out.parent), value)
    return beside if os.path.exists(beside) and not os.path.exists(value) else _located(name, value)


def _is_same_place(value: Any, before: str) -> bool:
    return isinstance(value, str) and os.path.realpath(value) == os.path.realpath(before)


def _settle_recipe(given, stored, model):
    wanted = given.get("recipe")
    if isinstance(wanted, Recipe):
        recipe = wanted
    elif stored and wanted in (None, stored.get("recipe")):
        recipe = recipe_of_values(stored["values"])
    else:
        recipe = get_recipe(wanted or FINETUNE, model)
    return changed(recipe, given.get("set") or ())


def recipe_of_values(values: Mapping[str, Any]) -> Recipe:
    """Make the recipe whose values a file holds, in which a tuple is a list."""
    return Recipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def changed(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """Make a recipe with changes such as `epochs=6`. An old name of a value warns."""
    with warnings.catch_warnings():
        # Python shows a user no such warning by default.
        warnings.simplefilter("always", DeprecationWarning)
        for change in changes:
            name, equals, text = change.partition("=")
            if not equals:
                raise ValueError(f"set={change} has no value; write set={change}=VALUE.")
            recipe = recipe.set(name.strip(), text)
    return recipe


def check_same_settings(now: Mapping[str, Any], before: Mapping[str, Any], out: str | os.PathLike) -> None:
    """Raise a ValueError that names the first setting in which a run is not as it was begun; epochs may be more.

    A run that was begun before a recipe had some value was trained as that value's default says.
    """
    now = _plain(now)
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe) if field.name in now}
    before = {**defaults, **before}
    for name in sorted(now.keys() | before.keys()):
        more = name == "epochs" and name in now and name in before and now[name] > before[name]
        if not more:
            _check_same(name, now.get(name), before.get(name), out)


def _check_same(name, value, before, out):
    if _plain(value) != _plain(before):
        if name == "backend":
            raise ValueError(
                f"backend is {value!r}, but the run in {out} was begun with {before!r}; set the environment variable "
                f"KERAS_BACKEND={before} and resume, or begin anew in another folder."
            )
        now, was, again = f"is {value!r}", f"with {before!r}", "resume with that"
        # An option that is not used is one that is not named.
        if name in WHAT and (value is None or value is False):
            now = "is left out"
        if name in WHAT and (before is None or before is False):
            was, again = "without it", "leave it out"
        raise ValueError(
            f"{name} {now}, but the run in {out} was begun {was}; {again}, or begin anew in another folder."
        )


def read_config(out: Path) -> dict[str, Any] | None:
    """Read a run's configuration with the current names of its recipe's values; None where there is none."""
    path = out / CONFIG
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text())
        return {**config, "values": rename_keys(config.get("values", {}), RENAMED)}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no configuration of a run ({error}); restore or delete it.") from error


def write_config(
    out: Path,
    config: Mapping[str, Any],
    recipe: Recipe,
    class_names: Iterable[str] | None,
    facts: Mapping[str, Any] | None = None,
    resume: bool = True,
) -> None:
    """Write what the run is, with what `describe_model` tells; of a run that is resumed, only what it may change.

    What a run left that never came to a checkpoint is nothing to one that is begun anew.
    """
    before = (read_config(out) if resume else None) or {}
    names = None if class_names is None else list(class_names)
    if before.get("class_names") is not None:
        _check_same("class_names", names, before["class_names"], out)
    versions = {"keras_video_focalnet": __version__, "keras": keras.__version__, "backend": keras.backend.backend()}
    config = {name: _kept(name, value) for name, value in config.items()}
    now = {**config, **(facts or {}), "class_names": names, "values": dataclasses.asdict(recipe), "versions": versions}
    now = _plain({**now, "versions": before.get("versions", versions)})
    if now != before:
        with atomic_write(out / CONFIG) as file:
            file.write(json.dumps(now, indent=2).encode())


def _kept(name: str, value: Any) -> Any:
    """What the file keeps of a value: a password in the address of weights stays out of it."""
    return without_secret(value) if name == "weights" and isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """A value as it is read back from JSON, in which a tuple is a list."""
    return json.loads(json.dumps(value, default=os.fspath))


def build_model(config: Mapping[str, Any], recipe: Recipe, class_names: Iterable[str]) -> keras.Model:
    """Build the model that a configuration names, as the recipe wants it; one of ours gives logits."""
    options: dict[str, Any] = {} if recipe.drop_path_rate is None else {"drop_path_rate": recipe.drop_path_rate}
    is_saved = _is_place("model", config["model"])
    if recipe.num_frames or recipe.size:
        if is_saved:
            frames, height, width, channels = trained_shape(config["model"], (None,) * 4) or (None, None, None, 3)
        else:
            frames, height, width, channels = registry.default_shape(config["model"], config["weights"])
        shape = (recipe.num_frames or frames, recipe.size or height, recipe.size or width, channels)
        options["input_shape"] = shape
    if is_saved:
        return reopen(config["model"], len(class_names), class_names, **options)
    weights = None if config["weights"].lower() == "none" else config["weights"]
    options |= {"classes": len(class_names), "labels": class_names, "classifier_activation": None}
    family, builder = registry.find_family(config["model"]), registry.find_builder(config["model"])
    try:
        with warnings.catch_warnings():
            # A new classifier is what the model is built for, and so are prompts that begin at random.
            for message in (".*the classifier keeps its random weights", "the weights are CLIP's, which has no"):
                warnings.filterwarnings("ignore", message, UserWarning)
            return family.function(builder)(weights=weights, **options)
    except WeightsFileError as error:
        if not re.search("input_shape|num_frames", str(error)):
            raise
        raise WeightsFileError(
            f"{error} In training the recipe has the frames and side of a clip, as num_frames and size: --set size=N."
        ) from error
    except TypeError as error:
        # Not every architecture has stochastic depth.
        name = config["recipe"] or "given"
        raise ValueError(f"the recipe {name} does not fit the model {config['model']}: {error}") from error
