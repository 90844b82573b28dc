"""What is particular to our layers; what every layer must do is in `test_keras_layer_checks.py`."""

import collections
import functools
import json
import pickle
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest

from keras_video_focalnet import VideoFocalNet
from keras_video_focalnet.layers import (
    FocalBlock,
    FusedDense,
    FusedLayerNormalization,
    PatchEmbedding,
    ReplayableDropout,
    SpatioTemporalFocalModulation,
    StochasticDepth,
)
from keras_video_focalnet.layers.constant_normalization import ConstantNormalization
from keras_video_focalnet.ops.autodiff.formulation import force
from tests.gradients import loss_and_gradients, values_and_gradients

BACKEND = keras.backend.backend()
TOKENS = (2, 4, 6 * 5, 8)


def test_dense_gives_its_output_in_several_tensors():
    layer, x = FusedDense((3, 2)), np.random.default_rng(0).normal(size=TOKENS).astype("float32")
    first, second = map(keras.ops.convert_to_numpy, layer(x))
    whole = x @ keras.ops.convert_to_numpy(layer.kernel)
    np.testing.assert_allclose(np.concatenate([first, second], -1), whole, atol=1e-5)
    assert FusedDense.from_config(layer.get_config()).groups == (3, 2)
    assert layer.compute_output_shape(TOKENS) == ((*TOKENS[:-1], 3), (*TOKENS[:-1], 2))


def test_dense_in_several_tensors_can_be_quantized():
    layer, x = FusedDense((3, 2)), np.random.default_rng(0).normal(size=TOKENS).astype("float32")
    before = [keras.ops.convert_to_numpy(part) for part in layer(x)]
    layer.quantize("int8")
    after = [keras.ops.convert_to_numpy(part) for part in layer(x)]
    assert [part.shape for part in after] == [part.shape for part in before]
    for part, wanted in zip(after, before, strict=True):
        assert 0 < np.abs(part - wanted).max() < 0.05 * np.abs(wanted).max()


def test_dense_refuses_other_activations():
    with pytest.raises(ValueError, match="activation None.*take keras.layers.Dense"):
        FusedDense(4, activation="relu")


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("per,rows", [("frame", 200 * 8), ("clip", 200)])
def test_stochastic_depth_drops_whole_rows_at_its_rate_and_keeps_the_mean(per, rows):
    kept = to_numpy(StochasticDepth(0.3, per=per, seed=3)(np.ones((200, 8, 4, 2), "float32"), training=True))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (kept == kept[:, :, :1, :1]).all()
    assert (kept == kept[:, :1]).all() == (per == "clip")
    # Five standard deviations of a binomial draw.
    assert abs((kept[:, :, 0, 0] == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / rows)


def test_stochastic_depth_passes_everything_outside_training():
    clip = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype("float32")
    np.testing.assert_array_equal(to_numpy(StochasticDepth(0.9)(clip, training=False)), clip)


def test_frames_may_be_unknown():
    block = FocalBlock(8, grid_size=(6, 5))
    tokens = keras.Input((None, 30, 8))
    output, spatial, temporal = block(tokens)
    assert output.shape == spatial.shape == temporal.shape == (None, None, 30, 8)
    model = keras.Model(tokens, output)
    for frames in (1, 3, 8):
        assert model(np.zeros((2, frames, 30, 8), "float32")).shape == (2, frames, 30, 8)


def gradients_of_block(rematerialize):
    """Loss and gradients of a block with every kind of dropout, from one seed."""
    keras.utils.set_random_seed(3)
    options = {"drop_rate": 0.2, "drop_path_rate": 0.3, "rematerialize": rematerialize}
    clip = keras.Input(TOKENS[1:])
    tokens, _, _ = FocalBlock(8, grid_size=(6, 5), **options)(clip)
    model = keras.Model(clip, keras.ops.mean(tokens, axis=(1, 2)))
    x = np.random.default_rng(0).normal(size=TOKENS).astype("float32")
    return loss_and_gradients(model)(x, np.arange(2))


@pytest.mark.parametrize("temporal_conv", ["convolution", "winograd"])
def test_a_rematerialized_block_drops_the_same_in_both_passes(temporal_conv):
    with force(temporal_conv=temporal_conv):
        loss, gradients = gradients_of_block(False)
        again, gradients_again = gradients_of_block(True)
    assert again == pytest.approx(loss, rel=1e-6)
    for one, other in zip(gradients, gradients_again, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_rematerialization_computes_again(monkeypatch):
    calls = collections.Counter()

    def count(half):
        compute = getattr(FocalBlock, half)
        monkeypatch.setattr(FocalBlock, half, lambda *args, **kwargs: calls.update([half]) or compute(*args, **kwargs))

    count("_modulate")
    count("_mix")
    gradients_of_block(False)
    once = calls.copy()
    calls.clear()
    gradients_of_block(True)
    # JAX computes again what it traced once; that it does is a matter of memory.
    assert set(once) == {"_modulate", "_mix"}
    assert all(calls[half] > once[half] for half in once) or BACKEND == "jax"


def test_a_rematerialized_block_takes_the_weights_of_a_stateless_call():
    """In both passes."""
    results = []
    for rematerialize in (False, True):
        keras.utils.set_random_seed(1)
        clip = keras.Input(TOKENS[1:])
        tokens, _, _ = FocalBlock(8, grid_size=(6, 5), rematerialize=rematerialize)(clip)
        model = keras.Model(clip, keras.ops.mean(tokens))
        weights = [keras.ops.cos(variable.value + i) for i, variable in enumerate(model.trainable_variables)]
        fixed = [variable.value for variable in model.non_trainable_variables]
        x = np.random.default_rng(0).normal(size=TOKENS).astype("float32")

        def loss(*weights, model=model, fixed=fixed, x=x):
            return model.stateless_call(list(weights), fixed, x, training=True)[0]

        arrays = [to_numpy(weight) for weight in weights]
        results.append(values_and_gradients(loss, arrays, np.float32(1))[1])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6 * np.abs(one).max())


def test_an_unknown_rematerialization_is_refused():
    for unknown in ("all", 1):
        with pytest.raises(ValueError, match=f"must be one of False, True; received {unknown!r}"):
            FocalBlock(8, grid_size=(6, 5), rematerialize=unknown)
    for build in (functools.partial(FocalBlock, 8, (6, 5)), VideoFocalNet):
        with pytest.raises(ValueError, match='rematerialize="cheap" was removed; pass True'):
            build(rematerialize="cheap")


def test_a_saved_choice_of_rematerialization_that_was_removed_is_loaded_as_true():
    config = FocalBlock(8, grid_size=(6, 5)).get_config()
    with pytest.warns(UserWarning, match="it is loaded as True"):
        assert FocalBlock.from_config({**config, "rematerialize": "cheap"}).rematerialize is True
    small = {"embed_dim": 8, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 32, 3), "classes": 2}
    config = VideoFocalNet(**small, rematerialize=(True, False, False, False)).get_config()
    saved = {**config, "rematerialize": ["cheap", False, False, True]}
    with pytest.warns(UserWarning, match="it is loaded as True"):
        model = VideoFocalNet.from_config(saved)
    assert [model.get_layer(f"stage{stage}_block0").rematerialize for stage in range(4)] == [True, False, False, True]


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX tells the memory of what it compiled")
def test_rematerialization_takes_less_memory():
    import jax

    sizes = {}
    for rematerialize in (False, True):
        clip = keras.Input((4, 196, 16))
        tokens = clip
        for _ in range(3):
            tokens, _, _ = FocalBlock(16, grid_size=14, rematerialize=rematerialize)(tokens)
        model = keras.Model(clip, tokens)
        fixed = [variable.value for variable in model.non_trainable_variables]

        def loss(weights, model=model, fixed=fixed):
            x = np.ones((2, 4, 196, 16), "float32")
            return model.stateless_call(weights, fixed, x, training=True)[0].sum()

        weights = [variable.value for variable in model.trainable_variables]
        compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
        sizes[rematerialize] = compiled.memory_analysis().temp_size_in_bytes
    assert sizes[True] < 0.6 * sizes[False], sizes


@pytest.mark.skipif(BACKEND != "torch", reason="only PyTorch tells what it keeps for the backward pass")
@pytest.mark.parametrize(("rematerialize", "least", "most"), [(False, 17, 31), (True, 1.9, 2.1)])
def test_what_a_block_keeps(rematerialize, least, most):
    """In tensors of the size of its input, weights included; 4 of them are the hidden units."""
    import torch

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(tensor):
        kept = Kept(tensor)
        alive.append(weakref.ref(kept))
        return kept

    alive, block = [], FocalBlock(32, grid_size=14, rematerialize=rematerialize)
    tokens = torch.randn(2, 8, 196, 32, requires_grad=True)
    block.build(tokens.shape)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        outputs = block(tokens, training=True)
    storages = [kept().tensor.untyped_storage() for kept in alive if kept() is not None]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    assert least < sum(sizes.values()) / (4 * tokens.numel()) < most
    outputs[0].sum().backward()
    assert torch.isfinite(tokens.grad).all()


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile is PyTorch's")
@pytest.mark.parametrize("training", [False, True])
def test_a_block_compiles_in_one_graph(training):
    import torch

    block, tokens = FocalBlock(8, grid_size=(6, 5)), torch.randn(TOKENS)
    block.build(TOKENS)
    compiled = torch.compile(lambda x: block(x, training=training)[0], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), block(tokens)[0])


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch does not leave out by itself what nobody asks for")
def test_frozen_weights_get_no_gradient():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    flops = {}
    for frozen in (False, True):
        block = FocalBlock(8, grid_size=(6, 5))
        tokens = torch.randn(TOKENS, requires_grad=True)
        block.build(TOKENS)
        block.trainable = not frozen
        loss = block(tokens, training=True)[0].sum()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        flops[frozen] = counter.get_total_flops()
        assert tokens.grad.norm() > 0
    # The gradients of the weights are about half of all.
    assert flops[True] < 0.6 * flops[False]


@pytest.mark.skipif(BACKEND != "torch", reason="autocast is PyTorch's")
def test_a_block_trains_under_autocast():
    import torch

    block, gradients = FocalBlock(8, grid_size=(6, 5)), []
    for enabled in (False, True):
        tokens = torch.tensor(np.random.default_rng(0).normal(size=TOKENS), dtype=torch.float32, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            block(tokens, training=True)[0].sum().backward()
        gradients.append(tokens.grad)
    assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[0].norm()


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_a_region_for_xla_trains_the_same_under_mirrored_strategy():
    """On two CPU devices, in a process of its own: devices are set before TensorFlow starts."""
    command = [sys.executable, "-m", "tests.layers.mirrored_training", "inline", "region"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert results["inline"]["traced_for_xla"] == [False]
    assert results["region"]["traced_for_xla"] == [True]
    assert results["inline"]["replicas"] == results["region"]["replicas"] == 2
    for what in ("losses", "weights"):
        np.testing.assert_allclose(results["region"][what], results["inline"][what], atol=1e-6)


def test_time_is_local_to_a_place_and_space_to_a_frame():
    """The spatial modulator of a frame sees that frame alone; the temporal one of a place sees that place alone."""
    layer = SpatioTemporalFocalModulation(8, grid_size=(6, 5))
    tokens = np.random.default_rng(0).normal(size=(1, 4, 30, 8)).astype("float32")
    _, spatial, temporal = map(to_numpy, layer(tokens))
    changed = tokens.copy()
    changed[0, 2, 7] += 1.0
    _, spatial_after, temporal_after = map(to_numpy, layer(changed))
    other_frames, other_places = [0, 1, 3], [place for place in range(30) if place != 7]
    np.testing.assert_allclose(spatial_after[0, other_frames], spatial[0, other_frames], atol=1e-6)
    np.testing.assert_allclose(temporal_after[0][:, other_places], temporal[0][:, other_places], atol=1e-6)
    assert np.abs(spatial_after - spatial).max() > 1e-5 and np.abs(temporal_after - temporal).max() > 1e-5


@pytest.mark.parametrize("use_conv_embed,expected", [(False, (60, 30, 15, 7)), (True, (60, 30, 15, 8))])
def test_odd_sizes_floor(use_conv_embed, expected):
    sizes, grid = [], 240
    for patch in (4, 2, 2, 2):
        layer = PatchEmbedding(4, grid, patch, use_conv_embed=use_conv_embed)
        (grid, _) = layer.output_grid
        sizes.append(grid)
    assert tuple(sizes) == expected


def called_twice(layer, *sizes):
    for size in sizes:
        layer(np.zeros((1, 2, size, 3), "float32"))


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: PatchEmbedding(8, grid_size=(3, 9)), r"grid_size=\(3, 9\) is smaller than one patch of 4"),
        (lambda: PatchEmbedding(8, grid_size="big"), "grid_size must be"),
        (lambda: PatchEmbedding(0, grid_size=8), "embed_dim must be an integer of at least 1"),
        (lambda: PatchEmbedding(8, 8, tubelet_size=2)(np.zeros((1, 3, 64, 3))), "3 frames, which tubelet_size=2"),
        (lambda: PatchEmbedding(8, 8)(np.zeros((1, 3, 63, 3))), r"\(batch, frames, 64, channels\)"),
        # Also of a layer that was built for the right number.
        (lambda: called_twice(PatchEmbedding(8, 8), 64, 63), r"received shape \(1, 2, 63, 3"),
        (lambda: called_twice(FocalBlock(3, 4), 16, 15), r"FocalBlock.*received shape \(1, 2, 15, 3\)"),
        (lambda: called_twice(SpatioTemporalFocalModulation(3, 4), 16, 15), r"received shape \(1, 2, 15, 3\)"),
        (lambda: PatchEmbedding(8, 8)(np.zeros((1, 3, 8, 8, 3))), r"\(batch, frames, height \* width, channels\)"),
        (lambda: SpatioTemporalFocalModulation(8, 4)(np.zeros((1, 2, 16, 4))), "4 channels but embed_dim=8"),
        (lambda: SpatioTemporalFocalModulation(8, 4, focal_window=4), "focal_window=4"),
        (lambda: SpatioTemporalFocalModulation(8, 4, focal_factor=1), "focal_factor=1"),
        (lambda: SpatioTemporalFocalModulation(8, 4, focal_level=-1), "focal_level must be an integer of at least 0"),
        (lambda: StochasticDepth(1.0), r"rate must be a number in \[0, 1\), received 1.0"),
        (lambda: StochasticDepth(0.1, per="video"), 'per must be one of "frame", "clip"'),
        (lambda: ReplayableDropout(1.0), r"rate must be a number in \[0, 1\), received 1.0"),
        (lambda: ReplayableDropout(0.1, noise_shape=(1, 4)), r"noise_shape must be None, received \(1, 4\)"),
        (
            lambda: FusedLayerNormalization(center=False),
            "center=False cannot be set.*take keras.layers.LayerNormalization",
        ),
    ],
)
def test_bad_arguments_name_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [FocalBlock, SpatioTemporalFocalModulation])
def test_the_old_name_of_embed_dim_works_and_warns(layer):
    with pytest.warns(DeprecationWarning, match="dim is an old name.*use embed_dim"):
        made = layer(dim=8, grid_size=4)
    assert made.embed_dim == 8
    config = {**made.get_config(), "dim": 8}
    del config["embed_dim"]
    assert layer.from_config(config).get_config() == made.get_config()


def test_layers_are_in_files_by_the_names_that_they_have_had():
    """Keras groups the weights of a file by `__name__`, ours and its own together."""
    for layer, name in (
        (FusedDense, "Dense"),
        (ReplayableDropout, "Dropout"),
        (FusedLayerNormalization, "LayerNormalization"),
        (ConstantNormalization, "Normalization"),
    ):
        assert layer.__name__ == name
        assert keras.saving.get_registered_name(layer) == f"keras_video_focalnet>{name}"
    assert pickle.loads(pickle.dumps(FusedDense)) is FusedDense
