"""Pages of HTML that are one file: what is not markup of ours is escaped, and nothing is fetched from anywhere.

The page forbids its reader to load anything and to run any script but the one that sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from typing import Any

# A click on the head of a column sorts by it, a second click the other way round.
_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const falls = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const value = row => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const compare = (x, y) => typeof x === "number" ? x - y : x.localeCompare(y);
    const rows = [...body.rows].sort((one, other) => compare(value(one), value(other)) * (falls ? -1 : 1));
    body.append(...rows);
  }));
}
"""
_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 64rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h1, h2, p, td, figcaption { overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .5rem; }
.figures div { background: var(--soft); border-radius: .5rem; padding: .5rem .75rem; }
.figures b { display: block; font-size: 1.5rem; }
.scroll { overflow-x: auto; max-height: 32rem; overflow-y: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td { padding: .3rem .6rem; border-top: 1px solid var(--line); min-width: 5rem; vertical-align: top; }
th { position: sticky; top: 0; background: Canvas; padding: 0; text-align: left; }
th button { all: unset; cursor: pointer; display: block; width: 100%; padding: .5rem .6rem; white-space: nowrap; }
th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.number { text-align: right; min-width: 0; white-space: nowrap; }
th.number button { text-align: right; box-sizing: border-box; }
img { max-width: 100%; height: auto; display: block; border-radius: .25rem; }
.picture { background: #fff; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .9rem; }
"""
_VOID = ("img", "meta")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def printable(text: str) -> str:
    """Text that can be written as UTF-8: names of files may hold bytes that are none."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Make an element. Texts in it are escaped; `class_` stands for `class`, `data_value` for `data-value`.

    Example:
        >>> tag("td", "<b>", tag("b", 1), data_value=2)
        '<td data-value="2">&lt;b&gt;<b>1</b></td>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(map(_escaped, children))}</{name}>")


def _escaped(child):
    return child if isinstance(child, Markup) else html.escape(printable(str(child)))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Make a table that is sorted by a click on the head of a column.

    Args:
        columns: Heads of the columns.
        rows: Cells of each row: texts, elements, or numbers. A fraction is a pair of a number and the text that is
            shown for it, and sorts by the number.

    Returns:
        The element.

    Example:
        >>> "data-value" in table(["class", "recall"], [["walk", (0.5, "50.0 %")]])
        True
    """
    rows = [list(row) for row in rows]
    first = rows[0] if rows else columns
    kinds = ["number" if isinstance(cell, (int, float, tuple)) else None for cell in first]
    heads = (
        tag("th", tag("button", column, type="button"), scope="col", class_=kind)
        for column, kind in zip(columns, kinds, strict=True)
    )
    body = (tag("tr", *map(_cell, row)) for row in rows)
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="sortable"),
        class_="scroll",
        tabindex=0,
    )


def _cell(value):
    if isinstance(value, tuple):
        number, text = value
        return tag("td", text, class_="number", data_value=number)
    if isinstance(value, (int, float)):
        return tag("td", value, class_="number", data_value=value)
    return tag("td", value)


def picture(data: bytes, description: str, kind: str = "png", class_: str | None = None) -> Markup:
    """Make an element that shows a picture, which is inside it.

    Args:
        data: Bytes of the file.
        description: What it shows, for those who do not see it.
        kind: `"png"` (default) or `"jpeg"`.
        class_: Class of the element, or None.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return tag("img", src=source, alt=description, class_=class_)


def page(title: str, *children: Any) -> str:
    """Make a document of elements; texts are escaped.

    Example:
        >>> text = page("<Report>", tag("p", "good & bad"))
        >>> "<h1>&lt;Report&gt;</h1>" in text and "<p>good &amp; bad</p>" in text
        True
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    body = tag("body", tag("h1", title), *children, tag("script", Markup(_SCRIPT)))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
