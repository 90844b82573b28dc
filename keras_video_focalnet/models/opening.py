"""`open_model`: what a training run or `model.save` left, as the model that it is of."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_video_focalnet.models import registry
from keras_video_focalnet.models.around import gives_logits, labels_inside, last_operation
from keras_video_focalnet.models.classifier import VideoClassifier
from keras_video_focalnet.models.cloning import take_weights
from keras_video_focalnet.weights.addresses import is_address
from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.formats import is_exported, is_path
from keras_video_focalnet.weights.model_bounds import check_described_model, check_whole_model
from keras_video_focalnet.weights.run_folder import find_weights, numbered, run_of, score_activation
from keras_video_focalnet.weights.safetensors_file import read_safetensors

# What Keras tells of a model beside its class and configuration, and what making it anew does not need.
_NOT_NEEDED = ("compile_config", "build_config")
# Kinds of files that may hold weights.
_OF_WEIGHTS = {"zip", "hdf5", "safetensors", "pickle"}


def open_model(path: str | os.PathLike) -> keras.Model:
    """Open the model that a training run or `model.save` left.

    `train`, `export`, `read_clip(..., like=...)` and the commands take such a path wherever they take a model.

    Args:
        path: The folder of a run, of which the best that is there is taken; or a `.keras` file, or the
            `best.safetensors` or a checkpoint of a run.

    Returns:
        The model with its weights. That of a run gives scores and has the attribute `labels`, the names of the run's
        classes or None; a model of a user's own is given a softmax or sigmoid where it ends without.

    Raises:
        FileNotFoundError: There is no such file, or nothing in the folder.
        ValueError: The file is damaged or exported, or holds weights and does not say of which model.

    Example:
        >>> VideoFocalNetNano(weights="camera_motion").save("nano.keras")
        >>> model = open_model("nano.keras")
        >>> model.labels[:2]
        ('static', 'pan left')
    """
    return _scoring(*_open(path, "path"))


def opened(model: Any, name: str = "model") -> Any:
    """A model as it is, or the one at a path, for functions that take either and call it `name`."""
    return _scoring(*_open(model, name)) if isinstance(model, (str, os.PathLike)) else model


def open_network(weights: str | os.PathLike) -> keras.Model:
    """As `open_model`, for an argument that is called `weights`."""
    return _scoring(*_open(weights, "weights"))


def reopen(path: str | os.PathLike, classes: int, labels: Sequence[str], **changes: Any) -> keras.Model:
    """Open a model to train it on, for other classes perhaps and with changed arguments of its constructor; of one of
    ours all trains, and it gives logits. Another make is taken as it is.
    """
    model, _ = _open(path, "model")
    if not isinstance(model, VideoClassifier):
        return model
    fresh = {"classifier_activation": None, "include_top": True, "trainable": True, "frozen_layers": []}
    new = model.rebuild(classes=classes, labels=labels, **fresh, **changes)
    take_weights(new, (layer for layer in model.layers if _shapes(layer) == _shapes(new.get_layer(layer.name))))
    return new


def describe_model(model: keras.Model, class_names: Sequence[str] | None, multi_label: bool) -> dict[str, Any]:
    """Tell what a run's weights belong to, by the names that `weights.run_folder` lists."""
    facts = {
        "builder": None,
        "architecture": None,
        "input_shape": list(model.input_shape[1:]) if isinstance(model.input_shape, tuple) else None,
        "class_names": None if class_names is None else list(class_names),
        "multi_label": multi_label,
    }
    if isinstance(model, VideoClassifier):
        facts |= {"builder": _builder_of(model), "architecture": _serialized(model)}
    return facts


def _serialized(model):
    """What Keras tells of a model, without which its weights alone say less; None where it cannot be written down."""
    try:
        told = keras.saving.serialize_keras_object(model)
        return json.loads(json.dumps({key: value for key, value in told.items() if key not in _NOT_NEEDED}))
    except Exception:  # An activation or a layer of a user's own can raise any.
        return None


def _builder_of(model):
    """The short name of the builder whose configuration a model has, or None."""
    for family in registry.families():
        if (family.module, family.classifier) != (type(model).__module__, type(model).__name__):
            continue
        for builder in family.builders:
            function = family.function(builder)
            if not hasattr(function, "preset"):
                continue
            # Stochastic depth is a recipe's to choose, and the name a user's.
            preset = {name: value for name, value in function.preset.items() if name not in ("drop_path_rate", "name")}
            if all(_is(getattr(model, name), value) for name, value in preset.items()):
                return builder.short_name
    return None


def _open(path, name):
    """The model at a path as it was saved or trained, and what is known of the run that it is of."""
    _check_no_builder(path, name)
    path = find_weights(path, name)
    if is_exported(path):
        raise ValueError(
            f"{name}={str(path)!r} is an exported model, which only runs: load_exported({str(path)!r}) runs it, "
            f"as does `video-focalnet predict --model {path}`. Pass the .keras file or the run that it came from."
        )
    run = run_of(path)
    # This registers the classes that a file names.
    registry.architectures()
    if path.suffix.lower() == ".keras":
        return _load_whole(path), run
    if run.get("architecture") is not None:
        return _rebuilt(path, run), run
    builder = registry.trained_builder(path) if run else None
    if builder is not None:
        return registry.find_family(builder.name).function(builder)(weights=path), run
    kind = sniff(path)
    if kind not in _OF_WEIGHTS:
        raise ValueError(
            f"{name}={str(path)!r} is {DESCRIPTIONS[kind]}, and no model; pass the folder of a training run, or what "
            "model.save wrote."
        )
    raise ValueError(
        f"{name}={str(path)!r} holds weights and does not say of which model; pass the .keras file of the whole model, "
        f"or build the model and load them: load_weights(model, {str(path)!r})."
    )


def _check_no_builder(path, name):
    """Raise where a builder is named in place of a model."""
    if os.path.exists(path) or is_path(path) or is_address(path):
        return
    try:
        builder = registry.find_builder(path).name
    except ValueError:
        return
    raise ValueError(f"{name}={path!r} names a builder, and no file; pass the model that it makes, {builder}().")


def _load_whole(path):
    kind = sniff(path)
    if kind != "zip":
        raise ValueError(
            f"{path}: it is {DESCRIPTIONS[kind]}, not a .keras file; pass one that model.save wrote whole."
        )
    try:
        check_whole_model(path)
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras tells of damage by nearly any exception.
        raise ValueError(
            f"{path}: the model cannot be loaded, it is damaged or needs classes that are not there "
            f"({type(error).__name__}: {str(error)[:300]})."
        ) from error


def _rebuilt(path, run):
    """A model of ours by its configuration and its arrays by number."""
    with named_errors(path):
        state = numbered(read_safetensors(path))
        if state is None:
            raise WeightsFileError("its arrays have names, which those of a run have not; pass another file of the run")
        told = run["architecture"]
        if not isinstance(told, dict) or not isinstance(told.get("config"), dict):
            raise WeightsFileError("its run's configuration describes no model; pass the run's model.keras")
        cls = keras.saving.get_registered_object(str(told.get("registered_name")))
        if not (inspect.isclass(cls) and issubclass(cls, VideoClassifier)):
            raise WeightsFileError(
                f"it is of a {told.get('registered_name')!r}, which is not known here; import the package that has it"
            )
        told = {**told, "config": {**told["config"], "labels": run.get("class_names") or told["config"].get("labels")}}
        check_described_model(path, told, len(state))
        model = keras.saving.deserialize_keras_object(told)
        variables = [variable for variable in model.weights if "float" in variable.dtype]
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [array.shape for array in state.values()]:
            raise WeightsFileError(
                "its arrays are not those of the model that its run trained; pass another file of it"
            )
        for variable, array in zip(variables, state.values(), strict=True):
            variable.assign(array)
    return model


def _scoring(model: keras.Model, run: Mapping[str, Any]) -> keras.Model:
    """The model of a run with the scores and class names of the run; any other as it is."""
    if not run:
        return model
    activation, names = score_activation(run), run.get("class_names")
    if isinstance(model, VideoClassifier):
        if not model.gives_logits:
            return model
        scoring = model.rebuild(classifier_activation=activation)
        take_weights(scoring, model.layers)
        return scoring
    if not getattr(model, "outputs", None):
        return model
    named = names is not None and labels_inside(model) is None and len(names) == model.output_shape[-1]
    # A class of the user's own stays what it is.
    if type(model).__module__.startswith("keras.") and gives_logits(last_operation(model)):
        end = keras.layers.Activation(activation, dtype="float32", name="scores")
        model = keras.Model(model.inputs, end(model.outputs[0]), name=model.name)
    model.multi_label = bool(run.get("multi_label"))
    if named:
        model.labels = tuple(names)
    return model


def _shapes(layer):
    return [tuple(weight.shape) for weight in layer.weights]


def _is(own, preset):
    """Whether an attribute of a model is what its builder asked for, which may be one value for several."""
    several = isinstance(own, (tuple, list))
    wanted = tuple(preset) if isinstance(preset, (tuple, list)) else (preset,) * (len(own) if several else 1)
    return (tuple(own) if several else (own,)) == wanted
