"""Video-FocalNet (Wasim et al., ICCV 2023), as the registry knows it; `model.py` has the architecture."""

import importlib

from keras_video_focalnet.models.registry import Family, register
from keras_video_focalnet.models.video_focalnet.entries import BUILDERS, ENTRIES
from keras_video_focalnet.models.video_focalnet.recipes import RECIPES

register(
    Family(
        name="video_focalnet",
        title="Video-FocalNet",
        module=f"{__name__}.model",
        classifier="VideoFocalNet",
        builders=BUILDERS,
        entries=ENTRIES,
        recipes=RECIPES,
        readers={"keras2": f"{__name__}.keras2_h5:read_keras2", "keras3": f"{__name__}.keras3_file:read_keras3"},
    )
)


def __getattr__(name):
    """The class and the builders, which are imported with Keras when they are first asked for."""
    if name == "VideoFocalNet" or name in [builder.name for builder in BUILDERS]:
        return getattr(importlib.import_module(f"{__name__}.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
