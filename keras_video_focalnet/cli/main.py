"""`video-focalnet`, the group of commands. Neither it nor its help loads Keras, a backend or PyAV."""

import click

from keras_video_focalnet import __version__
from keras_video_focalnet.cli.export import export
from keras_video_focalnet.cli.models import models
from keras_video_focalnet.cli.predict import predict
from keras_video_focalnet.cli.train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="video-focalnet")
def main():
    """Classify videos with Video-FocalNet, train it on your own, and export it.

    The backend is the one that KERAS_BACKEND or keras.json names, else the first installed of tensorflow, jax, torch.
    """


main.add_command(predict)
main.add_command(train)
main.add_command(export)
main.add_command(models)


if __name__ == "__main__":
    main()
