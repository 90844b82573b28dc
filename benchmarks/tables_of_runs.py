"""Tables and sentences of the longer runs of single commands, from `results/*.json`."""

from benchmarks.alternation import table

STAGES = ("3136 x 96", "784 x 192", "196 x 384", "49 x 768")
MODES = {
    "TensorFlow graph": ("tensorflow", "graph"),
    "TensorFlow XLA": ("tensorflow", "xla"),
    "JAX": ("jax", "xla"),
    "PyTorch": ("torch", "eager"),
}
# Stages of SIFA-Net-50 whose maps are large enough for the formulations of many places.
LARGE_MAPS = ("layer2",)
# Runs of training steps, and what of.
STEPS = {
    "memory-base-16-frames-cpu": "Base, 1 clip of 16 frames",
    "memory-base-cpu": "Base, 2 clips of 8 frames",
    "memory-sifa-cpu": "SIFA-Net-50, 4 clips",
    "memory-sifa-s-cpu": "SIFA-Transformer-S, 2 clips",
}
# Runs beside which the machine had other work, so that their times say nothing.
BESIDE_OTHER_WORK = ("memory-sifa-cpu",)
BOTH = "forward and backward"
SIFA_STAGES = ("layer2", "layer3", "layer4", "layer4_dual")


def tables(runs):
    """Tables and sentences by name, of a dict from names of files to their contents."""
    return {
        "memory": _steps(runs),
        "memory-in-use": _memory_in_use(runs["memory-in-use-cpu"]["rows"]),
        "sifa-operator": _sifa_operator(runs),
        "prompting": _prompting(runs["prompting-cpu"]["rows"]),
        "temporal-conv": _formulations(
            runs, "temporal_conv", ", window 5", "convolution", "winograd", "ms: convolution / Winograd"
        ),
        "depthwise": _formulations(
            runs, "depthwise_conv2d", ", window 5", "convolution", "shifted", "ms: convolution / shifted sums"
        ),
        "dense": _dense(runs["operations-torch-cpu"]["rows"]),
        "gradients": _gradients(runs["gradients-jax-cpu"]["rows"]),
        "layer-norm": _layer_norm(runs["layer-norm-tensorflow-cpu"]["rows"]),
        "decoding": _decoding(runs["decoding-cpu"]["rows"]),
        "decoding-of-a-long-file": _long_file(runs["decoding-cpu"]),
        "scoring": _scoring(runs),
        "timeline": _timeline(runs["timeline-cpu"]),
        "low-precision-in-keras": _low_precision_in_keras(runs["export-cpu"]["accuracy"]),
    }


def percent(share, digits=0):
    """A share as text."""
    return f"{100 * share:.{digits}f} %"


def named(label):
    """The label of a subject as it stands in tables."""
    names = {f"ours {backend} {mode}": name for name, (backend, mode) in MODES.items()}
    names |= {"ours jax": "JAX", "ours torch": "PyTorch"}
    names |= {"reference eager": "**reference**, eager", "reference compile": "reference, compiled"}
    return names.get(label, label)


def _steps(runs):
    header = [
        "",
        "",
        "rematerialized",
        "seconds a step",
        "times the reference's speed",
        "peak memory, GB",
        "of the reference's",
    ]
    rows = [
        [
            what,
            named(row["subject"]),
            row["rematerialized"],
            "" if name in BESIDE_OTHER_WORK else f"{row['median_s']:.1f}",
            "" if name in BESIDE_OTHER_WORK else f"{row['ratio']:.2f}",
            f"{row['peak_bytes'] / 1e9:.1f}",
            percent(row["memory_ratio"]),
        ]
        for name, what in STEPS.items()
        for row in runs[name]["rows"]
        if row["rematerialized"] in ("none", "all")
    ]
    return table(header, rows)


def _memory_in_use(rows):
    shown = [row for row in rows if row["rematerialized"] in ("none", "all")]
    cells = [
        [named(row["subject"]), row["rematerialized"], f"{row['peak_bytes'] / 1e9:.1f}", percent(row["memory_ratio"])]
        for row in shown
    ]
    return table(["", "rematerialized", "peak of what is in use, GB", "of the reference's"], cells)


def _sifa_operator(runs):
    rows = []
    for what in ("offsets", "no offsets"):
        for label, (backend, mode) in MODES.items():
            found = {
                (row["stage"], row["pass"]): row["ratio"]
                for row in runs[f"inter_frame_attention-{backend}-cpu"]["rows"]
                if row["what"] == what and row["run"] == f"{backend} {mode} {_chosen(backend, what, row['stage'])}"
            }
            ratios = [f"{found[stage, 'forward']:.1f} / {found[stage, BOTH]:.1f}" for stage in SIFA_STAGES]
            rows.append([what, label, *ratios])
    return table(["forward / forward and backward", "", *SIFA_STAGES], rows)


def _chosen(backend, what, stage):
    """Which formulation of inter-frame attention the rule chooses."""
    large = stage in LARGE_MAPS
    if what == "no offsets":
        return "shifted" if large else "masked"
    return "mixed" if large and backend != "torch" else "product"


def _prompting(rows):
    header = ["", "trains", "seconds (quartiles)", "of all (aim: 60 %)", "peak memory, GB", "of all (aim: 60 %)"]
    cells = [
        [
            named(row["subject"]),
            row["trains"],
            f"{row['median_s']:.2f} ({row['low_s']:.2f}-{row['high_s']:.2f})",
            percent(row["time_ratio"]),
            f"{row['peak_bytes'] / 1e9:.1f}",
            percent(row["memory_ratio"]),
        ]
        for row in rows
        if row["classes"] == 10
    ]
    return table(header, cells)


def milliseconds(value):
    """Milliseconds as text."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def pair(rows, first, second, **where):
    """Milliseconds of two formulations of what is asked for, as text."""
    found = {row["formulation"]: row["ms"] for row in rows if all(row[key] == value for key, value in where.items())}
    return f"{milliseconds(found[first])} / {milliseconds(found[second])}"


def _formulations(runs, operation, window, first, second, heading):
    rows = []
    for label, (backend, mode) in MODES.items():
        found = runs[f"operations-{backend}-cpu"]["rows"]
        cells = [pair(found, first, second, operation=operation, mode=mode, where=stage + window) for stage in STAGES]
        rows.append([label, *cells])
    return table([heading, *STAGES], rows)


def _dense(rows):
    cells = []
    for stage in STAGES:
        where = f"{stage}, to {4 * int(stage.split()[-1])}, GELU"
        cells.append(pair(rows, "library", "onednn", operation="linear", where=where))
    return table(["ms: library / oneDNN", *STAGES], [["to 4 x channels, GELU", *cells]])


def _gradients(rows):
    operations = dict.fromkeys(
        (row["operation"], row["where"].partition(", ")[2])
        for row in rows
        if row["operation"].endswith(" and gradients")
    )
    cells = []
    for operation, window in operations:
        places = [f"{stage}, {window}" if window else stage for stage in STAGES]
        pairs = [pair(rows, "automatic", "by hand", operation=operation, where=place) for place in places]
        cells.append([", ".join(filter(None, (operation.removesuffix(" and gradients"), window))), *pairs])
    return table(["JAX, ms: automatic / by hand", *STAGES], cells)


def _layer_norm(rows):
    cells = []
    for mode in ("graph", "xla"):
        found = {"operation": "layer_norm", "mode": mode}
        cells.append(
            [
                f"TensorFlow {mode}",
                *(pair(rows, "scale and shift", "neither", where=stage, **found) for stage in STAGES),
            ]
        )
    return table(["ms: with / without scale and shift", *STAGES], cells)


def _decoding(rows):
    shown = ("ours", "ours, first clip of a file", "PyAV, everything decoded", "decord2")
    kinds = dict.fromkeys(row["file"] for row in rows)
    found = {(row["file"], row["subject"]): row for row in rows}
    cells = []
    for kind in kinds:
        line = [kind]
        for subject in shown:
            row = found.get((kind, subject))
            line.append(f"{row['clips_per_s']:.1f} ({row['ratio_median_s']:.2f})" if row else "")
        ours = found[kind, "ours"]
        cells.append([*line, f"{ours['clips_per_s_per_core']:.1f} ({ours['ratio_processor_s']:.2f})"])
    return table(["clips a second (times decord2's)", *shown, "ours, one core"], cells)


def _long_file(run):
    told = run["eight_of_ten_minutes"]
    return (
        f"Eight frames of a file of 10 minutes take {told['eight_s']:.2f} s of one core at first, and decoding all of "
        f"it takes {told['everything_s']:.1f} s: {percent(told['fraction'], 1)}."
    )


def _scoring(runs):
    header = [
        "",
        "",
        "videos a minute",
        "times as many as the plain loop",
        "as the PyTorch user",
        "until the first batch, s",
    ]
    cells = [
        [
            f"{row['model'].capitalize()}, {runs[name]['videos']} videos",
            row["subject"],
            f"{row['videos_a_minute']['median_s']:.0f}",
            f"{row['ratio_to_plain']:.2f}",
            f"{row['ratio_to_torch']:.2f}" if row["ratio_to_torch"] else "",
            f"{row['first_batch_s']['median_s']:.0f}",
        ]
        for name in ("scoring-cpu", "scoring-tiny-cpu")
        for row in runs[name]["rows"]
    ]
    return table(header, cells)


def _timeline(run):
    found, peak = round(run["found"] * run["moves"]), run["peak_bytes"]
    clock, processor = (run["time_ratio"][key]["median_s"] for key in ("seconds", "processor_seconds"))
    return (
        f"Of {run['moves']} moves in {run['minutes']:.0f} minutes {found} ({percent(run['found'], 1)}) are found to "
        f"within a window of one second. The process holds {peak['long'] / 1e6:.0f} MB at most, and "
        f"{peak['short'] / 1e6:.0f} MB for a tenth of the video ({run['memory_ratio']:.3f} times). The timeline takes "
        f"{clock:.3f} times as long as decoding all frames and scoring all windows in turn, by the clock, and "
        f"{processor:.3f} times by processor time."
    )


def _low_precision_in_keras(accuracy):
    rows = [
        [label.removeprefix("Keras "), percent(of, 1)] for label, of in accuracy.items() if label.startswith("Keras")
    ]
    return table(["Keras, Nano", "camera motion"], rows)
