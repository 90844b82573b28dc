"""The builders of Vita-CLIP and the weights that are published for them, as data."""

from __future__ import annotations

from keras_video_focalnet.models.registry import Builder, Entry

BUILDERS = (Builder("VitaCLIPB", ("vita-clip", "vita-clip-b")),)
ENTRIES: tuple[Entry, ...] = ()
