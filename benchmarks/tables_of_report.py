"""The tables in which machines stand side by side, and the aims, from what `benchmarks.report` has measured.

Beside the columns of the report stand, where there are any, those of the longer runs of the other commands.
"""

import re
from operator import itemgetter

from benchmarks.alternation import table
from benchmarks.inference import GMACS
from benchmarks.short_form import SHAPES
from benchmarks.subjects import EXPORTED, SUBJECTS
from benchmarks.tables_of_runs import named, percent

SIZES = {"nano": "Nano", "tiny": "Tiny", "small": "Small", "base": "Base", "sifa50": "SIFA-Net-50"}
SIZES |= {"sifa-s": "SIFA-Transformer-S", "sifa-b": "SIFA-Transformer-B", "vita-clip": "Vita-CLIP"}
# Which longer runs stand beside a table.
LONGER = {
    "inference": ("inference-cpu", "inference-4-clips-cpu", "inference-base-4-clips-cpu"),
    "low-precision": (),
    "training": ("memory-cpu",),
    "growth": ("growth-cpu",),
    "other-families": ("inference-sifa-cpu", "inference-vita-clip-cpu"),
    "exported": ("export-cpu",),
}
PARTS = {"inference": ("inference", "larger-inference")}
SHOWN_STAGES = ("none", "stages 0 and 1", "all")
TENSORFLOW, JAX, TORCH = "ours tensorflow graph", "ours jax", "ours torch"
BACKENDS = {TENSORFLOW: "TensorFlow", JAX: "JAX", TORCH: "PyTorch"}
NOTHING = "No machine was measured yet."


def tables(machines, runs):
    """Tables by name.

    Args:
        machines: List of the contents of `results/report/*.json`.
        runs: Dict from names of files to the contents of `results/*.json`.
    """
    return {
        "machines": _machines(machines),
        "aims": _aims(machines),
        "limits": _limits(sources("inference", machines, runs)),
        "inference": _inference(sources("inference", machines, runs)),
        "low-precision": _low_precision(sources("low-precision", machines, runs)),
        "training": _training(sources("training", machines, runs)),
        "growth": _growth(sources("growth", machines, runs)),
        "cliffs": _cliffs(runs.get("cliffs-cpu")),
        "other-families": _inference(sources("other-families", machines, runs)),
        "exported": _exported(sources("exported", machines, runs), runs["export-cpu"]["rows"]),
    }


def label_of(machine):
    """A machine in a few words: its processor and the last of its vector instructions."""
    name = re.sub(r"\((R|TM)\)", "", machine["cpu"])
    name, _, flags = name.removesuffix(")").partition(" (")
    flags = [flag for flag in flags.split(", ") if flag not in ("", "avx2", "avx512f")]
    told = f" ({', '.join(flags)})" if flags else ""
    return f"{name}{told}, {machine['cores']} cores"


def longer_run_of(machine):
    """The heading of what longer runs of a machine have measured."""
    return f"{label_of(machine).partition(' (')[0].partition(',')[0]}, longer runs"


def sources(name, machines, runs):
    """What each column of a table is of: a list of its heading and rows."""
    found = {}
    for run in LONGER[name]:
        if run not in runs:
            continue
        heading = longer_run_of(runs[run]["machine"])
        told = {key: value for key, value in runs[run].items() if key in ("subject", "model", "ceiling_flops")}
        found.setdefault(heading, []).extend({**told, **row} for row in runs[run]["rows"])
    for machine in machines:
        parts = [machine["parts"][part] for part in PARTS.get(name, (name,)) if part in machine["parts"]]
        told = [{"ceiling_flops": part.get("ceiling_flops"), **row} for part in parts for row in part["rows"]]
        if told:
            found[label_of(machine["machine"])] = told
    return list(found.items())


def side_by_side(head, columns, *order):
    """A table of columns side by side.

    Args:
        head: Headings of what names a row.
        columns: List of heading and dict from what names a row, a tuple, to a cell.
        order: Lists of what the names of rows, one word after another, are sorted by; without any they stay in order.
    """
    names = list(dict.fromkeys(name for _, cells in columns for name in cells))
    if not names:
        return NOTHING
    if order:
        names.sort(key=lambda name: [words.index(word) for words, word in zip(order, name, strict=True)])
    rows = [[*name, *(cells.get(name, "") for _, cells in columns)] for name in names]
    return table([*head, *(heading for heading, _ in columns)], rows)


def clips(count):
    """A number of clips as text."""
    return "1 clip" if count == 1 else f"{count} clips"


def seconds(value):
    """Seconds as text."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _machines(machines):
    if not machines:
        return NOTHING
    rows = []
    for machine in machines:
        parts = machine["parts"].values()
        product = [part["ceiling_flops"] / 1e9 for part in parts if "ceiling_flops" in part]
        spreads = [part["matrix_product"]["spread"] for part in parts]
        versions = max(parts, key=lambda part: part["date"])["versions"]
        dates = sorted({part["date"] for part in parts})
        rows.append(
            [
                label_of(machine["machine"]),
                " to ".join(dict.fromkeys((dates[0], dates[-1]))),
                f"{max(product):.0f}" if product else "",
                f"{max(spreads):.2f}",
                f"{sum(part['seconds'] for part in parts) / 60:.0f}",
                ", ".join(
                    f"{name} {versions[name]}"
                    for name in ("keras", "tensorflow-cpu", "jax", "torch")
                    if name in versions
                ),
            ]
        )
    header = ["machine", "measured", "large matrix product, GFLOP/s", "largest spread of the product", "minutes"]
    return table([*header, "versions"], rows)


def _limits(columns):
    sentences = []
    for heading, rows in columns:
        for row in rows:
            if (row["size"], row["batch"], row["subject"]) == ("tiny", 1, "reference eager"):
                work = 2 * GMACS["tiny"]
                speed = row["ceiling_flops"] / 1e9
                sentences.append(
                    f"- {heading}: a large matrix product runs at {speed:.0f} GFLOP/s, so that the {work:.0f} GFLOP "
                    f"of one clip of Tiny take {work / speed:.2f} s; the reference in eager mode takes "
                    f"{row['median_s']:.2f} s, {percent(row['share_of_limit'])} of that limit."
                )
    return "\n".join(sentences)


def _inference(columns):
    def cell(row):
        share = f", {percent(row['share_of_limit'])}" if "share_of_limit" in row else ""
        return f"{seconds(row['median_s'])} ({row['ratio']:.2f}{share})"

    found = {}
    for heading, rows in columns:
        for row in rows:
            name = SIZES[row["size"]], named(row["subject"])
            found.setdefault((row["batch"], heading), {})[name] = cell(row)
    shown = [
        (f"{clips(batch)}: {heading}", found[batch, heading]) for batch, heading in sorted(found, key=itemgetter(0))
    ]
    return side_by_side(["", "seconds (ratio, share)"], shown, [*SIZES.values()], [*map(named, SUBJECTS)])


def _low_precision(columns):
    found = []
    for heading, rows in columns:
        pairs = {}
        for row in rows:
            pairs.setdefault((SIZES[row["size"]], clips(row["batch"]), named(row["subject"])), []).append(row)
        found.append(
            (
                heading,
                {
                    name: f"{seconds(plain['median_s'])} / {seconds(low['median_s'])} ({low['ratio_to_float32']:.2f})"
                    for name, (plain, low) in pairs.items()
                },
            )
        )
    return side_by_side(["", "", "seconds: float32 / bfloat16 (ratio)"], found)


def _training(columns):
    def cell(row):
        memory = f"{row['peak_bytes'] / 1e9:.1f} GB ({percent(row['memory_ratio'])})"
        return f"{row['median_s']:.2f} s ({row['ratio']:.2f}), {memory}"

    found = []
    for heading, rows in columns:
        shown = [row for row in rows if row["rematerialized"] in SHOWN_STAGES]
        found.append((heading, {(named(row["subject"]), row["rematerialized"]): cell(row) for row in shown}))
    head = ["seconds (ratio), peak memory (of the reference's)", "rematerialized"]
    return side_by_side(head, found, [*map(named, SUBJECTS)], SHOWN_STAGES)


def a_token(rows):
    """Rows of growth by subject and shape: microseconds a token, and how many times the least of the subject."""
    every = {}
    for row in rows:
        shape = row["frames"], row["size"], row["batch"]
        every.setdefault(row["subject"], {})[shape] = 1e6 * row["median_s"] / row["tokens"]
    return {
        (subject, shape): (cost, cost / min(costs.values()))
        for subject, costs in every.items()
        for shape, cost in costs.items()
    }


def _growth(columns):
    # Of the longer runs, that have more shapes, the ends alone.
    ends = {tuple(shape.values()) for shape in SHAPES} | {(8, 224, 8)}
    found = []
    for heading, rows in columns:
        cells = {
            (named(subject), f"{frames} x {side} x {side}", clips(batch)): f"{cost:.1f} ({times:.2f})"
            for (subject, (frames, side, batch)), (cost, times) in a_token(rows).items()
            if (frames, side, batch) in ends
        }
        found.append((heading, cells))
    return side_by_side(["microseconds a token (times the least)", "", ""], found)


def _cliffs(run):
    if not run:
        return NOTHING
    rows = [
        [named(row["subject"]), row["threads"], f"{row['ratio']:.2f}", *(_shape(row[end]) for end in ("worst", "best"))]
        for row in run["spreads"]
    ]
    return table([longer_run_of(run["machine"]), "threads", "most / least time a token", "most", "least"], rows)


def _shape(row):
    return f"{clips(row['batch'])} of {row['frames']} x {row['size']} x {row['size']}"


def _exported(columns, accurate):
    def cell(row):
        return f"{seconds(row['median_s'])} ({row['ratio']:.2f}), {row['peak_bytes'] / 1e9:.1f} GB"

    told = {}
    for row in accurate:
        told[row["subject"]] = (
            f"{row['bytes'] / 1e6:.0f}" if "bytes" in row else "",
            f"{row['difference']:.0e}" if "difference" in row else "",
            f"{100 * row['accuracy']:.1f} %" if "accuracy" in row else "",
        )
    nothing, shown = ("", "", ""), ("reference eager", *EXPORTED)
    found = [
        (
            heading,
            {
                (named(row["subject"]), *told.get(row["subject"], nothing)): cell(row)
                for row in rows
                if row["subject"] in shown
            },
        )
        for heading, rows in columns
    ]
    head = ["seconds a clip (ratio), peak memory", "file, MB", "logits off by", "camera motion (Nano)"]
    return side_by_side(head, found)


# === Aims ===


def _value(part, key, **wanted):
    """A function that looks a figure of a subject up in the parts of a machine; None where it was not measured."""

    def look(parts, subject):
        rows = parts.get(part, {}).get("rows", [])
        found = [row for row in rows if row["subject"] == subject and wanted.items() <= row.items()]
        return found[0][key] if found else None

    return look


def _steepest(parts, subject):
    """How many times the least time a token is the most."""
    costs = a_token(parts.get("growth", {}).get("rows", []))
    return max((times for (of, _), (_, times) in costs.items() if of == subject), default=None)


def _ratio(value):
    return f"{value:.2f}"


def _every(bound):
    return dict.fromkeys(BACKENDS, bound)


def _faster(size):
    bounds = {TENSORFLOW: 1.3, JAX: 1.3, TORCH: 1.1}
    return f"{SIZES[size]}, one clip, against our rendering", _value("other-families", "ratio", size=size), bounds


# What is aimed at, how it is looked up, the bound of each subject, whether more is better, and how it is written.
MORE, LESS = "at least", "at most"
STEP, KEPT = {"rematerialized": "none"}, {"rematerialized": "all"}
AIMS = (
    (
        "Tiny, one clip, share of the limit",
        _value("inference", "share_of_limit"),
        {TENSORFLOW: 1.0, JAX: 0.92, TORCH: 0.9},
        MORE,
        percent,
    ),
    (
        "Base, one clip, share of the limit",
        _value("larger-inference", "share_of_limit", size="base"),
        _every(0.95),
        MORE,
        percent,
    ),
    ("first call of Tiny, s", _value("inference", "first_call_s"), _every(5), LESS, "{:.1f}".format),
    (
        "Tiny, one clip, `mixed_bfloat16` against float32",
        _value("low-precision", "ratio_to_float32", dtype="mixed_bfloat16"),
        {TENSORFLOW: 1.7, JAX: 1.3, TORCH: 1.7},
        MORE,
        _ratio,
    ),
    (
        "training step against the reference",
        _value("training", "ratio", **STEP),
        {TENSORFLOW: 1.5, JAX: 1.15, TORCH: 1.25},
        MORE,
        _ratio,
    ),
    ("memory of the step, of the reference's", _value("training", "memory_ratio", **STEP), _every(1), LESS, percent),
    ("the same, all stages rematerialized", _value("training", "memory_ratio", **KEPT), _every(0.55), LESS, percent),
    ("time a token, times the least", _steepest, _every(1.5), LESS, _ratio),
    (*_faster("sifa50"), MORE, _ratio),
    (*_faster("sifa-s"), MORE, _ratio),
    (*_faster("vita-clip"), MORE, _ratio),
)
AIMS_OF_FILES = {"LiteRT float32": 1.7, "ONNX Runtime": 1.4, "OpenVINO, its own precision": 2.5}


def met_or_not(value, bound, direction, write):
    """A figure beside what is aimed at, as text."""
    if value is None:
        return "not measured"
    met = value >= bound if direction == MORE else value <= bound
    return f"{write(value)} ({direction} {write(bound)}): {'met' if met else '**not met**'}"


def _aims(machines):
    told = []
    for machine in machines:
        parts = machine["parts"]
        rows = [
            [what, *(met_or_not(look(parts, subject), bounds[subject], direction, write) for subject in BACKENDS)]
            for what, look, bounds, direction, write in AIMS
        ]
        look = _value("exported", "ratio")
        files = [
            f"- {label}: {met_or_not(look(parts, label), bound, MORE, _ratio)}"
            for label, bound in AIMS_OF_FILES.items()
        ]
        told += [f"{label_of(machine['machine'])}:", table(["", *BACKENDS.values()], rows)]
        told += ["Exported files of Tiny, against the reference:", "\n".join(files)]
    return "\n\n".join(told) or NOTHING
