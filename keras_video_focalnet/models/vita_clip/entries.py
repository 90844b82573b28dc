"""The builders of Vita-CLIP and the weights that are published for them, as data."""

from __future__ import annotations

from keras_video_focalnet.labels import DATA_SETS
from keras_video_focalnet.models.registry import Builder, Entry

BUILDERS = (Builder("VitaCLIPB", ("vita-clip", "vita-clip-b")),)

_CLIP_NOTE = "OpenAI's CLIP ViT-B/16 as Hugging Face's CLIPModel; prompts and summaries begin at random"
_AUTHORS_NOTE = "the authors' checkpoint; they report no accuracy beside it"


def _entry(name: str, **values) -> Entry:
    data_set = DATA_SETS[name]
    return Entry("VitaCLIPB", name, data_set.long_name, data_set.classes, data_set.file, licence="MIT", **values)


ENTRIES = (
    _entry(
        "k400",
        parameters=186_867_457,
        gmac=149.30,
        source=_AUTHORS_NOTE,
        google_drive="1vxgNg_lmGBRKNiY4VAy-aiCb-GuOAJNZ",
    ),
    _entry("clip", input_shape=(1, 224, 224, 3), url="hf://openai/clip-vit-base-patch16", source=_CLIP_NOTE),
)
