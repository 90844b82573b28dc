"""The builders of SIFA and the image weights that they can start from, as data. The authors published no weights."""

from __future__ import annotations

from pathlib import Path

from keras_video_focalnet.labels import DATA_SETS
from keras_video_focalnet.models.registry import Builder, Entry

_SHAPE = (16, 224, 224, 3)

NET_BUILDERS = (
    Builder("SIFANet50", ("sifa50", "sifa-net50"), None, _SHAPE),
    Builder("SIFANet101", ("sifa101", "sifa-net101"), None, _SHAPE),
    Builder("SIFANetNano", ("sifa-nano", "sifa-net-nano"), "camera_motion", (16, 64, 64, 3)),
)
TRANSFORMER_BUILDERS = (
    Builder("SIFATransformerS", ("sifa-s", "sifa-small"), None, _SHAPE),
    Builder("SIFATransformerB", ("sifa-b", "sifa-base"), None, _SHAPE),
    Builder("SIFATransformerL", ("sifa-l", "sifa-large"), None, _SHAPE),
    Builder("SIFATransformerNano", ("sifa-n", "sifa-transformer-nano"), "camera_motion", (8, 64, 64, 3)),
)

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_SWIN = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
_KERAS_NOTE = "ResNet of keras.applications, an image classifier; SIFA's authors start from torchvision's"
_SWIN_NOTE = "Swin Transformer by its authors, an image classifier"
_BUNDLED = Path(__file__).parent / "bundled"
_BUNDLED_NOTE = "trained by examples/camera_motion on synthesized clips; ships inside the package"


def _imagenet(architecture: str, url: str, source: str) -> Entry:
    data_set = DATA_SETS["imagenet"]
    details = {"input_shape": (1, 224, 224, 3), "url": url, "licence": "MIT", "source": source}
    return Entry(architecture, "imagenet", data_set.long_name, data_set.classes, **details)


def _camera_motion(architecture: str, input_shape: tuple[int, int, int, int], file: str) -> Entry:
    data_set = DATA_SETS["camera_motion"]
    details = {"licence": "Apache-2.0", "source": _BUNDLED_NOTE, "bundled": _BUNDLED / file}
    shape = {"input_shape": input_shape, "labels": data_set.file}
    return Entry(architecture, "camera_motion", data_set.long_name, data_set.classes, **shape, **details)


NET_ENTRIES = (
    *(
        _imagenet(f"SIFANet{depth}", f"{_KERAS}resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5", _KERAS_NOTE)
        for depth in (50, 101)
    ),
    _camera_motion("SIFANetNano", (16, 64, 64, 3), "sifa_net_nano_camera_motion.safetensors"),
)
TRANSFORMER_ENTRIES = (
    _imagenet("SIFATransformerS", f"{_SWIN}swin_small_patch4_window7_224.pth", _SWIN_NOTE),
    _imagenet("SIFATransformerB", f"{_SWIN}swin_base_patch4_window7_224.pth", _SWIN_NOTE),
    _imagenet("SIFATransformerL", f"{_SWIN}swin_large_patch4_window7_224_22kto1k.pth", _SWIN_NOTE),
    _camera_motion("SIFATransformerNano", (8, 64, 64, 3), "sifa_transformer_nano_camera_motion.safetensors"),
)
