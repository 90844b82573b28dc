"""The contract that every architecture keeps: a functional Keras model that knows all that others ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.labels import configured_labels, load_labels
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import with_remedy
from keras_video_focalnet.models import clip_rules  # noqa: F401  (tells `read_clip` what a model's clips are)
from keras_video_focalnet.models.arguments import REQUIRED_ARGUMENTS, constructor_arguments
from keras_video_focalnet.models.class_names import ToldByNames
from keras_video_focalnet.models.cloning import take_weights
from keras_video_focalnet.models.compilation_cache import enable_as_told
from keras_video_focalnet.models.entrances import know_layers
from keras_video_focalnet.models.heads import TrainedByHeads
from keras_video_focalnet.models.inputs import FRAMES, clip_shape
from keras_video_focalnet.models.jax_state import whole
from keras_video_focalnet.models.maps import TOKENS, LayerMap
from keras_video_focalnet.models.network import LayerRole, Network
from keras_video_focalnet.models.preprocessing import IMAGENET, Preprocessing
from keras_video_focalnet.models.registry import Entry
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.autodiff.portable import PORTABLE
from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.utils.deprecation import warn_renamed
from keras_video_focalnet.weights.slots import Slot, State

# What Keras calls a lambda where it writes down its code.
_LAMBDA = "__lambda__"
# Keras has attributes of these names already, or makes them of what it is given.
_KERAS_ATTRIBUTES = ("name", "trainable", "dtype", "input_shape", "input_tensor")


class VideoClassifier(ToldByNames, TrainedByHeads):
    """A video classifier: the base of every architecture of this package.

    A subclass builds its functional graph in `__init__` and ends with
    `super().__init__(clip, outputs, arguments=locals(), features=tokens, grid=(height, width))`. Its constructor's
    arguments, as its local variables hold them then, become attributes and the configuration, so `get_config`,
    `from_config`, `.keras` files and `with_classifier` need no code of its own. It tells of its layers by the class
    methods `role`, `layer_taps`, `layer_maps` and `layer_slots`, which take a layer and not the model: so a clone and a
    model around it are understood too.

    Args:
        clip: The Keras tensor that a clip enters by, from `inputs.enter`.
        outputs: The Keras tensor of scores or features.
        arguments: Dict with a value for every argument of the subclass's constructor; others are ignored.
        features: The Keras tensor that the classifier's pooling reads, `(batch, frames, height * width, channels)`, or
            None where the architecture has no such grid.
        grid: `(height, width)` of `features`.

    Attributes:
        preprocessing: `Preprocessing` of the architecture.
        classifier_tensors: Names of the classifier's matrix and bias in the reference's checkpoint; of several heads,
            see `layers.DenseHeads`, those of each in turn. Of one name alone: a matrix with a row for each class.
        load_options: Arguments of `complete_state` with their defaults; the builders take them too.
        least_size: Least height and width of a frame in pixels.
        least_frames: Least number of frames of a clip.
        exclusions: Dict from the name of a conformance check that the architecture cannot pass to the reason why.
        small_arguments: Arguments that make a model of any builder so small that the conformance checks take seconds.
        classes: Number of classes, or None without a classifier.
        labels: Tuple of class names, or None.
        features: As given.
        grid: As given.

    Example:
        >>> model = VideoFocalNetNano()
        >>> isinstance(model, VideoClassifier), model.classes, model.labels[1], model.preprocessing.frames
        (True, 9, 'pan left', 8)
    """

    preprocessing: Preprocessing = IMAGENET
    classifier_tensors: tuple[str, ...] = ("head.weight", "head.bias")
    load_options: Mapping[str, Any] = {}
    least_size: int = 32
    least_frames: int = 1
    exclusions: Mapping[str, str] = {}
    small_arguments: Mapping[str, Any] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # A whole model that Keras saves as `.h5` names its class without the package that it is registered under.
        keras.saving.get_custom_objects()[cls.__name__] = cls

    def __init__(
        self,
        clip: Any,
        outputs: Any,
        arguments: Mapping[str, Any],
        features: Any = None,
        grid: tuple[int, int] | None = None,
    ):
        missing = [name for name in REQUIRED_ARGUMENTS if name not in arguments]
        if missing:
            raise TypeError(f"{type(self).__name__} must take the argument {missing[0]!r}, as every classifier does.")
        enable_as_told()
        source = keras.utils.get_source_inputs(clip)
        super().__init__(
            inputs=source[0] if len(source) == 1 else source,
            outputs=outputs,
            name=arguments["name"],
            trainable=arguments["trainable"],
        )
        # A subclass of an architecture may take more, and keeps that itself.
        names = constructor_arguments(type(self))
        self._arguments = {name: arguments[name] for name in names if name in arguments}
        self._arguments["input_shape"] = tuple(clip.shape[1:])
        if arguments["include_top"]:
            classes = self._arguments["classes"] = check_integer("classes", arguments["classes"], 1)
            self._arguments["labels"] = check_labels(arguments["labels"], classes)
        else:
            self._arguments["labels"] = None
        for name, value in self._arguments.items():
            if name not in _KERAS_ATTRIBUTES:
                setattr(self, name, value)
        if not self.include_top:
            self.classes = None
        elif self.labels is not None and self.classifier is not None:
            # A model that is built on this one's output knows the layer that gave it, and not this model.
            self.classifier.class_names = self.labels
        self._policy = keras.dtype_policies.get(arguments["dtype"])
        self._clip = clip
        self.features = features
        self.grid = grid
        know_layers(self)

    # === What an architecture tells of its layers ===

    @classmethod
    def role(cls, layer: keras.layers.Layer) -> LayerRole | None:
        """What a layer is to the network, or None for a layer that holds no weights of the network.

        Any layer may be asked about, also of another architecture or of a user's own.
        """
        raise NotImplementedError(f"{cls.__name__} must define role(layer), see VideoClassifier.")

    @classmethod
    def layer_taps(cls, layer: keras.layers.Layer) -> dict[str, Any]:
        """Tensors worth a look at a layer of the network, by name; by default the output of each block."""
        role = cls.role(layer)
        return {layer.name: layer.output} if role is not None and role.kind == "block" else {}

    @classmethod
    def layer_maps(cls, layer: keras.layers.Layer) -> dict[str, LayerMap]:
        """What can be seen at a block as maps over the places of frames, by short names, what tells most first; by
        default its output, `"tokens"`.
        """
        role = cls.role(layer)
        if role is None or role.kind != "block":
            return {}
        return {TOKENS: LayerMap(TOKENS, (cls.layer_taps(layer)[layer.name],))}

    @classmethod
    def layer_slots(cls, layer: keras.layers.Layer) -> dict[str, Slot]:
        """Where tensors of the reference's checkpoint go in a layer that has a role, by the reference's names."""
        raise NotImplementedError(f"{cls.__name__} must define layer_slots(layer), see VideoClassifier.")

    @classmethod
    def complete_state(cls, slots: Mapping[str, Slot], state: State, **options) -> tuple[State, list[str]]:
        """Make a state of another kind of checkpoint, such as an image model's, fit the network's slots.

        Returns the state with what is added, and the names of the tensors that the checkpoint does not have.
        """
        return state, []

    @classmethod
    def unused_state(cls, network: Network) -> Mapping[str, np.ndarray | None]:
        """What the reference's checkpoints hold beside the slots of a network, and nothing computes with; None under
        the name of a slot that they do not have.
        """
        return {}

    @classmethod
    def check_names(cls, network: Network, names: Sequence[str], origin: str) -> None:
        """Check that weights whose classes have these names may be loaded into a network, by default always: where a
        classifier has learned something for each name, classes of other names must not get it.
        """

    @classmethod
    def check_load_options(cls, **options) -> None:
        """Check arguments of `complete_state` before anything is downloaded or built."""
        unknown = next((name for name in options if name not in cls.load_options), None)
        if unknown is not None:
            raise TypeError(f"{cls.__name__} has no option {unknown!r} for loading; it has {list(cls.load_options)}.")

    @classmethod
    def check_published(cls, arguments: Mapping[str, Any], entry: Entry) -> None:
        """Check that published weights are for a model of the constructor's arguments and `load_options`, before they
        are downloaded; by default nothing is known that would make them another's.
        """

    @classmethod
    def default_shape(cls, arguments: Mapping[str, Any], shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape of a clip where nobody asks for one: that of the weights or the builder, if no other argument of
        the constructor says something else.
        """
        return shape

    @classmethod
    def check_shape(cls, arguments: Mapping[str, Any]) -> tuple[int | None, int, int, int]:
        """Find the shape of a clip that the constructor's arguments ask for, see `inputs.clip_shape`."""
        preprocessing = cls.preprocessing
        default = (preprocessing.frames, *preprocessing.size, 3)
        return clip_shape(arguments["input_tensor"], arguments["input_shape"], default, cls.least_size)

    # === What others ask ===

    @property
    def network(self) -> Network:
        """The layers of this model by their roles."""
        return Network(type(self), self)

    @property
    def classifier(self) -> keras.layers.Layer | None:
        """The layer that gives one number a class, or None."""
        return self.network.classifier

    @property
    def normalizes(self) -> bool:
        """Whether the model takes pixels of 0 to 255 and normalizes them itself."""
        return self.network.normalizes

    @property
    def takes_clips_directly(self) -> bool:
        """Whether nothing stands between the model's input and its clip."""
        return self.get_layer(FRAMES).input is self.input

    @property
    def entry(self) -> Any:
        """The Keras tensor of a clip's pixels as `(batch, frames, height * width, 3)`."""
        return self.get_layer(FRAMES).output

    @property
    def pooled(self) -> Any:
        """The Keras tensor that the classifier reads, `(batch, channels)`; None without a classifier."""
        return None if self.classifier is None else self.classifier.input

    @property
    def gives_logits(self) -> bool:
        """Whether the model's own output is logits."""
        return self.classifier is not None and self.classifier.activation is keras.activations.linear

    def logits(self, pooled: Any) -> Any:
        """Compute logits, `(batch, classes)`, from what the classifier reads, `(batch, channels)`."""
        head = self.classifier
        if head is None:
            raise ValueError(f"the model {self.name!r} has no classifier; build it with include_top=True.")
        logits = ops.matmul(ops.cast(pooled, head.compute_dtype), head.kernel)
        return logits if head.bias is None else ops.add(logits, head.bias)

    def scores(self, logits: Any) -> Any:
        """Apply the classifier's activation to logits."""
        return self.classifier.activation(logits)

    @property
    def compute_dtype_of_layers(self) -> str:
        """What the layers between preprocessing and scores compute in."""
        return self._policy.compute_dtype

    def state(self, unused: bool = False) -> State:
        """Read the weights as NumPy arrays under the reference's names and in its layouts, bit for bit.

        Args:
            unused: Whether to add what the reference's checkpoints hold besides and nothing computes with.

        Example:
            >>> VideoFocalNetNano(weights=None).state()["patch_embed.proj.weight"].shape
            (16, 3, 4, 4)
        """
        with whole(self):
            return self.network.state(unused)

    def load_state(self, state: Mapping[str, Any], origin: str = "state", **options) -> list[str]:
        """Move a state into the model. Everything is checked before the first variable changes.

        Args:
            state: Arrays with the reference's names and layouts.
            origin: What to call the state in messages: a file or a URL.
            **options: As in `load_options`.

        Returns:
            List of the names that the state did not have or that were left as they were.

        Raises:
            WeightsFileError: A tensor is missing, left over, or has a wrong shape; the message names the first.
        """
        with whole(self):
            return self.network.load_state(state, origin, **options)

    # === Configuration ===

    def get_build_config(self) -> dict[str, Any] | None:
        """What Keras writes of a built model, with what to import before it can be read."""
        return with_remedy(super().get_build_config(), type(self))

    def before_clip(self) -> keras.Model | None:
        """What stands between the model's input and its clip, as a model of its own, or None."""
        if isinstance(self._clip._keras_history.operation, keras.layers.InputLayer):
            return None
        return keras.Model(self.input, self._clip)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and what a model went through since: frozen and quantized layers."""
        config = {name: value for name, value in self._arguments.items() if name != "input_tensor"}
        # Serialized here and not in the constructor: Keras's serializer imports TensorFlow on every backend.
        activation = keras.activations.get(config["classifier_activation"])
        config |= {
            "classifier_activation": _serialize_activation(activation),
            "dtype": keras.dtype_policies.serialize(self._policy),
            "name": self.name,
            "trainable": self.trainable,
            "quantized": {layer.name: how for layer in self.layers if (how := quantized_layers(layer))},
            "frozen_layers": [layer.name for layer in self.layers if layer.weights and not layer.trainable],
        }
        before = self.before_clip()
        if before is not None:
            # What stands before the clip belongs to the model too: kept as a model of its own.
            config["input_graph"] = keras.saving.serialize_keras_object(before)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None):
        """Build a model from what `get_config` gave."""
        config = dict(config)
        frozen, quantized = config.pop("frozen_layers", ()), config.pop("quantized", {})
        # A configuration comes out of a file, and a file may not say what else is read.
        config["labels"] = configured_labels(config.get("labels"))
        with keras.saving.custom_object_scope(custom_objects or {}):
            activation = config.get("classifier_activation")
            if isinstance(activation, Mapping) and activation.get("class_name") == _LAMBDA:
                # Keras refuses the code of a lambda here, unless the user turned its safe mode off.
                config["classifier_activation"] = keras.saving.deserialize_keras_object(activation)
            before = config.pop("input_graph", None)
            if before is not None:
                before = keras.saving.deserialize_keras_object(before)
                config.update(input_tensor=before.output, input_shape=None)
            model = cls(**config)
        for name in frozen:
            model.get_layer(name).trainable = False
        for name, how in quantized.items():
            quantize_layers(model.get_layer(name), how)
        return model

    def rebuild(self, **changes) -> VideoClassifier:
        """Build a model with this one's configuration and changed arguments of the constructor; its weights are new."""
        # The activation goes over as it is: a function of the user's own need not be known to Keras's serializer.
        activation = {"classifier_activation": self._arguments["classifier_activation"]}
        if changes.get("labels") is not None:
            changes["labels"] = load_labels(changes["labels"])
        return type(self).from_config({**self.get_config(), **activation, **changes})

    def with_classifier(self, classes: int, labels: Sequence[str] | str | None = None) -> VideoClassifier:
        """Give a new model of the same class with this one's weights and a new, randomly initialized classifier.

        This model is left as it is, so the result is to be assigned.

        Args:
            classes: Number of classes of the new classifier.
            labels: Names of the classes, or None.

        Returns:
            A model of the same class; no weight is shared.

        Raises:
            ValueError: `classes` is no integer of at least 1, or `labels` are not as many.

        Example:
            >>> model = VideoFocalNetNano(weights=None, classes=9)
            >>> model = model.with_classifier(4)
            >>> model.output_shape
            (None, 4)
        """
        heads = {layer.name for layer in self.network.layers_of("classifier")}
        config = self.get_config()
        model = self.rebuild(
            include_top=True,
            classes=check_integer("classes", classes, 1),
            labels=labels,
            trainable=True,
            frozen_layers=[name for name in config["frozen_layers"] if name not in heads],
            quantized={name: how for name, how in config["quantized"].items() if name not in heads},
        )
        take_weights(model, (layer for layer in self.layers if layer.name not in heads))
        return model

    def reset_classifier(self, classes: int, labels: Sequence[str] | str | None = None) -> VideoClassifier:
        """The old name of `with_classifier`, which gives a new model and leaves this one as it is."""
        new = "model = model.with_classifier(classes): it gives a new model and leaves this one as it is"
        warn_renamed("reset_classifier", new, otherwise=True)
        return self.with_classifier(classes, labels)

    def export(self, *args, **kwargs):
        """As `keras.Model.export`, with operations that any device and converter knows.

        Keras writes some formats on some backends alone; `keras_video_focalnet.export` writes all of its formats on
        every backend, and compares each file with the model.

        What is fastest on the CPU of this machine, such as Winograd's filtering in float32, would be slow or inexact on
        a phone's GPU or in half precision. To trace the model by other means, do so inside
        `keras_video_focalnet.ops.autodiff.formulation.force(**keras_video_focalnet.ops.autodiff.portable.PORTABLE)`.
        """
        choices = dict(PORTABLE)
        if keras.backend.backend() == "jax":
            choices["erf"] = "rational"
        # Keras exports no model that was never called, but a functional model knows its input without a call.
        self._called = True
        try:
            with force(**choices):
                return super().export(*args, **kwargs)
        except Exception as error:
            error.add_note(
                "keras_video_focalnet.export(model, path) writes LiteRT, SavedModel, ONNX and OpenVINO files, on every "
                "backend."
            )
            raise


def _serialize_activation(activation: Any) -> Any:
    """An activation as Keras serializes it; of a lambda, Keras's own function gives what no function of it reads."""
    whole = keras.saving.serialize_keras_object(activation)
    return whole if whole.get("class_name") == _LAMBDA else keras.activations.serialize(activation)


def check_labels(labels: Sequence[str] | str | None, classes: int) -> tuple[str, ...] | None:
    """Class names, one for each of `classes`, from a list, the name of a data set or a file, or None."""
    labels = None if labels is None else tuple(load_labels(labels))
    if labels is not None and len(labels) != classes:
        raise ValueError(f"labels has {len(labels)} names but classes={classes}; pass one name a class.")
    return labels
