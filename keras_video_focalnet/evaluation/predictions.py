"""From class scores to class names; see `labels.predictions`, which models use too."""

from keras_video_focalnet.labels.predictions import DEFAULT, decode_predictions, default_names, numbered

__all__ = ["DEFAULT", "decode_predictions", "default_names", "numbered"]
