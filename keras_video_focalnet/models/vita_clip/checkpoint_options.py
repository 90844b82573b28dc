"""What the shapes in a checkpoint of Vita-CLIP tell of the options that its model was built with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from keras_video_focalnet.weights.errors import WeightsFileError

Shapes = Mapping[str, tuple[int, ...]]

# Under what names parts of the model are, which not every model has.
_PROMPTS = {"summary": "summary_attn_layer", "local": "local_prompts", "global": "visual.global_prompts"}
_CONTEXTS = {3: "class", 2: "shared"}


def check_options(ours: Shapes, given: Shapes, of_clip: bool) -> None:
    """Check that a checkpoint is of the options that a model is built with, as far as shapes tell them.

    Args:
        ours: Shapes of the model's tensors by the reference's names.
        given: Those of the checkpoint's.
        of_clip: Whether it is a checkpoint of CLIP, which has no prompts and no context.

    Raises:
        WeightsFileError: They differ; the message tells the options.
    """
    model, file = told_options(ours), told_options(given)
    compared = [name for name in model if name in file]
    if of_clip:
        compared = [name for name in compared if name != "prompts"]
    if file["context"] is None and (of_clip or file["text_depth"] is None):
        # CLIP has no context, and neither has a model without a text tower.
        compared = [name for name in compared if name != "context"]
    if "visual.proj" not in ours:
        # A model without its classifier has no texts.
        compared = [name for name in compared if name not in ("text_depth", "context")]
    other = [name for name in compared if model[name] != file[name]]
    if "context" in other and model["context"] is None:
        # A context is left out where the model has none.
        other.remove("context")
    if "text_depth" in other and of_clip and file["text_depth"] is None:
        other.remove("text_depth")
    if other:
        shown = (", ".join(f"{name}={options[name]!r}" for name in other) for options in (file, model))
        raise WeightsFileError(
            "the checkpoint is of {} and the model of {}; build the model with the checkpoint's.".format(*shown)
        )
    places, needed = (_size(shapes, "visual.pos_embed", 0) for shapes in (given, ours))
    if None not in (places, needed) and places != needed:
        side, patch = math.isqrt(max(places - 1, 0)), model.get("patch_size")
        square = f", such as {side * patch} x {side * patch} pixels" if patch and side * side == places - 1 else ""
        raise WeightsFileError(
            f"the checkpoint is of {places - 1} patches a frame and the model's input_shape of {needed - 1}; build the "
            f"model with an input_shape of as many{square}."
        )


def told_options(shapes: Shapes) -> dict[str, Any]:
    """The constructor's arguments that shapes of tensors tell, by the reference's names."""
    width, hidden = _size(shapes, "visual.cls_token", 0), _size(shapes, "visual.blocks.0.mlp.fc1.weight", 0)
    context = shapes.get("prompt_learner.ctx")
    sizes = {
        "patch_size": _size(shapes, "visual.patch_embed.proj.weight", 2),
        "embed_dim": width,
        "depth": _blocks(shapes, r"visual\.blocks\.(\d+)\."),
        "mlp_ratio": hidden / width if hidden and width else None,
        "projection_dim": _size(shapes, "visual.proj", 1),
        "num_frames": _size(shapes, "visual.time_embed", 0),
        "num_global_prompts": _size(shapes, "visual.global_prompts", 1),
        "text_dim": _size(shapes, "textual.ln_final.weight", 0),
        "context_tokens": None if context is None else _size(shapes, "prompt_learner.ctx", -2),
    }
    return {
        **{name: size for name, size in sizes.items() if size is not None},
        "prompts": tuple(kind for kind, part in _PROMPTS.items() if any(part in name for name in shapes)),
        "text_depth": _blocks(shapes, r"textual\.transformer\.resblocks\.(\d+)\."),
        "context": None if context is None else _CONTEXTS.get(len(context), "of another kind"),
    }


def _size(shapes, name, axis):
    shape = shapes.get(name, ())
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _blocks(shapes, pattern):
    """How many blocks a tower has, or None where it is not there."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))}) or None
