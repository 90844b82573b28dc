"""The layers of Video-FocalNet, named as in its paper (Wasim et al., ICCV 2023).

Inside the network a clip is `(batch, frames, height * width, channels)`: its temporal view. The spatial view,
`(batch * frames, height, width, channels)`, is a free reshape of the same memory.
"""

from keras_video_focalnet.layers.focal_block import FocalBlock
from keras_video_focalnet.layers.focal_modulation import SpatioTemporalFocalModulation
from keras_video_focalnet.layers.fused_dense import FusedDense
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.layer_scale import LayerScale
from keras_video_focalnet.layers.patch_embedding import PatchEmbedding
from keras_video_focalnet.layers.replayable_dropout import ReplayableDropout
from keras_video_focalnet.layers.stochastic_depth import StochasticDepth

__all__ = [
    "FocalBlock",
    "FusedDense",
    "FusedLayerNormalization",
    "LayerScale",
    "PatchEmbedding",
    "ReplayableDropout",
    "SpatioTemporalFocalModulation",
    "StochasticDepth",
]
