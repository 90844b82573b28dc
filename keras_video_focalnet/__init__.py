"""Video recognition for Keras 3: a zoo of architectures, of which Video-FocalNet is the first.

Names are imported when they are first used, so that data workers never load Keras. Where Keras has not been imported
and nobody has chosen its backend, importing this package chooses one that is installed.
"""

import contextlib
import functools
import importlib
import sys

from keras_video_focalnet.models import registry
from keras_video_focalnet.utils.backend import choose_backend, tell_choice

__version__ = "0.1.0"

_PUBLIC = {
    "BatchSource": "data.batch_source",
    "CenterCrop": "data.transforms",
    "ClipAugmentation": "data.image_layers",
    "ClassWeightedCrossentropy": "training.losses",
    "ClipDataset": "data.pipeline",
    "ColorJitter": "data.color",
    "Compose": "data.transforms",
    "FocalBlock": "layers",
    "LayerScale": "layers",
    "LayerwiseAdamW": "training.optimizers",
    "Mixing": "data.mixing",
    "Muon": "training.optimizers",
    "PatchEmbedding": "layers",
    "RandAugment": "data.rand_augment",
    "RandomErasing": "data.transforms",
    "RandomFlip": "data.transforms",
    "RandomGray": "data.color",
    "RandomResizedCrop": "data.transforms",
    "Recipe": "training.recipe",
    "ScaleJitter": "data.transforms",
    "SpatioTemporalFocalModulation": "layers",
    "StochasticDepth": "layers",
    "TorchSGD": "training.optimizers",
    "VideoClassifier": "models.classifier",
    "VideoList": "data.datasets",
    "VideoReader": "data.video_reader",
    "VideoRecord": "data.datasets",
    "Views": "evaluation.views",
    "WarmupCosine": "training.schedule",
    "annotate_video": "visualization.annotation",
    "count_macs": "models.macs",
    "decode_predictions": "labels.predictions",
    "enable_compilation_cache": "models.compilation_cache",
    "evaluate_videos": "evaluation.evaluate",
    "export": "exporting.export",
    "feature_extractor": "models.features",
    "feature_taps": "models.features",
    "freeze_stages": "training.freezing",
    "get_recipe": "training.recipe",
    "layerwise_multipliers": "training.optimizers",
    "linear_probe": "training.freezing",
    "list_models": "models.registry",
    "load_best": "training.train",
    "load_exported": "exporting.runtime",
    "load_labels": "labels",
    "load_weights": "models.building",
    "open_live": "data.live_video",
    "open_model": "models.opening",
    "prepare_videos": "evaluation.preparing",
    "preprocess_input": "models.preprocessing",
    "read_clip": "data.clip",
    "read_frames": "data.clip",
    "read_views": "evaluation.views",
    "sample_dense_indices": "data.sampling",
    "sample_frame_indices": "data.sampling",
    "score_videos": "evaluation.scoring",
    "score_views": "evaluation.views",
    "stream_timeline": "evaluation.timeline",
    "timeline": "evaluation.timeline",
    "train": "training.train",
    "training_transforms": "data.transforms",
    "video_list": "data.datasets",
    "visualize": "visualization.visualize",
    "zero_shot": "models.vita_clip.other_names",
}

for _family in registry.own_families():
    _PUBLIC |= dict.fromkeys(
        (_family.classifier, *(builder.name for builder in _family.builders)),
        _family.module.removeprefix(f"{__name__}."),
    )

__all__ = sorted(_PUBLIC)

# Old names, which go with the next release.
_RENAMED = {"recipe": "get_recipe"}


@functools.cache
def _register_with_keras():
    for name in ("training.losses", "training.optimizers", "training.schedule"):
        importlib.import_module(f"{__name__}.{name}")
    for family in registry.own_families():
        family.architecture()


def _register():
    """Lets Keras load our classes from a `.keras` file, where Keras is there: importing them registers them."""
    if "keras" in sys.modules:
        _register_with_keras()


def _explain_backend():
    """Raises what is wrong with the choice of a backend, if that is why Keras could not be imported."""
    try:
        choose_backend()
    except ImportError as error:
        raise error from None


def __getattr__(name):
    if name in _RENAMED:
        from keras_video_focalnet.utils.deprecation import warn_renamed

        warn_renamed(name, _RENAMED[name])
        name = _RENAMED[name]
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    except (ImportError, ValueError):
        if "keras" not in sys.modules:
            _explain_backend()
        raise
    _register()
    tell_choice()
    return value


def __dir__():
    return __all__


_register()

# Names that need no backend work without one; the others say what is wrong with the choice.
with contextlib.suppress(ImportError):
    choose_backend()
