"""Writes OpenVINO files, for x86 processors and Intel's GPUs."""

import pathlib
import tempfile

import openvino

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.graph import clip_function, frozen
from keras_video_focalnet.ops.autodiff.portable import PORTABLE


def write_openvino(model, contract, path):
    """Write an `.xml` file and its weights, a `.bin` file of the same name."""
    function = frozen(clip_function(model, contract, True, PORTABLE))
    with tempfile.TemporaryDirectory() as folder:
        graph = pathlib.Path(folder) / "frozen.pb"
        graph.write_bytes(function.graph.as_graph_def().SerializeToString())
        converted = openvino.convert_model(str(graph))
    given = {name: output.get_node() for output in converted.outputs for name in output.get_names()}
    # Frozen functions give a dict's values in the order of its sorted names.
    by_name = dict(zip(sorted(contract.outputs), function.outputs, strict=True))
    in_order = [given[by_name[name].name].input_value(0) for name in contract.outputs]
    converted = openvino.Model(in_order, converted.get_parameters(), contract.model)
    converted.inputs[0].tensor.set_names({"clip"})
    for output, name in zip(converted.outputs, contract.outputs, strict=True):
        output.tensor.set_names({name})
    converted.set_rt_info(contract.to_json(), [KEY])
    openvino.save_model(converted, str(path), compress_to_fp16=contract.precision == "float16")
