"""The models of the study, all of nano size."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from examples.camera_motion.first_weights import prepare, prepare_sifa
from examples.design_study.tasks import SIDE
from keras_video_focalnet import SIFANetNano, SIFATransformerNano, VideoFocalNetNano


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model of the study.

    Attributes:
        frames: Frames that it takes, 8 or 16.
        options: What its builder takes besides.
        builder: The function that builds it.
    """

    frames: int = 8
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    builder: Any = VideoFocalNetNano

    def build(self, classes: int, seed: int) -> keras.Model:
        """Build it with first weights that respond to the order of frames (`examples.camera_motion.first_weights`).

        Args:
            classes: Number of classes; the model gives logits.
            seed: Seed of its first weights.
        """
        keras.utils.set_random_seed(seed)
        shape = (self.frames, SIDE, SIDE, 3)
        head = {"classes": classes, "classifier_activation": None}
        model = self.builder(weights=None, input_shape=shape, **head, **self.options)
        if self.builder is VideoFocalNetNano:
            prepare(model, seed)
        else:
            prepare_sifa(model)
        return model


DESIGNS = {
    "(a) spatial": "spatial",
    "(b) factorized 3-D": "factorized_3d",
    "(c) factorized encoder": "factorized_encoder",
    "(d) divided": "divided",
    "(e) parallel, multiply, patches": "parallel",
}
VARIANTS = {
    **{name: Variant(options={"design": design}) for name, design in DESIGNS.items()},
    "(e) with the mean of both modulators": Variant(options={"fusion": "average"}),
    "(e) with a projection of both": Variant(options={"fusion": "projection"}),
    "(e) with tubelets of two frames": Variant(16, {"tubelet_size": 2}),
    "SIFA-Net": Variant(16, builder=SIFANetNano),
    "SIFA-Transformer": Variant(16, builder=SIFATransformerNano),
}
