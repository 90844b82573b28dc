"""The models that commands take: built from the registry, or read from a file."""

import contextlib
import os

import click

from keras_video_focalnet.cli.backend import NOISE, error_stream_held_back
from keras_video_focalnet.cli.class_names import read_labels, refuse_no_names, refuse_other_labels
from keras_video_focalnet.data.clip_rule import clip_rule
from keras_video_focalnet.models import registry
from keras_video_focalnet.utils.checks import did_you_mean
from keras_video_focalnet.weights.addresses import without_secret
from keras_video_focalnet.weights.formats import is_exported, is_path
from keras_video_focalnet.weights.run_folder import find_weights, run_of

MODEL = "nano"
"""The model that commands use unless told otherwise; its weights ship in the package."""


def model_names():
    """What `--model` takes: the short names of all builders, those of this package first."""
    return [builder.short_name for builder in registry.builders().values()]


class ModelNames(click.ParamType):
    """The type of `--model`: the name of a model as the registry has them when a command is run, or a path."""

    name = "model"

    def convert(self, value, param, ctx):
        """Give the short name of a model, or the path as it is."""
        try:
            return registry.find_builder(value).short_name
        except ValueError:
            if os.path.exists(os.path.expanduser(value)):
                return value
        meant = did_you_mean(value, model_names()) or "."
        self.fail(f"{value!r} is not one of {', '.join(map(repr, model_names()))}, nor a file that is there{meant}")

    def get_metavar(self, param, ctx=None):
        """What stands in the help."""
        return "NAME|PATH"


def default_weights(model, class_names=None):
    """The weights that a builder loads by default; "none" where it begins with random ones.

    To compare clips with names they are, where a builder loads none, those published for it that are of no classes.
    """
    builder = registry.find_builder(model)
    if builder.weights is None and class_names is not None:
        return next((entry.name for entry in _of_no_classes(builder)), "none")
    return builder.weights or "none"


def _of_no_classes(builder):
    return [entry for entry in registry.entries() if entry.architecture == builder.name and entry.classes is None]


def model_and_weights(model, weights, class_names=None):
    """The name of the model to build and the weights, whichever of the options `--model` and `--weights` says it.

    Where either is a file or folder of a training run, the model is the one that the run trained.
    """
    if model not in model_names():
        if weights is not None:
            raise click.UsageError(f"--model {model} has weights of its own; leave out --weights {weights}.")
        model, weights = MODEL, model
    if weights is not None and weights.lower() != "none" and is_path(weights):
        trained = registry.trained_builder(weights)
        model = model if trained is None else trained.short_name
    return model, default_weights(model, class_names) if weights is None else weights


def begun_from(model, weights):
    """The name or path of the model and the weights that training begins from, by the options `--model`, `--weights`.

    A whole model of a make that has no builder is trained on as it is.
    """
    named, begun = model_and_weights(model or MODEL, weights)
    # A file that is missing is told of when it is opened.
    with contextlib.suppress(FileNotFoundError):
        if model not in model_names() and holds_model(begun) and registry.trained_builder(begun) is None:
            return begun, None
    return named, begun


def build(model, **arguments):
    """Call a builder."""
    builder = registry.find_builder(model)
    return registry.find_family(model).function(builder)(**arguments)


def load_network(model, weights, option="--weights", class_names=None):
    """Build or load the model that the options name; `option` is the one that names its file, if it comes of one."""
    from keras_video_focalnet.cli.backend import import_keras

    import_keras()
    if not is_path(weights):
        return _built(model, weights, class_names)
    path = find_weights(weights, option.removeprefix("--"))
    if is_exported(path):
        raise ValueError(
            f"{option} {weights} is an exported model, which only runs: `video-focalnet predict --model {weights}` "
            "runs it. Pass the .keras file or the run that it was exported from."
        )
    if not holds_model(path) and run_of(path).get("architecture") is None:
        return _built(model, weights, class_names)
    from keras_video_focalnet.models.class_names import with_names
    from keras_video_focalnet.models.opening import open_network

    network = open_network(path)
    taken, given = network.input_shape, network.output_shape
    if not isinstance(taken, tuple) or len(taken) != 5 or taken[-1] != 3 or len(given) != 2:
        raise ValueError(
            f"{option} {weights} is a model from {taken} to {given}; pass one that takes (batch, frames, height, "
            "width, 3) and gives (batch, classes)."
        )
    return network if class_names is None else with_names(network, class_names)


def _check_not_random(model, given, weights, class_names):
    """Refuse to classify with random weights, whether `--weights`, which was `given` or left out, says so or not."""
    if weights.lower() != "none":
        return
    remedy = "pass published weights (see `video-focalnet models`) or a file"
    of_no_classes = _of_no_classes(registry.find_builder(model))
    if of_no_classes and class_names is None:
        names = ", or --classes to say what the video is compared with"
        remedy += names if given is None else f"{names}, without --weights"
    elif of_no_classes:
        remedy = f"leave it out for the weights {of_no_classes[0].name!r}, or {remedy}"
    what = f"--model {model} without --weights" if given is None else f"--weights {given}"
    raise ValueError(f"{what} would classify with random weights, which says nothing about the video; {remedy}.")


def _built(model, weights, class_names):
    """The model of a builder, as its weights are or told what to look for."""
    if class_names is None:
        return build(model, weights=weights)
    from keras_video_focalnet.models.class_names import build_for_names

    return build_for_names(model, class_names, weights)


def load_named(model, weights, class_names=None, labels=None):
    """Build or load what `--model` and `--weights` name, and give it with the name of the model and of the weights."""
    option = "--weights" if model in model_names() else "--model"
    given = weights
    model, weights = model_and_weights(model, weights, class_names)
    _check_not_random(model, given, weights, class_names)
    network = load_network(model, weights, option, class_names)
    refuse_other_labels(network, labels)
    return network, model, weights


def load_either(model, weights, class_names=None, labels=None):
    """Load what `--model` and `--weights` name, whether `export` wrote it or not, and tell what it is called.

    Returns the network and a dict with its `model` and `weights` in words.
    """
    exported = is_exported(model)
    check_options(model, weights, class_names, labels)
    if exported:
        network, weights = load_file(model), model
    else:
        network, model, weights = load_named(model, weights, class_names, labels)
    name = network.name if exported or holds_model(weights) else model
    return network, {"model": name, "weights": without_secret(os.fspath(weights))}


def check_options(model, weights, class_names, labels):
    """Refuse what goes with no exported model, two ways to say the same, and labels out of no file of names."""
    if is_exported(model):
        if weights is not None:
            raise click.UsageError(f"--model {model} has weights of its own; leave out --weights {weights}.")
        if class_names is not None:
            raise click.UsageError(
                f"--model {model} was exported with its classes; leave out --classes, or export the model anew with "
                "`video-focalnet export --classes`."
            )
    if class_names is not None and labels is not None:
        raise click.UsageError("--classes names the classes already; leave out --labels.")
    if labels is not None:
        try:
            refuse_no_names(os.path.expanduser(labels), labels)
        except ValueError as error:
            raise click.UsageError(f"--labels {error}") from error


def load_file(model):
    """Load what `export` wrote."""
    from keras_video_focalnet.exporting.runtime import load_exported

    with error_stream_held_back(NOISE):
        network = load_exported(model)
    if network.contract.outputs == ("features",):
        raise ValueError(f"--model {model} gives features, no classes; pass one that was exported with its classifier.")
    return network


def names_and_origin(network, given=None):
    """Names of a model's classes and where they come from: `--labels`, the model, their number, or nowhere."""
    from keras_video_focalnet.evaluation.predictions import default_names, numbered
    from keras_video_focalnet.evaluation.views import names_of_classes

    classes = network.contract.classes if hasattr(network, "contract") else network.output_shape[-1]
    if given is not None:
        names = read_labels(given)
        if len(names) != classes:
            raise ValueError(f"--labels {given}: it has {len(names)} names but the model has {classes} classes.")
        return names, "given"
    if labels := names_of_classes(network):
        return list(labels), "model"
    names = default_names(classes)
    return (numbered(classes), "none") if names is None else (names, "assumed")


def clip_size(network):
    """The frames of a clip and their `(height, width)` that a model takes."""
    rule = clip_rule(network)
    return rule.num_frames, rule.size


def resize_rule(network):
    """How `read_clip` and `CenterCrop` resize and crop a frame for a model."""
    return clip_rule(network).resize_rule


def scores_of(network, clips):
    """What a model gives for clips as shares of 1, whether it gives scores or logits."""
    from keras_video_focalnet.evaluation.views import class_scores

    return class_scores(network, clips)


def as_input(network, clips):
    """Pixels as a Keras model takes them: as they are, or normalized where a network of ours does not do that itself.

    Models of other makes are taken to know what to do with pixels.
    """
    prepare = clip_rule(network).prepare
    return clips.astype("float32") if prepare is None else prepare(clips)


def holds_model(path):
    """Whether a file, or what a run left in a folder, is a `.keras` file, which holds the model too."""
    return is_path(path) and find_weights(path).suffix.lower() == ".keras"
