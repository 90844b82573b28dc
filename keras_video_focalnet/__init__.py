"""Video-FocalNet for Keras 3.

Names are imported when they are first used: data workers never load Keras, and the command line chooses a backend
first.
"""

import importlib
import sys

__version__ = "0.1.0"

_PUBLIC = {
    "BatchSource": "data.pipeline",
    "CenterCrop": "data.transforms",
    "ClipAugmentation": "data.image_layers",
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
    "VideoFocalNet": "models.video_focalnet",
    "VideoFocalNetB": "models.video_focalnet",
    "VideoFocalNetNano": "models.video_focalnet",
    "VideoFocalNetS": "models.video_focalnet",
    "VideoFocalNetT": "models.video_focalnet",
    "VideoList": "data.datasets",
    "VideoRecord": "data.datasets",
    "WarmupCosine": "training.schedule",
    "count_macs": "models.macs",
    "decode_predictions": "evaluation.predictions",
    "export": "exporting.export",
    "feature_extractor": "models.features",
    "feature_taps": "models.features",
    "freeze_stages": "training.freezing",
    "layerwise_multipliers": "training.optimizers",
    "linear_probe": "training.freezing",
    "list_models": "weights.registry",
    "load_best": "training.train",
    "load_exported": "exporting.runtime",
    "load_labels": "labels",
    "load_weights": "weights.loading",
    "preprocess_input": "models.preprocessing",
    "read_clip": "data.clip",
    "read_frames": "data.clip",
    "recipe": "training.recipe",
    "sample_dense_indices": "data.sampling",
    "sample_frame_indices": "data.sampling",
    "train": "training.train",
    "training_transforms": "data.transforms",
    "video_list": "data.datasets",
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
    for module in ("models.video_focalnet", "training.optimizers", "training.schedule"):
        importlib.import_module(f"{__name__}.{module}")
