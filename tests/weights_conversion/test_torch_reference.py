"""The oracle itself is checked against the golden data before anything is checked against the oracle."""

import json

import numpy as np
import pytest

from tests.golden import MICRO, expected, golden

torch = pytest.importorskip("torch")

from weights_conversion import torch_reference  # noqa: E402
from weights_conversion.torch_layers import StochasticDepth  # noqa: E402

pytestmark = pytest.mark.backend_free

NOT_OF_THE_MODEL = ("image_size", "batch", "num_frames")
PARAMETERS = {"tiny": 49_553_272, "small": 88_735_168, "base": 157_389_216}


def build(name, architecture=torch_reference.VideoFocalNet, dtype=torch.float32):
    config = json.loads((golden(name) / "config.json").read_text())
    options = {key: value for key, value in config.items() if key not in NOT_OF_THE_MODEL}
    model = architecture(**options).eval()
    model.load_state_dict(torch_reference.load_checkpoint(golden(name) / "checkpoint.pth"), strict=True)
    return model.to(dtype)


def clip_of(name, dtype=torch.float32):
    return torch.from_numpy(expected(name)["input"]).movedim(-1, -3).to(dtype)


@pytest.mark.parametrize("name", MICRO)
def test_logits_features_and_modulators_are_the_references(name):
    wanted, model = expected(name), build(name)
    with torch.inference_mode():
        logits = model(clip_of(name))
        features, taps = model.forward_features(clip_of(name), taps=True)
    assert np.abs(logits.numpy() - wanted["logits"]).max() < 3e-5
    assert set(taps) == {key for key in wanted.files if key.startswith(("feature/", "modulator_"))}
    for key, value in taps.items():
        assert value.shape == wanted[key].shape
        assert np.abs(value.numpy() - wanted[key]).max() < 1e-4 * np.abs(wanted[key]).max(), key
    np.testing.assert_array_equal(features, taps["feature/norm"])


@pytest.mark.parametrize("name", MICRO)
def test_in_double_precision_only_the_rounding_of_the_golden_file_is_left(name):
    with torch.inference_mode():
        logits = build(name, dtype=torch.float64)(clip_of(name, torch.float64))
    assert np.abs(logits.numpy() - expected(name)["logits"]).max() < 1e-7


# Float32 misses the tolerance of `micro_options` on some processors, as gradients magnify at this clip what is rounded.
# In float64 only the rounding of the golden file is left.
@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [("micro", torch.float32, 3e-4), ("micro", torch.float64, 1e-6), ("micro_options", torch.float64, 1e-6)],
)
def test_gradients_are_the_references(name, dtype, tolerance):
    wanted, model = expected(name), build(name, dtype=dtype)
    loss = torch.nn.functional.cross_entropy(model(clip_of(name, dtype)), torch.from_numpy(wanted["labels"]))
    loss.backward()
    assert loss.item() == pytest.approx(wanted["loss"].item(), abs=1e-5)
    gradients = {f"grad/{key}": parameter.grad.numpy() for key, parameter in model.named_parameters()}
    assert set(gradients) == {key for key in wanted.files if key.startswith("grad/")}
    for key, gradient in gradients.items():
        assert np.linalg.norm(gradient - wanted[key]) < tolerance * np.linalg.norm(wanted[key]), key


def test_image_model_is_the_references():
    model = build("focalnet_image", torch_reference.FocalNet)
    with torch.inference_mode():
        logits = model(clip_of("focalnet_image"))
    assert np.abs(logits.numpy() - expected("focalnet_image")["logits"]).max() < 3e-5


def test_keras2_weights_give_the_logits_of_the_keras2_port():
    from keras_video_focalnet.models.video_focalnet.keras2_h5 import read_keras2_h5

    config = json.loads((golden("keras2_h5") / "config.json").read_text())
    model = torch_reference.VideoFocalNet(
        **{key: value for key, value in config.items() if key not in NOT_OF_THE_MODEL}
    ).eval()
    state = read_keras2_h5(golden("keras2_h5") / "weights.h5")
    model.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=True)
    with torch.inference_mode():
        logits = model(clip_of("keras2_h5"))
    assert np.abs(logits.numpy() - expected("keras2_h5")["logits"]).max() < 3e-5


@pytest.mark.parametrize("name", [*MICRO, "focalnet_image"])
def test_parameters_stand_in_the_references_order(name):
    # An optimizer state refers to parameters by position.
    is_image = name == "focalnet_image"
    model = build(name, torch_reference.FocalNet if is_image else torch_reference.VideoFocalNet)
    assert list(model.state_dict()) == list(torch_reference.load_checkpoint(golden(name) / "checkpoint.pth"))


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameter_counts_are_those_of_the_published_models(size):
    with torch.device("meta"):
        model = getattr(torch_reference, f"video_focalnet_{size}")()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]


def test_stochastic_depth_drops_whole_frames_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = StochasticDepth(0.25).train()
    dropped = layer(torch.ones(4000, 2, 2, 3))
    values = dropped.flatten(1)
    assert (values == values[:, :1]).all()
    assert sorted(values[:, 0].unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert layer.eval()(dropped) is dropped


def test_stochastic_depth_rises_linearly_over_all_blocks():
    model = torch_reference.VideoFocalNet(3, embed_dim=8, depths=(1, 1, 2, 1), drop_path_rate=0.4)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_convolutional_tubelet_embedding_gives_the_grid_of_the_plain_one():
    model = torch_reference.VideoFocalNet(3, embed_dim=8, depths=(1, 1, 1, 1), tubelet_size=2, use_conv_embed=True)
    _, taps = model.eval().forward_features(torch.zeros(1, 4, 3, 64, 32), taps=True)
    assert taps["feature/patch_embed"].shape == (2, 16 * 8, 8)
    assert taps["modulator_temporal/stage3"].shape == (2, 2, 1, 64)


@pytest.mark.parametrize(
    ("options", "shape", "remedy"),
    [
        ({}, (1, 4, 64, 64, 3), r"pass \(batch, frames, 3, height, width\)"),
        ({"tubelet_size": 2}, (1, 5, 3, 64, 64), "pass a multiple of tubelet_size=2"),
        ({"focal_windows": 4}, None, "take an odd focal_window"),
        ({"focal_levels": (2, 2)}, None, "focal_levels=.* has 2 entries but depths has 4; give one a stage"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(options, shape, remedy):
    with pytest.raises(ValueError, match=remedy):
        model = torch_reference.VideoFocalNet(3, embed_dim=8, depths=(1, 1, 1, 1), **options)
        model(torch.zeros(shape))


def test_a_file_without_a_state_is_refused(tmp_path):
    torch.save({"model": 3}, tmp_path / "epoch.pth")
    with pytest.raises(ValueError, match="epoch.pth holds no model state"):
        torch_reference.load_checkpoint(tmp_path / "epoch.pth")
