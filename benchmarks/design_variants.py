"""Parameters and multiply-adds of the designs of Video-FocalNet: `python -m benchmarks.design_variants`.

It prints the table of `docs/design_variants.md`. Nothing is trained or timed: the models are built without values.
"""

import click
import keras

import keras_video_focalnet as kvf
from benchmarks.alternation import table

CLIPS = {"nano": (8, 64, 64, 3), "Small": (8, 224, 224, 3)}
BUILDERS = {"nano": (kvf.VideoFocalNetNano, 9), "Small": (kvf.VideoFocalNetS, 400)}
DIGITS = {"nano": 4, "Small": 2}
DESIGNS = ("spatial", "factorized_3d", "factorized_encoder", "divided", "parallel")
VARIANTS = {f'`design="{design}"`': {"design": design} for design in DESIGNS}
VARIANTS |= {f'`fusion="{fusion}"`': {"fusion": fusion} for fusion in ("average", "projection")}
VARIANTS["`tubelet_size=2`, 16 frames"] = {"tubelet_size": 2}


def count(size, options):
    """The parameters in millions and the GMAC of one clip of a variant of a size."""
    builder, classes = BUILDERS[size]
    frames, *rest = CLIPS[size]
    shape = (frames * options.get("tubelet_size", 1), *rest)
    with keras.StatelessScope(initialize_variables=False):
        model = builder(weights=None, classes=classes, input_shape=shape, **options)
        return model.count_params() / 1e6, kvf.count_macs(model) / 1e9


def as_table():
    """Header and cells of the table."""
    header = ["", *(f"{size}: {what}" for size in BUILDERS for what in ("parameters, M", "GMAC"))]
    rows = []
    for name, options in VARIANTS.items():
        counts = [f"{number:.{DIGITS[size]}f}" for size in BUILDERS for number in count(size, options)]
        rows.append([name, *counts])
    return header, rows


@click.command()
def main():
    """Prints the table."""
    click.echo(table(*as_table()))


if __name__ == "__main__":
    main()
