"""Old names: they work, they warn with the new name, and the warning points at the line that used the old one."""

import dataclasses
import inspect
import pickle
import warnings

import numpy as np
import pytest

from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.utils.deprecation import rename_keys, renamed_arguments, warn_renamed

pytestmark = pytest.mark.backend_free


@renamed_arguments({"base_rate": "learning_rate"})
@dataclasses.dataclass(frozen=True)
class Plan:
    """Stands for a recipe."""

    epochs: int
    learning_rate: float = 0.1


def test_an_old_argument_and_attribute_work_and_warn_here():
    with pytest.warns(DeprecationWarning, match="base_rate is an old name, .* use learning_rate") as caught:
        plan = Plan(3, base_rate=0.5)
        assert plan.base_rate == 0.5
    assert plan == Plan(3, 0.5)
    assert [warning.filename for warning in caught] == [__file__] * 2


def test_everybody_sees_the_warning_of_a_name_that_does_otherwise():
    """Also of what an imported module does, whose `DeprecationWarning` Python hides."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warn_renamed("reset", "replaced", stacklevel=0)
        warn_renamed("reset", "replaced", stacklevel=0, otherwise=True)
    assert [warning.category for warning in caught] == [FutureWarning]


def test_current_names_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = dataclasses.replace(Plan(3, learning_rate=0.5), epochs=4)
        assert pickle.loads(pickle.dumps(plan)) == plan
    assert list(inspect.signature(Plan).parameters) == ["epochs", "learning_rate"]


def test_a_value_is_replaced_by_its_old_name():
    with pytest.warns(DeprecationWarning, match="use learning_rate"):
        assert dataclasses.replace(Plan(3), base_rate=0.5) == Plan(3, 0.5)


def test_unknown_arguments_are_refused_by_the_name_that_was_given():
    with pytest.raises(TypeError, match="'rate'"):
        Plan(3, rate=0.5)


def test_keys_of_a_file_are_renamed_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rename_keys({"a": 1, "b": 2}, {"a": "c"}) == {"b": 2, "c": 1}


def test_the_old_name_of_the_chance_of_cutmix():
    clips, labels = np.zeros((2, 1, 8, 8, 3), np.uint8), np.array([0, 1])
    with pytest.warns(DeprecationWarning, match="switch is an old name, .* use cutmix_probability"):
        mixing = Mixing(2, switch=0.25)
    assert mixing == Mixing(2, cutmix_probability=0.25)
    assert pickle.loads(pickle.dumps(mixing)) == mixing
    np.testing.assert_array_equal(mixing(clips, labels, np.random.default_rng(0))[0], clips)
