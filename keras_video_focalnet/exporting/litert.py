"""Writes LiteRT (TensorFlow Lite) files, which the GPU of a phone can run completely."""

import pathlib
import re
import warnings
import zipfile

import tensorflow as tf

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.graph import clip_function, frozen
from keras_video_focalnet.models.network import find_networks
from keras_video_focalnet.ops.autodiff.portable import FOR_PROCESSORS, PORTABLE

# Only matrix products and convolutions are quantized by what calibration shows: one scale for a whole tensor is too
# coarse for norms, gates and the products between them. It is too coarse for the stem and the first stage as well: with
# them two points of accuracy on camera motion were lost, without them none.
IN_FLOATS = (
    *("ADD", "CAST", "GELU", "MEAN", "MUL", "RESHAPE", "RESIZE_BILINEAR", "RSQRT", "SOFTMAX", "SQUARED_DIFFERENCE"),
    *("STRIDED_SLICE", "SUB"),
)


def write_litert(model, contract, path, calibration=None):
    """Write a `.tflite` file."""
    # A phone's GPU can neither multiply two tensors that must both be broadcast, nor multiply by a constant stack of
    # matrices, nor take operands of two ranks. These formulations avoid all three.
    formulations = FOR_PROCESSORS if contract.precision == "float32" else PORTABLE
    formulations = {**formulations, "gated_sum": "resized", "winograd": "unrolled", "linear": "unflattened"}
    formulations["strided_pointwise"] = "convolution"  # Processors' delegates take no slice with a stride.
    function = frozen(clip_function(model, contract, False, formulations))
    converter = _converter(function)
    if contract.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if contract.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if contract.precision == "int8_full":
            content = _calibrated(model, function, converter, calibration.astype(contract.input_dtype))
        else:
            content = converter.convert()
    pathlib.Path(path).write_bytes(_with_signature(content, contract))
    # A zip archive may follow the model in the file. Android's tools call its entries associated files.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{KEY}.json", contract.to_json())
        if contract.labels is not None:
            archive.writestr("labels.txt", "\n".join(contract.labels) + "\n")


def _converter(function):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _calibrated(model, function, converter, calibration):
    """The file's bytes, quantized but for `IN_FLOATS` and the layers of the stem and the first stage."""
    from tensorflow.lite.tools import flatbuffer_utils

    # The quantizer identifies operations by the names of their outputs, which are known only after a conversion.
    (graph,) = flatbuffer_utils.convert_bytearray_to_object(_converter(function).convert()).subgraphs
    names = [graph.tensors[index].name.decode() for operator in graph.operators for index in operator.outputs]
    first = [
        re.escape(layer.name)
        for network in find_networks(model)
        for layer in network.roles
        if network.frozen_from(layer) <= 1
    ]
    in_floats = re.compile(rf"/({'|'.join(first)})_" if first else r"(?!)")
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=list(IN_FLOATS), denylisted_nodes=list(filter(in_floats.search, names))
    )

    def clips():
        return ([clip] for clip in calibration)

    converter.representative_dataset = clips
    quantizer = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=clips, debug_options=options
    )
    return quantizer.get_nondebug_quantized_model()


def _with_signature(content, contract):
    """Bring the outputs of a file into the contract's order; name input and outputs, also by a signature `serve`."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    flat = flatbuffer_utils.convert_bytearray_to_object(content)
    (graph,) = flat.subgraphs
    # Frozen functions give a dict's values in the order of its sorted names.
    by_name = dict(zip(sorted(contract.outputs), graph.outputs, strict=True))
    graph.outputs = [by_name[name] for name in contract.outputs]
    for name, index in (("clip", graph.inputs[0]), *by_name.items()):
        graph.tensors[index].name = name.encode()
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serve", 0
    signature.inputs = [_tensor_map(schema, "clip", graph.inputs[0])]
    signature.outputs = [_tensor_map(schema, name, by_name[name]) for name in contract.outputs]
    flat.signatureDefs = [signature]
    flat.description = f"{contract.model}, {contract.precision}".encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(flat))


def _tensor_map(schema, name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
