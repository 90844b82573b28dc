"""Writes ONNX files, for ONNX Runtime and other runtimes."""

import contextlib
import copy
import functools
import warnings

import numpy as np

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.graph import clip_function, frozen
from keras_video_focalnet.ops.autodiff.portable import FOR_PROCESSORS

# tf2onnx 1.17 writes opset 18 at most. Opset 20 is the first with a GELU, and ONNX Runtime reads it from 1.17 on.
CONVERTED_OPSET, OPSET = 18, 20


def onnx_model(model, contract):
    """Convert a model to an ONNX graph."""
    # ONNX Runtime joins a layer norm that is written as a quotient into one operation.
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
    by_name = {value.name: value for value in proto.graph.output}
    in_order = [by_name[name] for name in contract.outputs]
    del proto.graph.output[:]
    proto.graph.output.extend(in_order)
    proto = _with_gelus(proto)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, contract.to_json()
    return proto


def write_onnx(model, contract, path):
    """Write an `.onnx` file."""
    import onnx

    proto = onnx_model(model, contract)
    onnx.checker.check_model(proto)
    onnx.save_model(proto, str(path))


@contextlib.contextmanager
def _converter():
    """Provide tf2onnx without its log messages, and patched for NumPy 2 by the function that Keras has for it."""
    import logging

    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch_tf2onnx()
        import tf2onnx.convert

        _keep_constants_once()
        logger = logging.getLogger("tf2onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield tf2onnx.convert
        finally:
            logger.setLevel(level)


@functools.cache
def _keep_constants_once():
    """Has tf2onnx's passes over a graph keep the value of a constant in one place.

    A node has its attributes in a dictionary and in a message. Each pass works on a copy of the graph and ends with
    messages that are written anew from the dictionaries, so all weights would lie in memory many times over. But a pass
    that changes a constant puts another value into its dictionary, so that copies can share values; and nothing reads
    the message of a constant, so it stays empty.
    """
    from tf2onnx.graph import Node

    update = Node.update_proto

    @functools.wraps(update)
    def update_proto(node, *args, **kwargs):
        if node.is_const():
            del node.op.attribute[:]
        else:
            update(node, *args, **kwargs)

    def deepcopy(node, memo):
        made = memo[id(node)] = object.__new__(type(node))
        if node.is_const():
            memo.update((id(value), value) for value in node.attr.values())
        made.__dict__.update(copy.deepcopy(node.__dict__, memo))
        return made

    Node.update_proto, Node.__deepcopy__ = update_proto, deepcopy


def _with_gelus(proto):
    """Replace the five operations of each `(0.5 * x) * (1 + erf(x / sqrt(2)))` by one GELU."""
    import onnx.version_converter

    proto = onnx.version_converter.convert_version(proto, OPSET)
    nodes, constants = list(proto.graph.node), {tensor.name: tensor for tensor in proto.graph.initializer}
    made_by = {name: node for node in nodes for name in node.output}
    readers = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def beside(node, kind, constant):
        """Return the other input of a node of this kind with this constant, or None if the node is not of this form."""
        if node is None or node.op_type != kind:
            return None
        others = [name for name in node.input if not _is(constants.get(name), constant)]
        return others[0] if len(others) == 1 else None

    def reader(name):
        """Return the node that reads a tensor, or None if several nodes or none read it."""
        return readers[name][0] if len(readers.get(name, ())) == 1 else None

    gone = set()
    for erf in [node for node in nodes if node.op_type == "Erf"]:
        x = beside(made_by.get(erf.input[0]), "Mul", 0.5**0.5)
        add = reader(erf.output[0])
        product = reader(add.output[0]) if beside(add, "Add", 1.0) else None
        half = next((name for name in product.input if name != add.output[0]), None) if product is not None else None
        if x is None or beside(made_by.get(half), "Mul", 0.5) != x or product.op_type != "Mul":
            continue
        if reader(erf.input[0]) is None or reader(half) is None:
            continue
        product.op_type = "Gelu"
        product.input[:] = [x]
        gone.update((*erf.input, *erf.output, *add.output, half))
    kept = [node for node in nodes if node.output[0] not in gone]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    for place in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[place].name not in read:
            del proto.graph.initializer[place]
    return proto


def _is(tensor, number):
    """Return whether a constant consists of this single number."""
    from onnx import numpy_helper

    if tensor is None or np.prod(tensor.dims, dtype=int) != 1:
        return False
    return bool(np.isclose(numpy_helper.to_array(tensor).item(), number, rtol=1e-6))


def _rename(graph, names):
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = names.get(name, name)
