"""`decode_predictions`: the right names in the right order, from scores of any kind."""

import warnings

import numpy as np
import pytest

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.labels.predictions import decode_predictions

NAMES = ["cat", "dog", "fox"]


def test_names_in_falling_order():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], np.float32)
    decoded = decode_predictions(scores, top=2, labels=NAMES)
    assert [[name for name, _ in clip] for clip in decoded] == [["dog", "fox"], ["cat", "fox"]]
    assert decoded[0] == [("dog", float(np.float32(0.7))), ("fox", float(np.float32(0.2)))]
    assert isinstance(decoded[0][0][1], float)


def test_scores_of_sigmoids_and_of_half_precision_are_no_logits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_predictions([[0.9, 0.8, 1.0], [1.004, 0.0, -1e-4]], labels=NAMES)


def test_a_model_in_place_of_labels_gives_its_own():
    class Named:
        labels = ("cat", "dog", "fox")

    assert decode_predictions([0.1, 0.7, 0.2], top=1, labels=Named()) == [[("dog", 0.7)]]
    Named.labels = None
    with pytest.warns(UserWarning, match="3 classes may be anybody's"):
        assert decode_predictions([0.1, 0.7, 0.2], top=1, labels=Named()) == [[("class 1", 0.7)]]


def test_one_clip_without_a_batch():
    assert decode_predictions([0.1, 0.7, 0.2], top=1, labels=NAMES) == [[("dog", 0.7)]]


def test_of_equal_scores_the_first_class_comes_first():
    assert [name for name, _ in decode_predictions(np.zeros(400), top=3)[0]] == load_labels("k400")[:3]


def test_400_classes_are_those_of_the_default_weights():
    labels = load_labels("k400")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_predictions(np.eye(400)[[0, 399]], top=1) == [[(labels[0], 1.0)], [(labels[399], 1.0)]]


@pytest.mark.parametrize("name", ["k600", "ssv2", "diving48", "activitynet", "camera_motion"])
def test_a_number_of_classes_alone_names_nothing(name):
    labels = load_labels(name)
    scores = np.eye(len(labels))[[0, 5, -1]]
    named = [[(labels[0], 1.0)], [(labels[5], 1.0)], [(labels[-1], 1.0)]]
    assert decode_predictions(scores, top=1, labels=name) == named
    with pytest.warns(UserWarning, match=f"{len(labels)} classes may be anybody's.*labels=model.labels.*{name}"):
        decoded = decode_predictions(scores, top=1)
    assert decoded == [[("class 0", 1.0)], [("class 5", 1.0)], [(f"class {len(labels) - 1}", 1.0)]]


def test_classes_of_no_known_data_set_are_numbered():
    with pytest.warns(UserWarning, match=r"37 classes may be anybody's.*or a list of 37 names\."):
        assert decode_predictions(np.eye(37)[3], top=1) == [[("class 3", 1.0)]]


def test_the_warning_names_the_line_that_calls():
    with pytest.warns(UserWarning) as caught:
        decode_predictions(np.eye(9)[1])
    assert [warning.filename for warning in caught] == [__file__]


def test_labels_from_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    assert decode_predictions([0, 0, 1], top=1, labels=path) == [[("fox", 1.0)]]


def test_top_is_clipped_to_the_classes():
    assert len(decode_predictions(np.zeros((2, 3)), top=10, labels=NAMES)[1]) == 3
    assert len(decode_predictions(np.zeros(400))[0]) == 5


def test_an_empty_batch():
    assert decode_predictions(np.zeros((0, 400))) == []


def test_logits_and_infinities_are_kept_and_told():
    with pytest.warns(UserWarning, match="scores has values outside 0 to 1: these are logits.*softmax") as told:
        decoded = decode_predictions([-np.inf, -3.5, 12], top=3, labels=NAMES)
    assert [one.filename for one in told] == [__file__]
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
    with pytest.raises(ValueError, match="labels='k300' is no known data set"):
        decode_predictions(np.zeros(400), labels="k300")


def test_bad_arguments():
    scores = np.zeros((3, 400))
    scores[1, 7] = np.nan
    with pytest.raises(ValueError, match="scores holds NaN for clip 1; check the clip and the weights"):
        decode_predictions(scores)
    for top in (0, -1):
        with pytest.raises(ValueError, match=f"top must be an integer of at least 1, received {top}"):
            decode_predictions(np.zeros(400), top=top)
    for shape in [(), (2, 0), (1, 2, 400)]:
        with pytest.raises(ValueError, match=r"scores must have shape .batch, classes. or .classes,., received"):
            decode_predictions(np.zeros(shape))
