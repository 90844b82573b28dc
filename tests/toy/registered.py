"""Adds the toy to the registry when it is imported, as the entry point of another package does."""

from keras_video_focalnet.models.registry import register
from tests.toy import FAMILY

register(FAMILY)
