"""Backward passes that are written by hand for several operations at once, against the automatic ones, in float64."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.layers import FocalBlock
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.linear import linear
from keras_video_focalnet.ops.mlp import mlp
from keras_video_focalnet.ops.modulator import DEPTHWISE, TEMPORAL, modulator, projected_product
from keras_video_focalnet.ops.temporal import segments
from tests.gradients import modes, probed, values_and_gradients
from tests.precision import double_precision

RNG = np.random.default_rng(0)


def agree(function, *shapes):
    """Asserts that values and gradients by hand are the automatic ones within 1e-9 of the largest."""
    arrays = [RNG.normal(size=shape) for shape in shapes]
    with double_precision():
        weights = RNG.normal(size=np.shape(keras.ops.convert_to_numpy(function(*map(keras.ops.array, arrays)))))
        found = {}
        for kind in ("by_hand", "automatic"):
            with force(gradients=kind):
                value, gradients = values_and_gradients(function, arrays, weights)
                found[kind] = [value, *gradients]
    for mine, automatic in zip(*found.values(), strict=True):
        assert mine.dtype == automatic.dtype == np.float64 and np.abs(automatic).max() > 0
        np.testing.assert_allclose(mine, automatic, rtol=0, atol=1e-9 * np.abs(automatic).max())


def test_linear():
    agree(linear, (2, 3, 5, 4), (4, 6), (6,))


def test_mlp():
    agree(lambda x, k1, b1, k2, b2: mlp(x, (k1, b1), (k2, b2)), (2, 3, 5, 4), (4, 7), (7,), (7, 4), (4,))


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_projected_product(factors):
    def function(kernel, bias, *factors):
        return projected_product(factors, (kernel, bias))

    agree(function, (4, 6), (6,), *[(2, 3, 5, 4)] * factors)


@pytest.mark.parametrize("factor", [1, 0.5])
@pytest.mark.parametrize(
    "convolution,axes,kernels",
    [
        (DEPTHWISE, (1, 2), [(3, 3, 4, 1), (5, 5, 4, 1)]),
        (TEMPORAL, 1, [(3, 1, 4, 4), (5, 1, 4, 4), (7, 1, 4, 4)]),
        (DEPTHWISE, 1, [(3, 1, 4, 1)]),
        (TEMPORAL, 1, []),
    ],
    ids=["spatial", "temporal", "depthwise over time", "no focal level"],
)
def test_modulator(convolution, axes, kernels, factor):
    def function(context, gates, kernel, bias, *kernels):
        return modulator(context, gates, kernels, (kernel, bias), convolution, axes, factor)

    agree(function, (2, 6, 5, 4), (2, 6, 5, len(kernels) + 1), (4, 4), (4,), *kernels)


@pytest.mark.parametrize("formulation", ["convolution", "winograd"])
def test_temporal_formulations(formulation):
    def function(context, gates, kernel, bias, *kernels):
        return modulator(context, gates, kernels, (kernel, bias), TEMPORAL, 1)

    with force(temporal_conv=formulation):
        agree(function, (2, 6, 5, 4), (2, 6, 5, 3), (4, 4), (4,), (3, 1, 4, 4), (5, 1, 4, 4))


def test_temporal_gradients_of_segments():
    """Of 30 frames and 192 channels, which Winograd's filtering takes in two segments."""

    def function(context, gates, kernel, bias, filters):
        return modulator(context, gates, [filters], (kernel, bias), TEMPORAL, 1)

    assert len(segments(30, 3, 192)) == 2
    with force(temporal_conv="winograd"):
        agree(function, (1, 30, 2, 192), (1, 30, 2, 2), (192, 3), (3,), (3, 1, 192, 192))


@pytest.mark.parametrize("formulation", ["convolution", "shifted"])
def test_depthwise_formulations(formulation):
    def function(context, gates, kernel, bias, *kernels):
        return modulator(context, gates, kernels, (kernel, bias), DEPTHWISE, (1, 2))

    with force(depthwise_conv2d=formulation):
        agree(function, (2, 6, 5, 4), (2, 6, 5, 2), (4, 4), (4,), (3, 3, 4, 1))


OPTIONS = [
    {},
    {"rematerialize": True},
    {"normalize_modulator": True, "use_layerscale": True, "layerscale_value": 0.5},
    {"use_postln": True, "use_postln_in_modulation": True},
    {"fusion": "average"},
    {"fusion": "projection"},
    {"design": "divided"},
    {"design": "factorized_3d"},
]


# In every mode with the default options, and else in the one that is quick to begin.
@pytest.mark.parametrize(
    "options,mode", [(OPTIONS[0], mode) for mode in modes()] + [(options, modes()[0]) for options in OPTIONS[1:]]
)
def test_a_block_in_training(options, mode):
    """What a block gives in training, where its backward passes are by hand, and outside of it, where they are not."""
    with double_precision():
        block = FocalBlock(4, grid_size=(3, 2), dtype="float64", **options)
        x, *probes = (RNG.normal(size=(2, 5, 6, 4)) for _ in range(2 + len(block.modulators)))
        block.build(x.shape)
        for weight in block.weights:
            weight.assign(RNG.normal(size=weight.shape, scale=0.5))
        outputs, of_x, of_weights, _ = probed(block, x, probes, training=True, mode=mode)
        with force(gradients="automatic"):
            wanted, of_x_wanted, of_weights_wanted, _ = probed(block, x, probes, training=False, mode=mode)
    pairs = [*zip(outputs, wanted, strict=True), (of_x, of_x_wanted)]
    pairs += [(of_weights[key], of_weights_wanted[key]) for key in of_weights]
    for mine, automatic in pairs:
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, automatic, rtol=0, atol=1e-9 * np.abs(automatic).max())


def test_a_frozen_layer_leaves_the_other_gradients():
    x, probe = (RNG.normal(size=(2, 5, 6, 4)).astype("float32") for _ in range(2))
    block = FocalBlock(4, grid_size=(3, 2))
    block.build(x.shape)
    _, of_x, gradients, _ = probed(block, x, [probe], training=True)
    block.modulation.h.trainable = block.fc2.trainable = False
    _, of_x_frozen, remaining, _ = probed(block, x, [probe], training=True)
    assert len(remaining) == len(gradients) - 4
    np.testing.assert_allclose(of_x_frozen, of_x, atol=1e-5 * np.abs(of_x).max())
    for key, gradient in remaining.items():
        np.testing.assert_allclose(gradient, gradients[key], atol=1e-5 * np.abs(gradients[key]).max())


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="hooks and second derivatives of PyTorch")
def test_hooks_of_dense_layers_run_in_training():
    block, seen = FocalBlock(4, grid_size=(3, 2)), []
    x = RNG.normal(size=(2, 5, 6, 4)).astype("float32")
    block.build(x.shape)
    dense = (block.fc1, block.fc2, block.modulation.h, block.modulation.h_temporal, block.modulation.proj)
    for layer in dense:
        layer.register_forward_hook(lambda layer, given, result: seen.append(layer.name))
    block(x, training=True)
    assert sorted(seen) == sorted(layer.name for layer in dense)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="hooks and second derivatives of PyTorch")
def test_second_derivatives_in_training():
    import torch

    block = FocalBlock(4, grid_size=(3, 2))
    x = torch.tensor(RNG.normal(size=(2, 5, 6, 4)).astype("float32"), requires_grad=True)
    with force(gradients="automatic"):
        (first,) = torch.autograd.grad(block(x, training=True)[0].square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.abs().max() > 0


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX compiles functions by their identity")
def test_a_backward_pass_is_compiled_once_without_a_jit():
    import jax

    arrays = [
        keras.ops.convert_to_tensor(RNG.normal(size=shape).astype("float32"))
        for shape in ((1, 3, 2, 2, 4)[1:], (3, 2, 2, 2), (4, 4), (4,), (3, 3, 4, 1))
    ]

    def loss(context, gates, kernel, bias, filters):
        return modulator(context, gates, [filters], (kernel, bias), DEPTHWISE, (1, 2)).sum()

    jax.grad(loss)(*arrays)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    jax.grad(loss)(*arrays)
    assert not [event for event in compiled if "backend_compile" in event]
