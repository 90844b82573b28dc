"""Parts of pages that the package fills, so that no page has a figure of a model or a command's help typed by hand.

`<!-- generated: weights -->` in a page stands for what `weights` gives, and so on.
"""

from click.testing import CliRunner

from keras_video_focalnet.cli.main import main
from keras_video_focalnet.models import registry


def weights() -> str:
    """The table of all published weights, with what `video-focalnet models` prints, sizes and files."""
    header = (
        "builder",
        "weights",
        "data set",
        "classes",
        "clip",
        "M parameters",
        "GMAC",
        "top-1 %",
        "views",
        "licence",
        "file",
    )
    rows = (
        (
            f"`{entry.architecture}`",
            f'`"{entry.name}"`',
            entry.long_name,
            entry.classes,
            _shape(entry.input_shape),
            entry.parameters and f"{entry.parameters / 1e6:.1f}",
            entry.gmac,
            entry.top1,
            entry.views and "{}x{}".format(*entry.views),
            entry.licence,
            _file(entry),
        )
        for entry in registry.entries()
    )
    return _table(header, rows)


def builders() -> str:
    """The table of all builders: their names in Python and on the command line, default weights and clips."""
    header = ("family", "builder", "on the command line", "weights by default", "clip")
    rows = (
        (
            family.title,
            f"`{builder.name}`",
            f"`--model {builder.short_name}`",
            f'`"{builder.weights}"`' if builder.weights else "random",
            _shape(builder.input_shape),
        )
        for family in registry.own_families()
        for builder in family.builders
    )
    return _table(header, rows)


def commands() -> str:
    """The help of every command, as `--help` prints it."""
    parts = []
    for name in sorted(main.commands):
        shown = CliRunner().invoke(main, [name, "--help"], prog_name="video-focalnet", terminal_width=100).output
        parts.append(f"## video-focalnet {name}\n\n```text\n{shown}```")
    return "\n\n".join(parts)


PARTS = {"weights": weights, "builders": builders, "commands": commands}


def _file(entry):
    if entry.bundled:
        return "in the package"
    if not entry.url:
        return f"[by a browser]({entry.page})"
    if not entry.url.startswith("https://"):
        return f"`{entry.url}`"
    return f"[`.{entry.file_name.rpartition('.')[2]}`]({entry.url})"


def _shape(shape):
    return "x".join(map(str, shape[:3]))


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join('' if cell is None else str(cell) for cell in line)} |" for line in lines)
