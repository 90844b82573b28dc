"""Writes the help of each command to `help/`, where changes of it are seen in a review."""

from keras_video_focalnet.cli.main import main
from tests.newcomer.test_newcomer import HELP, help_text

for name in ["", *main.commands]:
    (HELP / f"{name or 'video-focalnet'}.txt").write_text(help_text(name))
