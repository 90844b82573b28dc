"""What a LiteRT file consists of, and whether a phone's GPU takes all of it."""

import collections
import dataclasses
import pathlib

from keras_video_focalnet.exporting.errors import ExportError

HIGHEST_RANK = 4

# What TensorFlow Lite's GPU delegate takes (tensorflow/lite/tools/versioning/gpu_compatibility.cc), as far as this
# architecture has use for it.
GPU_OPERATIONS = frozenset(
    {
        *("ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "EXP"),
        *("FULLY_CONNECTED", "GELU", "LOGISTIC", "MAXIMUM", "MEAN", "MUL", "PAD", "QUANTIZE", "REDUCE_MAX", "RESHAPE"),
        *("RESIZE_BILINEAR", "RSQRT", "SLICE", "SOFTMAX", "SPLIT", "SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE"),
        *("STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE"),
    }
)
# Pixels become floats on the CPU, before anything else.
FIRST_OPERATIONS = frozenset({"CAST", "QUANTIZE", "DEQUANTIZE"})


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a file.

    Attributes:
        name: Name of the built-in operation, `"CUSTOM"`, or `"FLEX"` for one that needs TensorFlow's own kernels.
        inputs: Shapes of its inputs.
        outputs: Shapes of its outputs.
        of_pixels: Whether it reads the file's input.
        masks: Of a STRIDED_SLICE, whether it has an ellipsis, new or shrunk axes.
    """

    name: str
    inputs: tuple
    outputs: tuple
    of_pixels: bool = False
    masks: bool = False


def list_operations(path):
    """The operations of a LiteRT file, in order.

    Args:
        path: A `.tflite` file.

    Returns:
        List of `Operation`.

    Raises:
        ImportError: Neither ai-edge-litert nor TensorFlow is installed.
    """
    schema = _schema()
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(pathlib.Path(path).read_bytes(), 0))
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    operations = []
    for graph in flat.subgraphs:
        shapes = [tuple(() if tensor.shape is None else map(int, tensor.shape)) for tensor in graph.tensors]
        for operator in graph.operators:
            code = flat.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name == "CUSTOM" and (code.customCode or b"").startswith(b"Flex"):
                name = "FLEX"
            options = operator.builtinOptions
            masks = name == "STRIDED_SLICE" and any((options.ellipsisMask, options.newAxisMask, options.shrinkAxisMask))
            operations.append(
                Operation(
                    name,
                    tuple(shapes[index] for index in operator.inputs if index >= 0),
                    tuple(shapes[index] for index in operator.outputs),
                    any(index in graph.inputs for index in operator.inputs),
                    masks,
                )
            )
    return operations


def check_operations(path):
    """Make sure that a phone's GPU takes a LiteRT file whole, but for the first conversion of pixels to floats.

    Args:
        path: A `.tflite` file.

    Returns:
        Dict from the name of an operation to how often it stands in the file.

    Raises:
        ExportError: An operation is custom, needs TensorFlow's kernels (Flex), is not supported by the GPU delegate, or
            has a tensor of more than 4 dimensions.
    """
    operations = list_operations(path)
    for operation in operations:
        reason = _refused(operation)
        if reason:
            raise ExportError(
                f"The LiteRT file holds {operation.name} from {list(operation.inputs)} to {list(operation.outputs)}, "
                f"which a mobile GPU delegate refuses: {reason}. No file was written."
            )
    return dict(collections.Counter(operation.name for operation in operations).most_common())


def highest_rank(operations):
    """The highest rank of any tensor that operations read or write."""
    return max(len(shape) for operation in operations for shape in (*operation.inputs, *operation.outputs))


def _refused(operation):
    name = operation.name
    if name in ("CUSTOM", "FLEX"):
        return "only built-in operations run there"
    if name not in GPU_OPERATIONS and not (operation.of_pixels and name in FIRST_OPERATIONS):
        return "it is not among the delegate's operations"
    if highest_rank([operation]) > HIGHEST_RANK:
        return f"it has a tensor of more than {HIGHEST_RANK} dimensions"
    if operation.masks:
        return "it slices with an ellipsis, a new or a dropped axis"
    if name in ("SLICE", "STRIDED_SLICE") and len(operation.inputs[0]) not in (3, 4):
        return "it slices a tensor of a rank other than 3 or 4"
    if name == "PAD" and operation.inputs[1] not in ((3, 2), (4, 2)):
        return "it pads a tensor of a rank other than 3 or 4"
    if name in ("ADD", "MUL") and _both_broadcast(*operation.inputs):
        return "both operands would have to be broadcast"
    if name in ("ADD", "MUL") and len({len(shape) for shape in operation.inputs if len(shape) > 1}) > 1:
        return "its operands have different ranks"
    return None


def _both_broadcast(left, right):
    sizes = list(zip(left, right, strict=True)) if len(left) == len(right) else []
    return any(a < b for a, b in sizes) and any(a > b for a, b in sizes)


def _schema():
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        from tensorflow.lite.python import schema_py_generated
    return schema_py_generated
