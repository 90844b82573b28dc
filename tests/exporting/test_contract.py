"""The contract in an exported file, when somebody else wrote it."""

import json
import zipfile

import pytest

from keras_video_focalnet.exporting.contract import KEY, MAX_JSON_BYTES, Contract
from keras_video_focalnet.exporting.errors import ExportedFileError
from keras_video_focalnet.exporting.runtime import LiteRTModel

pytestmark = pytest.mark.backend_free

WHOLE = Contract("onnx", "float32", "m", (8, 64, 64, 3), "uint8", True, ("scores",), 2, ("a", "b")).to_json()


def test_a_whole_one_comes_back():
    assert Contract.from_json(WHOLE, "m.onnx").labels == ("a", "b")


@pytest.mark.parametrize(
    "outputs,told", [(("scores", "logits"), "from 0 to 1"), (("logits",), "no scores in the file")]
)
def test_it_tells_what_the_outputs_are(outputs, told):
    contract = Contract("onnx", "float32", "m", (8, 64, 64, 3), "uint8", True, outputs, 2)
    meaning = json.loads(contract.to_json())["meaning"]
    assert tuple(meaning) == outputs and told in meaning[outputs[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "/some/file"},
        {"labels": "ab"},
        {"labels": [1, 2]},
        {"labels": ["a"]},
        {"labels": {"a": 1, "b": 2}},
        {"classes": 3},
        {"version": 2},
        {"input": 3},
    ],
)
def test_what_it_may_not_say(changes):
    with pytest.raises(ExportedFileError, match="m.onnx holds no contract"):
        Contract.from_json(json.dumps(json.loads(WHOLE) | changes), "m.onnx")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"version": ' + "1" * 5000 + "}", WHOLE + " " * MAX_JSON_BYTES, "", "null"]
)
def test_texts_that_are_none(text):
    with pytest.raises(ExportedFileError, match="m.onnx holds no contract"):
        Contract.from_json(text, "m.onnx")


def test_a_packed_one_is_not_unpacked_without_bounds(tmp_path):
    path = tmp_path / "m.tflite"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{KEY}.json", " " * (MAX_JSON_BYTES + 1))
    with pytest.raises(ExportedFileError, match="m.tflite holds no description"):
        LiteRTModel(path)
