"""Vita-CLIP (Wasim et al., CVPR 2023), as the registry knows it; `model.py` has the architecture."""

import importlib

from keras_video_focalnet.models.registry import Family, register
from keras_video_focalnet.models.vita_clip import entries, recipes

_FAMILY = register(
    Family(
        name="vita_clip",
        title="Vita-CLIP",
        module=f"{__name__}.model",
        classifier="VitaCLIP",
        builders=entries.BUILDERS,
        entries=entries.ENTRIES,
        recipes=recipes.RECIPES,
        readers={"keras3": f"{__name__}.keras3_file:read_keras3"},
    )
)


def __getattr__(name):
    """The class, the builder and `zero_shot`, which are imported with Keras when they are first asked for."""
    if name == "zero_shot":
        return importlib.import_module(f"{__name__}.other_names").zero_shot
    if name in (_FAMILY.classifier, *(builder.name for builder in _FAMILY.builders)):
        return getattr(importlib.import_module(_FAMILY.module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
