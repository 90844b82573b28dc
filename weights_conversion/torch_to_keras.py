"""Converts a reference checkpoint to a Keras 3 file, and shows that nothing was lost.

Run from the root of the repository, for example:

    python -m weights_conversion.torch_to_keras video-focalnet_tiny.pth tiny.keras --labels k400
"""

import os
import tempfile
from pathlib import Path

import click

TARGETS = (".keras", ".weights.h5")


def convert(
    source,
    target,
    input_shape=(8, 224, 224),
    labels=None,
    include_preprocessing=True,
    temporal_init="identity",
    compare=True,
    **options,
):
    """Convert one file of weights. The target appears only once it was read back and found right.

    Args:
        source: path of a reference checkpoint (`.pth`, `.safetensors`) or of a Keras 2 `.h5`.
        target: path that ends in `.keras` (the whole model) or `.weights.h5`; what is there is replaced.
        input_shape: `(frames, height, width)` of the saved model; the weights do not depend on it.
        labels: name of a data set, path of a file, or list of the class names, kept in a `.keras` file.
        include_preprocessing: bool, whether the saved model takes pixels of 0 to 255.
        temporal_init: of an image checkpoint: `"identity"` or `"random"`, see `VideoFocalNetT`.
        compare: bool, also compare the logits with the PyTorch implementation, where PyTorch is installed.
        **options: of `VideoFocalNet` in the reference's names, where the checkpoint does not show them: `use_postln`,
            `normalize_modulator`.

    Returns:
        `conversion.Report`. Where it has not passed, the target was not written.

    Raises:
        ValueError: if the target has another ending, the source is no checkpoint, or labels do not fit.
        FileNotFoundError: if the source is not there.

    Example:
    >>> report = convert("tests/data/micro/checkpoint.pth", "micro.keras", input_shape=(8, 48, 48))
    >>> report.passed, report.unmapped
    (True, [])
    """
    from keras_video_focalnet.labels import load_labels
    from keras_video_focalnet.models.building import read_weights
    from weights_conversion.conversion import (
        ARCHITECTURE,
        Report,
        build_model,
        difference_to_oracle,
        infer_options,
        same_values,
    )

    target = Path(target)
    ending = next((suffix for suffix in TARGETS if target.name.endswith(suffix)), None)
    if ending is None:
        raise ValueError(f"target={str(target)!r} must end in {' or '.join(TARGETS)}.")
    state, own_labels = read_weights(source, ARCHITECTURE)
    options = {**infer_options(state), **options}
    labels = own_labels if labels is None else load_labels(labels)
    model = build_model(
        options,
        input_shape=(*input_shape, 3),
        labels=labels,
        include_preprocessing=include_preprocessing,
        dtype="float32",
    )
    initialized = model.load_state(state, str(source), temporal_init=temporal_init)
    slots = model.network.slots()
    report = Report(
        str(source),
        str(target),
        tensors=len(state),
        parameters=sum(array.size for array in state.values()),
        unmapped=[name for name in state if name not in slots],
        initialized=[name for name in initialized if name not in state],
        why_not="not asked for",
    )
    if compare:
        report.difference, report.why_not = difference_to_oracle(state, options)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".conversion-") as folder:
        written = Path(folder) / f"model{ending}"
        model.save(written) if ending == ".keras" else model.save_weights(written)
        report.identical = same_values(state, read_weights(written, ARCHITECTURE)[0])
        if report.passed:
            os.replace(written, target)
    return report


def _list_checkpoints(context, parameter, wanted):
    if not wanted or context.resilient_parsing:
        return
    from keras_video_focalnet.models import registry

    for entry in registry.entries():
        for address in (entry.url, entry.page):
            if address:
                click.echo(f"{entry.architecture}/{entry.name}  {address}")
    context.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=click.Path(dir_okay=False))
@click.option(
    "--input-shape", type=int, nargs=3, default=(8, 224, 224), show_default=True, help="Frames, height, width."
)
@click.option("--labels", metavar="NAME|PATH", help="Class names to keep in a .keras file: a data set, or a file.")
@click.option("--preprocessing/--no-preprocessing", default=True, show_default=True, help="Take pixels of 0 to 255.")
@click.option("--temporal-init", type=click.Choice(["identity", "random"]), default="identity", show_default=True)
@click.option("--use-postln", is_flag=True, help="The checkpoint was trained with post-normalization.")
@click.option("--normalize-modulator", is_flag=True, help="The checkpoint was trained with normalized modulators.")
@click.option("--compare/--no-compare", default=True, show_default=True, help="Compare the logits with PyTorch's.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_checkpoints,
    help="Show where the published checkpoints are and exit. Those on Google Drive are for a browser to fetch.",
)
def main(source, target, input_shape, labels, preprocessing, temporal_init, use_postln, normalize_modulator, compare):
    """Convert SOURCE, a reference checkpoint (.pth) or a Keras 2 .h5, to TARGET, a .keras or .weights.h5 file.

    How the network is built is read from the checkpoint's names and shapes. Prints a report; the exit code is 1, and
    TARGET is not written, where a tensor has no place, a value changed, or the logits are not PyTorch's.
    """
    from keras_video_focalnet.cli.backend import import_keras

    try:
        import_keras()
        report = convert(
            source,
            target,
            input_shape,
            labels,
            preprocessing,
            temporal_init,
            compare,
            use_postln=use_postln,
            normalize_modulator=normalize_modulator,
        )
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(report)
    raise SystemExit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
