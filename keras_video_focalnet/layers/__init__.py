"""The layers that architectures share or are made of, named as in their papers.

Inside the network a clip is `(batch, frames, height * width, channels)`: its temporal view. The spatial view,
`(batch * frames, height, width, channels)`, is a free reshape of the same memory.
"""

from keras_video_focalnet.layers.dense_heads import DenseHeads
from keras_video_focalnet.layers.focal_block import FocalBlock
from keras_video_focalnet.layers.focal_modulation import SpatioTemporalFocalModulation
from keras_video_focalnet.layers.fused_dense import FusedDense
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.inter_frame_attention import InterFrameAttention
from keras_video_focalnet.layers.layer_scale import LayerScale
from keras_video_focalnet.layers.patch_embedding import PatchEmbedding
from keras_video_focalnet.layers.patch_merging import PatchMerging
from keras_video_focalnet.layers.relative_position_bias import RelativePositionBias
from keras_video_focalnet.layers.replayable_dropout import ReplayableDropout
from keras_video_focalnet.layers.stochastic_depth import StochasticDepth
from keras_video_focalnet.layers.token_attention import TokenAttention
from keras_video_focalnet.layers.unbiased_batch_normalization import UnbiasedBatchNormalization
from keras_video_focalnet.layers.window_attention import WindowAttention

__all__ = [
    "DenseHeads",
    "FocalBlock",
    "FusedDense",
    "FusedLayerNormalization",
    "InterFrameAttention",
    "LayerScale",
    "PatchEmbedding",
    "PatchMerging",
    "RelativePositionBias",
    "ReplayableDropout",
    "SpatioTemporalFocalModulation",
    "StochasticDepth",
    "TokenAttention",
    "UnbiasedBatchNormalization",
    "WindowAttention",
]
