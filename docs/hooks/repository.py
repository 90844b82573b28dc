"""Files of the repository as pages of the site, and links between them as links between pages.

The pages in `docs/` link to other files of the repository by their paths, so that they can be read in a clone. What
they link to is a page of the site too: Markdown as it is, notebooks with their outputs, scripts as code.
"""

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from docs.hooks import notebook

ROOT = Path(__file__).parents[2]
DOCS, HOOKS = "docs/", "docs/hooks/"

# Folders and files beside `docs` that are on the site, at the same places as in the repository.
MARKDOWN = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/camera_motion/README.md")
NOTEBOOKS = "notebooks"
SCRIPTS = ("examples/edge/watch.py",)

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def pages() -> dict[str, str]:
    """Every file of the repository that is on the site, a page or a picture: its path -> its place on the site."""
    beside = [*MARKDOWN, *SCRIPTS, *(f"{NOTEBOOKS}/{path.name}" for path in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")))]
    found = {path: re.sub(r"\.(ipynb|py)$", ".md", path) for path in beside}
    for path in sorted((ROOT / DOCS).rglob("*")):
        place = path.relative_to(ROOT).as_posix()
        if path.is_file() and not place.startswith(HOOKS):
            found[place] = place.removeprefix(DOCS)
    return found


def contents(path: str) -> tuple[str, dict[str, bytes]]:
    """The page of a file beside `docs`, in Markdown, and pictures by their names beside it."""
    source = ROOT / path
    if source.suffix == ".ipynb":
        return notebook.render(source)
    if source.suffix == ".py":
        return f"# {path}\n\n```python\n{source.read_text(encoding='utf-8')}```\n", {}
    return source.read_text(encoding="utf-8"), {}


def follow_links(text: str, path: str, places: Mapping[str, str]) -> tuple[str, list[str]]:
    """Turn a page's links to files of the repository into links to pages of the site.

    Args:
        text: The page in Markdown.
        path: Its path in the repository.
        places: What `pages` gives.

    Returns:
        The page, and those of its links that lead to a file which is not on the site.
    """
    here, lost = posixpath.dirname(places[path]), []

    def followed(match):
        target, hash_, anchor = match[2].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if file in places:
            return f"{match[1]}{os.path.relpath(places[file], here or '.')}{hash_}{anchor}{match[3]}"
        if (ROOT / file).exists():
            lost.append(match[2])
        return match[0]

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(followed, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(followed, text[end:])]), lost
