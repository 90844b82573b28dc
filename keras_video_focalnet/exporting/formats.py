"""The formats that models are exported to, as data."""

import dataclasses
import importlib.util
import pathlib


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: Ending of its files; a folder has none.
        tolerances: By precision, by how much logits may differ from the model's, relative to the largest.
        batched: Whether it takes any number of clips at once.
        converters: Modules that write it, besides TensorFlow.
        runtime: Module that runs it.
    """

    suffix: str
    tolerances: dict
    batched: bool
    converters: tuple
    runtime: str


# Quantized to 8 bits, logits wander more with some weights than with others: what counts there is accuracy, measured
# on clips of known class (`benchmarks.export`); the limits are there to catch what is broken.
FORMATS = {
    "litert": Format(
        ".tflite",
        {"float32": 1e-4, "float16": 2e-2, "int8": 0.1, "int8_full": 0.4},
        batched=False,
        converters=(),
        runtime="ai_edge_litert",
    ),
    "saved_model": Format("", {"float32": 1e-4}, batched=True, converters=(), runtime="tensorflow"),
    "onnx": Format(".onnx", {"float32": 1e-4}, batched=True, converters=("tf2onnx", "onnx"), runtime="onnxruntime"),
    "openvino": Format(
        ".xml", {"float32": 1e-4, "float16": 2e-2}, batched=True, converters=("openvino",), runtime="openvino"
    ),
}

# What OpenVINO prefers to compute in, bfloat16 where the processor has it, may differ by this much.
OWN_PRECISION_TOLERANCE = 2e-2

# Module -> what to install.
PACKAGES = {
    "ai_edge_litert": "ai-edge-litert",
    "tensorflow": "tensorflow",
    "tf2onnx": "tf2onnx",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


def format_of(path):
    """The format that the name of a file tells, or None.

    Args:
        path: Path; a folder or a name without an ending is a SavedModel.

    Returns:
        A key of `FORMATS`, or None.
    """
    suffix = pathlib.Path(path).suffix.lower()
    return next((name for name, entry in FORMATS.items() if entry.suffix == suffix), None)


def require(modules, what):
    """Raise an error that says what to install where a module is missing.

    Args:
        modules: Names of modules.
        what: What they are needed for.

    Raises:
        ImportError: One of them is not installed.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        packages = " ".join(PACKAGES[module] for module in missing)
        raise ImportError(
            f"{what} needs {packages}, which is not installed: pip install {packages}, or "
            "pip install 'keras-video-focalnet[export,tensorflow]' for all formats."
        )
