"""The weights of a model lie once in the graph that becomes an ONNX file, and the file is as tf2onnx would write it."""

import collections
import copy
import hashlib

import keras
import numpy as np
import pytest

from keras_video_focalnet.exporting import onnx as onnx_module
from tests.exporting.small_model import clips_like

for package in ("onnxruntime", "tensorflow", "tf2onnx"):
    pytest.importorskip(package)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow"
)


def computed(proto):
    """What a file computes, whatever its tensors are called: a digest of each output with all that leads to it."""
    digests = {value.name: value.name for value in proto.graph.input} | {"": ""}
    for tensor in proto.graph.initializer:
        kept = type(tensor)()
        kept.CopyFrom(tensor)
        kept.name = ""
        digests[tensor.name] = hashlib.sha256(kept.SerializeToString(deterministic=True)).hexdigest()
    for node in proto.graph.node:
        attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        whole = repr((node.op_type, node.domain, attributes, [digests[name] for name in node.input])).encode()
        digests |= {name: f"{place} {hashlib.sha256(whole).hexdigest()}" for place, name in enumerate(node.output)}
    return {value.name: digests[value.name] for value in proto.graph.output}


@pytest.mark.slow
def test_the_value_of_a_constant_is_not_written_at_each_pass(model, tmp_path, monkeypatch):
    from tf2onnx.graph import Node

    import keras_video_focalnet as kvf

    made, written = [], collections.Counter()
    convert, attributes = onnx_module.onnx_model, Node.get_onnx_attrs

    def kept(*args):
        made.append((args, convert(*args)))
        return made[-1][1]

    def counted(node, *args, **kwargs):
        written["constant" if node.is_const() else "other"] += 1
        return attributes(node, *args, **kwargs)

    monkeypatch.setattr(onnx_module, "onnx_model", kept)
    monkeypatch.setattr(Node, "get_onnx_attrs", counted)
    kvf.export(model, tmp_path / "model.onnx", clips=clips_like(model, 1))
    assert written["constant"] == 0 and written["other"] > 0

    ((args, given),) = made
    monkeypatch.setattr(Node, "update_proto", Node.update_proto.__wrapped__)
    monkeypatch.delattr(Node, "__deepcopy__")
    plain = convert(*args)
    assert written["constant"] > 10 * len(given.graph.initializer)
    assert computed(given) == computed(plain) and list(computed(given)) == ["scores", "logits"]


def test_copies_of_a_graph_share_the_values_of_constants_until_one_gets_another():
    from tf2onnx.graph import Graph

    with onnx_module._converter():
        graph = Graph([], output_shapes={}, dtypes={}, opset=18)
        constant = graph.make_const("weights", np.arange(3.0))
        graph.make_node("Neg", ["weights"], name="negative")
        graph.update_proto()
        assert not constant.op.attribute and len(graph.get_node_by_name("negative").op.input) == 1
        copied = copy.deepcopy(graph)
        second = copied.get_node_by_name("weights")
        assert second is not constant and second.graph is copied and second.op is not constant.op
        assert second.get_attr("value") is constant.get_attr("value")
        second.set_tensor_value(np.ones(2))
    np.testing.assert_array_equal(second.get_tensor_value(), [1, 1])
    np.testing.assert_array_equal(constant.get_tensor_value(), [0, 1, 2])
    assert copied.get_shape("weights") == [2] and graph.get_shape("weights") == [3]
