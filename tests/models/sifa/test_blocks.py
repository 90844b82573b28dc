"""Blocks of SIFA-Net against golden data: what they give, all gradients, and batch normalization in training."""

import keras
import pytest

from keras_video_focalnet.models.sifa.bottleneck import SIFABottleneck
from keras_video_focalnet.models.sifa.weights import net_slots
from keras_video_focalnet.weights.slots import load_into_slots
from tests.gradients import modes, probed
from tests.precision import double_precision
from tests.sifa_golden import DOUBLE, GRADIENTS, VALUES, checkpoint, error, expected, weights

# Folder, prefix of arrays and of weights, and what makes the block.
BLOCKS = {
    "attention": ("sifa_bottleneck", "", {"kind": "attention"}),
    "attention_k5d2": ("sifa_bottleneck_k5d2", "", {"kind": "attention", "kernel_size": 5, "dilation": 2}),
    "context_first": ("sifa_global_bottleneck", "first", {"kind": "context", "strides": 2}),
    "context_later": ("sifa_global_bottleneck", "later", {"kind": "context"}),
}
CASES = [("attention", True), ("context_first", True), ("attention", False), ("attention_k5d2", False)]
CASES += [("context_first", False), ("context_later", True), ("context_later", False)]


def build(name, dtype):
    folder, prefix, options = BLOCKS[name]
    batch, frames, height, width, channels = expected(folder)[f"{prefix}/input".lstrip("/")].shape
    block = SIFABottleneck(8, (height, width), **options, dtype=dtype, name="stage1_block0")
    block.build((batch, frames, height * width, channels))
    slots = net_slots(block)
    state = weights(checkpoint(folder), f"{prefix}." if prefix else "")
    load_into_slots(slots, {f"layer2.0.{name}": array for name, array in state.items()})
    return block, {name.removeprefix("layer2.0."): slot for name, slot in slots.items()}


def errors(name, training, mode="eager", dtype="float32"):
    """Errors of a block relative to the largest value of each golden array: of what it gives, and of gradients."""
    folder, prefix, _ = BLOCKS[name]
    prefix, form = f"{prefix}/" if prefix else "", "train" if training else "infer"
    data = expected(folder, f"{prefix}{form}/output")
    golden = {
        key.removeprefix(f"{prefix}{form}/"): data[key] for key in data.files if key.startswith(f"{prefix}{form}/")
    }
    x, probe = (data[f"{prefix}{key}"].astype(dtype) for key in ("input", "probe"))
    block, slots = build(name, dtype)
    tokens = x.reshape(*x.shape[:2], -1, x.shape[-1])
    outputs, of_x, gradients, after = probed(
        block, tokens, [probe.reshape(*probe.shape[:2], -1, probe.shape[-1])], training, mode
    )
    values = {"output": error(outputs[0], golden["output"])}
    if "correlation" in golden:
        # Of the first frame nothing is asked.
        values["offset"] = error(outputs[1], golden["offset"][:, 1:])
        values["similarities"] = error(outputs[2], golden["correlation"][:, 1:])
    updated = [key.removeprefix("updated/") for key in golden if key.startswith("updated/") and "tracked" not in key]
    assert len(updated) == (2 * (3 + (block.projection is not None)) if training else 0)
    for key in updated:
        values[key] = error(slots[key].to_reference(after[id(slots[key].variable)]), golden[f"updated/{key}"])
    slopes = {"input": error(of_x, golden["grad_input"])}
    wanted = {key.removeprefix("grad/") for key in golden if key.startswith("grad/")} - {"def_cor.weight"}
    assert wanted == {key for key, slot in slots.items() if id(slot.variable) in gradients}
    for key in wanted:
        slopes[key] = error(slots[key].to_reference(gradients[id(slots[key].variable)]), golden[f"grad/{key}"])
    return values, slopes


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("name,training", CASES)
def test_golden(name, training, mode):
    values, slopes = errors(name, training, mode)
    assert max(values.values()) < VALUES, values
    assert max(slopes.values()) < GRADIENTS, slopes


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles float64 anew; two backends show it")
@pytest.mark.parametrize("name,training", CASES)
def test_golden_in_double_precision(name, training):
    with double_precision():
        values, slopes = errors(name, training, dtype="float64")
    assert max(values.values()) < DOUBLE, values
    assert max(slopes.values()) < DOUBLE, slopes
