"""The network of ours in any model: by itself, cloned, or inside a model around it.

Whatever freezes, multiplies learning rates, loads or looks inside asks here for a layer's *role* and never for its name
or class. Each architecture tells the role of its own layers.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_video_focalnet.models import registry
from keras_video_focalnet.models.inputs import NORMALIZATION
from keras_video_focalnet.models.kept import refresh_kept
from keras_video_focalnet.models.maps import LayerMap
from keras_video_focalnet.models.preprocessing import Preprocessing
from keras_video_focalnet.utils.checks import check_choice, fail
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.slots import Slot, State, load_into_slots, state_of_slots
from keras_video_focalnet.weights.wrappers import without_prefix

STEM, BLOCK, TRANSITION, NORM, CLASSIFIER = "stem", "block", "transition", "norm", "classifier"
KINDS = (STEM, BLOCK, TRANSITION, NORM, CLASSIFIER)


@dataclass(frozen=True)
class LayerRole:
    """What a layer is to its network.

    Attributes:
        kind: `"stem"` makes tokens of pixels; a `"block"` is one step of depth; a `"transition"` stands between two
            stages; the `"norm"` follows the last block; the `"classifier"` gives one number a class.
        stage: Index from 0 of the stage of a block or transition; a transition belongs to the stage before it. An
            architecture without stages numbers its blocks.

    Raises:
        ValueError: The kind is none of these.

    Example:
        >>> VideoFocalNet.role(VideoFocalNetNano(weights=None).get_layer("stage2_block1"))
        LayerRole(kind='block', stage=2)
    """

    kind: str
    stage: int = 0

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)


class Network:
    """The layers of one architecture inside a model, in order from stem to classifier.

    Attributes:
        architecture: The subclass of `VideoClassifier`.
        model: The functional model whose own layers are the network's.
        roles: Dict from each layer that has weights of the network to its `LayerRole`, in the order of the network.
        stages: Number of stages.
    """

    def __init__(self, architecture: type, model: keras.Model):
        self.architecture = architecture
        self.model = model
        self.roles: dict[keras.layers.Layer, LayerRole] = {
            layer: role for layer in model.layers if (role := architecture.role(layer)) is not None
        }
        self.stages = 1 + max((role.stage for role in self.roles.values() if role.kind == BLOCK), default=-1)

    def layers_of(self, *kinds: str) -> list[keras.layers.Layer]:
        """The layers of these kinds, in order."""
        return [layer for layer, role in self.roles.items() if role.kind in kinds]

    @property
    def classifier(self) -> keras.layers.Layer | None:
        """The layer that gives one number a class, or None."""
        return next(iter(self.layers_of(CLASSIFIER)), None)

    @property
    def preprocessing(self) -> Preprocessing:
        """How a video becomes the input of the network's layers."""
        return self.architecture.preprocessing

    @property
    def normalizes(self) -> bool:
        """Whether the network takes pixels of 0 to 255 and normalizes them itself."""
        return any(layer.name == NORMALIZATION for layer in self.model.layers)

    def frozen_from(self, layer: keras.layers.Layer) -> int:
        """How many stages must be frozen for a layer to be frozen: 0 for the stem, `stages + 1` for the classifier."""
        role = self.roles[layer]
        return {STEM: 0, NORM: self.stages, CLASSIFIER: self.stages + 1}.get(role.kind, role.stage + 1)

    def depths(self) -> dict[keras.layers.Layer, int]:
        """How deep below the classifier each layer lies: every block and the stem are one step.

        A transition counts as part of the block that follows it, as when image transformers are fine-tuned (BEiT, Bao
        et al. 2022).
        """
        depths, depth = {}, 0
        for layer, role in reversed(self.roles.items()):
            depth += role.kind in (STEM, BLOCK)
            depths[layer] = depth
        return dict(reversed(depths.items()))

    def taps(self) -> dict[str, Any]:
        """Every tensor worth a look by name, see `feature_taps`."""
        return {name: tap for layer in self.model.layers for name, tap in self.architecture.layer_taps(layer).items()}

    def maps(self) -> dict[str, dict[str, LayerMap]]:
        """What can be seen at each block, see `VideoClassifier.layer_maps`, by the names of blocks in order."""
        return {layer.name: self.architecture.layer_maps(layer) for layer in self.layers_of(BLOCK)}

    def slots(self) -> dict[str, Slot]:
        """Where the tensors of the reference's checkpoint go; a `ValueError` where the weights are quantized."""
        slots: dict[str, Slot] = {}
        for layer in self.roles:
            slots |= self.architecture.layer_slots(layer)
        for name, slot in slots.items():
            if "float" not in keras.backend.standardize_dtype(slot.variable.dtype):
                raise ValueError(
                    f"the model {self.model.name!r} is quantized ({name!r} is {slot.variable.dtype}), so it has no "
                    "weights of the reference's kind; convert or load before model.quantize, and save it whole with "
                    "model.save."
                )
        return slots

    def state(self, unused: bool = False) -> State:
        """The weights under the reference's names and in its layouts, bit for bit; with `unused`, what its checkpoints
        hold besides.
        """
        refresh_kept(self.model)
        state = state_of_slots(self.slots())
        if unused:
            state |= self.architecture.unused_state(self)
        return {name: array for name, array in state.items() if array is not None}

    def load_state(self, state: Mapping[str, Any], origin: str = "state", **options) -> list[str]:
        """Move a state into the network, see `VideoClassifier.load_state`."""
        slots, architecture = self.slots(), self.architecture
        state = without_prefix(state, slots)
        try:
            state, missing = architecture.complete_state(slots, state, **{**architecture.load_options, **options})
        except WeightsFileError as error:
            raise WeightsFileError(f"{origin}: {error}") from error
        keep = [name for name in missing if name not in state]
        names = {"model_name": self.model.name, "classifier": architecture.classifier_tensors}
        left = load_into_slots(slots, state, origin, keep=keep, **names)
        return [*missing, *(name for name in left if name not in missing)]


@dataclass(frozen=True)
class _Named:
    """What is known of a layer by its name alone."""

    name: str


@functools.cache
def _kinds_by_name(name: str, architectures: tuple[type, ...]) -> frozenset[str]:
    kinds = set()
    for architecture in architectures:
        # A role that is told by more than the name stays unknown.
        with contextlib.suppress(AttributeError):
            role = architecture.role(_Named(name))
            kinds.add(role and role.kind)
    return frozenset(kinds - {None})


def role_kinds(path: str) -> frozenset[str]:
    """The kinds of roles that a variable's layers have in the registered architectures, by the names in its path."""
    return frozenset().union(*(_kinds_by_name(name, registry.architectures()) for name in path.split("/")[:-1]))


def find_networks(model: keras.Model) -> list[Network]:
    """A `Network` for every model, at or inside `model`, whose own layers are those of a registered architecture."""
    if isinstance(model, (str, os.PathLike)):
        raise fail("model", "a Keras model", model, f"model = open_model({os.fspath(model)!r}) opens what is there")
    found = [network for layer in model.layers if isinstance(layer, keras.Model) for network in find_networks(layer)]
    architecture = _architecture_of(model)
    return found + ([Network(architecture, model)] if architecture is not None else [])


def _architecture_of(model: keras.Model) -> type | None:
    """The architecture whose blocks a model has among its own layers, or None; a class of ours tells itself."""
    for candidate in itertools.chain([type(model)], registry.architectures()):
        role = getattr(candidate, "role", None)
        if hasattr(candidate, "layer_slots") and any(
            (found := role(layer)) and found.kind == BLOCK for layer in model.layers
        ):
            return candidate
    return None


def find_network(model: keras.Model) -> Network:
    """The one network of ours at or inside a model; a `ValueError` where it holds none, or more than one."""
    networks = find_networks(model)
    if len(networks) != 1:
        raise ValueError(
            f"the model {model.name!r} holds {len(networks)} networks of ours where one is needed; pass a built "
            f"{' or '.join(family.classifier for family in registry.families())}, or a model around one."
        )
    return networks[0]
