"""The toy: a convolution of each frame, then one over time, in two stages."""

import math
import re

import keras
from keras import ops

from keras_video_focalnet.models.building import builder
from keras_video_focalnet.models.classifier import VideoClassifier
from keras_video_focalnet.models.head import classify_or_pool
from keras_video_focalnet.models.inputs import enter
from keras_video_focalnet.models.network import BLOCK, CLASSIFIER, STEM, TRANSITION, LayerRole
from keras_video_focalnet.models.preprocessing import Preprocessing
from keras_video_focalnet.weights.slots import Slot, conv_slots, dense_slots, norm_slots, vector_slot
from tests.toy import BUILDERS, SHAPE


@keras.saving.register_keras_serializable(package="toy")
class OnFrames(keras.layers.Layer):
    """Halves height and width of every frame: a convolution, a batch normalization and a ReLU."""

    def __init__(self, filters, grid, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.grid = filters, tuple(grid)
        self.output_grid = tuple(-(-side // 2) for side in self.grid)
        policy = self.dtype_policy
        self.conv = keras.layers.Conv2D(filters, 3, 2, "same", use_bias=False, dtype=policy, name="conv")
        self.norm = keras.layers.BatchNormalization(epsilon=1e-5, dtype=policy, name="norm")

    def build(self, shape):
        self.conv.build((None, *self.grid, shape[-1]))
        self.norm.build((None, *self.output_grid, self.filters))

    def call(self, x, training=None):
        frames = ops.shape(x)[1]
        x = self.conv(ops.reshape(x, (-1, *self.grid, x.shape[-1])))
        x = ops.relu(self.norm(x, training=training))
        return ops.reshape(x, (-1, frames, math.prod(self.output_grid), self.filters))

    def compute_output_shape(self, shape):
        return (*shape[:2], math.prod(self.output_grid), self.filters)

    def count_macs(self, shape):
        return math.prod(shape[:2]) * math.prod(self.output_grid) * math.prod(self.conv.kernel.shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "grid": self.grid}


@keras.saving.register_keras_serializable(package="toy")
class Toy(VideoClassifier):
    """Scores of a clip. Its layers are called `eye`, `motion_S_B` (stage and block, from 0), `shrink` and `verdict`."""

    preprocessing = Preprocessing((90.0, 100.0, 110.0), (40.0, 50.0, 60.0), SHAPE[0], SHAPE[1:3], crop_fraction=1.0)
    classifier_tensors = ("fc.weight", "fc.bias")
    small_arguments = {"width": 4, "input_shape": (4, 16, 24, 3)}
    least_size = 16

    def __init__(
        self,
        width=8,
        depths=(1, 1),
        include_top=True,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=3,
        classifier_activation="softmax",
        include_preprocessing=True,
        labels=None,
        dtype=None,
        name="toy",
        trainable=True,
    ):
        policy = keras.dtype_policies.get(dtype)
        clip, x = enter(input_tensor, self.check_shape(locals()), self.preprocessing, include_preprocessing, policy)
        grid = clip.shape[2:4]
        for stage, depth in enumerate(depths):
            layer = OnFrames(width * 2**stage, grid, dtype=policy, name="shrink" if stage else "eye")
            x, grid = layer(x), layer.output_grid
            for block in range(depth):
                options = {"padding": "same", "activation": "relu", "dtype": policy, "name": f"motion_{stage}_{block}"}
                x = x + keras.layers.Conv2D(width * 2**stage, (3, 1), **options)(x)
        end = (include_top, pooling, classes, classifier_activation, policy)
        scores = classify_or_pool(x, grid, *end, name="verdict")
        super().__init__(clip, scores, arguments=locals(), features=x, grid=grid)

    @classmethod
    def role(cls, layer):
        if place := re.fullmatch(r"motion_(\d+)_\d+", layer.name):
            return LayerRole(BLOCK, int(place[1]))
        kinds = {"eye": STEM, "shrink": TRANSITION, "verdict": CLASSIFIER}
        return LayerRole(kinds[layer.name]) if layer.name in kinds else None

    @classmethod
    def layer_slots(cls, layer):
        if layer.name == "verdict":
            return dense_slots("fc", layer)
        if layer.name.startswith("motion_"):
            name, (taps, _, inputs, outputs) = layer.name.replace("_", "."), layer.kernel.shape
            kernel = Slot(layer.kernel, (outputs, inputs, taps), (2, 1, 0))
            return {f"{name}.weight": kernel, f"{name}.bias": vector_slot(layer.bias)}
        number = 1 if layer.name == "eye" else 2
        return conv_slots(f"backbone.conv{number}", layer.conv) | norm_slots(f"backbone.bn{number}", layer.norm)


@builder(Toy, BUILDERS, name="toy_small")
def ToySmall(*args, **kwargs):
    """The toy with 8 channels."""
    return ToySmall.build(*args, **kwargs)


@builder(Toy, BUILDERS, width=12, depths=(1, 2), name="toy_large")
def ToyLarge(*args, **kwargs):
    """The toy with 12 channels and a second block in its second stage."""
    return ToyLarge.build(*args, **kwargs)
