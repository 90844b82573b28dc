"""What can be seen inside a network as maps over the places of its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_video_focalnet.utils.checks import check_choice

TOKENS, MODULATOR, GATES, ATTENTION, OFFSETS = "tokens", "modulator", "gates", "attention", "offsets"
MAP_KINDS = (TOKENS, MODULATOR, GATES, ATTENTION, OFFSETS)


@dataclass(frozen=True)
class LayerMap:
    """What a layer tells of each place of each frame, and where these places lie.

    Its values are `(batch, frames, height * width, channels)`.

    Attributes:
        kind: `"tokens"` are features that later layers read; a `"modulator"` is what they are multiplied by; each
            channel of `"gates"` weights something of its own; `"attention"` tells how strongly a place attends, or is
            attended to; `"offsets"` are displacements, of each tap first down, then right, in places.
        tensors: Keras tensors of the network that the values are computed of.
        grid: `(height, width)` of the places; None for that of the sides of a frame, made so small that it has as many.
        compute: Function of what the tensors hold that gives the values; None where the one tensor is the values.
        names: What the channels of gates are called.
        of_pairs: Whether it is told of every frame but the last, which has no next one.
        first: How many tokens stand before those of places, such as a class token; they are left out.
    """

    kind: str
    tensors: tuple[Any, ...]
    grid: tuple[int, int] | None = None
    compute: Callable[..., Any] | None = None
    names: tuple[str, ...] = ()
    of_pairs: bool = False
    first: int = 0

    def __post_init__(self):
        check_choice("kind", self.kind, MAP_KINDS)
