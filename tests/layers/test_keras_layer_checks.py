"""The checks that Keras applies to its own layers, of every public layer and of blocks that one architecture has:
`keras.src.testing.TestCase.run_layer_test`.

They build the layer, call it symbolically and eagerly, train it, save, load and clone it, and try half precision.
"""

import keras
import numpy as np
import pytest
from keras.src import testing

from keras_video_focalnet import layers
from keras_video_focalnet.data.image_layers import ClipAugmentation
from keras_video_focalnet.models.vita_clip.frame_embedding import FrameEmbedding
from keras_video_focalnet.models.vita_clip.prompted_block import PromptedBlock
from keras_video_focalnet.models.vita_clip.text_tower import TextBlock

pytestmark = pytest.mark.slow_on("jax")

TOKENS = (2, 4, 6 * 5, 8)
CLIPS = (2, 4, 12, 10, 3)


class KerasLayerChecks(testing.TestCase):
    def check(self, layer, kwargs, shape, output, weights, seeds=0, masking=False, stateless=False, fixed=0):
        self.run_layer_test(
            layer,
            init_kwargs=kwargs,
            input_shape=shape,
            expected_output_shape=output,
            expected_num_trainable_weights=weights,
            expected_num_non_trainable_weights=fixed,
            expected_num_seed_generators=seeds,
            expected_num_losses=0,
            supports_masking=masking,
            run_training_check=True,
            run_mixed_precision_check=True,
            assert_built_after_instantiation=stateless,
        )

    def test_patches(self):
        kwargs = {"embed_dim": 8, "grid_size": (9, 12)}
        self.check(layers.PatchEmbedding, kwargs, (2, 4, 108, 3), (2, 4, 6, 8), 4)

    def test_tubelets(self):
        kwargs = {"embed_dim": 8, "grid_size": (8, 12), "tubelet_size": 2}
        self.check(layers.PatchEmbedding, kwargs, (2, 4, 96, 3), (2, 2, 6, 8), 4)

    def test_overlapping_patches(self):
        kwargs = {"embed_dim": 8, "grid_size": (8, 12), "use_conv_embed": True, "patch_size": 2}
        self.check(layers.PatchEmbedding, kwargs, (2, 4, 96, 3), (2, 4, 24, 8), 4)

    def test_dense(self):
        kwargs = {"units": 6, "activate": True}
        self.check(layers.FusedDense, kwargs, TOKENS, (*TOKENS[:-1], 6), 2, masking=True)

    def test_dense_with_several_outputs(self):
        output = ((*TOKENS[:-1], 6), (*TOKENS[:-1], 2))
        self.check(layers.FusedDense, {"units": (6, 2)}, TOKENS, output, 2, masking=True)

    def test_dense_with_the_approximate_gelu(self):
        kwargs = {"units": 6, "activate": "quick_gelu"}
        self.check(layers.FusedDense, kwargs, TOKENS, (*TOKENS[:-1], 6), 2, masking=True)

    def test_layer_normalization(self):
        self.check(layers.FusedLayerNormalization, {"epsilon": 1e-3}, TOKENS, TOKENS, 2, masking=True)

    def test_dropout(self):
        kwargs = {"rate": 0.3, "seed": 1}
        self.check(layers.ReplayableDropout, kwargs, TOKENS, TOKENS, 0, seeds=1, masking=True, stateless=True)

    def test_layer_scale(self):
        self.check(layers.LayerScale, {"initial_value": 0.5}, TOKENS, TOKENS, 1, masking=True)

    def test_stochastic_depth(self):
        kwargs = {"rate": 0.3, "per": "clip", "seed": 1}
        self.check(layers.StochasticDepth, kwargs, TOKENS, TOKENS, 0, seeds=1, masking=True, stateless=True)

    def test_stochastic_depth_that_drops_nothing(self):
        self.check(layers.StochasticDepth, {"rate": 0}, TOKENS, TOKENS, 0, masking=True, stateless=True)

    def test_focal_modulation(self):
        kwargs = {"embed_dim": 8, "grid_size": (6, 5)}
        self.check(layers.SpatioTemporalFocalModulation, kwargs, TOKENS, (TOKENS,) * 3, 14)

    def test_focal_modulation_with_every_option(self):
        kwargs = {"embed_dim": 8, "grid_size": (6, 5), "focal_level": 1, "focal_window": 5, "use_postln": True}
        kwargs["normalize_modulator"] = True
        self.check(layers.SpatioTemporalFocalModulation, kwargs, TOKENS, (TOKENS,) * 3, 14)

    def test_focal_block(self):
        self.check(layers.FocalBlock, {"embed_dim": 8, "grid_size": (6, 5)}, TOKENS, (TOKENS,) * 3, 22)

    def test_rematerialized_focal_block(self):
        kwargs = {"embed_dim": 8, "grid_size": (6, 5), "rematerialize": True}
        self.check(layers.FocalBlock, kwargs, TOKENS, (TOKENS,) * 3, 22)

    def test_focal_block_with_every_option(self):
        options = {"use_postln": True, "use_postln_in_modulation": True, "use_layerscale": True, "drop_rate": 0.1}
        kwargs = {"embed_dim": 8, "grid_size": (6, 5), "mlp_ratio": 2.0, "drop_path_rate": 0.2, "drop_path_per": "clip"}
        self.check(layers.FocalBlock, {**kwargs, **options}, TOKENS, (TOKENS,) * 3, 26, seeds=5)

    def test_inter_frame_attention(self):
        kwargs = {"grid_size": (6, 5), "kernel_size": 3, "dilation": 2}
        self.check(layers.InterFrameAttention, kwargs, TOKENS, (TOKENS, (2, 3, 30, 9)), 0, stateless=True)

    def test_window_attention(self):
        kwargs = {"num_heads": 2, "grid_size": (6, 4), "window_size": 2, "shift_size": 1}
        self.check(layers.WindowAttention, kwargs, (2, 4, 24, 8), (2, 4, 24, 8), 5)

    def test_token_attention(self):
        self.check(layers.TokenAttention, {"num_heads": 2}, TOKENS, TOKENS, 8)

    def test_causal_token_attention_with_one_projection(self):
        kwargs = {"num_heads": 2, "causal": True, "joined": True}
        self.check(layers.TokenAttention, kwargs, (3, 7, 8), (3, 7, 8), 4)

    def test_relative_position_bias(self):
        kwargs = {"window_size": (2, 3), "num_heads": 2}
        self.check(layers.RelativePositionBias, kwargs, (4, 2, 6, 6), (4, 2, 6, 6), 1)

    def test_patch_merging(self):
        self.check(layers.PatchMerging, {"grid_size": (6, 4)}, (2, 4, 24, 8), (2, 4, 6, 16), 3)

    def test_patches_without_a_norm(self):
        kwargs = {"embed_dim": 8, "grid_size": (8, 12), "tubelet_size": 2, "use_norm": False}
        self.check(layers.PatchEmbedding, kwargs, (2, 4, 96, 3), (2, 2, 6, 8), 2)

    def test_batch_normalization_that_keeps_the_unbiased_variance(self):
        self.check(layers.UnbiasedBatchNormalization, {"momentum": 0.8}, TOKENS, TOKENS, 2, masking=True, fixed=2)

    def test_dense_heads(self):
        self.check(layers.DenseHeads, {"classes": 5, "heads": 2}, (2, 8), (2, 5), 4)

    def test_frame_embedding(self):
        kwargs = {"embed_dim": 8, "grid_size": (32, 48), "num_frames": 4, "trains": True}
        self.check(FrameEmbedding, kwargs, (2, 4, 32 * 48, 3), (2, 4, 7, 8), 7)

    def test_frame_embedding_with_prompts_for_blocks(self):
        kwargs = {"embed_dim": 8, "grid_size": 32, "num_frames": 2, "num_prompts": 3, "depth": 2}
        # Of what comes from CLIP nothing trains: patches, class token, places and a norm.
        self.check(FrameEmbedding, kwargs, (2, 4, 32 * 32, 3), ((2, 4, 5, 8), (2, 3, 8)), 2, fixed=6)

    def test_prompted_block(self):
        kwargs = {"num_heads": 2, "num_frames": 4, "trains": "all"}
        self.check(PromptedBlock, kwargs, TOKENS, TOKENS, 29)

    def test_prompted_block_of_class_tokens_whose_prompts_train_alone(self):
        kwargs = {"num_heads": 2, "num_frames": 2, "mlp_ratio": 2.0, "class_token_only": True}
        self.check(PromptedBlock, kwargs, TOKENS, (2, 4, 1, 8), 11, fixed=18)

    def test_prompted_block_without_prompts(self):
        kwargs = {"num_heads": 2, "summary": False, "local": False, "trains": "cls_proj"}
        # Nothing is left to train, so there is no check of training.
        self.run_layer_test(
            PromptedBlock,
            init_kwargs=kwargs,
            input_shape=TOKENS,
            expected_output_shape=TOKENS,
            expected_num_trainable_weights=0,
            expected_num_non_trainable_weights=16,
            run_training_check=False,
        )

    def test_text_block(self):
        self.check(TextBlock, {"num_heads": 2, "trains": True}, (3, 7, 8), (3, 7, 8), 12)

    def test_augmentation_of_clips(self):
        kwargs = {"layer": keras.layers.RandomFlip("horizontal", seed=1)}
        self.check(ClipAugmentation, kwargs, CLIPS, CLIPS, 0, seeds=1)


def test_every_public_layer_is_checked():
    """A new layer needs a check above."""
    functions = [item for item in vars(KerasLayerChecks).values() if hasattr(item, "__code__")]
    checked = {name for function in functions for name in function.__code__.co_names}
    assert set(layers.__all__) <= checked


def test_a_mask_passes_layers_that_mix_no_tokens():
    tokens = np.float32(np.arange(12).reshape(1, 4, 3))
    mask = np.array([[True, True, False, True]])
    for layer in (layers.LayerScale(), layers.StochasticDepth(0.1), layers.FusedLayerNormalization()):
        np.testing.assert_array_equal(layer.compute_mask(tokens, mask), mask)
