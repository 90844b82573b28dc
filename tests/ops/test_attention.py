"""Attention with a bias is the softmax of its logits, in each formulation."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_video_focalnet.ops.attention import attention
from keras_video_focalnet.ops.autodiff.formulation import force

FORMULATIONS = ("written_out", "library") if keras.backend.backend() == "torch" else ("written_out",)


@pytest.mark.parametrize("formulation", [None, *FORMULATIONS])
@pytest.mark.parametrize("windows", [1, 3])
def test_it_is_the_softmax_of_its_logits(formulation, windows):
    rng = np.random.default_rng(0)
    queries, keys, values = (rng.normal(size=(6, 2, 5, 4)).astype("float32") for _ in range(3))
    bias = rng.normal(size=(windows, 2, 5, 5)).astype("float32")
    logits = np.einsum("bhqd,bhkd->bhqk", queries, keys) / 2 + np.tile(bias, (6 // windows, 1, 1, 1))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.einsum("bhqk,bhkd->bqhd", shares, values).reshape(6, 5, 8)
    with force(**({"attention": formulation} if formulation else {})):
        found = attention(*map(ops.convert_to_tensor, (queries, keys, values, bias)))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch alone has another formulation")
def test_pytorchs_own_serves_where_nothing_is_recorded(monkeypatch):
    import torch

    chosen = []
    module = "keras_video_focalnet.ops.attention.choose"
    monkeypatch.setattr(module, lambda operation, ways, default: (chosen.append(default), ways[default])[1])
    tensor, bias = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 2)
    attention(tensor, tensor, tensor, bias)
    with torch.no_grad():
        attention(tensor, tensor, tensor, bias)
        attention(*[tensor.half()] * 3, bias)
    assert chosen == ["written_out", "library", "written_out"]
