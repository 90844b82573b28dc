"""Lists the operations of a LiteRT file, and checks that the GPU of a phone supports all of them."""

import collections
import dataclasses
import pathlib

from keras_video_focalnet.exporting.errors import ExportError

HIGHEST_RANK = 4

# The operations that TensorFlow Lite's GPU delegate supports, as far as models of this package need them. The source is
# tensorflow/lite/tools/versioning/gpu_compatibility.cc in TensorFlow.
GPU_OPERATIONS = frozenset(
    {
        *("ABS", "ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "EXP"),
        *("FULLY_CONNECTED", "GELU", "LOG", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PAD"),
        *("QUANTIZE", "REDUCE_MAX", "RELU", "RESHAPE", "RESIZE_BILINEAR", "RSQRT", "SLICE", "SOFTMAX", "SPLIT"),
        *("SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE"),
    }
)
# These convert pixels to floats, on the CPU, ahead of all other operations.
FIRST_OPERATIONS = frozenset({"CAST", "QUANTIZE", "DEQUANTIZE"})


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a file.

    Attributes:
        name: Name of the built-in operation, `"CUSTOM"`, or `"FLEX"` for one that needs TensorFlow's own kernels.
        inputs: Shapes of its inputs.
        outputs: Shapes of its outputs.
        reads_pixels: Whether it reads the input of the file.
        masks: Whether it is a STRIDED_SLICE with an ellipsis, new axes or removed axes.
        by_constant: Whether it is a BATCH_MATMUL by a constant.
    """

    name: str
    inputs: tuple
    outputs: tuple
    reads_pixels: bool = False
    masks: bool = False
    by_constant: bool = False


def list_operations(path):
    """List the operations of a LiteRT file in their order."""
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
            buffers = [flat.buffers[graph.tensors[index].buffer] for index in operator.inputs if index >= 0]
            operations.append(
                Operation(
                    name,
                    tuple(shapes[index] for index in operator.inputs if index >= 0),
                    tuple(shapes[index] for index in operator.outputs),
                    any(index in graph.inputs for index in operator.inputs),
                    masks,
                    name == "BATCH_MATMUL" and any(buffer.data is not None for buffer in buffers),
                )
            )
    return operations


def check_operations(path):
    """Check that the GPU of a phone supports all of a LiteRT file except the first conversion of pixels to floats."""
    for refused in refused_operations(path):
        raise ExportError(f"The LiteRT file holds {refused}. No file was written.")
    return count_operations(path)


def refused_operations(path):
    """List what the GPU of a phone does not support in a LiteRT file, each with the reason, in words."""
    return [
        f"{operation.name} from {list(operation.inputs)} to {list(operation.outputs)}, which a mobile GPU delegate "
        f"refuses: {reason}"
        for operation in list_operations(path)
        if (reason := _refused(operation))
    ]


def count_operations(path):
    """Count the operations of a LiteRT file by name, the most frequent first."""
    return dict(collections.Counter(operation.name for operation in list_operations(path)).most_common())


def highest_rank(operations):
    """Return the highest rank of all tensors that the operations read or write."""
    return max(len(shape) for operation in operations for shape in (*operation.inputs, *operation.outputs))


def _refused(operation):
    name = operation.name
    if name in ("CUSTOM", "FLEX"):
        return "only built-in operations run there"
    if name not in GPU_OPERATIONS and not (operation.reads_pixels and name in FIRST_OPERATIONS):
        return "it is not among the delegate's operations"
    if highest_rank([operation]) > HIGHEST_RANK:
        return f"it has a tensor of more than {HIGHEST_RANK} dimensions"
    if operation.by_constant:
        return "it multiplies by a constant stack of matrices"
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
