"""What a network looks at in a clip: maps of one of its blocks on the clip's frames."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.data.clip import Video, read_clip
from keras_video_focalnet.data.clip_rule import clip_rule
from keras_video_focalnet.data.memory_frames import as_picture, in_memory
from keras_video_focalnet.data.video import resize
from keras_video_focalnet.data.video_reader import VideoReader
from keras_video_focalnet.labels.predictions import names_of_classes
from keras_video_focalnet.models.around import labels_inside
from keras_video_focalnet.models.maps import ATTENTION, GATES, OFFSETS, LayerMap
from keras_video_focalnet.models.network import Network, find_network
from keras_video_focalnet.models.opening import opened
from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.visualization import drawing
from keras_video_focalnet.visualization.choosing import choose, class_index
from keras_video_focalnet.visualization.layer_values import grad_cam, layer_values, tokens_of
from keras_video_focalnet.visualization.result import GRAD_CAM, Visualization

SIZE = 224
"""Short side in pixels of the frames that maps are drawn on, where they are read from a video."""
LARGEST_SIZE = 4096
"""The largest that may be asked for."""


def visualize(
    model: Any,
    clip: Video,
    block: str | None = None,
    what: str | Sequence[str] | None = None,
    target: int | str | None = None,
    size: int | None = None,
    start: float | None = None,
    end: float | None = None,
    labels: Sequence[str] | str | None = None,
) -> Visualization:
    """Show what a block of a network looks at in a clip.

    What can be shown depends on the architecture: of a Video-FocalNet (Wasim et al., ICCV 2023) its `"spatial"` and
    `"temporal"` modulators (Figure 7) and the `"gates"` of its focal levels (Eq. 7); of SIFA (Long et al., CVPR 2022)
    the `"attention"` to the next frame and the `"offsets"` of its taps; of Vita-CLIP (Wasim et al., CVPR 2023) the
    `"attention"` of the class token to patches; of any the `"tokens"` that later layers read, and `"grad-cam"`, which
    of them speak for a class (Selvaraju et al., ICCV 2017, with the gradients averaged over frames too). Nothing is
    trained and nothing attached to the model.

    Args:
        model: A `VideoClassifier`, a model around one, or what `open_model` takes.
        clip: Pixels of 0 to 255 of the clip that the model takes, `(frames, height, width, 3)`; or a video to read the
            clip from, see `read_clip`.
        block: Name of the block; None for the last that shows what is asked for at 49 places or more, otherwise for the
            one with most places.
        what: A name or a list of names of what is shown; None for modulators, attention and offsets, or tokens where
            there are none.
        target: The class for Grad-CAM, as its number or name; None for the model's answer.
        size: Short side in pixels of the frames that are drawn on, 16 to 4096; None for 224 where a video is read,
            otherwise for the clip's own.
        start: Seconds of the video at which to begin; None for the beginning.
        end: Seconds of the video before which to stop; None for the end.
        labels: Class names as `decode_predictions` takes them; None for the model's own.

    Returns:
        A `Visualization`; its `save` writes a PNG, GIF or MP4.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model has no such block, the block shows no such thing, there is no such class, the video has no
            frame, or another argument is out of its range; the message names the choices.

    Example:
        >>> model = VideoFocalNetNano(weights="camera_motion")
        >>> seen = visualize(model, "bikes.mp4", what=["spatial", "grad-cam"])
        >>> seen.block, seen.target, seen.maps["spatial"].shape, seen.grids["spatial"].shape
        ('stage1_block0', 'tilt down', (8, 224, 224), (8, 8, 8, 32))
        >>> seen.save("modulators.png")
    """
    if size is not None:
        size = check_integer("size", size, 16, LARGEST_SIZE, remedy="pass fewer or more pixels")
    network = find_network(opened(model))
    maps = network.maps()
    block, chosen = choose(maps, block, what)
    if target is not None and GRAD_CAM not in chosen:
        raise ValueError(
            f"target={target!r} is a class for grad-cam, which is not shown; leave it out, or add grad-cam to what."
        )
    names = labels_inside(network.model) if labels is None else names_of_classes(labels, network.model.output_shape[-1])
    index = None if target is None else class_index(target, names, network.model)
    target = None
    taken, frames = _read(clip, network, size, start, end)

    shown = [name for name in chosen if name != GRAD_CAM]
    arrays = layer_values(network, [maps[block][name] for name in shown], taken) if shown else []
    grids, found = dict(zip(shown, arrays, strict=True)), {name: maps[block][name] for name in shown}
    if GRAD_CAM in chosen:
        found[GRAD_CAM] = tokens_of(maps[block])
        grids[GRAD_CAM], index, _ = grad_cam(network, found[GRAD_CAM], taken, index)
        target = names[index] if names else str(index)
    drawn = {}
    for name in chosen:
        for title, grid in _as_maps(name, found[name], grids[name]).items():
            drawn[title] = drawing.to_frames(grid, len(frames), frames.shape[1:3], found[name].of_pairs)
    return Visualization(frames, drawn, {name: grids[name] for name in chosen}, block, target)


def _read(clip: Any, network: Network, size: int | None, start: float | None, end: float | None):
    """The clip as the network takes it, `(frames, height, width, 3)`, and the frames that are drawn on."""
    rule = clip_rule(network.model)
    if isinstance(clip, np.ndarray) and clip.ndim == 5 and len(clip) == 1:
        clip = clip[0]
    if isinstance(clip, np.ndarray) and clip.shape == (rule.num_frames, *rule.size, 3):
        if start is not None or end is not None:
            raise ValueError("start and end are for videos, and clip is one that the model takes; leave them out.")
        if rule.prepare is not None and clip.dtype.kind == "f":
            # As `read_clip` gives it for such a model.
            rules = network.preprocessing
            shown = np.rint(clip * np.float32(rules.std) + np.float32(rules.mean)).clip(0, 255).astype(np.uint8)
            return clip, _resized(shown, size)
        pixels = np.stack([as_picture(frame, number) for number, frame in enumerate(clip)])
        frames = _resized(pixels, size)
    else:
        with contextlib.ExitStack() as opened_here:
            if in_memory(clip):
                clip = clip if hasattr(clip, "__len__") else list(clip)
            elif not isinstance(clip, VideoReader):
                clip = opened_here.enter_context(VideoReader(clip))
            pixels, frames = (
                read_clip(clip, rule.num_frames, sides, start, end, **rule.resize_rule)
                for sides in (rule.size, _sides(rule.size, size or SIZE))
            )
    return pixels.astype("float32") if rule.prepare is None else rule.prepare(pixels), frames


def _resized(frames, size):
    if size is None:
        return frames
    return np.stack([resize(frame, *_sides(frame.shape[:2], size)) for frame in frames])


def _sides(sides, short):
    """Height and width of the same shape with a short side."""
    return tuple(round(side * short / min(sides)) for side in sides)


def _as_maps(name: str, found: LayerMap, grid: np.ndarray) -> dict[str, np.ndarray]:
    """Values `(frames, height, width, channels)` as maps `(frames, height, width)`, by their titles."""
    if found.kind == GATES:
        return {f"{title} gate": grid[..., place] for place, title in enumerate(found.names)}
    if found.kind == OFFSETS:
        pairs = grid.reshape(*grid.shape[:-1], -1, 2)
        return {name: np.linalg.norm(pairs, axis=-1).mean(axis=-1)}
    if found.kind == ATTENTION:
        return {name: np.abs(grid).mean(axis=-1)}
    return {name: np.linalg.norm(grid, axis=-1)}
