"""`decode_predictions`: the right names in the right order, from scores of any kind."""

import numpy as np
import pytest

from keras_video_focalnet.evaluation.predictions import decode_predictions
from keras_video_focalnet.labels import load_labels

NAMES = ["cat", "dog", "fox"]


def test_names_in_falling_order():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], np.float32)
    decoded = decode_predictions(scores, top=2, labels=NAMES)
    assert [[name for name, _ in clip] for clip in decoded] == [["dog", "fox"], ["cat", "fox"]]
    assert decoded[0] == [("dog", float(np.float32(0.7))), ("fox", float(np.float32(0.2)))]
    assert isinstance(decoded[0][0][1], float)


def test_one_clip_without_a_batch():
    assert decode_predictions([0.1, 0.7, 0.2], top=1, labels=NAMES) == [[("dog", 0.7)]]


def test_of_equal_scores_the_first_class_comes_first():
    assert [name for name, _ in decode_predictions(np.zeros(400), top=3)[0]] == load_labels("k400")[:3]


@pytest.mark.parametrize("name", ["k400", "k600", "ssv2", "diving48", "activitynet", "camera_motion"])
def test_labels_default_to_the_known_set(name):
    labels = load_labels(name)
    scores = np.eye(len(labels))[[0, 5, -1]]
    for decoded in (decode_predictions(scores, top=1), decode_predictions(scores, top=1, labels=name)):
        assert decoded == [[(labels[0], 1.0)], [(labels[5], 1.0)], [(labels[-1], 1.0)]]


def test_labels_from_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    assert decode_predictions([0, 0, 1], top=1, labels=path) == [[("fox", 1.0)]]


def test_top_is_clipped_to_the_classes():
    assert len(decode_predictions(np.zeros((2, 3)), top=10, labels=NAMES)[1]) == 3
    assert len(decode_predictions(np.zeros(400))[0]) == 5


def test_an_empty_batch():
    assert decode_predictions(np.zeros((0, 400))) == []


def test_logits_and_infinities_are_kept():
    decoded = decode_predictions([-np.inf, -3.5, 12], top=3, labels=NAMES)
    assert decoded == [[("fox", 12.0), ("dog", -3.5), ("cat", -np.inf)]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_tensors_of_the_running_backend(dtype):
    from keras import ops

    scores = ops.cast(ops.convert_to_tensor([[0.25, 0.5, 0.125]]), dtype)
    assert decode_predictions(scores, top=2, labels=NAMES) == [[("dog", 0.5), ("cat", 0.25)]]


def test_a_tensor_that_needs_a_gradient():
    import keras

    dense = keras.layers.Dense(3, kernel_initializer="zeros", bias_initializer="zeros")
    assert decode_predictions(dense(np.ones((1, 2), "float32")), top=1, labels=NAMES) == [[("cat", 0.0)]]


def test_labels_that_do_not_fit():
    message = 'labels has 174 names but the model has 400 classes; pass labels="k400" or a list of 400.'
    with pytest.raises(ValueError) as caught:
        decode_predictions(np.zeros((1, 400)), labels="ssv2")
    assert str(caught.value) == message
    with pytest.raises(ValueError, match=r"labels has 3 names but the model has 4 classes; pass a list of 4\."):
        decode_predictions(np.zeros(4), labels=NAMES)
    with pytest.raises(ValueError, match="The model has 37 classes, as no known data set has; pass labels, a list"):
        decode_predictions(np.zeros(37))
    with pytest.raises(ValueError, match="labels='k300' is no known data set"):
        decode_predictions(np.zeros(400), labels="k300")


def test_bad_arguments():
    scores = np.zeros((3, 400))
    scores[1, 7] = np.nan
    with pytest.raises(ValueError, match="scores holds NaN for clip 1; check the clip and the weights"):
        decode_predictions(scores)
    for top in (0, -1):
        with pytest.raises(ValueError, match=f"top must be 1 or more, received {top}"):
            decode_predictions(np.zeros(400), top=top)
    for shape in [(), (2, 0), (1, 2, 400)]:
        with pytest.raises(ValueError, match=r"scores must have shape .batch, classes. or .classes,., received"):
            decode_predictions(np.zeros(shape))
