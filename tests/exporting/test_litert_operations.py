"""The check that tells what a phone's GPU does not take."""

import keras
import pytest

from keras_video_focalnet.exporting.errors import ExportError
from keras_video_focalnet.exporting.litert_operations import Operation, check_operations, list_operations

tf = pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="files are made with TensorFlow")]


def litert_file(path, function, *shapes, flex=False):
    signature = [tf.TensorSpec(shape, "float32") for shape in shapes]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path.write_bytes(converter.convert())
    return path


@pytest.mark.parametrize(
    "function,shapes,flex,message",
    [
        (lambda x: tf.nn.conv3d(x, tf.ones((2, 2, 2, 3, 4)), [1] * 5, "VALID"), [(1, 4, 8, 8, 3)], False, "CONV_3D"),
        (lambda x: tf.transpose(x, (0, 2, 1, 3, 4)) + 1.0, [(2, 4, 8, 8, 3)], False, "more than 4 dimensions"),
        (lambda x: tf.linalg.inv(x), [(4, 4)], True, "FLEX.*only built-in operations"),
        (lambda x, y: x * y, [(8, 7, 7, 1), (8, 1, 1, 16)], False, "both operands would have to be broadcast"),
        (lambda x, y: x + y, [(2, 8, 7, 16), (7, 16)], False, "operands have different ranks"),
        (lambda x: tf.matmul(tf.eye(8, batch_shape=[2]), x), [(2, 8, 4)], False, "BATCH_MATMUL.*by a constant stack"),
        (lambda x: tf.cumsum(x, axis=1), [(2, 8)], False, "CUMSUM.*not among the delegate's operations"),
        (lambda x: x[:, 1] * 2.0, [(2, 8, 8, 3)], False, "a new or a dropped axis"),
    ],
    ids=["conv3d", "rank", "flex", "broadcast", "ranks", "stacks", "unknown", "slice"],
)
def test_what_is_refused(function, shapes, flex, message, tmp_path):
    path = litert_file(tmp_path / "bad.tflite", function, *shapes, flex=flex)
    with pytest.raises(ExportError, match=message):
        check_operations(path)


def test_what_is_taken(tmp_path):
    path = litert_file(tmp_path / "product.tflite", tf.matmul, (2, 3, 4), (2, 4, 5))
    assert check_operations(path) == {"BATCH_MATMUL": 1}
    path = litert_file(tmp_path / "good.tflite", lambda x, y: tf.nn.softmax(x * y), (8, 7, 7, 4), (8, 1, 1, 4))
    assert check_operations(path) == {"MUL": 1, "SOFTMAX": 1}
    assert list_operations(path)[0] == Operation("MUL", ((8, 7, 7, 4), (8, 1, 1, 4)), ((8, 7, 7, 4),), True)
