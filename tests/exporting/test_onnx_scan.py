"""An exported file opens no other file, whatever it says."""

import numpy as np
import pytest

from keras_video_focalnet.exporting.errors import ExportedFileError
from keras_video_focalnet.exporting.onnx_scan import names_other_files
from keras_video_focalnet.exporting.runtime import load_exported

onnx = pytest.importorskip("onnx")
for runtime in ("onnxruntime", "openvino"):
    pytest.importorskip(runtime)

pytestmark = pytest.mark.backend_free

PLAIN = onnx.numpy_helper.from_array(np.arange(8, dtype=np.float32), "w")
OUTPUT = [onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [8])]


def elsewhere(location=True, entries=True):
    tensor = onnx.TensorProto(name="w", dims=[8], data_type=onnx.TensorProto.FLOAT)
    if location:
        tensor.data_location = onnx.TensorProto.EXTERNAL
    if entries:
        tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def graph(tensor, place="initializer"):
    make = onnx.helper
    copy, constant = make.make_node("Identity", ["w"], ["o"]), make.make_node("Constant", [], ["o"], value=tensor)
    if place == "constant":
        return make.make_graph([constant], "g", [], OUTPUT)
    if place == "branch":
        branch = make.make_graph([constant], "b", [], OUTPUT)
        choice = make.make_node("If", ["w"], ["o"], then_branch=branch, else_branch=branch)
        return make.make_graph([choice], "g", [], OUTPUT)
    if place == "sparse":
        sparse = make.make_sparse_tensor(tensor, onnx.numpy_helper.from_array(np.arange(8)), [8])
        return make.make_graph([copy], "g", [], OUTPUT, sparse_initializer=[sparse])
    return make.make_graph([copy], "g", [], OUTPUT, [tensor])


def model(tensor, place="initializer"):
    made = onnx.helper.make_model(graph(tensor, place), ir_version=8)
    if place == "function":
        made = onnx.helper.make_model(graph(PLAIN), ir_version=8)
        made.functions.add(name="f", node=graph(tensor, "constant").node)
    if place == "training":
        made = onnx.helper.make_model(graph(PLAIN), ir_version=8)
        made.training_info.add(initialization=graph(tensor))
    return made.SerializeToString()


PLACES = ("initializer", "constant", "branch", "sparse", "function", "training")


@pytest.mark.parametrize("place", PLACES)
def test_tensors_that_lie_in_other_files(tmp_path, place):
    path = tmp_path / "m.onnx"
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    for tensor in (elsewhere(), elsewhere(location=False), elsewhere(entries=False)):
        path.write_bytes(model(tensor, place))
        assert names_other_files(path)
        with pytest.raises(ExportedFileError, match="m.onnx keeps numbers in other files, which are not opened"):
            load_exported(path)
    path.write_bytes(model(PLAIN, place))
    assert not names_other_files(path)


def test_other_formats_in_an_xml_file(tmp_path):
    path = tmp_path / "m.xml"
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    for start in (b"", b"\n\x00", b"<"):
        path.write_bytes(start + model(elsewhere()))
        with pytest.raises(ExportedFileError, match="m.xml holds no description.*not written by `export`"):
            load_exported(path)


def test_files_that_are_no_onnx_models(tmp_path):
    path = tmp_path / "m.onnx"
    whole = model(PLAIN)
    for content in (b"", b"\xff" * 40, b":\x7f", b"\x0b", whole[: len(whole) // 2], b":\x03\xff\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(ExportedFileError, match="m.onnx cannot be loaded: it is damaged"):
            load_exported(path)
