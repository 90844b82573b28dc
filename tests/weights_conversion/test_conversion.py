"""The conversion scripts: there and back without a changed bit, and nothing written where something is wrong."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.golden import MICRO, expected, golden
from tests.states import read_state
from weights_conversion import conversion, keras_to_torch, torch_to_keras
from weights_conversion.conversion import infer_options, same_values

MICRO_OPTIONS = {
    "num_classes": 7,
    "embed_dim": 8,
    "depths": (1, 1, 2, 1),
    "focal_levels": (2, 2, 2, 2),
    "focal_windows": (3, 3, 3, 3),
    "focal_factor": (2, 2, 2, 2),
    "mlp_ratio": 4.0,
    "patch_size": 4,
    "tubelet_size": 1,
    "use_conv_embed": False,
    "use_layerscale": False,
    "use_postln_in_modulation": False,
}
DIFFERENT = {
    "micro_tubelet2": {"tubelet_size": 2},
    "micro_options": {"use_conv_embed": True, "use_layerscale": True, "use_postln_in_modulation": True},
    "micro_levels": {"focal_levels": (3, 3, 2, 1), "focal_windows": (5, 3, 3, 3), "mlp_ratio": 2.0},
}


def checkpoint(name):
    return golden(name) / "checkpoint.pth"


@pytest.mark.parametrize("name", MICRO)
def test_options_are_read_from_names_and_shapes(name):
    assert infer_options(read_state(checkpoint(name))[0]) == {**MICRO_OPTIONS, **DIFFERENT.get(name, {})}


def test_options_of_something_else_are_refused():
    with pytest.raises(ValueError, match="pass the weights of a Video-FocalNet or a FocalNet"):
        infer_options({"conv1.weight": np.zeros((64, 3, 7, 7), "float32")})


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("micro", ".weights.h5"),
        ("micro_tubelet2", ".weights.h5"),
        ("micro_levels", ".weights.h5"),
        ("micro_options", ".weights.h5"),
        ("micro_options", ".keras"),
    ],
)
def test_there_and_back_changes_no_bit(tmp_path, name, ending):
    torch = pytest.importorskip("torch")
    there = torch_to_keras.convert(checkpoint(name), tmp_path / f"a{ending}", (8, 48, 48), compare=False)
    back = keras_to_torch.convert(tmp_path / f"a{ending}", tmp_path / "b.pth")
    assert (there.passed, there.unmapped, there.initialized) == (True, [], [])
    assert (back.passed, back.unmapped, back.initialized) == (True, [], [])
    state, returned = read_state(checkpoint(name))[0], torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    assert list(returned) == list(state)
    for key, array in state.items():
        assert returned[key].numpy().tobytes() == array.tobytes(), key


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_converted_model_is_whole(tmp_path):
    target, labels = tmp_path / "micro.keras", list("abcdefg")
    torch_to_keras.convert(checkpoint("micro"), target, (8, 48, 48), labels, include_preprocessing=False, compare=False)
    model = keras.saving.load_model(target)
    wanted = np.exp(expected("micro")["logits"])
    wanted /= wanted.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(model.predict(expected("micro")["input"], verbose=0), wanted, atol=1e-5)
    assert list(model.labels) == labels


@pytest.mark.parametrize("name", ["micro", "micro_options", "focalnet_image"])
def test_report_compares_the_logits_with_pytorch(tmp_path, name):
    pytest.importorskip("torch")
    options = {"use_postln": True, "normalize_modulator": True} if name == "micro_options" else {}
    report = torch_to_keras.convert(checkpoint(name), tmp_path / "a.weights.h5", (8, 64, 64), **options)
    assert report.passed
    assert report.difference < conversion.TOLERANCE
    temporal = [key for key in report.initialized if "_temporal." in key]
    assert report.initialized == temporal
    assert len(temporal) == (30 if name == "focalnet_image" else 0)


def test_a_keras2_file_converts(tmp_path):
    source = golden("keras2_h5") / "weights.h5"
    report = torch_to_keras.convert(source, tmp_path / "a.weights.h5", (8, 64, 64), compare=False)
    assert report.passed
    assert same_values(read_state(source)[0], read_state(tmp_path / "a.weights.h5")[0])


def test_weights_without_a_classifier_convert(tmp_path):
    state = {key: value for key, value in read_state(checkpoint("micro"))[0].items() if not key.startswith("head.")}
    write_safetensors(tmp_path / "backbone.safetensors", state)
    report = torch_to_keras.convert(tmp_path / "backbone.safetensors", tmp_path / "a.keras", (8, 48, 48), compare=False)
    assert report.passed
    assert keras.saving.load_model(tmp_path / "a.keras").output_shape == (None, 64)


def test_commands_print_their_report(tmp_path):
    pytest.importorskip("torch")
    middle, target = str(tmp_path / "a.weights.h5"), str(tmp_path / "b.pth")
    there = CliRunner().invoke(
        torch_to_keras.main, [str(checkpoint("micro")), middle, "--input-shape", "8", "48", "48", "--no-compare"]
    )
    back = CliRunner().invoke(keras_to_torch.main, [middle, target, "--bare"])
    for result in (there, back):
        assert result.exit_code == 0, result.output
        assert "unmapped     0\n" in result.output
        assert "read back    bit for bit\n" in result.output
    assert same_values(read_state(checkpoint("micro"))[0], read_state(target)[0])


def test_the_list_names_every_published_checkpoint():
    listed = CliRunner().invoke(torch_to_keras.main, ["--list"]).output
    assert "VideoFocalNetT/k400  https://drive.google.com/file/d/1wsUjJbPVQd7pf-OocD9mVU8pak0gdBTP/view\n" in listed
    assert listed.count("drive.google.com") == 8


def test_other_logits_fail_and_leave_the_target_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "a.keras"
    target.write_bytes(b"before")
    monkeypatch.setattr(conversion, "difference_to_oracle", lambda state, options: (0.5, None))
    arguments = [str(checkpoint("micro")), str(target), "--input-shape", "8", "48", "48"]
    result = CliRunner().invoke(torch_to_keras.main, arguments)
    assert result.exit_code == 1
    assert "differs from PyTorch by 5.0e-01" in result.output
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["extra", "missing"])
def test_tensors_that_do_not_match_are_named_and_nothing_is_written(tmp_path, kind):
    pytest.importorskip("torch")
    state = read_state(checkpoint("micro"))[0]
    name = "layers.2.blocks.1.modulation.gate.weight" if kind == "extra" else "layers.2.blocks.1.norm2.bias"
    if kind == "extra":
        state[name] = np.zeros(3, "float32")
    else:
        del state[name]
    source = tmp_path / "source.safetensors"
    write_safetensors(source, state)
    there = CliRunner().invoke(torch_to_keras.main, [str(source), str(tmp_path / "a.keras")])
    back = CliRunner().invoke(keras_to_torch.main, [str(source), str(tmp_path / "a.pth")])
    for result in (there, back):
        assert result.exit_code == 1
        assert name in result.output
    assert list(tmp_path.iterdir()) == [source]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.keras or \.weights\.h5"):
        torch_to_keras.convert(checkpoint("micro"), tmp_path / "a.h5")


@pytest.mark.slow
def test_tiny_goes_there_and_back_bit_for_bit(tmp_path):
    torch = pytest.importorskip("torch")
    from weights_conversion.torch_reference import video_focalnet_tiny

    state = video_focalnet_tiny().state_dict()
    torch.save({"model": state}, tmp_path / "tiny.pth")
    there = torch_to_keras.convert(tmp_path / "tiny.pth", tmp_path / "tiny.weights.h5")
    back = keras_to_torch.convert(tmp_path / "tiny.weights.h5", tmp_path / "back.pth")
    assert there.passed and back.passed
    assert there.difference < conversion.TOLERANCE
    assert (there.unmapped, there.parameters) == ([], 49_553_272)
    returned = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert list(returned) == list(state)
    assert all(torch.equal(returned[name], value) for name, value in state.items())
