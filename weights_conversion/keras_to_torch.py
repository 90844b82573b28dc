"""Converts Keras weights to a `.pth` that the reference implementation loads, and shows that nothing was lost.

Run from the root of the repository, for example:

    python -m weights_conversion.keras_to_torch fine_tuned.keras fine_tuned.pth
"""

import importlib.util

import click


def convert(source, target, bare=False):
    """Convert one file of weights. The target appears only once it was read back and found right.

    Args:
        source: path of a `.keras`, `.weights.h5`, Keras 2 `.h5` or `.safetensors` file.
        target: path of the `.pth`; what is there is replaced.
        bare: bool, write the state alone; by default it is under the key `model`, where the reference looks for it.

    Returns:
        `conversion.Report`. Where it has not passed, the target was not written.

    Raises:
        ImportError: if PyTorch is not installed, which writes the file.
        ValueError: if the source holds no weights of ours.
        FileNotFoundError: if the source is not there.

    Example:
    >>> convert("micro.keras", "micro.pth").passed
    True
    """
    if importlib.util.find_spec("torch") is None:
        raise ImportError("Writing a .pth needs PyTorch: pip install torch.")
    import io

    import numpy as np
    import torch

    from keras_video_focalnet.models.building import read_weights
    from keras_video_focalnet.utils.files import atomic_write
    from weights_conversion.conversion import ARCHITECTURE, Report, infer_options, same_values
    from weights_conversion.torch_reference import VideoFocalNet

    state, _ = read_weights(source, ARCHITECTURE)
    with torch.device("meta"):
        oracle = VideoFocalNet(**infer_options(state))
    names = list(oracle.state_dict())
    report = Report(
        str(source),
        str(target),
        tensors=len(state),
        parameters=sum(array.size for array in state.values()),
        unmapped=[name for name in state if name not in names],
        initialized=[name for name in names if name not in state],
        why_not="a .pth holds numbers alone",
    )
    if report.unmapped or report.initialized:
        return report
    # In the order of the reference's parameters, to which optimizer states refer by position.
    tensors = {name: torch.tensor(np.float32(state[name])) for name in names}
    oracle.load_state_dict(tensors, strict=True, assign=True)
    written = io.BytesIO()
    torch.save(tensors if bare else {"model": tensors}, written)
    written.seek(0)
    loaded = torch.load(written, weights_only=True)
    loaded = loaded if bare else loaded["model"]
    report.identical = same_values(state, {name: tensor.numpy() for name, tensor in loaded.items()})
    if report.passed:
        with atomic_write(target) as file:
            file.write(written.getbuffer())
    return report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--bare", is_flag=True, help="Write the state alone, not under the key 'model'.")
def main(source, target, bare):
    """Convert SOURCE, a .keras, .weights.h5, Keras 2 .h5 or .safetensors file, to TARGET, a reference .pth.

    Prints a report; the exit code is 1, and TARGET is not written, where a tensor has no place or a value changed.
    """
    from keras_video_focalnet.cli.backend import import_keras

    try:
        import_keras()
        report = convert(source, target, bare)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(report)
    raise SystemExit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
