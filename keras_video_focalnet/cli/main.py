"""The command group `video-focalnet`. Importing it and showing its help loads neither Keras nor a backend nor PyAV."""

import click

from keras_video_focalnet import __version__
from keras_video_focalnet.cli.annotate import annotate
from keras_video_focalnet.cli.app import app
from keras_video_focalnet.cli.doctor import doctor
from keras_video_focalnet.cli.evaluate import evaluate
from keras_video_focalnet.cli.export import export
from keras_video_focalnet.cli.models import models
from keras_video_focalnet.cli.predict import predict
from keras_video_focalnet.cli.prepare import prepare
from keras_video_focalnet.cli.score import score
from keras_video_focalnet.cli.timeline import timeline
from keras_video_focalnet.cli.train import train
from keras_video_focalnet.cli.visualize import visualize
from keras_video_focalnet.cli.wording import SpokenGroup


@click.group(cls=SpokenGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="video-focalnet")
def main():
    """Classify videos and libraries of videos, tell what happens when, show what a model looks at, serve a page to try
    models on, train models, evaluate and export them.

    The backend is the one that KERAS_BACKEND or keras.json names, or the first installed of tensorflow, jax, torch.
    """


main.add_command(predict)
main.add_command(score)
main.add_command(timeline)
main.add_command(visualize)
main.add_command(annotate)
main.add_command(app)
main.add_command(train)
main.add_command(evaluate)
main.add_command(prepare)
main.add_command(export)
main.add_command(models)
main.add_command(doctor)


if __name__ == "__main__":
    main()
