"""Cost of a model in multiply-adds."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_video_focalnet.models.opening import opened

# Layers without a matrix product: what is element-wise, moves values or reduces them counts as nothing.
_FREE = (
    *("InputLayer", "Reshape", "Flatten", "Permute", "RepeatVector", "Identity", "Activation", "ReLU", "LeakyReLU"),
    *("PReLU", "Softmax", "Dropout", "GaussianNoise", "GaussianDropout", "Normalization", "Rescaling", "Embedding"),
    *("LayerNormalization", "BatchNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"),
)
_FREE_OF_A_RANK = (
    *("SpatialDropout", "ZeroPadding", "Cropping", "UpSampling"),
    *("AveragePooling", "MaxPooling", "GlobalAveragePooling", "GlobalMaxPooling"),
)
_FREE_NAMES = (*_FREE, *(f"{name}{rank}D" for name in _FREE_OF_A_RANK for rank in (1, 2, 3)))
_FREE_LAYERS = tuple(getattr(keras.layers, name) for name in _FREE_NAMES if hasattr(keras.layers, name))
# A kernel of these is used once for every place of the output.
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
# Of the operations in these modules of Keras's, those with products whose count does not follow from two shapes.
_KNOWN_MODULES = tuple(f"keras.src.ops.{name}" for name in ("core", "numpy", "nn", "image"))
_FREE_OPERATIONS = ("Rsqrt", "Erf", "Erfinv", "Logsumexp", "TopK", "Norm", "InTopK", "SegmentSum", "SegmentMax")
_UNCOUNTED = (
    *("Dot", "Einsum", "Tensordot", "Vdot", "Vecdot", "Inner", "Outer", "Kron", "Cross", "Correlate"),
    *("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "DotProductAttention", "AffineTransform"),
    *("Map", "Scan", "AssociativeScan", "VectorizedMap", "ForiLoop", "WhileLoop", "Cond", "Switch", "Corrcoef"),
    *("PerspectiveTransform", "ElasticTransform", "MapCoordinates", "GaussianBlur", "SobelEdges", "SSIM"),
    *("ScaleAndTranslate", "Convolve", "Resize"),
)


def count_macs(model: keras.Model) -> int:
    """Count the multiply-adds of one clip in the matrix products and convolutions of a model.

    Element-wise work (norms, gates, GELU) is left out, as in the figures that papers print. A layer that is used
    several times counts each time.

    Args:
        model: A built functional model with a fixed number of frames, such as a `VideoClassifier` or one around it, or
            what `open_model` takes. Its layers are Keras's, or have a method `count_macs(input_shape)` for one call on
            a shape with a batch of 1.

    Returns:
        Multiply-adds for a batch of one.

    Raises:
        ValueError: The number of frames is None, or a layer or operation is not known; none is counted as nothing.

    Example:
        >>> count_macs(VideoFocalNetT(weights=None)) / 1e9
        63.0...
    """
    model = opened(model)
    if any(size is None for size in model.inputs[0].shape[1:]):
        raise ValueError("The model takes any number of frames; build it with input_shape=(frames, height, width, 3).")
    clip = keras.KerasTensor((1, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    return _graph_macs(model, clip)[0]


def _graph_macs(model: keras.Model, inputs: Any) -> tuple[int, Any]:
    """The multiply-adds of a functional model on symbolic inputs with a batch of one, and its symbolic outputs."""
    total = 0

    def count(operation, *args, **kwargs):
        # Shapes are computed without calling the layer, which would add a node to the model's own graph.
        nonlocal total
        if isinstance(operation, keras.Model):
            macs, outputs = _graph_macs(operation, args[0])
        else:
            outputs = operation.compute_output_spec(*args, **kwargs)
            macs = _operation_macs(operation, args, _shape(outputs))
        total += macs
        return outputs

    graph = getattr(model, "_functional", None) or model  # a Sequential keeps its graph inside
    outputs = graph._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=count)
    return total, outputs


def _shape(tensors: Any) -> tuple[int, ...]:
    """The shape of the first tensor of a structure; empty where there is none."""
    found = [tensor for tensor in keras.tree.flatten(tensors) if isinstance(tensor, keras.KerasTensor)]
    return tuple(found[0].shape) if found else ()


def _operation_macs(operation: Any, arguments: Any, outputs: tuple[int, ...]) -> int:
    """The multiply-adds of one operation from its arguments and the shape of its first output."""
    layers, inputs = keras.layers, _shape(arguments)
    if hasattr(operation, "count_macs"):
        return operation.count_macs(inputs)
    if isinstance(operation, layers.EinsumDense):
        return _einsum_macs(operation, inputs)
    if isinstance(operation, layers.Dense):
        return math.prod(inputs[:-1]) * math.prod(operation.kernel.shape)
    if isinstance(operation, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
        return math.prod(outputs) * math.prod(operation.kernel_size)
    if type(operation) in _CONVOLUTIONS:
        return math.prod(outputs) // operation.filters * math.prod(operation.kernel.shape)
    if isinstance(operation, layers.Layer):
        if isinstance(operation, _FREE_LAYERS):
            return 0
        raise ValueError(
            f"The multiply-adds of the layer {operation.name!r} ({type(operation).__name__}) are not known; give its "
            "class a method count_macs(input_shape), with the batch first, that returns them."
        )
    kind = type(operation).__name__
    if kind == "Matmul":
        return math.prod(outputs) * arguments[0].shape[-1]
    known = kind in _FREE_OPERATIONS or type(operation).__module__ in _KNOWN_MODULES
    if kind in _UNCOUNTED or not known:
        raise ValueError(
            f"The multiply-adds of the operation {operation.name!r} ({kind}) are not known; put it into a layer with a "
            "method count_macs(input_shape)."
        )
    return 0


def _einsum_macs(layer: keras.layers.EinsumDense, shape: tuple[int, ...]) -> int:
    """The product of the sizes of all indices of the equation."""
    left, _ = layer.equation.replace("...", "").split("->")
    names, kernel = left.split(",")
    sizes = dict(zip(kernel, layer.kernel.shape, strict=True)) | dict(zip(names[::-1], shape[::-1], strict=False))
    return math.prod(sizes.values()) * math.prod(shape[: len(shape) - len(names)])
