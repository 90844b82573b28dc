"""Video-FocalNet for Keras 3.

Names are imported when they are first used: data workers never load Keras, and the command line chooses a backend
first.
"""

import importlib
import sys

__version__ = "0.1.0"

_PUBLIC = {
    "VideoFocalNet": "models.video_focalnet",
    "VideoFocalNetB": "models.video_focalnet",
    "VideoFocalNetNano": "models.video_focalnet",
    "VideoFocalNetS": "models.video_focalnet",
    "VideoFocalNetT": "models.video_focalnet",
    "FocalBlock": "layers",
    "LayerScale": "layers",
    "PatchEmbedding": "layers",
    "SpatioTemporalFocalModulation": "layers",
    "StochasticDepth": "layers",
    "count_macs": "models.macs",
    "decode_predictions": "evaluation.predictions",
    "feature_extractor": "models.features",
    "feature_taps": "models.features",
    "list_models": "weights.registry",
    "load_labels": "labels",
    "load_weights": "weights.loading",
    "preprocess_input": "models.preprocessing",
    "read_clip": "data.clip",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__():
    return __all__


if "keras" in sys.modules:
    # Keras finds our classes in a `.keras` file only once they are registered, which importing them does.
    importlib.import_module(f"{__name__}.models.video_focalnet")
