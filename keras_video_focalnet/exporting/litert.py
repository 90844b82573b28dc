"""LiteRT (TensorFlow Lite): for phones, whole on their GPUs."""

import pathlib
import re
import warnings
import zipfile

import tensorflow as tf

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.graph import FOR_PROCESSORS, PORTABLE, clip_function, frozen
from keras_video_focalnet.exporting.litert_operations import check_operations

# Only matrix products and convolutions are quantized by what calibration shows: one scale for a whole tensor is too
# coarse for norms, gates and the products between them. It is for the first features too: with them two points of
# accuracy on camera motion were lost (with earlier weights of Nano), without them none.
IN_FLOATS = (
    *("ADD", "CAST", "GELU", "MEAN", "MUL", "RESHAPE", "RESIZE_BILINEAR", "RSQRT", "SOFTMAX", "SQUARED_DIFFERENCE"),
    *("STRIDED_SLICE", "SUB"),
)
FIRST_FEATURES = re.compile(r"/(patch_embed|stage0_downsample|stage0_block\d+)_")


def write_litert(model, contract, path, calibration=None):
    """Write a `.tflite` file.

    Args:
        model: A `VideoFocalNet`.
        contract: A `Contract`.
        path: File to write.
        calibration: Clips, `(clips, frames, height, width, 3)`, for the precision `"int8_full"`.

    Raises:
        ExportError: The result holds an operation or a rank that a phone's GPU does not take.
    """
    # A phone's GPU multiplies no two tensors that would both have to be broadcast, nor by a constant stack of matrices.
    formulations = FOR_PROCESSORS if contract.precision == "float32" else PORTABLE
    formulations = {**formulations, "gated_sum": "resized", "winograd": "unrolled"}
    function = frozen(clip_function(model, contract, False, formulations))
    converter = _converter(function)
    if contract.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if contract.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if contract.precision == "int8_full":
            content = _calibrated(function, converter, calibration.astype(contract.input_dtype))
        else:
            content = converter.convert()
    pathlib.Path(path).write_bytes(_with_signature(content, contract))
    check_operations(path)
    # Behind the model the file may be a zip archive: what Android's tools call associated files.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{KEY}.json", contract.to_json())
        if contract.labels is not None:
            archive.writestr("labels.txt", "\n".join(contract.labels) + "\n")


def _converter(function):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _calibrated(function, converter, calibration):
    """The file's bytes, quantized but for `IN_FLOATS` and `FIRST_FEATURES`."""
    from tensorflow.lite.tools import flatbuffer_utils

    # The quantizer knows operations by the names of their outputs, which only a converted file tells.
    (graph,) = flatbuffer_utils.convert_bytearray_to_object(_converter(function).convert()).subgraphs
    names = [graph.tensors[index].name.decode() for operator in graph.operators for index in operator.outputs]
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=list(IN_FLOATS), denylisted_nodes=list(filter(FIRST_FEATURES.search, names))
    )

    def clips():
        return ([clip] for clip in calibration)

    converter.representative_dataset = clips
    quantizer = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=clips, debug_options=options
    )
    return quantizer.get_nondebug_quantized_model()


def _with_signature(content, contract):
    """The file's bytes with a signature `serve` that names input and outputs."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    flat = flatbuffer_utils.convert_bytearray_to_object(content)
    (graph,) = flat.subgraphs
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serve", 0
    signature.inputs = [_tensor_map(schema, "clip", graph.inputs[0])]
    # Frozen functions give a dict's values in the order of its sorted names.
    named = zip(sorted(contract.outputs), graph.outputs, strict=True)
    signature.outputs = [_tensor_map(schema, name, index) for name, index in named]
    flat.signatureDefs = [signature]
    flat.description = f"{contract.model}, {contract.precision}".encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(flat))


def _tensor_map(schema, name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
