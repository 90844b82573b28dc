"""The designs and fusions of focal modulation against a rendering of the paper's equations in NumPy."""

import keras
import numpy as np
import pytest

from keras_video_focalnet import VideoFocalNet
from keras_video_focalnet.layers import FocalBlock, SpatioTemporalFocalModulation
from tests.focal_rendering import Rendering
from tests.models.conformance_case import scattered

GRID, CHANNELS = (6, 5), 8
TOKENS = (2, 4, 30, CHANNELS)
SINGLE = ("spatial", "temporal", "factorized_3d")
KINDS = [("parallel", fusion) for fusion in ("multiply", "average", "projection")]
KINDS += [(design, "multiply") for design in (*SINGLE, "divided")]
each_kind = pytest.mark.parametrize(("design", "fusion"), KINDS)


def scattered_block(design, fusion, **options):
    """A block whose weights all have a say, and its tensors by the reference's names inside a block."""
    name = "temporal_block0" if design == "temporal" else "stage0_block0"
    block = FocalBlock(CHANNELS, GRID, design=design, fusion=fusion, name=name, **options)
    block.build(TOKENS)
    scattered(block)
    slots = VideoFocalNet.layer_slots(block)
    assert {id(slot.variable) for slot in slots.values()} == {id(weight) for weight in block.weights}
    prefix = next(name for name in slots if name.endswith("norm1.weight")).removesuffix("norm1.weight")
    return block, {name.removeprefix(prefix): slot.to_reference() for name, slot in slots.items()}


def compared(block, tensors, design, fusion):
    """The outputs of a block and those of the rendering, and the rendering."""
    x = np.random.default_rng(1).normal(size=TOKENS).astype("float32")
    rendering = Rendering(tensors, design, fusion)
    wanted = rendering.block(x.reshape(*TOKENS[:2], *GRID, CHANNELS))
    return [keras.ops.convert_to_numpy(output) for output in block(x)], wanted, rendering


@each_kind
@pytest.mark.parametrize("temporal_depthwise", [False, True])
def test_a_block_computes_the_equations(design, fusion, temporal_depthwise):
    block, tensors = scattered_block(design, fusion, temporal_depthwise=temporal_depthwise)
    given, wanted, rendering = compared(block, tensors, design, fusion)
    assert len(given) == len(wanted) == 1 + len(block.modulators)
    for output, expected in zip(given, wanted, strict=True):
        np.testing.assert_allclose(output, expected.reshape(TOKENS), rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert rendering.used == set(tensors)


@each_kind
@pytest.mark.parametrize("temporal_depthwise", [False, True])
def test_multiply_adds_and_parameters_are_those_of_the_equations(design, fusion, temporal_depthwise):
    block, tensors = scattered_block(design, fusion, temporal_depthwise=temporal_depthwise)
    _, _, rendering = compared(block, tensors, design, fusion)
    assert block.count_macs(TOKENS) == rendering.macs
    assert block.count_params() == sum(tensors[name].size for name in rendering.used)


def test_the_names_of_modulators_tell_what_they_see():
    found = {design: FocalBlock(CHANNELS, GRID, design=design).modulators for design, _ in KINDS}
    assert found["parallel"] == found["divided"] == ("spatial_modulator", "temporal_modulator")
    assert [found[design] for design in SINGLE] == [
        ("spatial_modulator",),
        ("temporal_modulator",),
        ("spatio_temporal_modulator",),
    ]


@pytest.mark.parametrize("design", ["spatial", "temporal"])
def test_one_branch_alone_sees_its_frame_or_its_place(design):
    block, _ = scattered_block(design, "multiply")
    tokens = np.random.default_rng(0).normal(size=TOKENS).astype("float32")
    changed = tokens.copy()
    changed[0, 2, 7, 0] += 1.0
    before, after = (keras.ops.convert_to_numpy(block(x)[0]) for x in (tokens, changed))
    moved = np.abs(after - before)[0].max(-1) > 1e-6
    elsewhere = moved[[0, 1, 3]] if design == "spatial" else np.delete(moved, 7, axis=1)
    assert moved[2, 7] and moved.sum() > 1 and not elsewhere.any()


@pytest.mark.parametrize("design", [*SINGLE, "divided"])
def test_designs_without_two_modulators_side_by_side_fuse_none(design):
    makes = [FocalBlock] if design == "divided" else [FocalBlock, SpatioTemporalFocalModulation]
    for make in makes:
        with pytest.raises(ValueError, match=f'"multiply" with design="{design}".*received \'average\'; leave fusion'):
            make(CHANNELS, GRID, design=design, fusion="average")


def test_unknown_designs_and_fusions_are_refused():
    with pytest.raises(ValueError, match='design must be one of "parallel", .*"divided"; received \'both\''):
        FocalBlock(CHANNELS, GRID, design="both")
    with pytest.raises(ValueError, match="design must be one of .* received 'divided'"):
        SpatioTemporalFocalModulation(CHANNELS, GRID, design="divided")
    with pytest.raises(ValueError, match='fusion must be one of "multiply", "average", "projection"; received None'):
        FocalBlock(CHANNELS, GRID, fusion=None)


@each_kind
def test_blocks_of_version_0_1_0_have_no_design(design, fusion):
    config = FocalBlock(CHANNELS, GRID, design=design, fusion=fusion).get_config()
    assert FocalBlock.from_config(config).get_config() == config
    for name in ("design", "fusion", "temporal_depthwise"):
        del config[name]
    old = FocalBlock.from_config(config)
    assert (old.design, old.fusion, old.temporal_depthwise) == ("parallel", "multiply", False)


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.3])
def test_a_rematerialized_divided_block_computes_the_same(drop_path_rate):
    results = []
    for rematerialize in (False, True):
        keras.utils.set_random_seed(0)
        options = {"drop_rate": 0.2, "drop_path_rate": drop_path_rate, "rematerialize": rematerialize}
        block = FocalBlock(CHANNELS, GRID, design="divided", **options)
        results.append(
            [keras.ops.convert_to_numpy(output) for output in block(np.ones(TOKENS, "float32"), training=True)]
        )
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
