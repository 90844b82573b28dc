"""A table of the formats that models are exported to."""

import dataclasses
import importlib.util
import pathlib


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: The ending of its files. It is empty for a folder.
        tolerances: For each precision, how much logits may differ from the model's, relative to the largest logit.
        batched: Whether a file takes any number of clips at once.
        converters: Modules besides TensorFlow that write the format.
        runtime: The module that runs the format.
    """

    suffix: str
    tolerances: dict
    batched: bool
    converters: tuple
    runtime: str


# How much quantization to 8 bits changes logits depends on the weights. What counts there is the accuracy on clips of
# known classes, which `benchmarks.export` measures. These limits only catch a broken file.
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

# The limit in the precision that OpenVINO chooses by itself, which is bfloat16 if the processor supports it.
OWN_PRECISION_TOLERANCE = 2e-2


def format_of(path):
    """The format that the name of a file tells, or None."""
    suffix = pathlib.Path(path).suffix.lower()
    return next((name for name, entry in FORMATS.items() if entry.suffix == suffix), None)


def require(modules, what):
    """Raise an error that says what to install, if a module is missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        packages = " ".join(missing).replace("_", "-")  # the name of each package but for its hyphens
        raise ImportError(
            f"{what} needs {packages}, which is not installed: pip install {packages}, or "
            "pip install 'keras-video-focalnet[export,tensorflow]' for all formats."
        )
