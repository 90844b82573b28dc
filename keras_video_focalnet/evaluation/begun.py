"""A job that goes on has the settings that it was begun with; else it tells which of them differ."""

from collections.abc import Iterator, Mapping
from typing import Any

# Settings that are kept as a digest, whose digits tell nobody anything, or that no option is named after.
_LIST = "another list of videos (paths, order, parts or labels differ)"
_IN_WORDS = {
    "videos": _LIST,
    "the list of videos": _LIST,
    "the model": "another model, or other weights of it",
    "weights": "other weights of the model",
    "labels": "other names of classes",
    "the list of classes": "other names of classes",
}
_CLIPS = ("frames", "size", "crop_fraction", "interpolation")
# What follows from a setting: where that differs, these are no causes of their own.
_FOLLOW = {
    "model": ("weights", *_CLIPS),
    "the model": _CLIPS,
    "features": ("labels",),
    "seed": ("sampling",),
}


def check_begun_with(place: object, before: Mapping[str, Any], now: Mapping[str, Any], remedy: str) -> None:
    """Raise where a job has other settings than it was begun with.

    Args:
        place: What was begun, in words.
        before: The settings that it was begun with, by name, as JSON gives them back. The entries of a dict among them
            count as settings of their own. None and False stand for one that is not used.
        now: Those of now, likewise.
        remedy: What to do, a sentence.

    Raises:
        ValueError: Some differ; it names each, with both values where they tell a reader something.

    Example:
        >>> try:
        ...     check_begun_with("a.parquet", {"top": 5, "crf": 23}, {"top": None, "crf": 30}, "Remove it.")
        ... except ValueError as error:
        ...     print(error)
        a.parquet was begun with crf=23, now with crf=30; with top=5, now with top=None. Remove it.
    """
    before, now = _flat(before), _flat(now)
    differ = {name for name in before.keys() | now.keys() if _used(before.get(name)) != _used(now.get(name))}
    told = differ - {name for cause in differ for name in _FOLLOW.get(cause, ())}
    if told:
        clauses = "; ".join(_clause(name, before.get(name), now.get(name)) for name in sorted(told))
        raise ValueError(f"{place} was begun {clauses}. {remedy}")


def _used(value):
    return None if value is False else value


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_entries(settings))


def _entries(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        else:
            yield name, value


def _clause(name, before, now):
    """How one setting differs. "With" before a name tells the command line where to say "without"."""
    if name in _IN_WORDS:
        return f"with {_IN_WORDS[name]}"
    if name == "model":
        return f"with the model {before!r}, now with {now!r}"
    return f"with {name}={before!r}, now with {name}={now!r}"
