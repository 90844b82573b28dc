"""`video-focalnet app` serves a page to try models on."""

import math
import os
from urllib.parse import urlsplit

import click

from keras_video_focalnet.cli.class_names import names_in_text
from keras_video_focalnet.cli.networks import (
    check_options,
    load_named,
    model_and_weights,
    names_and_origin,
)
from keras_video_focalnet.cli.options import named_model
from keras_video_focalnet.models import registry
from keras_video_focalnet.weights.formats import is_exported, is_path


def _finite(ctx, parameter, value):
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no size that can be kept; pass a number.")
    return value


@click.command()
@named_model
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve at; others can reach the page "
              "only if it is one of a network.")  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes any that is free."
)
@click.option("--max-size", type=click.FloatRange(min=0, min_open=True), default=200, show_default=True,
              callback=_finite, help="Largest video in MB.")  # fmt: skip
@click.option("--max-seconds", type=click.FloatRange(min=0, min_open=True), default=120, show_default=True,
              callback=_finite, help="Longest video in seconds.")  # fmt: skip
def app(model, weights, names, class_names, host, port, max_size, max_seconds):
    """Serve a page to try models on: a video is dropped or recorded, and its classes, what happens when and what the
    model looks at are shown.

    The page is for this machine alone unless --host says otherwise; it asks for no password. It begins with --model and
    --weights, and offers all models with the weights that are on this machine. What is uploaded is removed when the
    page is closed, after half an hour, or when the command ends. Once it is there, it fetches nothing and tells nobody
    anything. Ctrl-C ends it.
    """
    if is_exported(model):
        raise click.UsageError(f"--model {model} is an exported model, which only gives scores; pass the one it is of.")
    check_options(model, weights, class_names, names)
    try:
        from keras_video_focalnet.app import serve

        serve.check_extra()
        with serve.bind(host, port) as listening:
            started = _start(model, weights, class_names, names)
            with serve.private_folder() as folder:
                _serve(serve, listening, host, folder, started, max_size, max_seconds)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _start(model, weights, class_names, names):
    """The model that the page begins with."""
    from keras_video_focalnet.app.networks import Started

    network, _, _ = load_named(model, weights, class_names, names)
    labels = None if names is None else tuple(names_and_origin(network, names)[0])
    told = tuple(class_names or ())
    named, found = model_and_weights(model, weights, class_names)
    if is_path(found):
        # An address may end with what is nobody's business.
        path = urlsplit(found).path if "://" in found else os.path.abspath(os.path.expanduser(found))
        return Started(os.path.basename(path.rstrip("/")), None, network, told, labels)
    return Started(named, registry.find_entry(named, found).name, network, told, labels)


def _serve(serve, listening, host, folder, started, max_size, max_seconds):
    from keras_video_focalnet.app.answers import Answers, Limits
    from keras_video_focalnet.app.networks import Networks
    from keras_video_focalnet.app.page import Page
    from keras_video_focalnet.app.uploads import Uploads

    answers = Answers(Limits(max_size, max_seconds))
    networks = Networks(started, names_in_text)
    guarded = serve.application(
        lambda files: Page(networks, answers, Uploads(files)), folder, answers.limits, serve.names_of(host, listening)
    )
    serve.serve(guarded, listening, lambda address: click.echo(f"{address}  (Ctrl-C ends it)"), answers.stopped.set)
