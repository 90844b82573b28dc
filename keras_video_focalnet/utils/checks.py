"""Checks of arguments: one function for each kind of argument.

Every check takes the argument's name and its value, returns the cleaned value, accepts the scalars of NumPy, takes no
bool for a number, and otherwise raises a `ValueError` that reads `NAME must be WHAT WOULD DO, received VALUE`. A check
that takes `remedy` adds `; REMEDY` to it.
"""

import difflib
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def fail(name: str, expected: str, value: Any, remedy: str | None = None) -> ValueError:
    """Makes the error of a check that failed; `expected` is what would do, as it reads after "must be"."""
    return ValueError(f"{name} must be {expected}, received {value!r}" + (f"; {remedy}." if remedy else "."))


def did_you_mean(value: Any, choices: Iterable[str]) -> str:
    """Makes a question after the nearest of the names that exist, for the end of a message; empty where none is near.

    Example:
    >>> did_you_mean("tinny", ["tiny", "small"])
    ", did you mean 'tiny'?"
    """
    near = difflib.get_close_matches(str(value), list(choices), 1)
    return f", did you mean {near[0]!r}?" if near else ""


def check_integer(
    name: str, value: Any, minimum: int | None = None, maximum: int | None = None, remedy: str | None = None
) -> int:
    """Checks an integer from `minimum` to `maximum`, of which the latter goes with the former.

    Example:
    >>> check_integer("classes", np.int64(4), minimum=1)
    4
    """
    if minimum is None:
        expected = "an integer"
    else:
        expected = f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise fail(name, expected, value, remedy)
    return number


def check_number(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    remedy: str | None = None,
) -> float:
    """Checks a finite real number between bounds: `minimum` and `maximum` may be reached, `above` and `below` not.

    Example:
    >>> check_number("drop_rate", np.float32(0.5), minimum=0, below=1)
    0.5
    """
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    # Written so that NaN fails: no comparison with it is true.
    if (
        math.isfinite(number)
        and (minimum is None or number >= minimum)
        and (above is None or number > above)
        and (maximum is None or number <= maximum)
        and (below is None or number < below)
    ):
        return number
    raise fail(name, f"a number{_interval(minimum, maximum, above, below)}", value, remedy)


def _interval(minimum, maximum, above, below):
    """The bounds of a number in words or, where there are two, as an interval."""
    if maximum is not None or below is not None:
        low = f"[{minimum}" if above is None else f"({above}"
        return f" in {low}, " + (f"{maximum}]" if below is None else f"{below})")
    if above is not None:
        return f" above {above}"
    return "" if minimum is None else f" of at least {minimum}"


def check_fraction(name: str, value: Any, remedy: str | None = None) -> float:
    """Checks a number from 0 to 1, both included: a probability, or a part of something."""
    return check_number(name, value, minimum=0, maximum=1, remedy=remedy)


def hidden_units(mlp_ratio: Any, channels: int, whole: Callable[[float], int] = int) -> int:
    """Counts the hidden units of an MLP, `mlp_ratio` times its channels made `whole`, and checks that there are any.

    Example:
    >>> hidden_units(2.5, 5), hidden_units(2.5, 5, whole=math.ceil)
    (12, 13)
    """
    units = whole(channels * check_number("mlp_ratio", mlp_ratio, above=0))
    if units < 1:
        raise fail("mlp_ratio", f"a number that gives {channels} channels at least one hidden unit", mlp_ratio)
    return units


def check_choice(name: str, value: T, choices: Iterable[T]) -> T:
    """Checks that a value is one of a few, and of the same type: 1 is not True.

    Example:
    >>> check_choice("pooling", "avg", (None, "avg", "max"))
    'avg'
    """
    choices = tuple(choices)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}; received {value!r}.")
    return value


def check_range(name: str, value: Any, above: float = 0, maximum: float | None = None) -> tuple[float, float]:
    """Checks a pair `(low, high)` of numbers, greater than `above` and at most `maximum`, to draw between.

    Example:
    >>> check_range("area", (0.5, 1), maximum=1)
    (0.5, 1.0)
    """
    expected = f"a pair (low, high) with {above} < low <= high" + ("" if maximum is None else f" <= {maximum}")
    try:
        if not isinstance(value, (tuple, list)):
            raise ValueError
        low, high = (check_number(name, bound, above=above, maximum=maximum) for bound in value)
    except ValueError:
        raise fail(name, expected, value) from None
    if low > high:
        raise fail(name, expected, value)
    return low, high


def check_size(name: str, value: Any, unit: str = "") -> tuple[int, int]:
    """Checks a height and width in `unit`: one positive integer for both, or a pair.

    Example:
    >>> check_size("grid_size", 14), check_size("grid_size", (7, 14))
    ((14, 14), (7, 14))
    """
    try:
        sides = value if isinstance(value, (tuple, list)) else (value, value)
        height, width = (check_integer(name, side, minimum=1) for side in sides)
    except ValueError:
        expected = "a positive integer or (height, width)" + (f" in {unit}" if unit else "")
        raise fail(name, expected, value) from None
    return height, width


def check_each(check: Callable[..., T], name: str, value: Any, count: int, unit: str, **limits: Any) -> tuple[T, ...]:
    """Checks one value for all, or a sequence of one for each `unit`, by a check of one value and its `limits`.

    Example:
    >>> check_each(check_integer, "focal_levels", 2, count=4, unit="stage", minimum=0)
    (2, 2, 2, 2)
    """
    several = isinstance(value, Sequence) or (hasattr(value, "__iter__") and getattr(value, "ndim", 1) > 0)
    values = tuple(value) if several and not isinstance(value, str) else (value,) * count
    if len(values) != count:
        raise fail(name, f"one value or {count}, one for each {unit}", value)
    return tuple(check(name, item, **limits) for item in values)


def check_resize_rule(crop_fraction: Any, interpolation: Any) -> None:
    """Check how frames are resized and cropped: a fraction above 0 to 1, and a filter that Pillow has."""
    check_number("crop_fraction", crop_fraction, above=0, maximum=1)
    check_choice("interpolation", interpolation, ("bilinear", "bicubic"))
