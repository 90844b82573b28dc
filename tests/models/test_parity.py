"""Numerical parity with the reference: logits, features, modulators, loss and gradients."""

import json

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.models.features import feature_taps
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNet
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.golden import MICRO, expected, golden, options
from tests.gradients import loss_and_gradients
from tests.onednn import onednn_is_there
from tests.precision import double_precision, rounded_once
from tests.states import reference_slots

LOGITS = 3e-5
FEATURES = 1e-4
GRADIENTS = 3e-4
MODES = {"tensorflow": ("eager", "graph", "xla"), "jax": ("eager", "xla"), "torch": ("eager",)}[keras.backend.backend()]
# JAX compiles every operation of every shape when it runs eagerly: once is enough.
CASES = [
    (name, mode)
    for name in (*MICRO, "keras2_h5")
    for mode in MODES
    if (keras.backend.backend(), mode) != ("jax", "eager") or name == "micro"
]
GRADIENT_MODES = [mode for name, mode in CASES if name == "micro_options"]


def build(name, **kwargs):
    file = "weights.h5" if name == "keras2_h5" else "checkpoint.pth"
    model = VideoFocalNet(**{**options(name), "drop_path_rate": 0.0, **kwargs})
    load_weights(model, golden(name) / file)
    return model


def compiled(model, mode):
    """The model as a function that runs in one mode of the backend."""
    if keras.backend.backend() == "tensorflow" and mode != "eager":
        import tensorflow as tf

        return tf.function(model, jit_compile=mode == "xla")
    if keras.backend.backend() == "jax" and mode == "xla":
        import jax

        return jax.jit(model)
    return model


def to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def worst(actual, wanted):
    return float(np.abs(to_numpy(actual) - wanted).max())


def output_errors(name, mode):
    """Errors of the logits, absolute, and of every stage's last block and modulators, relative to the largest value."""
    data, model = expected(name), build(name)
    wanted = {}
    for stage, depth in enumerate(options(name)["depths"]) if "feature/stage0" in data else ():
        block = f"stage{stage}_block{depth - 1}"
        wanted[block] = data[f"feature/stage{stage}"]
        for kind in ("spatial", "temporal"):
            wanted[f"{block}/{kind}_modulator"] = data[f"modulator_{kind}/stage{stage}"]
    taps = feature_taps(model)
    assert set(wanted) <= set(taps) and (wanted or name not in MICRO)
    # One model for all, so that it is compiled once.
    taps = keras.Model(model.input, {"logits": model.output, **{tap: taps[tap] for tap in wanted}})
    given = compiled(taps, mode)(keras.ops.convert_to_tensor(data["input"]))
    errors = {
        tap: worst(keras.ops.reshape(given[tap], array.shape), array) / np.abs(array).max()
        for tap, array in wanted.items()
    }
    return worst(given["logits"], data["logits"]), errors


@pytest.mark.parametrize("name,mode", CASES)
def test_logits_features_and_modulators(name, mode):
    logits, features = output_errors(name, mode)
    assert logits < LOGITS
    assert max(features.values(), default=0) < FEATURES, features


FORCED = [
    {"depthwise_conv2d": "convolution", "temporal_conv": "winograd"},
    {"depthwise_conv2d": "shifted", "temporal_conv": "convolution"},
]
forced = pytest.mark.parametrize("formulations", FORCED, ids=lambda forced: "-".join(forced.values()))


@forced
def test_logits_in_every_formulation(formulations):
    with force(**formulations):
        assert output_errors("micro", MODES[-1])[0] < LOGITS


@forced
def test_gradients_in_every_formulation(formulations):
    with force(**formulations):
        errors = golden_gradient_errors("micro")
    assert max(errors.values()) < GRADIENTS, errors


@pytest.mark.skipif(not onednn_is_there(), reason="oneDNN's product is a formulation of PyTorch's, on x86")
@pytest.mark.parametrize("linear", ["library", "onednn"])
def test_logits_without_gradients(linear):
    import torch

    with torch.inference_mode(), force(linear=linear):
        assert output_errors("micro", "eager")[0] < LOGITS


def test_logits_of_predict():
    data = expected("micro")
    assert worst(build("micro").predict(data["input"], verbose=0), data["logits"]) < LOGITS


@pytest.mark.parametrize("layer,key", [("patch_embed", "feature/patch_embed"), ("norm", "feature/norm")])
def test_embedding_and_norm(layer, key):
    data, model = expected("micro"), build("micro")
    features = keras.Model(model.input, model.get_layer(layer).output)(data["input"])
    assert worst(keras.ops.reshape(features, data[key].shape), data[key]) / np.abs(data[key]).max() < FEATURES


def gradient_errors(model, loss_and_gradients, loss, wanted):
    """Relative error (norm of difference over norm) of each parameter's gradient, by the reference's names."""
    actual, gradients = loss_and_gradients
    assert abs(actual - loss) < LOGITS
    by_variable = {id(v): gradient for v, gradient in zip(model.trainable_variables, gradients, strict=True)}
    slots = reference_slots(model)
    assert set(slots) == set(wanted)
    errors = {}
    for parameter, slot in slots.items():
        array = slot.to_variable(wanted[parameter])
        errors[parameter] = float(np.linalg.norm(by_variable[id(slot.variable)] - array) / np.linalg.norm(array))
    return errors


def golden_gradient_errors(name, mode="eager", **kwargs):
    data = expected(name)
    wanted = {key.removeprefix("grad/"): data[key] for key in data.files if key.startswith("grad/")}
    model = build(name, **kwargs)
    given = loss_and_gradients(model, mode)(data["input"], data["labels"])
    return gradient_errors(model, given, float(data["loss"]), wanted)


@pytest.mark.parametrize("rematerialize", [False, True])
def test_gradients(rematerialize):
    errors = golden_gradient_errors("micro", rematerialize=rematerialize)
    assert max(errors.values()) < GRADIENTS, errors


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX is always compiled by XLA, PyTorch never")
@pytest.mark.parametrize("mode", [pytest.param("graph", marks=pytest.mark.slow), "xla"])
def test_gradients_compiled(mode):
    errors = golden_gradient_errors("micro", mode)
    assert max(errors.values()) < GRADIENTS, errors


@pytest.mark.parametrize("name", [pytest.param("micro", marks=pytest.mark.slow_on("jax")), "micro_options"])
def test_gradients_in_double_precision(name):
    """The same graph without rounding: what is left is the golden file's own, which is float32."""
    with double_precision():
        errors = golden_gradient_errors(name, dtype="float64")
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.slow_on("tensorflow")
@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=pytest.mark.slow) for mode in GRADIENT_MODES[:-1]] + [GRADIENT_MODES[-1]]
)
def test_gradients_with_every_option(mode):
    """In float32 at the golden clip, with operations that round once.

    There the gradient is ill-conditioned: the kernels of a backend, which round every partial sum, land above the
    tolerance or below it by luck, as plain PyTorch does near that clip (`python -m tests.conditioning`).
    `test_gradients_with_every_option_at_other_clips` is of them.
    """
    with rounded_once():
        errors = golden_gradient_errors("micro_options", mode)
    assert max(errors.values()) < GRADIENTS, errors


def random_clips(count=3):
    """Clips and labels for `micro_options`."""
    shape = expected("micro_options")["input"].shape
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield rng.normal(size=shape).astype("float32"), rng.integers(0, options("micro_options")["classes"], 2)


def near_clips(count=16):
    """Clips within a hundred roundings of the golden clip of `micro_options`, and its labels."""
    from tests.conditioning import NEAR, disturbed

    data = expected("micro_options")
    for seed in range(count):
        yield disturbed(data["input"].astype("float64"), NEAR, seed).astype("float32"), data["labels"]


def oracle_gradient_errors(clips, mode="eager"):
    """Gradients of `micro_options` against our PyTorch oracle in float64: the worst parameter of each clip."""
    torch = pytest.importorskip("torch")
    from weights_conversion.torch_reference import VideoFocalNet as Oracle

    config = json.loads((golden("micro_options") / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in ("batch", "num_frames", "image_size")}
    oracle = Oracle(**config, drop_path_rate=0.0).double()
    state = read_state_dict(golden("micro_options") / "checkpoint.pth")
    oracle.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
    model = build("micro_options")
    ours = loss_and_gradients(model, mode)
    errors = []
    for clip, labels in clips:
        oracle.zero_grad()
        frames_first = torch.tensor(clip, dtype=torch.float64).permute(0, 1, 4, 2, 3)
        loss = torch.nn.functional.cross_entropy(oracle(frames_first), torch.tensor(labels))
        loss.backward()
        wanted = {parameter: tensor.grad.numpy() for parameter, tensor in oracle.named_parameters()}
        errors.append(max(gradient_errors(model, ours(clip, labels), loss.item(), wanted).values()))
    return errors


def test_gradients_with_every_option_at_other_clips():
    """With the backend's own kernels, where the gradient is well-conditioned, against the oracle in float64."""
    errors = oracle_gradient_errors(random_clips(), "graph")
    assert len(errors) == 3 and max(errors) < GRADIENTS, errors


def still_clip_error(mode):
    data = expected("focalnet_image")
    model = VideoFocalNet(**options("focalnet_image"))
    skipped = load_weights(model, golden("focalnet_image") / "checkpoint.pth")
    assert skipped and all("_temporal" in name for name in skipped)
    still = np.repeat(data["input"][:, None], 8, axis=1)
    return worst(compiled(model, mode)(keras.ops.convert_to_tensor(still)), data["logits"])


@pytest.mark.parametrize("mode", [mode for name, mode in CASES if name == "keras2_h5"])
def test_a_still_clip_gives_the_image_models_answer(mode):
    assert still_clip_error(mode) < LOGITS


def test_random_temporal_initialization_is_an_option():
    model = VideoFocalNet(**options("focalnet_image"))
    load_weights(model, golden("focalnet_image") / "checkpoint.pth", temporal_init="random")
    kernel = to_numpy(model.get_layer("stage0_block0").modulation.h_temporal.kernel)
    assert np.abs(kernel).max() > 0


@pytest.mark.slow_on("jax")
def test_weights_load_at_other_frame_counts_and_sizes():
    data = expected("micro")
    other = build("micro", input_shape=(None, 64, 80, 3))
    assert other(np.zeros((1, 5, 64, 80, 3), "float32")).shape == (1, 7)
    same = build("micro", input_shape=(None, 48, 48, 3))
    assert worst(same(data["input"]), data["logits"]) < LOGITS
