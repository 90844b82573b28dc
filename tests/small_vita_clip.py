"""A family with a small Vita-CLIP, for what takes a model by its builder's name, and files of weights for it."""

import contextlib

from keras_video_focalnet.models import registry
from keras_video_focalnet.models.building import builder
from keras_video_focalnet.models.registry import Builder, Entry, Family
from keras_video_focalnet.models.vita_clip.model import VitaCLIP

BUILDERS = (Builder("SmallVitaCLIP", ("small-vita-clip",), None, (4, 32, 32, 3)),)
SIZES = {
    **{"embed_dim": 12, "depth": 2, "num_heads": 3, "patch_size": 16, "projection_dim": 6, "num_global_prompts": 3},
    **{"text_dim": 8, "text_heads": 2, "text_depth": 2, "context_tokens": 3},
}


@builder(VitaCLIP, BUILDERS, name="small_vita_clip", **SIZES)
def SmallVitaCLIP(*args, **kwargs):  # noqa: N802
    """A small Vita-CLIP."""
    return SmallVitaCLIP.build(*args, **kwargs)


@contextlib.contextmanager
def registered(clip=None):
    """Registers the family, and a file of CLIP's weights, if there is one, as published."""
    about = {"input_shape": BUILDERS[0].input_shape, "bundled": clip}
    published = () if clip is None else (Entry("SmallVitaCLIP", "clip", "Images with texts", None, **about),)
    family = Family("small_vita_clip", "Small Vita-CLIP", __name__, "VitaCLIP", BUILDERS, published)
    registry.register(family)
    try:
        yield family
    finally:
        registry.unregister(family.name)
