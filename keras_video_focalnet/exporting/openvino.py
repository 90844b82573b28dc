"""OpenVINO: for Intel's and other x86 processors, and their GPUs."""

import pathlib
import tempfile

import openvino

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.graph import PORTABLE, clip_function, frozen


def write_openvino(model, contract, path):
    """Write an `.xml` file and its weights, a `.bin` file of the same name.

    Args:
        model: A `VideoFocalNet`.
        contract: A `Contract`.
        path: The `.xml` file to write.
    """
    function = frozen(clip_function(model, contract, True, PORTABLE))
    with tempfile.TemporaryDirectory() as folder:
        graph = pathlib.Path(folder) / "frozen.pb"
        graph.write_bytes(function.graph.as_graph_def().SerializeToString())
        converted = openvino.convert_model(str(graph))
    converted.inputs[0].tensor.set_names({"clip"})
    given = {name: output for output in converted.outputs for name in output.get_names()}
    # Frozen functions give a dict's values in the order of its sorted names.
    for tensor, name in zip(function.outputs, sorted(contract.outputs), strict=True):
        given[tensor.name].tensor.set_names({name})
    converted.set_rt_info(contract.to_json(), [KEY])
    openvino.save_model(converted, str(path), compress_to_fp16=contract.precision == "float16")
