import fractions
import math

import numpy as np
import pytest

from keras_video_focalnet.utils import checks

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    "check,value,cleaned",
    [
        (lambda value: checks.check_integer("x", value), np.uint8(3), 3),
        (lambda value: checks.check_integer("x", value, minimum=0, maximum=3), 3, 3),
        (lambda value: checks.check_number("x", value), np.float32(0.5), 0.5),
        (lambda value: checks.check_number("x", value, above=0, maximum=1), np.int64(1), 1.0),
        (lambda value: checks.check_number("x", value), fractions.Fraction(1, 4), 0.25),
        (lambda value: checks.check_fraction("x", value), 0, 0.0),
        (lambda value: checks.check_choice("x", value, (1, True)), True, True),
        (lambda value: checks.check_range("x", value), [np.float64(2), 2], (2.0, 2.0)),
        (lambda value: checks.check_size("x", value), np.int32(7), (7, 7)),
        (lambda value: checks.check_size("x", value), [7, np.int32(14)], (7, 14)),
        (lambda value: checks.check_each(checks.check_integer, "x", value, 2, "stage"), np.array([1, 2]), (1, 2)),
        (lambda value: checks.check_each(checks.check_integer, "x", value, 2, "stage"), 1, (1, 1)),
    ],
)
def test_values_are_cleaned(check, value, cleaned):
    result = check(value)
    assert result == cleaned and type(result) is type(cleaned)


@pytest.mark.parametrize(
    "check,values,expected",
    [
        (lambda value: checks.check_integer("x", value), (True, 2.0, "2", None, math.nan), "an integer"),
        (lambda value: checks.check_integer("x", value, minimum=1), (0, True), "an integer of at least 1"),
        (lambda value: checks.check_integer("x", value, minimum=0, maximum=4), (-1, 5), "an integer from 0 to 4"),
        (lambda value: checks.check_number("x", value), (True, "2", None, math.nan, math.inf, 1j), "a number"),
        (lambda value: checks.check_number("x", value, minimum=0), (-1, math.nan), "a number of at least 0"),
        (lambda value: checks.check_number("x", value, above=0), (0, math.inf), "a number above 0"),
        (lambda value: checks.check_number("x", value, minimum=0, below=1), (1, -0.1), "a number in [0, 1)"),
        (lambda value: checks.check_number("x", value, above=0, maximum=1), (0, 1.1), "a number in (0, 1]"),
        (lambda value: checks.check_fraction("x", value), (-0.1, 1.1), "a number in [0, 1]"),
        (lambda value: checks.check_range("x", value), (3, (1, 2, 3), (2, 1), (0, 1), "12"), "a pair (low, high)"),
        (lambda value: checks.check_range("x", value, maximum=1), ((0.5, 2),), "a pair (low, high) with 0 < low"),
        (lambda value: checks.check_size("x", value), (0, (1, 0), (1,), "7", 7.0), "a positive integer or (height"),
        (lambda value: checks.check_each(checks.check_integer, "x", value, 4, "stage"), ((1, 2, 3),), "one value or 4"),
    ],
)
def test_errors_name_the_argument_what_would_do_and_what_was_received(check, values, expected):
    for value in values:
        with pytest.raises(ValueError) as caught:
            check(value)
        assert str(caught.value).startswith(f"x must be {expected}")
        assert f"received {value!r}" in str(caught.value)


def test_one_is_not_true_among_choices():
    with pytest.raises(ValueError, match='x must be one of None, "avg", True; received 1'):
        checks.check_choice("x", 1, (None, "avg", True))


def test_a_remedy_ends_the_message():
    with pytest.raises(ValueError, match=r"x must be a number, received None; ask for one\.$"):
        checks.check_number("x", None, remedy="ask for one")
