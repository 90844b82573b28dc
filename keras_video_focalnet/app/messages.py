"""What the page says of errors and warnings: what is wrong and what to do, and nothing of the server's files."""

import contextlib
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator

# A path of several parts; one that a user wrote loses its folders too.
_PATH = re.compile(r"(?<![\w/.:])(?:~|\.{1,2})?/(?:[^/\s:;,'\"()]+/)*([^/\s:;,'\"()]+)")
_WINDOWS_PATH = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\:;,'\"()]+\\)*([^\\\s:;,'\"()]+)")


class Refused(ValueError):
    """What was asked for is not done; the message tells why and what to do, in words for the page."""


def without_paths(text: str, path: str | os.PathLike | None = None, name: str = "the video") -> str:
    """A message without the folders of this machine.

    Args:
        text: The message.
        path: A file that stands in the message under its path; None for none.
        name: What the page calls that file.

    Returns:
        The message with `name` in place of the path, and other paths shortened to their last part.

    Example:
        >>> without_paths("/srv/x/a b.mp4: it is empty; see /etc/fstab.", "/srv/x/a b.mp4", "a b.mp4")
        'a b.mp4: it is empty; see fstab.'
    """
    if path is not None:
        text = text.replace(os.fspath(path), name)
    # Folders that are known may have spaces and quotes in their names.
    for folder in {tempfile.gettempdir(), os.path.expanduser("~"), os.getcwd()}:
        if len(folder) > 1:
            text = text.replace(os.path.join(folder, ""), "")
    return _PATH.sub(r"\1", _WINDOWS_PATH.sub(r"\1", text))


def short(text: str, most: int = 600) -> str:
    """A text that fits on a page.

    Example:
        >>> short("a" * 10, 4)
        'aaa…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


@contextlib.contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """Adds to a list what the block warns its user of, each warning once.

    Example:
        >>> notes = []
        >>> with noted(notes):
        ...     warnings.warn("half of it is random")
        >>> notes
        ['half of it is random']
    """
    thread = threading.get_ident()
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        others = warnings.showwarning

        def note(message, category, *arguments, **options):
            # Warnings are the process's: other threads read videos of other visitors meanwhile.
            if threading.get_ident() != thread:
                others(message, category, *arguments, **options)
            elif category is UserWarning and str(message) not in notes:
                notes.append(str(message))

        warnings.showwarning = note
        yield
