"""Whether a site that was built is whole: every link leads to a page and a place on it, and nothing is fetched.

`python -m docs.hooks.links FOLDER` examines one by itself. Links to other hosts are not followed.
"""

import html.parser
import posixpath
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself to show a page, by the element and the attribute that name it.
_FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("embed", "src"),
    ("object", "data"),
}
# Relations of a `link` that are only told, not fetched.
_TOLD = {"canonical", "prev", "next", "author", "license", "alternate"}
_FROM_A_STYLE = re.compile(r"(?:url\(\s*|@import\s+)['\"]?([^'\")\s]+)")


class _Page(html.parser.HTMLParser):
    """Places that links can lead to, links, and what is fetched."""

    def __init__(self, text):
        super().__init__()
        self.places, self.links, self.fetched = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.places |= {attributes[name] for name in ("id", "name") if name in attributes and tag != "meta"}
        if tag in ("a", "area") and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "link" and not _TOLD & set(attributes.get("rel", "").split()):
            self.fetched.append(attributes.get("href", ""))
        self.fetched += [value for name, value in attributes.items() if (tag, name) in _FETCHED]
        self.fetched += _FROM_A_STYLE.findall(attributes.get("style", ""))

    handle_startendtag = handle_starttag


def faults(site: Path) -> list[str]:
    """List what is wrong with a site: links to nothing, and pages and styles that fetch from another host.

    Args:
        site: The folder with the site's files.

    Returns:
        A sentence for each fault, by page; none where the site is whole.
    """
    pages = {path.relative_to(site).as_posix(): _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for name, page in pages.items():
        found += [f"{name}: {fault}" for link in page.links if (fault := _fault_of(link, name, pages, site))]
        found += [f"{name}: {fault}" for link in page.fetched if (fault := _fault_of(link, name, pages, site, True))]
    for path in sorted(site.rglob("*.css")):
        name = path.relative_to(site).as_posix()
        for link in _FROM_A_STYLE.findall(path.read_text("utf-8")):
            if urlsplit(link).netloc:
                found.append(f"{name}: {link} is fetched from another host")
    return list(dict.fromkeys(found))


def _fault_of(link, name, pages, site, is_fetched=False):
    """What is wrong with a link of a page, or None."""
    address = urlsplit(link)
    if address.netloc:
        return f"{link} is fetched from another host" if is_fetched else None
    if address.scheme:
        return None
    path = unquote(address.path)
    if not path:
        target = name
    elif path.startswith("/"):
        target = path.lstrip("/") or "index.html"
    else:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    if target not in pages and (site / target).is_dir():
        target = posixpath.normpath(posixpath.join(target, "index.html"))
    if target.startswith("..") or not (site / target).is_file():
        return f"{link} leads to no file"
    place = unquote(address.fragment)
    if place and target in pages and place not in pages[target].places:
        return f"{link} leads to no place of {target}"
    return None


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print("\n".join(wrong) or "every link leads somewhere, and nothing is fetched")
    sys.exit(bool(wrong))
