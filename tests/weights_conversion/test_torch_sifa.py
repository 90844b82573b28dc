"""Our PyTorch rendering of SIFA against golden data; and our models against it."""

import keras
import numpy as np
import pytest

from tests.sifa_golden import DOUBLE, checkpoint, config, error, expected

torch = pytest.importorskip("torch")
sifa = pytest.importorskip("weights_conversion.torch_sifa")


def loaded(model, state):
    model = model.double().eval()
    known = {name: torch.tensor(array) for name, array in state.items() if name in model.state_dict()}
    model.load_state_dict(known)
    return model


@pytest.mark.parametrize("case,size,dilation", [("k3d1", 3, 1), ("k3d1_integer", 3, 1), ("k5d2", 5, 2)])
def test_operator(case, size, dilation):
    data = expected("sifa_operator", f"{case}/input")
    x, offsets = (torch.tensor(data[f"{case}/{name}"], dtype=torch.float64) for name in ("input", "offset"))
    keys = x.flatten(0, 1).permute(0, 3, 1, 2)
    queries = torch.cat([x[:, :1], x[:, :-1]], 1).flatten(0, 1).permute(0, 3, 1, 2)
    sums, similarities = sifa.inter_frame_attention(
        queries, keys, offsets.flatten(0, 1).permute(0, 3, 1, 2), size, dilation
    )
    assert error(sums.permute(0, 2, 3, 1).numpy(), data[f"{case}/aggregated"]) < DOUBLE
    assert error(similarities.permute(0, 2, 3, 1).numpy(), data[f"{case}/correlation"]) < DOUBLE


def test_net():
    data = expected("sifa_net_micro")
    model = loaded(sifa.SIFANet((2, 2, 3, 2), 4, 7), checkpoint("sifa_net_micro"))
    with torch.no_grad():
        logits, dual = model(torch.tensor(data["input"], dtype=torch.float64))
    assert error(logits.numpy(), data["infer/logits"]) < DOUBLE
    assert error(dual.numpy(), data["infer/logits_dual"]) < DOUBLE


def test_net_in_training_form():
    data = expected("sifa_net_micro", "train/logits")
    model = loaded(sifa.SIFANet((2, 2, 3, 2), 4, 7, drop_rate=0.0), checkpoint("sifa_net_micro")).train()
    with torch.no_grad():
        logits, dual = model(torch.tensor(data["input"], dtype=torch.float64))
    assert error(logits.numpy(), data["train/logits"]) < DOUBLE
    assert error(dual.numpy(), data["train/logits_dual"]) < DOUBLE


def test_what_is_dropped_in_training():
    """Whole branches of a frame, of which those that are kept are scaled up; nothing outside training."""
    torch.manual_seed(0)
    drop, x = sifa.DropPath(0.25), torch.ones(50, 40, 1, 2, 3)
    dropped = drop(x)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(dropped, dropped[:, :, :1, :1, :1].expand_as(x))
    assert abs((dropped > 0).float().mean().item() - 0.75) < 0.05
    assert torch.equal(drop.eval()(x), x)
    model = sifa.sifa_transformer_s(embed_dim=6)
    rates = [block.drop_path.rate for parts in model.layers for block in parts["blocks"]]
    assert rates == pytest.approx([0.3 * block / 23 for block in range(24)], rel=1e-5)


@pytest.mark.parametrize("name", ["sifa_transformer_square", "sifa_transformer_rect"])
def test_transformer(name):
    data, options = expected(name), config(name)
    arguments = {key: options[key] for key in ("embed_dim", "depths", "num_heads", "window_size", "patch_size")}
    model = sifa.SIFATransformer(data["input"].shape[2:4], **arguments, kernel_size=options["K"], num_classes=7)
    model = loaded(model, checkpoint(name))
    with torch.no_grad():
        logits = model(torch.tensor(data["input"], dtype=torch.float64))
    assert error(logits.numpy(), data["logits"]) < DOUBLE


def test_our_nano_models_agree_with_it():
    """At other sizes than the golden data has."""
    import keras_video_focalnet as kvf

    clip = np.random.default_rng(0).normal(size=(1, 16, 64, 64, 3)).astype("float32")
    options = {"weights": None, "classes": 5, "input_shape": clip.shape[1:], "include_preprocessing": False}
    oracles = {
        kvf.SIFANetNano: lambda: sifa.SIFANet((1, 2, 2, 2), 8, 5),
        kvf.SIFATransformerNano: lambda: sifa.SIFATransformer(
            (64, 64), 16, (2, 2, 2, 1), (1, 2, 4, 8), 4, num_classes=5
        ),
    }
    for build, oracle in oracles.items():
        model = build(**options)
        rng = np.random.default_rng(1)
        for weight in model.weights:
            weight.assign(keras.ops.convert_to_numpy(weight) + rng.uniform(0, 0.1, weight.shape))
        peer = loaded(oracle(), model.state())
        assert model.state().keys() == peer.state_dict().keys() - {
            name for name in peer.state_dict() if name.endswith("num_batches_tracked")
        }
        with torch.no_grad():
            given = peer(torch.tensor(clip, dtype=torch.float64))
        wanted = given.softmax(-1) if torch.is_tensor(given) else sum(logits.softmax(-1) for logits in given) / 2
        assert error(model.predict(clip, verbose=0), wanted.numpy()) < 1e-4
