"""ONNX: for ONNX Runtime, and what else reads it."""

import contextlib
import warnings

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.graph import FOR_PROCESSORS, clip_function, frozen

# The newest that tf2onnx 1.17 writes, and the first with a GELU, which ONNX Runtime reads since 1.17.
CONVERTED_OPSET, OPSET = 18, 20


def onnx_model(model, contract):
    """A model as an ONNX graph.

    Args:
        model: A `VideoFocalNet`.
        contract: A `Contract`.

    Returns:
        An `onnx.ModelProto` with the input `clip` and outputs by the contract's names.
    """
    # ONNX Runtime makes one operation of a norm that is written so.
    function = frozen(clip_function(model, contract, True, {**FOR_PROCESSORS, "layer_norm": "quotient"}))
    given = [tensor.name for tensor in function.outputs]
    with _converter() as convert:
        proto, _ = convert.from_graph_def(
            function.graph.as_graph_def(),
            input_names=[function.inputs[0].name],
            output_names=given,
            opset=CONVERTED_OPSET,
        )
    # Frozen functions give a dict's values in the order of its sorted names.
    names = {function.inputs[0].name: "clip", **dict(zip(given, sorted(contract.outputs), strict=True))}
    _rename(proto.graph, names)
    proto = _with_gelus(proto)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, contract.to_json()
    return proto


def write_onnx(model, contract, path):
    """Write an `.onnx` file.

    Args:
        model: A `VideoFocalNet`.
        contract: A `Contract`.
        path: File to write.
    """
    import onnx

    proto = onnx_model(model, contract)
    onnx.checker.check_model(proto)
    onnx.save_model(proto, str(path))


@contextlib.contextmanager
def _converter():
    """tf2onnx, mended for NumPy 2 as Keras does it, and quiet."""
    import logging

    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch_tf2onnx()
        import tf2onnx.convert

        logger = logging.getLogger("tf2onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield tf2onnx.convert
        finally:
            logger.setLevel(level)


def _with_gelus(proto):
    """A graph with one operation for each `(0.5 * x) * (1 + erf(x / sqrt(2)))`, which took five."""
    import onnx.version_converter

    proto = onnx.version_converter.convert_version(proto, OPSET)
    nodes, constants = list(proto.graph.node), {tensor.name for tensor in proto.graph.initializer}
    made_by = {name: node for node in nodes for name in node.output}
    readers = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone = set()
    for erf in [node for node in nodes if node.op_type == "Erf"]:
        (scaled,), ((add,),) = erf.input, (readers[name] for name in erf.output)
        (x,) = (name for name in made_by[scaled].input if name not in constants)
        (product,) = readers[add.output[0]]
        (half,) = (name for name in product.input if name != add.output[0])
        product.op_type = "Gelu"
        product.input[:] = [x]
        gone.update((scaled, *erf.output, *add.output, half))
    nodes = [node for node in nodes if node.output[0] not in gone]
    read = {name for node in nodes for name in node.input}
    for field, kept in (
        (proto.graph.node, nodes),
        (proto.graph.initializer, [tensor for tensor in proto.graph.initializer if tensor.name in read]),
    ):
        del field[:]
        field.extend(kept)
    return proto


def _rename(graph, names):
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = names.get(name, name)
