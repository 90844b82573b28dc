"""The models of full size against golden data: weights and clips are drawn by a rule, and what they give is known.

Besides, the original's checkpoint of full size there and back.
"""

import json
import zlib

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.layers import initializers
from tests.models.sifa.models import BARE
from tests.sifa_golden import FIXED, VALUES, config, error, expected, present

pytestmark = pytest.mark.slow

# Builder, and the block or merging that ends each stage, by the golden data's name of its stage.
FULL = {
    "sifa_net50": (
        "SIFANet50",
        {
            "layer1": "stage0_block2",
            "layer2": "stage1_block3",
            "layer3": "stage2_block5",
            "layer4": "stage3_block2",
            "layer4_dual": "stage3_dual_block2",
        },
    ),
    "sifa_transformer_base": (
        "SIFATransformerB",
        {**{f"stage{stage}": f"stage{stage}_downsample" for stage in range(3)}, "stage3": "stage3_block1"},
    ),
}


def drawn(name, shape, seed):
    """What stands in the checkpoint of full size under a name."""
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif name.endswith("relative_position_bias_table"):
        values = 0.5 * values
    elif len(shape) == 1:
        values = 1 + 0.2 * values if name.endswith("weight") else 0.1 * values
    else:
        gain = 2 if name.endswith("conv_offset.weight") else 0.5 if name.endswith(".conv.weight") else 1.2
        values = values * gain / np.sqrt(np.prod(shape[1:]))
    if name.endswith("bn3.weight"):
        values = 0.3 * values
    if name.endswith("bn2.weight"):
        values = 0.5 * values
    return values.astype("float32")


def state_of(folder):
    """The drawn checkpoint, without what is computed from sizes alone."""
    shapes, seed = json.loads(present(folder, "shapes.json").read_text()), config(folder)["weights_seed"]
    return {name: drawn(name, tuple(shape), seed) for name, shape in shapes.items() if not name.endswith(FIXED)}


def clip_of(folder):
    settings = config(folder)
    return np.random.default_rng(settings["clip_seed"]).standard_normal(settings["clip_shape"]).astype("float32")


@pytest.fixture(scope="module", params=FULL)
def full(request):
    """A model of full size with the drawn weights, and the name of its golden data."""
    folder = request.param
    expected(folder)
    name, _ = FULL[folder]
    shape = tuple(config(folder)["clip_shape"][1:])
    with pytest.MonkeyPatch.context() as patch:
        for kind in (initializers.NumpyNormal, initializers.NumpyFanInUniform, initializers.NumpyFanOutNormal):
            patch.setattr(kind, "draw", lambda self, rng, shape: np.zeros(shape, "float32"))
        model = getattr(kvf, name)(weights=None, classes=400, input_shape=shape, **BARE)
    state = state_of(folder)
    assert model.load_state(state) == []
    return folder, model, state


def test_logits_and_features(full):
    folder, model, _ = full
    data, clip, ends = expected(folder), clip_of(folder), FULL[folder][1]
    outputs = [keras.tree.flatten(model.get_layer(name).output)[0] for name in ends.values()]
    *stages, pooled = keras.Model(model.input, [*outputs, model.pooled]).predict(clip, verbose=0)
    errors = {}
    for name, features in zip(ends, stages, strict=True):
        errors[f"{name}_mean"] = error(features.mean((1, 2), dtype="float64"), data[f"{name}_mean"])
        errors[f"{name}_std"] = error(features.std((1, 2), dtype="float64"), data[f"{name}_std"])
    if folder == "sifa_net50":
        heads = model.classifier.logits_of_heads(keras.ops.convert_to_tensor(pooled))
        for name, logits in zip(("logits", "logits_dual"), heads, strict=True):
            errors[name] = error(keras.ops.convert_to_numpy(logits), data[name])
        errors["pooled"] = error(pooled, np.concatenate([data["pooled"], data["pooled_dual"]], axis=-1))
    else:
        errors["logits"] = error(model.predict(clip, verbose=0), data["logits"])
        errors["pooled"] = error(pooled, data["pooled"].mean(1))
    assert max(errors.values()) < VALUES, errors


def test_a_checkpoint_there_and_back(full):
    _, model, state = full
    written, held = model.state(unused=True), set(model.state())
    left = {name for name, array in state.items() if written[name].tobytes() != array.tobytes()}
    # Only what nothing uses, and no model of ours holds, is written as it begins.
    assert all(not written[name].any() for name in left)
    assert left == {name for name in state if name not in held}
    assert {name for name in written if name not in state} == {name for name in written if name.endswith(FIXED)}
