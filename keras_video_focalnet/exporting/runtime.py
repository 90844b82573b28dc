"""Runs exported files. Each format needs its own runtime and NumPy, but neither Keras nor a backend."""

import abc
import os
import pathlib
import platform
import threading
import zipfile

import numpy as np

from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.data.clip_rule import ClipRule, clip_rule
from keras_video_focalnet.exporting.contract import KEY, MAX_JSON_BYTES, SAVED_MODEL_CONTRACT, Contract
from keras_video_focalnet.exporting.errors import ExportedFileError
from keras_video_focalnet.exporting.formats import FORMATS, format_of, require
from keras_video_focalnet.exporting.onnx_scan import names_other_files
from keras_video_focalnet.labels.predictions import name_scores
from keras_video_focalnet.ops.processor import this_one_multiplies_faster_in
from keras_video_focalnet.utils.archives import unpack
from keras_video_focalnet.utils.clip_checks import check_clip_shape, check_no_path, looks_scaled
from keras_video_focalnet.weights.run_folder import is_run


class ExportedModel(abc.ABC):
    """An exported file that is loaded and ready to run.

    Args:
        path: The file or folder.
        threads: The number of threads to compute with. None takes all cores.

    Attributes:
        contract: The `Contract` that the file contains.
        labels: Names of the classes, or None.
        input_shape: `(frames, height, width, 3)` of a clip.
        name: Name of the model.
    """

    def __init__(self, path, threads=None):
        self.path = str(path)
        self.threads = threads or _cores()
        self.contract = Contract.from_json(self._read_contract(), self.path)
        self.labels = self.contract.labels
        self.input_shape = self.contract.input_shape
        self.name = self.contract.model
        # A file may be run by several threads, and not every runtime may.
        self._lock = threading.Lock()
        self._load()

    def read(self, path, **options):
        """Read a video, or frames that are in memory, as the clip that this file takes: uint8 `input_shape`.

        Arguments and errors are those of `read_clip`. `clip[None]` makes the clip a batch.
        """
        return read_clip(path, like=self, **options)

    def decode_predictions(self, scores, top=5):
        """Name the highest scores of each clip by the file's labels, see `decode_predictions`.

        Of a file that gives logits and no scores, see `contract.outputs`, the numbers beside the names are logits.
        """
        return name_scores(scores, top, labels=self)

    def predict(self, clips):
        """Compute the model's own output.

        Args:
            clips: RGB pixels of 0 to 255 of shape `(batch, frames, height, width, 3)` and any numeric dtype.

        Returns:
            A float32 array of scores or logits, `(batch, classes)`, or of features.

        Raises:
            ValueError: `clips` has another shape, or values outside 0 to 255.
        """
        return self.outputs(clips)[self.contract.outputs[0]]

    def outputs(self, clips):
        """Compute all outputs, a dictionary of float32 arrays. Arguments and errors are those of `predict`."""
        clips = self._pixels(clips)
        with self._lock:
            rows = [self._run(clips)] if self.contract.batched else [self._run(clip) for clip in clips]
        if self.contract.batched:
            given = rows[0]
        else:
            given = {name: np.stack([_without_batch(row[name]) for row in rows]) for name in rows[0]}
        return {name: np.asarray(given[name], "float32") for name in self.contract.outputs}

    def in_order(self, clips):
        """Compute all outputs of one clip, of shape `(1, frames, height, width, 3)`, as the runtime itself gives them.

        Returns:
            A list of pairs of a name and a float32 array, in the file's order. A SavedModel has names alone, and its
            outputs are in the contract's order here.
        """
        clips = self._pixels(clips)
        with self._lock:
            if self.contract.batched:
                given = self._run_in_order(clips)
            else:
                given = [(name, _without_batch(tensor)[None]) for name, tensor in self._run_in_order(clips[0])]
        return [(name, np.array(tensor, "float32")) for name, tensor in given]

    def _pixels(self, clips):
        check_no_path("clips", clips)
        clips = np.asarray(clips)
        check_clip_shape("clips", clips.shape, self.input_shape)
        if not len(clips):
            raise ValueError(f"clips must hold at least one clip, received shape {clips.shape}.")
        dtype = np.dtype(self.contract.input_dtype)
        if clips.dtype == np.uint8:
            return clips.astype(dtype, copy=False)
        if looks_scaled(clips) or not (clips.min() >= 0 and clips.max() <= 255):
            raise ValueError(
                f"clips must hold pixels of 0 to 255, received {clips.min()} to {clips.max()}; pass them as they are "
                "read, neither divided by 255 nor normalized: that is done inside."
            )
        return (np.rint(clips) if dtype == np.uint8 else clips).astype(dtype, copy=False)

    @abc.abstractmethod
    def _read_contract(self):
        """Read the contract from the file, as JSON."""

    @abc.abstractmethod
    def _load(self):
        """Load the file into its runtime."""

    @abc.abstractmethod
    def _run(self, clips):
        """Compute outputs by name, of a batch, or of a single clip if the format takes one."""

    @abc.abstractmethod
    def _run_in_order(self, clips):
        """Compute the same by position, as pairs of a name and a tensor, by the plainest call of the runtime."""

    def _missing(self):
        return ExportedFileError(
            f"{self.path} holds no description of its input and classes: it was not written by `export`, or is damaged."
        )


@clip_rule.register(ExportedModel)
def _rule(exported):
    """An exported file prepares pixels inside, whatever its model does."""
    frames, height, width, _ = exported.input_shape
    return ClipRule(frames, (height, width), **exported.contract.resize_rule)


def _cores():
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _without_batch(tensor):
    """Remove the batch axis from the output of a single clip: scores have one, features of rank 4 have none."""
    return tensor[0] if tensor.ndim == 2 else tensor


class LiteRTModel(ExportedModel):
    """A `.tflite` file, run by `ai-edge-litert`."""

    def _read_contract(self):
        try:
            with zipfile.ZipFile(self.path) as archive:
                member = archive.getinfo(f"{KEY}.json")
                if member.file_size > MAX_JSON_BYTES:
                    raise self._missing()
                return b"".join(unpack(archive, member)).decode()
        except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
            raise self._missing() from error

    def _load(self):
        self._serve = self._interpreter().get_signature_runner("serve")

    def _interpreter(self):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(self.path, num_threads=self.threads)
        interpreter.allocate_tensors()
        return interpreter

    def _run(self, clips):
        return self._serve(clip=clips)

    def _run_in_order(self, clips):
        interpreter = self._interpreter()  # One that has a signature's runner refuses to run by itself.
        (taken,) = interpreter.get_input_details()
        interpreter.set_tensor(taken["index"], clips)
        interpreter.invoke()
        return [
            (output["name"], interpreter.get_tensor(output["index"])) for output in interpreter.get_output_details()
        ]


class SavedModel(ExportedModel):
    """A SavedModel's folder, run by TensorFlow."""

    def _read_contract(self):
        try:
            return (pathlib.Path(self.path) / SAVED_MODEL_CONTRACT).read_text()
        except FileNotFoundError as error:
            raise self._missing() from error

    def _load(self):
        import tensorflow as tf

        self._tensor = tf.constant
        self._loaded = tf.saved_model.load(self.path)

    def _run(self, clips):
        given = self._loaded.signatures["serve"](clip=self._tensor(clips))
        return {name: tensor.numpy() for name, tensor in given.items()}

    def _run_in_order(self, clips):
        given = self._loaded.signatures["serving_default"](clip=self._tensor(clips))
        return [(name, given[name]) for name in sorted(given, key=self.contract.outputs.index)]

    def features(self, clips):
        """Compute `pooled`, the classifier's input `(batch, channels)`, and `grid`, the final norm's output."""
        given = self._loaded.signatures["features"](clip=self._tensor(self._pixels(clips)))
        return {name: tensor.numpy() for name, tensor in given.items()}


class ONNXModel(ExportedModel):
    """An `.onnx` file, run by `onnxruntime`."""

    def _read_contract(self):
        import onnxruntime

        if names_other_files(self.path):
            raise ExportedFileError(
                f"{self.path} keeps numbers in other files, which are not opened: `export` writes none; save it as one "
                "file, onnx.save(onnx.load(path), path)."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        try:
            self._session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
            return self._session.get_modelmeta().custom_metadata_map[KEY]
        except KeyError as error:
            raise self._missing() from error

    def _load(self):
        self._names = [output.name for output in self._session.get_outputs()]

    def _run(self, clips):
        return dict(zip(self._names, self._session.run(self._names, {"clip": clips}), strict=True))

    def _run_in_order(self, clips):
        (taken,) = self._session.get_inputs()
        return list(zip(self._names, self._session.run(None, {taken.name: clips}), strict=True))


class OpenVINOModel(ExportedModel):
    """An `.xml` file with its `.bin`, run by `openvino` on the CPU.

    Args:
        path: As in `ExportedModel`.
        threads: As in `ExportedModel`.
        precision: As in `load_exported`.
    """

    def __init__(self, path, threads=None, precision=None):
        self._precision = precision
        super().__init__(path, threads)

    def _read_contract(self):
        import openvino

        # It takes other formats by their content, whose tensors may lie in other files.
        with open(self.path, "rb") as file:
            if file.read(5) != b"<?xml":
                raise self._missing()
        self._core = openvino.Core()
        self._model = self._core.read_model(self.path)
        try:
            return self._model.get_rt_info([KEY]).astype(str)
        except RuntimeError as error:
            raise self._missing() from error

    def _load(self):
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads}
        # On Arm its own choice may be float16, which not every network can be computed in.
        faster = platform.machine() in ("x86_64", "AMD64") and this_one_multiplies_faster_in("bfloat16")
        slower = self._precision is None and not faster
        if self._precision == "float32" or slower:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled = self._core.compile_model(self._model, "CPU", options)

    def _run(self, clips):
        given = self._compiled({"clip": clips})
        return {name: given[name] for name in self.contract.outputs}

    def _run_in_order(self, clips):
        given = self._compiled([clips])
        return [(output.get_any_name(), given[place]) for place, output in enumerate(self._compiled.outputs)]


RUNTIMES = {"litert": LiteRTModel, "saved_model": SavedModel, "onnx": ONNXModel, "openvino": OpenVINOModel}


def load_exported(path, threads=None, precision=None):
    """Load a file that `export` wrote, to run it without Keras.

    A `.tflite` and an `.onnx` file open no other file, and an `.xml` file only the `.bin` of its name. A SavedModel is
    a program that TensorFlow runs, whose operations may read and write files: load only those that you trust.

    Args:
        path: A `.tflite`, `.onnx` or `.xml` file, or the folder of a SavedModel.
        threads: The number of threads to compute with. None takes all cores. A SavedModel always uses all cores.
        precision: `"float32"` makes OpenVINO compute in float32, and `"own"` leaves the choice to it, which takes
            bfloat16 if an x86 processor has instructions for it. None does so where these are known to be faster than
            float32, with AMX and on AMD's processors under Linux, and otherwise takes float32. The other formats
            compute in that of their file.

    Returns:
        An `ExportedModel` with `read(path)`, `predict(clips)`, `decode_predictions(scores)`, `outputs(clips)`,
        `labels`, `input_shape` and `contract`.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The format's runtime is not installed.
        ExportedFileError: The file was not written by `export`, or is damaged.

    Example:
        >>> _ = export(VideoFocalNetNano(weights="camera_motion"), "nano.tflite")
        >>> model = load_exported("nano.tflite")
        >>> clip = model.read("bikes.mp4")
        >>> model.decode_predictions(model.predict(clip[None]), top=1)[0][0][0]
        'tilt down'
    """
    path = pathlib.Path(os.path.expanduser(path))
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}; pass the path of a file or folder that export wrote.")
    if is_run(path) or path.suffix.lower() in (".keras", ".safetensors"):
        raise ExportedFileError(
            f"{path} is no exported model but what training left: open_model({str(path)!r}) opens it, and "
            f"export({str(path)!r}, 'model.tflite') writes a file for load_exported."
        )
    format = format_of(path)
    if format is None or path.is_dir() != (FORMATS[format].suffix == ""):
        endings = ", ".join(entry.suffix or "a folder" for entry in FORMATS.values())
        raise ExportedFileError(f"{path} is no exported model; those are: {endings}.")
    if precision not in (None, "float32", "own"):
        raise ValueError(f'precision must be None or "float32" or "own", received {precision!r}.')
    require([FORMATS[format].runtime], f"To run {path.name}")
    options = {"precision": precision} if format == "openvino" else {}
    try:
        return RUNTIMES[format](path, threads=threads, **options)
    except (ImportError, ExportedFileError):
        raise
    except Exception as error:  # For a damaged file each runtime raises exceptions of its own.
        raise ExportedFileError(
            f"{path} cannot be loaded: it is damaged, or its runtime is too old ({type(error).__name__}: "
            f"{str(error)[:300]})."
        ) from error
