"""Exported files, run: each needs its format's own runtime and NumPy, neither Keras nor a backend."""

import abc
import os
import pathlib
import zipfile

import numpy as np

from keras_video_focalnet.exporting.contract import KEY, SAVED_MODEL_CONTRACT, Contract
from keras_video_focalnet.exporting.errors import ExportedFileError
from keras_video_focalnet.exporting.formats import FORMATS, format_of, require


class ExportedModel(abc.ABC):
    """An exported file, ready to run.

    Args:
        path: The file or folder.
        threads: Threads to compute with; None takes all cores.

    Attributes:
        contract: The `Contract` that travels in the file.
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
        self._load()

    def predict(self, clips):
        """The model's own output.

        Args:
            clips: Pixels of 0 to 255, red, green, blue, `(batch, frames, height, width, 3)`, of any numeric dtype.

        Returns:
            float32 array: scores or logits, `(batch, classes)`, or features.

        Raises:
            ValueError: `clips` has another shape or values that are no pixels.
        """
        return self.outputs(clips)[self.contract.outputs[0]]

    def outputs(self, clips):
        """All outputs by name, float32 arrays with the batch first; arguments and errors as of `predict`."""
        clips = self._pixels(clips)
        if self.contract.batched:
            given = self._run(clips)
        else:
            rows = [self._run(clip) for clip in clips]
            given = {name: np.stack([_without_batch(row[name]) for row in rows]) for name in rows[0]}
        return {name: np.asarray(given[name], "float32") for name in self.contract.outputs}

    def _pixels(self, clips):
        clips = np.asarray(clips)
        if clips.ndim != 5 or clips.shape[1:] != self.input_shape or not len(clips):
            raise ValueError(
                f"clips must have shape {('batch', *self.input_shape)}, received {clips.shape}; read_clip gives one "
                "clip of that size, clip[None] makes it a batch."
            )
        dtype = np.dtype(self.contract.input_dtype)
        if clips.dtype == dtype:
            return clips
        if clips.dtype != np.uint8 and not (clips.min() >= 0 and clips.max() <= 255):
            raise ValueError(
                f"clips must hold pixels of 0 to 255, received {clips.min()} to {clips.max()}; pass them as they are "
                "read, not normalized: that is done inside."
            )
        return (np.rint(clips) if dtype == np.uint8 else clips).astype(dtype)

    @abc.abstractmethod
    def _read_contract(self):
        """The contract as JSON."""

    @abc.abstractmethod
    def _load(self):
        """Load the file into its runtime."""

    @abc.abstractmethod
    def _run(self, clips):
        """Outputs by name, of a batch, or of one clip where the format takes one."""

    def _missing(self):
        return ExportedFileError(
            f"{self.path} holds no description of its input and classes: it was not written by `export`, or is damaged."
        )


def _cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _without_batch(tensor):
    """Of one clip: scores come as `(1, classes)`, features as `(frames, height, width, channels)`."""
    return tensor[0] if tensor.ndim == 2 else tensor


class LiteRTModel(ExportedModel):
    """A `.tflite` file, run by `ai-edge-litert`."""

    def _read_contract(self):
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(f"{KEY}.json").decode()
        except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
            raise self._missing() from error

    def _load(self):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(self.path, num_threads=self.threads)
        self._interpreter.allocate_tensors()
        self._serve = self._interpreter.get_signature_runner("serve")

    def _run(self, clips):
        return self._serve(clip=clips)


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

    def features(self, clips):
        """What the classifier reads, `pooled`, `(batch, channels)`, and the final norm, `grid`, as a dict."""
        given = self._loaded.signatures["features"](clip=self._tensor(self._pixels(clips)))
        return {name: tensor.numpy() for name, tensor in given.items()}


class ONNXModel(ExportedModel):
    """An `.onnx` file, run by `onnxruntime`."""

    def _read_contract(self):
        import onnxruntime

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


class OpenVINOModel(ExportedModel):
    """An `.xml` file with its `.bin`, run by `openvino` on the CPU.

    Args:
        path: As of `ExportedModel`.
        threads: As of `ExportedModel`.
        precision: `"float32"`, or None for what OpenVINO takes for the fastest: bfloat16 where the processor has it.
    """

    def __init__(self, path, threads=None, precision=None):
        self._precision = precision
        super().__init__(path, threads)

    def _read_contract(self):
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(self.path)
        try:
            return self._model.get_rt_info([KEY]).astype(str)
        except RuntimeError as error:
            raise self._missing() from error

    def _load(self):
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads}
        if self._precision == "float32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled = self._core.compile_model(self._model, "CPU", options)

    def _run(self, clips):
        given = self._compiled({"clip": clips})
        return {name: given[name] for name in self.contract.outputs}


RUNTIMES = {"litert": LiteRTModel, "saved_model": SavedModel, "onnx": ONNXModel, "openvino": OpenVINOModel}


def load_exported(path, threads=None, precision=None):
    """Load what `export` wrote, to run it; Keras is not needed.

    Args:
        path: A `.tflite`, `.onnx` or `.xml` file, or the folder of a SavedModel.
        threads: Threads to compute with; None takes all cores. TensorFlow's SavedModel always takes all.
        precision: `"float32"` makes OpenVINO compute in float32; None leaves it to OpenVINO, which takes bfloat16 where
            the processor has it. The others compute as they were exported.

    Returns:
        An `ExportedModel` with `predict(clips)`, `outputs(clips)`, `labels`, `input_shape` and `contract`.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The format's runtime is not installed.
        ExportedFileError: The file was not written by `export`, or is damaged.

    Example:
        >>> _ = export(VideoFocalNetNano(weights="camera_motion"), "nano.tflite")
        >>> model = load_exported("nano.tflite")
        >>> clip = read_clip("bikes.mp4", num_frames=8, size=64)
        >>> decode_predictions(model.predict(clip[None]), top=1, labels=model.labels)[0][0][0]
        'tilt down'
    """
    path = pathlib.Path(os.path.expanduser(path))
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}; pass the path of a file or folder that export wrote.")
    format = format_of(path)
    if format is None or path.is_dir() != (FORMATS[format].suffix == ""):
        endings = ", ".join(entry.suffix or "a folder" for entry in FORMATS.values())
        raise ExportedFileError(f"{path} is no exported model; those are: {endings}.")
    if precision not in (None, "float32"):
        raise ValueError(f'precision must be None or "float32", received {precision!r}.')
    require([FORMATS[format].runtime], f"To run {path.name}")
    options = {"precision": precision} if format == "openvino" else {}
    try:
        return RUNTIMES[format](path, threads=threads, **options)
    except (ImportError, ExportedFileError):
        raise
    except Exception as error:  # Each runtime tells of damage by exceptions of its own.
        raise ExportedFileError(
            f"{path} cannot be loaded: it is damaged, or its runtime too old ({type(error).__name__}: "
            f"{str(error)[:300]})."
        ) from error
