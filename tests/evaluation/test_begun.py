"""Which settings of a job are told to differ from those that it was begun with."""

import pytest

from keras_video_focalnet.evaluation.begun import check_begun_with

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"seed": 3, "sampling": "random"}, {"seed": None, "sampling": "spread"}, "with seed=3, now with seed=None"),
        ({"sampling": "random"}, {"sampling": "spread"}, "with sampling='random', now with sampling='spread'"),
        ({"model": "a", "weights": "0", "frames": 8}, {"model": "b", "weights": "1", "frames": 16},
         "with the model 'a', now with 'b'"),
        ({"model": "a", "labels": "0"}, {"model": "b", "labels": "1"},
         "with other names of classes; with the model 'a', now with 'b'"),
        ({"the model": "a", "the list of classes": "0"}, {"the model": "b", "the list of classes": "1"},
         "with other names of classes; with another model, or other weights of it"),
        ({"protocol": {"views": "1x1"}}, {"protocol": {"views": "4x3"}}, "with views='1x1', now with views='4x3'"),
        ({"crf": 0}, {"crf": None}, "with crf=0, now with crf=None"),
    ],
)  # fmt: skip
def test_causes_are_told_and_no_consequences(before, now, told):
    with pytest.raises(ValueError) as error:
        check_begun_with("it", before, now, "Remove it.")
    assert str(error.value) == f"it was begun {told}. Remove it."


def test_what_is_not_used_does_not_differ():
    check_begun_with("it", {"features": None, "top": 5}, {"features": False, "top": 5}, "Remove it.")
