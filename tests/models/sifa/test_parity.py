"""Whole small models of SIFA against golden data: logits, features, every gradient, statistics after a step."""

import keras
import numpy as np
import pytest

from tests.gradients import by_names, modes, probed
from tests.models.sifa.models import Logits, Taps, net, transformer
from tests.precision import double_precision
from tests.sifa_golden import DOUBLE, GRADIENTS, VALUES, error, expected

BACKEND = keras.backend.backend()
# A block's layer by the golden data's name of what it gives.
NET_TAPS = {"layer2": "stage1_block1", "layer3": "stage2_block2"}
NET_TAPS |= {"layer4": "stage3_block1", "layer4_dual": "stage3_dual_block1"}
SQUARE, RECT = "sifa_transformer_square", "sifa_transformer_rect"
# Whole models take long to compile: in graphs and by XLA they are run in `make verify`, on JAX some of them.
whole = pytest.mark.parametrize(
    "mode", [mode if mode == modes()[0] else pytest.param(mode, marks=pytest.mark.slow) for mode in modes()]
)
long_on_jax = pytest.mark.slow_on("jax")


def net_errors(training, mode="eager", dtype="float32"):
    form, data = "train" if training else "infer", expected("sifa_net_micro")
    model = net(dtype=dtype)
    probes = [data[name].astype(dtype) for name in ("probe", "probe_dual")]
    taps = {} if training else NET_TAPS
    outputs, _, gradients, after = probed(
        Logits(model, taps.values()), data["input"].astype(dtype), probes, training, mode
    )
    names = ("logits", "logits_dual", *taps)
    values = {name: error(given, data[f"{form}/{name}"]) for name, given in zip(names, outputs, strict=True)}
    found = by_names(model, gradients)
    wanted = {key.split("grad/")[1] for key in data.files if key.startswith(f"{form}/grad/") and "def_cor" not in key}
    assert set(found) == wanted
    slopes = {name: error(found[name], data[f"{form}/grad/{name}"]) for name in wanted}
    if training:
        statistics = by_names(model, after)
        updated = [key for key in data.files if key.startswith("train/updated/") and "tracked" not in key]
        assert len(updated) == len(statistics) > 0
        values |= {key: error(statistics[key.removeprefix("train/updated/")], data[key]) for key in updated}
    return values, slopes


@whole
@pytest.mark.parametrize("training", [pytest.param(False, marks=long_on_jax), True])
def test_net(training, mode):
    values, slopes = net_errors(training, mode)
    assert max(values.values()) < VALUES, values
    assert max(slopes.values()) < GRADIENTS, slopes


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("training", [False, True])
def test_net_in_double_precision(training):
    with double_precision():
        values, slopes = net_errors(training, dtype="float64")
    assert max(values.values()) < DOUBLE, values
    assert max(slopes.values()) < DOUBLE, slopes


def test_scores_of_the_net_are_the_mean_of_both_softmaxes():
    data, model = expected("sifa_net_micro"), net()

    def softmax(logits):
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        return shares / shares.sum(-1, keepdims=True)

    wanted = (softmax(data["infer/logits"]) + softmax(data["infer/logits_dual"])) / 2
    assert error(softmax(model.predict(data["input"], verbose=0)), wanted) < VALUES


def transformer_errors(name, mode="eager", dtype="float32"):
    data, model = expected(name), transformer(name, dtype=dtype)
    layers = ["stage0_block0", "stage0_block1"] if name == SQUARE else []
    layers += [f"stage{stage}_downsample" for stage in range(3)]
    outputs, _, gradients, _ = probed(
        Taps(model, layers), data["input"].astype(dtype), [data["probe"].astype(dtype)], False, mode
    )
    blocks = [f"block/layers.0.blocks.{block}" for block in range(2)] if name == SQUARE else []
    names = ["logits", *blocks, "stage0", "stage1", "stage2"]
    values = {key: error(given, data[key]) for key, given in zip(names, outputs, strict=True)}
    found = by_names(model, gradients)
    wanted = {key.split("grad/")[1] for key in data.files if key.startswith("grad/")}
    assert set(found) == {key for key in wanted if "def_cor" not in key}
    return values, {key: error(found[key], data[f"grad/{key}"]) for key in found}


@whole
@pytest.mark.parametrize("name", [pytest.param(SQUARE, marks=long_on_jax), RECT])
def test_transformer(name, mode):
    values, slopes = transformer_errors(name, mode)
    assert max(values.values()) < VALUES, values
    assert max(slopes.values()) < GRADIENTS, slopes


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("name", [SQUARE, RECT])
def test_transformer_in_double_precision(name):
    with double_precision():
        values, slopes = transformer_errors(name, dtype="float64")
    assert max(values.values()) < DOUBLE, values
    assert max(slopes.values()) < DOUBLE, slopes
