"""Exported files: `python -m benchmarks.export`.

Time of one clip, size of the file, peak memory and accuracy of every format and precision, beside the Keras backends
and our PyTorch reference in eager mode, in turn. Time, size and memory are those of a size with random weights, on
which they do not depend; the accuracy is that of Nano with the camera-motion weights on clips of photographs that were
never trained on. `--accuracy` measures that alone, Keras's own low precisions included.
"""

import json
import os
import pathlib
import tempfile

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from benchmarks.alternation import table, take_turns, write
from benchmarks.subjects import EXPORTED, SUBJECTS, with_scales_and_shifts
from keras_video_focalnet.models import registry

PEER = "reference eager"
BESIDE = (PEER, "reference compile", "ours tensorflow graph", "ours tensorflow xla", "ours jax", "ours torch")


@click.command()
@click.option("--size", type=click.Choice(["tiny", "small", "base"]), default="tiny", show_default=True)
@click.option("--rounds", default=7, show_default=True, help="Turns each has.")
@click.option("--calls", default=3, show_default=True, help="Calls a turn.")
@click.option("--clips", default=1800, show_default=True, help="Clips to measure accuracy on; 0 leaves it out.")
@click.option("--accuracy", "accuracy_alone", is_flag=True, help="Measure accuracy alone.")
@click.option("--name", default="export", show_default=True, help="Of the file of results.")
@click.option("--into", help="Write the files to this folder, print what `export` reports as JSON, measure nothing.")
@click.option("--files", default=",".join(EXPORTED), help="With --into: which, by name; all by default.")
def main(size, rounds, calls, clips, accuracy_alone, name, into, files):
    """Prints a table and writes `results/export-cpu.json`."""
    if into:
        click.echo(json.dumps(write_once(split(files), into, size)))
        return
    with tempfile.TemporaryDirectory() as folder:
        accuracy = accuracies(folder, clips) if clips else {}
        click.echo(table(["", "accuracy on camera motion"], [[label, percent(of)] for label, of in accuracy.items()]))
        if accuracy_alone:
            write(f"{name}-accuracy", "cpu", [{"subject": label, "accuracy": of} for label, of in accuracy.items()])
            return
        reports = write_once(EXPORTED, folder, size)
        tasks = [("inference", SUBJECTS[label], {"name": size, "batch": 1}) for label in BESIDE]
        tasks += [("exported", file, {"name": size, "folder": folder}) for file in EXPORTED.values()]
        results = take_turns(tasks, rounds, calls)
    peer = results[PEER]["median_s"]
    rows = []
    for label, result in results.items():
        row = {"size": size, "subject": label, **result, "ratio": peer / result["median_s"]}
        if label in reports:
            row |= reports[label]
        rows.append(row | ({"accuracy": accuracy[label]} if label in accuracy else {}))
    write(name, "cpu", rows, accuracy=accuracy)
    click.echo(table(*as_table(rows)))


def split(labels):
    """The labels of files of a comma-separated list; some have commas of their own."""
    chosen = [label for label in EXPORTED if f",{label}," in f",{labels},"]
    if not chosen:
        raise click.BadParameter(f"{labels!r} has none of: {'; '.join(EXPORTED)}.", param_hint="--files")
    return chosen


def write_once(labels, folder, name):
    """Export a size with random weights, each file once; size and error by label."""
    reports = {}
    for label in labels:
        path = EXPORTED[label].path(folder, name)
        reports[path] = reports.get(path) or write_file(EXPORTED[label], folder, name, weights=None)
    return {label: differences(label, reports[EXPORTED[label].path(folder, name)]) for label in labels}


def differences(label, report):
    """Of what `export` reports, the size of a file, and by how much its logits are off as it is run here."""
    own = EXPORTED[label].format == "openvino" and EXPORTED[label].computes_in != "float32"
    return {"bytes": report["bytes"], "difference": report["own_precision_difference" if own else "difference"]}


def write_file(file, folder, name, weights):
    """Export a size with weights, or random ones, unless its file is there; what `export` reports."""
    import keras

    import keras_video_focalnet as kvf
    from examples.camera_motion.train import unseen_photograph_clips

    path = pathlib.Path(file.path(folder, name))
    keras.utils.set_random_seed(0)
    model = getattr(kvf, registry.find_builder(name).name)(weights=weights)
    model = model if weights else with_scales_and_shifts(model)
    calibration = None
    if file.precision == "int8_full":
        calibration, _ = unseen_photograph_clips(90, seed=5)
        side = model.input_shape[2] // calibration.shape[2] + 1
        calibration = calibration.repeat(side, 2).repeat(side, 3)[:, :, : model.input_shape[2], : model.input_shape[3]]
        calibration = calibration if name == "nano" else calibration[:4]
    return kvf.export(model, path, precision=file.precision, calibration=calibration)


def accuracies(folder, count):
    """Share of camera motions that Nano tells right, by label: Keras in several precisions, then every file."""
    import keras

    import keras_video_focalnet as kvf
    from examples.camera_motion.train import unseen_photograph_clips

    clips, labels = unseen_photograph_clips(count, seed=1000)
    weight_only = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    models = {
        "Keras float32": (None, None),
        "Keras mixed_bfloat16": ("mixed_bfloat16", None),
        "Keras mixed_float16": ("mixed_float16", None),
        "Keras int8": (None, {"mode": "int8"}),
        "Keras int8, weights alone": (None, {"config": weight_only}),
    }
    shares = {}
    for label, (dtype, quantize) in models.items():
        model = kvf.VideoFocalNetNano(weights="camera_motion", dtype=dtype)
        if quantize:
            model.quantize(**quantize)
        shares[label] = float((model.predict(clips, batch_size=60, verbose=0).argmax(-1) == labels).mean())
    for file in EXPORTED.values():
        write_file(file, folder, "nano", "camera_motion")
        exported = kvf.load_exported(file.path(folder, "nano"), precision=file.computes_in)
        said = [exported.predict(clips[first : first + 60]).argmax(-1) for first in range(0, count, 60)]
        shares[file.label] = float((np.concatenate(said) == labels).mean())
    return shares


def percent(share):
    """A share as text."""
    return f"{100 * share:.1f} %"


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["", "seconds a clip (quartiles)", f"{PEER} / this", "file, MB", "peak memory, GB", "logits off by"]
    header.append("accuracy on camera motion (Nano)")
    cells = [
        [
            row["subject"],
            f"{row['median_s']:.3f} ({row['low_s']:.3f}-{row['high_s']:.3f})",
            f"{row['ratio']:.2f}",
            f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else "",
            f"{row['peak_bytes'] / 1e9:.1f}",
            f"{row['difference']:.1e}" if "difference" in row else "",
            percent(row["accuracy"]) if "accuracy" in row else "",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
