"""Maps of blocks: those of the golden data, those that arithmetic gives, and Grad-CAM of a model that is known."""

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNet
from keras_video_focalnet.visualization.layer_values import grad_cam, layer_values
from tests.clips import encode, numbered_frames
from tests.golden import expected, golden, options
from tests.models.conformance_case import scattered
from tests.models.vita_clip.models import build as vita_clip
from tests.toy.network import Toy

BACKEND = keras.backend.backend()
SMALL = {"embed_dim": 8, "depths": (1, 1, 1, 1), "input_shape": (4, 32, 48, 3), "classes": 3}
LABELS = ("run", "walk", "jump")


def to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def clip_of(model):
    shape = model.input_shape[1:]
    return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")


@pytest.fixture(scope="module")
def focal():
    return scattered(VideoFocalNet(**SMALL, labels=LABELS))


@pytest.fixture(scope="module")
def toy():
    return scattered(Toy(**Toy.small_arguments, classes=3, labels=LABELS))


# === What blocks compute ===


def test_modulators_are_those_of_the_golden_data():
    data, arguments = expected("micro"), options("micro")
    model = VideoFocalNet(**{**arguments, "drop_path_rate": 0.0})
    load_weights(model, golden("micro") / "checkpoint.pth")
    wanted, maps, network = [], [], find_network(model)
    for stage, depth in enumerate(arguments["depths"]):
        for kind in ("spatial", "temporal"):
            maps.append(network.maps()[f"stage{stage}_block{depth - 1}"][kind])
            wanted.append(data[f"modulator_{kind}/stage{stage}"])
    for place, clip in enumerate(data["input"]):
        for found, array in zip(layer_values(network, maps, clip), wanted, strict=True):
            array = array.reshape(len(data["input"]), *found.shape)[place]
            np.testing.assert_allclose(found, array, atol=1e-4 * np.abs(array).max())
    # The same by the public function, of which the maps are the lengths of these vectors.
    seen = kvf.visualize(model, data["input"][0].astype("float32"), block="stage0_block0", what="spatial")
    height, width = model.get_layer("stage0_block0").grid_size
    first = layer_values(network, [network.maps()["stage0_block0"]["spatial"]], data["input"][0])[0]
    assert seen.grids["spatial"].shape == (*data["input"].shape[1:2], height, width, arguments["embed_dim"])
    np.testing.assert_array_equal(seen.grids["spatial"], first)
    lengths = np.sqrt((first.astype("float64") ** 2).sum(-1))
    assert seen.maps["spatial"].shape == data["input"].shape[1:4]
    np.testing.assert_allclose(seen.maps["spatial"][:, 0, 0], lengths[:, 0, 0], rtol=1e-5)


@pytest.mark.slow_on("tensorflow", "jax")
def test_gates_by_arithmetic(focal):
    seen = kvf.visualize(focal, clip_of(focal), block="stage1_block0", what="gates")
    block = focal.get_layer("stage1_block0")
    x = to_numpy(keras.Model(focal.input, block.input).predict(clip_of(focal)[None], verbose=0))[0]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + block.norm1.epsilon)
    x = x * to_numpy(block.norm1.gamma) + to_numpy(block.norm1.beta)
    parts = []
    for dense in (block.modulation.f, block.modulation.f_temporal):
        parts.append((x @ to_numpy(dense.kernel) + to_numpy(dense.bias))[..., -3:])
    gates = np.concatenate(parts, axis=-1).reshape(4, *block.grid_size, 6)
    np.testing.assert_allclose(seen.grids["gates"], gates, rtol=1e-3, atol=1e-4)
    names = [
        f"{branch} {level} gate" for branch in ("spatial", "temporal") for level in ("window 3", "window 5", "mean")
    ]
    assert list(seen.maps) == names
    np.testing.assert_allclose(seen.maps[names[1]][:, 0, 0], gates[:, 0, 0, 1], rtol=1e-3, atol=1e-4)


@pytest.mark.slow_on("tensorflow", "jax")
def test_the_class_tokens_attention_by_arithmetic():
    model = scattered(vita_clip(prompts=()))
    seen = kvf.visualize(model, clip_of(model))
    assert (seen.block, list(seen.maps)) == ("block1", ["attention"])
    block = model.get_layer("block1")
    x = to_numpy(keras.Model(model.input, block.input).predict(clip_of(model)[None], verbose=0))[0]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + block.norm1.epsilon)
    x = x * to_numpy(block.norm1.gamma) + to_numpy(block.norm1.beta)
    queries, keys = (
        x @ to_numpy(part.kernel) + to_numpy(part.bias) for part in (block.attention.q_proj, block.attention.k_proj)
    )
    depth, total = x.shape[-1] // block.num_heads, 0
    for head in range(block.num_heads):
        part = slice(head * depth, (head + 1) * depth)
        logits = np.einsum("fc,ftc->ft", queries[:, 0, part], keys[..., part]) / np.sqrt(depth)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        total = total + (shares / shares.sum(-1, keepdims=True))[:, 1:]
    wanted = (total / block.num_heads).reshape(4, 2, 2)
    np.testing.assert_allclose(seen.grids["attention"][..., 0], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.slow_on("tensorflow", "jax")
def test_prompts_take_their_share_of_attention():
    model = scattered(vita_clip())
    total = kvf.visualize(model, clip_of(model), block="block0").grids["attention"].sum(axis=(1, 2, 3))
    assert (total > 0).all() and (total < 1).all()


@pytest.mark.slow_on("tensorflow", "jax")
def test_offsets_and_similarities():
    model = scattered(kvf.SIFANetNano(weights=None, width=4, input_shape=(16, 64, 96, 3), classes=3))
    seen = kvf.visualize(model, clip_of(model), block="stage1_block1")
    assert list(seen.maps) == ["attention", "offsets"]
    # Of four tubelets of four frames the last has none to attend to.
    assert seen.grids["offsets"].shape == (3, 8, 12, 18) and seen.grids["attention"].shape == (3, 8, 12, 9)
    for values in seen.maps.values():
        assert values.shape == (16, 64, 96)
        assert np.isfinite(values[:12]).all() and np.isnan(values[12:]).all()
    pairs = seen.grids["offsets"][0, 0, 0].reshape(9, 2).astype("float64")
    assert seen.maps["offsets"][0, 0, 0] == pytest.approx(np.hypot(*pairs.T).mean(), rel=1e-5)
    np.testing.assert_array_equal(seen.overlays()["offsets"][12:], seen.frames[12:])


# === Grad-CAM ===


@pytest.mark.parametrize("target", [None, 2, "walk"])
def test_grad_cam_of_a_model_whose_answer_is_known(toy, target):
    """Behind the block stand a mean and a matrix: the gradient is the class's column by the number of places."""
    clip = clip_of(toy)
    seen = kvf.visualize(toy, clip, block="motion_1_0", what=["tokens", "grad-cam"], target=target)
    scores = toy.predict(clip[None], verbose=0)[0]
    index = {None: int(scores.argmax()), 2: 2, "walk": 1}[target]
    assert seen.target == LABELS[index]
    tokens = seen.grids["tokens"].astype("float64")
    column = to_numpy(toy.classifier.kernel)[:, index] / np.prod(tokens.shape[:3])
    np.testing.assert_allclose(seen.grids["grad-cam"][..., 0], np.maximum(tokens @ column, 0), rtol=1e-4, atol=1e-7)
    assert seen.grids["grad-cam"].max() > 0 and seen.maps["grad-cam"].shape == clip.shape[:3]


@pytest.mark.slow_on("jax")
def test_grad_cam_is_the_slope_of_the_logit(focal):
    """The weights of channels are what a step of each channel adds to the logit, places and frames together."""
    network, clip = find_network(focal), clip_of(focal).astype("float32")
    found = network.maps()["stage3_block0"]["tokens"]
    cam, index, logit = grad_cam(network, found, clip, 1)
    assert index == 1
    tokens, pooled = (to_numpy(t) for t in keras.Model(focal.input, [found.tensors[0], focal.pooled])(clip[None]))
    assert logit == pytest.approx(to_numpy(focal.logits(pooled.astype("float32")))[0, 1], rel=1e-4, abs=1e-4)
    rest = keras.Model(found.tensors[0], focal.pooled)
    slopes, step = [], 1e-2
    for channel in range(tokens.shape[-1]):
        shift = np.zeros_like(tokens)
        shift[..., channel] = step
        both = np.concatenate([tokens + shift, tokens - shift]).astype("float32")
        plus, minus = to_numpy(focal.logits(rest(both)))[:, 1]
        slopes.append((plus - minus) / (2 * step) / np.prod(tokens.shape[1:3]))
    wanted = np.maximum(tokens[0] @ np.array(slopes), 0).reshape(cam.shape)
    np.testing.assert_allclose(cam, wanted, atol=0.02 * wanted.max())


@pytest.mark.slow_on("tensorflow", "jax")
def test_grad_cam_where_more_than_one_way_leads_to_the_end():
    """Past a block of one branch the other goes on, and prompts pass every block."""
    net = scattered(kvf.SIFANetNano(weights=None, width=4, input_shape=(16, 64, 96, 3), classes=3))
    for model, block in ((net, "stage3_block1"), (net, "stage2_block0"), (scattered(vita_clip()), "block0")):
        seen = kvf.visualize(model, clip_of(model), block=block, what="grad-cam", target=1)
        cam = seen.grids["grad-cam"]
        assert np.isfinite(cam).all() and cam.min() >= 0 and cam.max() > 0, block


# === Clips and choices ===


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_video_is_read_as_the_model_takes_it(focal, tmp_path):
    path = encode(tmp_path / "video.mp4", numbered_frames(40, 48, 64))
    seen = kvf.visualize(focal, path, what="spatial", size=64, start=1, end=3)
    assert seen.frames.shape == (4, 64, 96, 3) and seen.maps["spatial"].shape == (4, 64, 96)
    clip = kvf.read_clip(path, like=focal, start=1, end=3)
    of_clip = kvf.visualize(focal, clip, what="spatial", size=64)
    np.testing.assert_allclose(seen.grids["spatial"], of_clip.grids["spatial"], atol=1e-5)
    assert of_clip.frames.shape == seen.frames.shape
    frames = iter(kvf.read_frames(path))
    assert kvf.visualize(focal, frames, what="spatial").frames.shape == (4, 224, 336, 3)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_model_that_takes_prepared_clips(focal):
    bare = VideoFocalNet(**SMALL, include_preprocessing=False)
    bare.set_weights(focal.get_weights())
    pixels = clip_of(focal)
    wanted = kvf.visualize(focal, pixels, what="temporal")
    for clip in (pixels, bare.preprocessing.normalize(pixels)):
        given = kvf.visualize(bare, clip, what="temporal")
        np.testing.assert_array_equal(given.frames, pixels)
        np.testing.assert_allclose(given.grids["temporal"], wanted.grids["temporal"], atol=1e-4)


@pytest.mark.slow_on("tensorflow", "jax")
def test_what_is_shown_where_nobody_says(focal, toy):
    seen = kvf.visualize(focal, clip_of(focal))
    # 8x12 places in the first stage, and 4x6 in the second.
    assert (seen.block, list(seen.maps), seen.target) == ("stage0_block0", ["spatial", "temporal"], None)
    seen = kvf.visualize(toy, clip_of(toy))
    assert (seen.block, list(seen.maps)) == ("motion_0_0", ["tokens"])


@pytest.mark.slow_on("tensorflow", "jax")
def test_wrong_choices_name_the_right_ones(focal, toy, tmp_path):
    clip, look = clip_of(focal), kvf.visualize
    blocks = ", ".join(f"stage{stage}_block0" for stage in range(4))
    with pytest.raises(
        ValueError, match=f"block has 'stage9_block0', which is no block of the model; there are: {blocks}"
    ):
        look(focal, clip, block="stage9_block0")
    with pytest.raises(ValueError, match="what has 'offsets', which no block of the model shows; it can show: spatial, "
                                         "temporal, gates, tokens, grad-cam"):  # fmt: skip
        look(focal, clip, what="offsets")
    with pytest.raises(ValueError, match="what has 'spatial', which motion_0_0 does not show; it can show: tokens"):
        look(toy, clip_of(toy), block="motion_0_0", what="spatial")
    for what in ([], 5, [["spatial"]]):
        with pytest.raises(ValueError, match="what must be one or more of"):
            look(focal, clip, what=what)
    with pytest.raises(ValueError, match="target=0 is a class for grad-cam, which is not shown; leave it out"):
        look(focal, clip, what="spatial", target=0)
    assert look(focal, clip, what="spatial").target is None
    with pytest.raises(ValueError, match="labels has 2 names but the model has 3 classes; pass a list of 3"):
        look(focal, clip, labels=["a", "b"])
    with pytest.raises(ValueError, match="target has 'rum', which is no class of the model.*did you mean 'run'"):
        look(focal, clip, what="grad-cam", target="rum")
    with pytest.raises(ValueError, match="target must be an integer from 0 to 2, received 3"):
        look(focal, clip, what="grad-cam", target=3)
    with pytest.raises(ValueError, match="size must be an integer from 16 to 4096, received 2"):
        look(focal, clip, size=2)
    with pytest.raises(ValueError, match="start and end are for videos"):
        look(focal, clip, start=1)
    with pytest.raises(ValueError, match="'grad-cam'.*has no classifier of ours; build it with include_top=True"):
        look(VideoFocalNet(**SMALL, include_top=False), clip, what="grad-cam")
    quantized = VideoFocalNet(**SMALL)
    quantized.quantize("int8")
    assert look(quantized, clip, what="spatial").maps["spatial"].max() > 0
    with pytest.raises(ValueError, match="'grad-cam', and the model 'video_focalnet' is quantized"):
        look(quantized, clip, what="grad-cam")
    with pytest.raises(ValueError, match="holds 0 networks of ours"):
        look(keras.Sequential([keras.Input((4, 32, 48, 3)), keras.layers.Flatten()]), clip)


@pytest.mark.slow_on("tensorflow", "jax")
def test_videos_without_a_frame_are_refused(focal, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_text("<html></html>" * 100)
    with pytest.raises(ValueError, match="empty.mp4"):
        kvf.visualize(focal, tmp_path / "empty.mp4")
    with pytest.raises(ValueError, match="page.mp4"):
        kvf.visualize(focal, tmp_path / "page.mp4")
    with pytest.raises(FileNotFoundError, match="nothing.mp4"):
        kvf.visualize(focal, tmp_path / "nothing.mp4")
    with pytest.raises(ValueError, match="holds no frame"):
        kvf.visualize(focal, iter(()))


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    "design,branches",
    [
        ("spatial", ["spatial"]),
        ("factorized_3d", ["spatio_temporal"]),
        ("factorized_encoder", ["spatial"]),
        ("divided", ["spatial", "temporal"]),
    ],
)
def test_every_design_shows_its_modulators_and_gates(design, branches):
    model = scattered(VideoFocalNet(**SMALL, design=design))
    maps = find_network(model).maps()["stage1_block0"]
    assert list(maps) == [*branches, "gates", "tokens"]
    assert maps["gates"].names == tuple(f"{branches[0]} {level}" for level in ("window 3", "window 5", "mean"))
    found = kvf.visualize(model, clip_of(model), block="stage1_block0", what="gates").grids["gates"]
    assert found.shape == (4, *model.get_layer("stage1_block0").grid_size, 3)
    if design == "factorized_encoder":
        assert list(find_network(model).maps()["temporal_block0"]) == ["temporal", "gates", "tokens"]
