"""Notebooks as pages: texts, code, and the outputs that are kept in them."""

import base64
import json
import re
from pathlib import Path

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def render(path: Path) -> tuple[str, dict[str, bytes]]:
    """Turn a notebook into Markdown.

    Args:
        path: The notebook, an `.ipynb` file.

    Returns:
        The page, and its pictures: PNG files by the names that the page has for them.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(_fence(source, "python"))
            for output in cell["outputs"]:
                parts.append(_output(output, path.stem, pictures))
    return "\n\n".join(filter(None, parts)) + "\n", pictures


def _output(output, stem, pictures):
    """One output of a cell in Markdown; a picture is added to `pictures`."""
    if output["output_type"] == "stream":
        return _fence("".join(output["text"]), "text")
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}_{len(pictures) + 1}.png"
        pictures[name] = base64.b64decode("".join(data["image/png"]))
        return f"![What the lines above draw]({name})"
    return _fence("".join(data.get("text/plain", "")), "text")


def _fence(text, language):
    """A fenced block, whose fence is longer than any that the text has."""
    text = _COLOURS.sub("", text).rstrip()
    fence = "`" * max([3, *(len(found) + 1 for found in re.findall("`{3,}", text))])
    return f"{fence}{language}\n{text}\n{fence}" if text else ""
