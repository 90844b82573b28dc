"""SIFA (Long et al., CVPR 2022), as the registry knows it; `net.py` and `transformer.py` have the architectures."""

import importlib

from keras_video_focalnet.models.registry import Family, register
from keras_video_focalnet.models.sifa import entries, recipes

_FAMILIES = (
    register(
        Family(
            name="sifa_net",
            title="SIFA-Net",
            module=f"{__name__}.net",
            classifier="SIFANet",
            builders=entries.NET_BUILDERS,
            entries=entries.NET_ENTRIES,
            recipes=recipes.RECIPES,
            readers={"keras2": f"{__name__}.keras_resnet:read_keras_resnet"},
        )
    ),
    register(
        Family(
            name="sifa_transformer",
            title="SIFA-Transformer",
            module=f"{__name__}.transformer",
            classifier="SIFATransformer",
            builders=entries.TRANSFORMER_BUILDERS,
            entries=entries.TRANSFORMER_ENTRIES,
            recipes=recipes.TRANSFORMER_RECIPES,
        )
    ),
)


def __getattr__(name):
    """The classes and the builders, which are imported with Keras when they are first asked for."""
    for family in _FAMILIES:
        if name in (family.classifier, *(builder.name for builder in family.builders)):
            return getattr(importlib.import_module(family.module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
