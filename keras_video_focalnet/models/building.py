"""Builders in the convention of `keras.applications`, and weights for models that are built already."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.models import registry
from keras_video_focalnet.models.classifier import REQUIRED_ARGUMENTS, VideoClassifier, constructor_arguments
from keras_video_focalnet.models.network import Network, find_network
from keras_video_focalnet.utils.checks import check_choice
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.formats import is_path
from keras_video_focalnet.weights.keras3_file import variable_paths
from keras_video_focalnet.weights.loading import Layout, Weights, classes_of, classifier_paths, open_weights, read_state
from keras_video_focalnet.weights.run_folder import is_numbered, trained_with
from keras_video_focalnet.weights.slots import State

# The order in which `keras.applications` takes its arguments.
_FIRST = ("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation")
_SECOND = ("include_preprocessing", "name")
_DOC = """{summary}

Args:
    include_top: Whether the model has its classifier.
    weights: None (random), the name of published weights ({published}), a path (.pth, .h5, .weights.h5, .keras,
        .safetensors, the folder of a training run), a URL or `hf://user/repo/file`.
    input_tensor: A Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
    input_shape: `(frames, height, width, 3)`, default {shape} or what the weights were trained on; the number
        of frames {frames}.
    pooling: Without the classifier: None, "avg" or "max", see `{model}`.
    classes: Number of classes; None means the weights' own count, else {classes}. Where it differs from the
        weights' count, all but the classifier is loaded, with a warning.
    classifier_activation: Activation of the classifier; None gives logits. By default that of the file of a whole
        model or of a training run, `"sigmoid"` where clips had several labels, else `"softmax"`.
    include_preprocessing: True takes pixels of 0 to 255, False takes what
        `preprocess_input(x, preprocessing=model.preprocessing)` gives.
    name: Name of the model.
    **options: Any further argument of `{model}`, with the defaults shown above or as the file of a whole model or of
        a training run says.

Returns:
    A `{model}`.

Raises:
    TypeError: An argument is unknown.
    ValueError: Arguments or weights do not fit; the message names the remedy.

Example:

>>> model = {name}(weights=None, classes=10)
>>> model.output_shape
(None, 10)
"""


def builder(
    architecture: type[VideoClassifier], builders: tuple[registry.Builder, ...], **preset
) -> Callable[[Callable], Callable[..., VideoClassifier]]:
    """Make a builder of a function whose body is `return NAME.build(*args, **kwargs)`.

    The function gets a signature that shows every argument with its default: those of `keras.applications` first, then
    the architecture's own.

    Args:
        architecture: The class that it builds.
        builders: The family's builders; the one of the function's name tells the default weights and shape.
        **preset: Arguments of the class that make this configuration.

    Returns:
        What decorates the function. A builder takes the arguments of the class, `weights` and the `load_options`, and
        returns a model; it has the attributes `preset` and `build`.

    Example:
        >>> BUILDERS = (registry.Builder("Pico", input_shape=(4, 32, 32, 3)),)
        >>> @builder(VideoFocalNet, BUILDERS, embed_dim=4, depths=(1, 1, 1, 1), name="pico")
        ... def Pico(*args, **kwargs):
        ...     "A model for the smallest clips."
        ...     return Pico.build(*args, **kwargs)
        >>> [(name, Pico.__signature__.parameters[name].default) for name in ("include_top", "depths")]
        [('include_top', True), ('depths', (1, 1, 1, 1))]
    """

    def decorate(function: Callable) -> Callable[..., VideoClassifier]:
        entry = next(entry for entry in builders if entry.name == function.__name__)
        own = constructor_arguments(architecture)
        defaults = {**architecture.load_options, **{name: argument.default for name, argument in own.items()}}
        defaults |= {"weights": entry.weights, "input_shape": None, "classes": None, "labels": None, **preset}
        names = dict.fromkeys((*_FIRST, *_SECOND, *architecture.load_options, *own))
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind, default=defaults.get(name)) for name in names]
        function.__signature__ = inspect.Signature(parameters, return_annotation=architecture)
        function.__doc__ = inspect.cleandoc(_DOC).format(
            summary=inspect.cleandoc(function.__doc__),
            name=entry.name,
            model=architecture.__name__,
            shape=entry.input_shape,
            frames="must be known" if "any_frames" in architecture.exclusions else "may be None",
            classes=own["classes"].default or "that of class names",
            published=f"default {entry.weights!r}; `list_models()` tells which exist",
        )
        function.preset = preset
        function.build = functools.partial(_build, function, architecture, entry)
        return function

    return decorate


def layout_of(architecture_name: str) -> Layout:
    """Where the weights of a builder are found, and how its family's files are read."""
    family = registry.find_family(architecture_name)
    find = functools.partial(registry.find_entry, architecture_name)
    return Layout(find, family.reader, family.architecture().classifier_tensors)


def read_weights(path: str | os.PathLike, architecture_name: str) -> tuple[State, list[str] | None]:
    """Read a file of weights of a builder's family as a state in the reference's names, without a model.

    Returns:
        The state, and the class names that the file carries, or None.

    Raises:
        FileNotFoundError: There is no such file.
        WeightsFileError: It cannot be read; the message names the file and the first offending thing.
    """
    return read_state(path, layout_of(architecture_name))


def _build(function: Callable, architecture: type[VideoClassifier], entry: registry.Builder, *args, **kwargs):
    """Build a model from a builder's arguments: check them, open the weights, build, load."""
    signature = function.__signature__
    unknown = next((name for name in kwargs if name not in signature.parameters), None)
    if unknown is not None:
        raise TypeError(f"{entry.name} has no argument {unknown!r}; it has {', '.join(signature.parameters)}.")
    bound = signature.bind(*args, **kwargs)
    given = set(bound.arguments)
    bound.apply_defaults()
    arguments = bound.arguments
    options = {name: arguments.pop(name) for name in architecture.load_options}
    weights = arguments.pop("weights")
    check_choice("include_top", arguments["include_top"], (True, False))
    # What cannot be built is refused before anything is downloaded.
    architecture.check_load_options(**options)
    if arguments["input_tensor"] is None and arguments["input_shape"] is None:
        arguments["input_shape"] = architecture.default_shape(arguments, registry.default_shape(entry.name, weights))
    trained = trained_with(weights) if isinstance(weights, (str, os.PathLike)) and is_path(weights) else {}
    # What makes the builder's own configuration stays, so that weights of another one do not fit.
    fixed = {*given, *function.preset, *REQUIRED_ARGUMENTS, *architecture.load_options}
    arguments |= {name: trained[name] for name in arguments if name not in fixed and _is_plain(trained.get(name, ...))}
    architecture.check_shape(arguments)
    if isinstance(weights, str) and "://" not in weights and not is_path(weights):
        architecture.check_published({**arguments, **options}, registry.find_entry(entry.name, weights))
    opened = open_weights(weights, layout_of(entry.name))
    classes = classes_of(opened.state, architecture.classifier_tensors)
    if classes is None and opened.labels:
        # Arrays by number do not tell it of every classifier.
        classes = len(opened.labels)
    count = arguments["classes"]
    if count is None:
        count = _count_names(architecture, arguments)
    if count is None:
        count = arguments["classes"] = classes or constructor_arguments(architecture)["classes"].default
    if arguments["include_top"] and count == classes:
        if given.isdisjoint(("labels", "class_names")):
            arguments["labels"] = opened.labels
        if "classifier_activation" not in given and isinstance(trained.get("classifier_activation"), str):
            arguments["classifier_activation"] = trained["classifier_activation"]
    model = architecture(**arguments)
    _load(model.network, opened, options)
    return model


def _count_names(architecture: type[VideoClassifier], arguments: dict[str, Any]) -> int | None:
    """How many names an architecture is given that scores clips against names, by either argument; None for none."""
    given = [name for name in ("class_names", "labels") if arguments.get(name) is not None]
    if not given or not architecture.takes_class_names():
        return None
    # What is no list of names at all is refused where the model is built, whose errors name the argument.
    with contextlib.suppress(TypeError, ValueError, OSError):
        arguments[given[0]] = load_labels(arguments[given[0]])
        return len(arguments[given[0]])
    return 0


def _load(network: Network, opened: Weights, options: Mapping[str, Any]) -> list[str]:
    """Move opened weights into a network."""

    def load(state, origin):
        if opened.labels:
            network.architecture.check_names(network, opened.labels, origin)
        return load_state(network, state, origin, **options)

    return opened.load(load)


def _is_plain(value: Any) -> bool:
    """Whether a value out of a configuration is None, a number, a text or a list of them, and no object of a class."""
    values = value if isinstance(value, list) else [value]
    return value is None or all(isinstance(item, (bool, int, float, str)) for item in values)


def load_state(network: Network, state: State, origin: str, **options) -> list[str]:
    """Move a state, in the reference's names or in those of a Keras 3 file, into a network.

    `origin` is what to call it in messages, `options` are the architecture's `load_options`. Returns the names that the
    state did not have or that were left as they were.
    """
    if any(name.startswith("layers/") for name in state):
        state = _renamed(network, state, variable_paths(network.model))
    elif state and is_numbered(state):
        numbers = _numbers(network, state, origin)
        state = _renamed(network, _without_classifier(network, state, numbers), numbers)
    return network.load_state(state, origin, **options)


def _numbers(network: Network, state: State, origin: str) -> dict[int, str]:
    """Tell under which number a run saves each variable of a network."""
    weights = network.model.weights
    # A run trains with a classifier, whose arrays are the last ones.
    classifier = len(network.architecture.classifier_tensors) * (network.classifier is None)
    # One that is told by one name alone holds others beside.
    if len(state) != len(weights) + classifier and not (classifier == 1 and len(state) > len(weights)):
        raise WeightsFileError(
            f"{origin}: a run saved {len(state)} arrays in it and the model has {len(weights)}. Build the model that "
            "the run trained, or pass the run's model.keras."
        )
    return {id(variable): f"{number:05d}" for number, variable in enumerate(weights)}


def _without_classifier(network: Network, state: State, numbers: dict[int, str]) -> State:
    """A state of a run without the arrays of a classifier that the network lacks, where a name alone tells of one."""
    if network.classifier is not None or len(network.architecture.classifier_tensors) > 1:
        return state
    known = set(numbers.values())
    return {name: array for name, array in state.items() if name in known}


def _renamed(network: Network, state: State, paths: dict[int, str]) -> State:
    """A state in the reference's names, where `paths` tells the name of each variable of the network in the state."""
    known = {paths[id(slot.variable)]: (name, slot) for name, slot in network.slots().items()}
    renamed = {}
    for path, array in state.items():
        name, slot = known.get(path, (path, None))
        # A classifier of other classes is moved too, so that it is told apart and left out.
        fits = slot is not None and (array.shape == tuple(slot.variable.shape) or array.ndim == len(slot.axes))
        renamed[name] = slot.to_reference(array) if fits else array
    classifier = classifier_paths(state, len(network.architecture.classifier_tensors))
    if network.classifier is None and classifier and classifier[0] in renamed:
        for name, path in zip(network.architecture.classifier_tensors, classifier, strict=True):
            renamed[name] = renamed.pop(path).T
    return renamed


def load_weights(model: keras.Model, weights: str | os.PathLike | None, **options: Any) -> list[str]:
    """Load a file of weights into a model that is built already, whatever its options.

    Args:
        model: A built `VideoClassifier`, or a model around one.
        weights: A path (of a training run's folder too) or a URL, as the builders take; None leaves the model as it is.
        **options: The architecture's `load_options`: for a Video-FocalNet `temporal_init`, `"identity"` (default) or
            `"random"`, what becomes of a temporal branch that the weights do not have.

    Returns:
        List of the reference's names of what was left as it was: a classifier with other classes, a temporal branch.

    Raises:
        ValueError: The weights do not fit, and the message names the first tensor that does not; or an option is
            unknown, before anything is opened.

    Example:
        >>> model = VideoFocalNet(embed_dim=8, depths=(1, 1, 2, 1), input_shape=(8, 48, 48, 3), classes=7)
        >>> load_weights(model, "tests/data/micro/checkpoint.pth")
        []
    """
    network = find_network(model)
    network.architecture.check_load_options(**options)
    architecture = network.architecture
    layout = Layout(None, registry.family_of(architecture).reader, architecture.classifier_tensors)
    opened = open_weights(weights, layout)
    return _load(network, opened, options)
