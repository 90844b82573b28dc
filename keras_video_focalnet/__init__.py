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
    "count_macs": "models.macs",
    "decode_predictions": "labels.predictions",
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
    "preprocess_input": "models.preprocessing",
    "read_clip": "data.clip",
    "read_frames": "data.clip",
    "prepare_videos": "evaluation.preparing",
    "sample_dense_indices": "data.sampling",
    "sample_frame_indices": "data.sampling",
    "score_videos": "evaluation.scoring",
