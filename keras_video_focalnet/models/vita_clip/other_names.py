"""Scores of clips against names that a model was not trained for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_video_focalnet.models.vita_clip.arguments import check_names, check_templates
from keras_video_focalnet.models.vita_clip.class_texts import plain_texts
from keras_video_focalnet.models.vita_clip.model import VitaCLIP, check_text_tower


def zero_shot(
    model: VitaCLIP,
    clips: Any,
    class_names: Sequence[str] | str | os.PathLike,
    templates: Sequence[str] = ("{}",),
    **options: Any,
) -> Any:
    """Score clips against names that the model was not trained for (Wasim et al. 2023, section 4.3).

    Args:
        model: A `VitaCLIP` with a text tower.
        clips: `(batch, frames, height, width, 3)`, as `predict` takes them.
        class_names: What the classes are called, as a list, the name of a data set or a file.
        templates: Texts with `{}` for a name; the features of several are averaged, each with length 1.
        **options: Further arguments of `keras.Model.predict`, such as `batch_size`.

    Returns:
        float32 array `(batch, names)`: the softmax over the names.

    Raises:
        ValueError: There are no names, two are the same or one is too long; or the model has no text tower.
        TypeError: `model` is no `VitaCLIP`.

    Example:
        >>> small = {"embed_dim": 16, "depth": 2, "num_heads": 2, "projection_dim": 8, "text_dim": 8}
        >>> small |= {"text_heads": 2, "text_depth": 1, "input_shape": (4, 32, 32, 3)}
        >>> model = VitaCLIP(["opening a door", "closing a door"], **small)
        >>> zero_shot(model, np.zeros((1, 4, 32, 32, 3), "uint8"), ["a cat", "a dog", "a horse"]).shape
        (1, 3)
    """
    if not isinstance(model, VitaCLIP):
        raise TypeError(f"model must be a VitaCLIP, received {type(model).__name__}; build one with VitaCLIPB.")
    check_text_tower(model, "zero_shot")
    names, _ = check_names(class_names, None, None, None, model.text_depth)
    head = model.classifier
    texts = [plain_texts(names, template) for template in check_templates(templates)]
    video = ops.convert_to_tensor(model.video_features(clips, **options))
    scores = ops.softmax(head.compare(video, head.text_features(texts)), axis=-1)
    return ops.convert_to_numpy(ops.stop_gradient(scores))
