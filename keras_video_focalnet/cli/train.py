"""`video-focalnet train`: from a folder or a list of videos to a model that `predict` takes."""

import json
import os
from pathlib import Path

import click

from keras_video_focalnet.cli.predict import ARCHITECTURES
from keras_video_focalnet.weights.files import atomic_write


@click.command()
@click.option("--data", required=True, metavar="FOLDER|LIST", help="Training videos: a folder a class, or a list file.")
@click.option("--val", metavar="FOLDER|LIST", help="Validation videos.")
@click.option("--root", metavar="FOLDER", help="Where the paths of a list begin.  [default: the list's folder]")
@click.option("--model", type=click.Choice(list(ARCHITECTURES)), default="nano", show_default=True, help="Size.")
@click.option(
    "--weights",
    metavar="NAME|PATH|URL",
    help="Weights to begin from; none begins with random ones. Default: camera_motion for nano; else k400.",
)
@click.option("--recipe", "recipe_name", default="finetune", show_default=True, help="finetune, k400, ssv2, ...")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change the recipe, as --set epochs=6.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Clips a step, in all.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read videos.")
@click.option("--max-broken", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Of an epoch's videos.")
@click.option("--save-every", type=click.IntRange(min=1), help="Steps between checkpoints.  [default: an epoch]")
@click.option("--distribute", default="auto", show_default=True, help="auto, none, or a way that the backend has.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights, data and dropout.")
@click.option("--tensorboard", is_flag=True, help="Write events for TensorBoard too.")
def train(data, val, root, model, weights, recipe_name, changes, out, resume, batch_size, seed, **options):
    r"""Train a model on your own videos.

    \b
    Writes to the folder --out: config.json, model.keras (of the best epoch), labels.txt, metrics.csv, curves.png.
    A run that was killed goes on with --resume, to the same result. Then
        video-focalnet predict --weights OUT/model.keras VIDEO
    tells your classes.
    """
    from keras_video_focalnet.cli.backend import import_keras

    config = {
        "data": data,
        "val": val,
        "root": root,
        "model": model,
        "weights": weights or ("camera_motion" if model == "nano" else "k400"),
        "recipe": recipe_name,
        "set": list(changes),
        "batch_size": batch_size,
        "seed": seed,
    }
    try:
        import_keras()
        from keras_video_focalnet.training.run import TrainingInterrupted
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    try:
        run(config, out, resume, **options)
    except TrainingInterrupted as interruption:
        click.echo(str(interruption), err=True)
        # As a shell says that a signal ended a program.
        raise SystemExit(128 + interruption.number) from None
    except (ImportError, OSError, ValueError, ArithmeticError) as error:
        raise click.ClickException(str(error)) from error


def run(config, out, resume, workers, max_broken, save_every, distribute, tensorboard):
    """Train as the options say, and write what `predict` needs.

    Args:
        config: dict, what a resumed run must have in common with the one that it goes on with.
        out: `pathlib.Path`, folder of the run.
        resume: bool, whether to go on with the run in `out`.
        workers: int, processes that read videos.
        max_broken: float from 0 to 1, share of an epoch's videos that may be unreadable.
        save_every: int or None, steps between checkpoints.
        distribute: str, see `choose`; `"none"` for one device.
        tensorboard: bool.

    Raises:
        OSError: something cannot be read or written.
        ValueError: a video list, the weights, the recipe or the run in `out` do not fit.
    """
    import keras

    from keras_video_focalnet.data.datasets import video_list
    from keras_video_focalnet.data.pipeline import ClipDataset
    from keras_video_focalnet.training.distribution import choose
    from keras_video_focalnet.training.train import load_best, train
    from keras_video_focalnet.visualization.curves import plot_curves

    keras.utils.set_random_seed(config["seed"])
    recipe = recipe_of(config)
    videos = video_list(config["data"], config["root"])
    validation = config["val"] and video_list(config["val"], config["root"], videos.class_names)
    distribution = choose(None if distribute.lower() == "none" else distribute)
    with distribution.scope():
        model = build(config, recipe, videos.class_names)
    _, frames, height, width, _ = model.input_shape
    common = {
        "batch_size": config["batch_size"],
        "num_frames": frames,
        "size": (height, width),
        "sampling": recipe.sampling,
        "seed": config["seed"],
        "shard": (distribution.process_index, distribution.process_count),
        "workers": workers,
        "max_broken": max_broken,
    }
    transform, mixing = recipe.transforms((height, width)), recipe.mixing(len(videos.class_names))
    training_set = ClipDataset(videos, training=True, transform=transform, mixing=mixing, **common)
    validation_set = validation and ClipDataset(validation, **common)
    if distribution.process_index == 0:
        write_config(out / "config.json", config, recipe, videos.class_names, resume)
    history = train(
        model,
        training_set,
        validation_set,
        recipe,
        out=out,
        resume=resume,
        save_every=save_every,
        distribute=None if distribute.lower() == "none" else distribute,
        tensorboard=tensorboard,
    )
    if distribution.process_index == 0:
        best = type(model).from_config({**model.get_config(), "classifier_activation": "softmax"})
        load_best(best, out)
        save_model(best, out / "model.keras")
        with atomic_write(out / "labels.txt") as file:
            file.write("".join(f"{name}\n" for name in videos.class_names).encode())
        plot_curves(history, out / "curves.png")
        click.echo(f"Wrote {out / 'model.keras'}: video-focalnet predict --weights {out / 'model.keras'} VIDEO")


def recipe_of(config):
    """The recipe that the options name, with its changes.

    Raises:
        ValueError: there is no such recipe, attribute or value.
    """
    from keras_video_focalnet.training.recipe import recipe

    plan = recipe(config["recipe"])
    for change in config["set"]:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"--set {change} has no value; write --set {change}=VALUE.")
        plan = plan.set(name.strip(), text)
    return plan


def build(config, recipe, class_names):
    """The model to train, which gives logits."""
    from keras_video_focalnet.models import video_focalnet

    options = {} if recipe.drop_path_rate is None else {"drop_path_rate": recipe.drop_path_rate}
    builder = getattr(video_focalnet, ARCHITECTURES[config["model"]])
    if recipe.num_frames or recipe.size:
        frames, height, width, channels = builder.default_shape
        shape = (recipe.num_frames or frames, recipe.size or height, recipe.size or width, channels)
        options["input_shape"] = shape
    weights = None if config["weights"].lower() == "none" else config["weights"]
    return builder(weights=weights, classes=len(class_names), labels=class_names, classifier_activation=None, **options)


def write_config(path, config, recipe, class_names, resume):
    """Write what the run is, or find that it is the one to resume.

    Raises:
        FileExistsError: there is one, and it is not to be resumed.
        ValueError: the run that is there differs; the message names the first difference.
    """
    import dataclasses

    import keras

    from keras_video_focalnet import __version__

    config = {**config, "class_names": list(class_names), "values": dataclasses.asdict(recipe)}
    config = json.loads(json.dumps(config))
    if path.exists() and not resume:
        raise FileExistsError(f"{path.parent} holds a run; pass --resume to go on with it, or another --out.")
    if path.exists():
        before = json.loads(path.read_text())
        for name, value in config.items():
            if before.get(name) != value:
                raise ValueError(
                    f"the run in {path.parent} has {name}={before.get(name)!r}, not {value!r}; resume it as it was "
                    "begun, or begin anew in another folder."
                )
        return
    versions = {"keras_video_focalnet": __version__, "keras": keras.__version__, "backend": keras.backend.backend()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps({**config, "versions": versions}, indent=2).encode())


def save_model(model, path):
    """Save a model under a temporary name, and move it to its own."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.keras")
    try:
        model.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
