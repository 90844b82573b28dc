"""Which block of a network is shown, and what of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_video_focalnet.models.maps import GATES, TOKENS, LayerMap
from keras_video_focalnet.utils.checks import check_integer, did_you_mean, fail
from keras_video_focalnet.visualization.layer_values import tokens_of
from keras_video_focalnet.visualization.result import GRAD_CAM

# A block with fewer places shows little; it is not taken where nobody asks for it.
_ENOUGH_PLACES = 49


def choose(
    maps: Mapping[str, Mapping[str, LayerMap]], block: str | None, what: str | Sequence[str] | None
) -> tuple[str, list[str]]:
    """Choose the name of the block, and the names of what is shown of it, see `visualize`.

    Raises:
        ValueError: There is no such block, or it does not show what is asked for; the message names the choices.
    """
    choices = {name: _choices(found) for name, found in maps.items()}
    wanted = [what] if isinstance(what, str) else what
    if wanted is not None:
        is_list = isinstance(wanted, Sequence) and all(isinstance(name, str) for name in wanted)
        wanted = list(dict.fromkeys(wanted)) if is_list else []
    if wanted == []:
        raise fail("what", f"one or more of {', '.join(_all(choices))}", what)
    if block is not None and block not in choices:
        raise ValueError(f"block has {block!r}, which is no block of the model; there are: {', '.join(choices)}.")
    for name in wanted or ():
        there = _all(choices) if block is None else choices[block]
        if name not in there:
            whose = "no block of the model shows" if block is None else f"{block} does not show"
            remedy = f"; it can show: {', '.join(there)}." if there else "."
            raise ValueError(f"what has {name!r}, which {whose}{remedy}")
    if block is None:
        block = _best(maps, choices, wanted)
    return block, wanted or _telling(maps[block])


def _choices(found: Mapping[str, LayerMap]) -> list[str]:
    return [*found, *([GRAD_CAM] if tokens_of(found) else [])]


def _all(choices):
    return list(dict.fromkeys(name for names in choices.values() for name in names))


def _telling(found):
    """What is shown of a block unless somebody asks for something else."""
    return [name for name, each in found.items() if each.kind not in (GATES, TOKENS)] or list(found)[:1]


def _best(maps, choices, wanted):
    """The last block that shows all that is wanted at enough places, otherwise the last of those with most."""
    default = not any(each.kind not in (GATES, TOKENS) for found in maps.values() for each in found.values())
    sizes = {}
    for name, found in maps.items():
        shows = set(wanted) <= set(choices[name]) if wanted else default or set(_telling(found)) - {TOKENS}
        if shows and found:
            sizes[name] = max(_places(each) for each in found.values())
    if not sizes:
        raise ValueError(
            f"what has {', '.join(map(repr, wanted))}, which no block shows together; ask for one of them."
        )
    most = min(_ENOUGH_PLACES, max(sizes.values()))
    return [name for name, size in sizes.items() if size >= most][-1]


def _places(found):
    return math.prod(found.grid) if found.grid else found.tensors[0].shape[2] or 0


def class_index(target: int | str, names: Sequence[str] | None, model: Any) -> int:
    """Find the number of a class that is told by its number or name.

    Raises:
        ValueError: The model has no such class.
    """
    if isinstance(target, str):
        if names and target in names:
            return list(names).index(target)
        if not target.isdecimal():
            meant = did_you_mean(target, names or ())
            known = "has no class names; pass a number or labels" if not names else f"has {len(names)} classes"
            raise ValueError(f"target has {target!r}, which is no class of the model, which {known}{meant or '.'}")
        target = int(target)
    classes = model.output_shape[-1]
    return check_integer("target", target, 0, classes - 1, remedy="pass the number or the name of a class")
