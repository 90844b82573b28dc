"""What a Vita-CLIP is told: the names of classes, words and templates of their texts, kinds of prompts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from typing import Any

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.models.vita_clip.class_texts import check_different, check_template
from keras_video_focalnet.utils.checks import check_choice, check_integer, fail

PROMPTS = ("summary", "local", "global")
# The template of a text that is the name of a class and nothing else.
NAME_ALONE = ("{}",)


def check_names(
    class_names: Any, labels: Any, classes: int | None, context: str | None, text_depth: int | None
) -> tuple[tuple[str, ...] | None, int]:
    """Class names and how many there are, from what the constructor is given."""
    if class_names is not None and labels is not None and list(load_labels(class_names)) != list(load_labels(labels)):
        raise ValueError("class_names and labels differ; pass one of them.")
    given = labels if class_names is None else class_names
    names = None
    if given is not None:
        if not isinstance(given, str | os.PathLike | Iterable):
            raise fail("class_names", "a list of names, the name of a data set or a file", given)
        with _named("class_names"):
            names = tuple(load_labels(given))
        blank = next((name for name in names if not name.strip()), None)
        if blank is not None:
            raise fail("class_names", "names that say something", blank)
        check_different(names, (" ".join(name.replace("_", " ").split()).lower() for name in names))
    if classes is None:
        if names is None:
            raise ValueError(
                "class_names must say what the clips are compared with, received None; pass a list of names, the name "
                'of a data set such as "k400", or a text file with one name a line.'
            )
        classes = len(names)
    classes = check_integer("classes", classes, 1)
    if names is None and context is None and text_depth is not None:
        raise ValueError(
            f"class_names must be given where context=None, received classes={classes} alone: nothing else tells the "
            "classes apart; pass a list of names."
        )
    if names is not None and len(names) != classes:
        argument = "labels" if class_names is None else "class_names"
        raise ValueError(f"{argument} has {len(names)} names but classes={classes}; pass one name a class.")
    return names, classes


@contextlib.contextmanager
def _named(argument):
    """Errors of labels name the argument that the user gave."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(re.sub(r"^labels(?=[= ])", argument, str(error))) from error


def check_prompts(prompts: Any) -> tuple[str, ...]:
    """The kinds of prompts, one or several, in one order whatever order they are given in."""
    given = (prompts,) if isinstance(prompts, str) or not isinstance(prompts, Iterable) else tuple(prompts)
    if given == (None,):
        return ()
    for kind in given:
        check_choice("prompts", kind, PROMPTS)
    return tuple(kind for kind in PROMPTS if kind in given)


def check_templates(templates: Any) -> tuple[str, ...]:
    """One text with a place for a name, or several."""
    given = (templates,) if isinstance(templates, str) or not isinstance(templates, Iterable) else tuple(templates)
    if not given:
        raise fail("templates", 'at least one text with "{}"', templates)
    return tuple(check_template("templates", template) for template in given)


def check_uses(context: str | None, context_init: str | None, templates: tuple[str, ...]) -> None:
    """Refuses words of a context that there is none of, and templates beside a context, which stands in their place."""
    if context is None and context_init is not None:
        raise ValueError(
            f"context_init={context_init!r} is what a learned context starts from, and without a text tower or with "
            'context=None there is none; leave it out, or pass context="shared".'
        )
    if context is not None and templates != NAME_ALONE:
        raise ValueError(
            f"templates={templates} are for names without a learned context, and context={context!r} has vectors in "
            "their place; pass context=None, or leave templates out."
        )
