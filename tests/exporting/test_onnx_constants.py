"""The weights of a model lie once in the graph that becomes an ONNX file, and the file is as tf2onnx would write it."""

import collections
import hashlib

import keras
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
    plain = convert(*args)
    assert written["constant"] > 10 * len(given.graph.initializer)
    assert computed(given) == computed(plain) and list(computed(given)) == ["scores", "logits"]
