"""Vita-CLIP's weights: files of CLIP in every layout, the original's checkpoints there and back, published names."""

import json
import re
import warnings

import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.models.vita_clip.models import NAMES, arrays, build, rendering, training_checkpoint
from tests.vita_golden import arguments, checkpoint, folder
from tests.weights.fake_hub import FakeHub, use

torch = pytest.importorskip("torch")

from tests.clip_states import NOT_OF_CLIP, hugging_face_state, openai_state, start_state  # noqa: E402

REPOSITORY = "openai/clip-vit-base-patch16"


def archive(state, path):
    """A TorchScript archive with a state, as OpenAI's have it: modules in modules."""

    class Holder(torch.nn.Module):
        def forward(self, x: torch.Tensor):
            return x

    def module(entries):
        made = Holder()
        for name in {name.partition(".")[0]: None for name in entries}:
            inside = {key.partition(".")[2]: value for key, value in entries.items() if key.startswith(f"{name}.")}
            if inside:
                made.add_module(name, module(inside))
            elif entries[name].is_floating_point():
                made.register_parameter(name, torch.nn.Parameter(entries[name]))
            else:
                made.register_buffer(name, entries[name])
        return made

    root = module(state)
    # An attribute of OpenAI's blocks that is no parameter.
    root.transformer.resblocks.get_submodule("0").attn_mask = torch.zeros(77, 77)
    torch.jit.trace(root, torch.ones(1)).save(str(path))


def half(state):
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def vision_alone(model):
    """As EVL's converter writes CLIP's vision tower."""
    visual = "visual."
    return {name.removeprefix(visual): value for name, value in start_state(model).items() if name.startswith(visual)}


def without_projection(model):
    return {name: value for name, value in vision_alone(model).items() if name != "proj"}


LAYOUTS = {
    "openai.pth": openai_state,
    "openai_half.pth": lambda model: half(openai_state(model)),
    "openai.pt": lambda model: half(openai_state(model)),
    "hugging_face.safetensors": hugging_face_state,
    "hugging_face.bin": lambda model: {
        **hugging_face_state(model),
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
        "text_model.embeddings.position_ids": torch.arange(77)[None],
    },
    "start.pth": start_state,
    "parallel_start.pth": lambda model: {f"module.{name}": value for name, value in start_state(model).items()},
    "vision.pth": vision_alone,
    "vision_without_projection.pth": without_projection,
}


def write(state, path):
    if path.suffix == ".safetensors":
        write_safetensors(path, arrays(state))
    elif path.suffix == ".pt":
        archive(state, path)
    else:
        torch.save(state, path)
    return path


# Files are read in the same way for every backend.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")
# What is told of a model that has more than CLIP.
START = "the weights are CLIP's, which has no prompts and no learned context"


@pytest.fixture(scope="module")
def reference():
    return rendering()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_starts_from_clip(reference, layout, tmp_path):
    """All that CLIP has is loaded, in float32; the names of what it does not have are told, and only what stays random
    of CLIP itself warns.
    """
    path = write(LAYOUTS[layout](reference), tmp_path / layout)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", START)
        model = build(weights=path)
    told = [str(warning.message) for warning in caught]
    assert len(told) == ("vision" in layout)
    if told:
        absent = "text tower and projection" if "without" in layout else "text tower"
        assert f"random weights for its {absent}, and scores mean nothing before it is trained" in told[0]
    start = arrays(start_state(reference))
    if "vision" in layout:
        start = {name: array for name, array in start.items() if name.startswith("visual.")}
    if "without" in layout:
        del start["visual.proj"]
    if "half" in layout or layout.endswith(".pt"):
        start = {name: array.astype("float16").astype("float32") for name, array in start.items()}
    state = model.state()
    for name, array in start.items():
        assert state[name].dtype == "float32"
        np.testing.assert_array_equal(state[name], array, name)
    before = build().state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left = kvf.load_weights(model, path)
    assert sorted(left) == sorted(name for name in before if name not in start and name != "text_features")
    if "vision" not in layout:
        assert all(NOT_OF_CLIP.search(name) for name in left)
        assert {"visual.time_embed", "visual.global_prompts", "prompt_learner.ctx"} <= set(left)
        assert {"visual.blocks.1.cls_proj.bias", "visual.blocks.0.summary_ln.weight"} <= set(left)


def test_the_vision_tower_alone_is_no_start_of_what_never_trains(reference, tmp_path):
    """Without a context texts are those of the tower, which stays random unless all trains."""
    path = write(vision_alone(reference), tmp_path / "vision.pth")
    for options in ({"prompts": ()}, {}):
        with pytest.raises(WeightsFileError, match=r"vision\.pth: .* context=None .* both towers; .* text_depth=None"):
            build(weights=path, context=None, **options)
    for options in ({"context": None, "trains": "all"}, {"text_depth": None}):
        with pytest.warns(UserWarning, match="random weights"):
            build(weights=path, **options)


def test_a_context_in_a_file_of_clip_is_loaded(reference):
    """A context that is to start from words too; one of another kind is told of."""
    context = np.random.default_rng(0).normal(size=(3, 8)).astype("float32")
    whole = arrays(start_state(reference))
    for state in (whole, {name: array for name, array in whole.items() if not name.startswith("textual.")}):
        model = build(context_init="a video of")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert "prompt_learner.ctx" not in model.load_state({**state, "prompt_learner.ctx": context})
            np.testing.assert_array_equal(model.state()["prompt_learner.ctx"], context)
            for odd in (context, np.ones((), "float32")):
                with pytest.raises(WeightsFileError, match="is of context='.*' and the model of context='class'"):
                    build().load_state({**state, "prompt_learner.ctx": odd})


def test_what_is_random_beside_clip_is_told_of(reference, tmp_path):
    """Once for a model, and not where nothing is random."""
    path = write(hugging_face_state(reference), tmp_path / "clip.safetensors")
    for options, what in (
        ({}, "prompts and no learned context"),
        ({"context": None}, "prompts"),
        ({"context_init": "a video of"}, "prompts"),
        ({"prompts": ()}, "learned context"),
        ({"include_top": False, "class_names": None}, "prompts"),
    ):
        with pytest.warns(UserWarning) as told:
            build(weights=path, **options)
        (message,) = [str(warning.message) for warning in told]
        assert message.startswith(
            f"the weights are CLIP's, which has no {what}: the model's are random, a start for tr"
        )
        assert message.endswith("To score without training build it with prompts=() and context=None.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(weights=path, prompts=(), context=None)


def test_a_context_of_words_starts_from_the_vectors_of_the_file(reference, tmp_path):
    path = write(openai_state(reference), tmp_path / "openai.pth")
    model = build(weights=path, context_init="a video of")
    vectors = model.state()["textual.token_embedding.weight"]
    np.testing.assert_array_equal(model.state()["prompt_learner.ctx"], vectors[[320, 1455, 539]])
    assert "prompt_learner.ctx" not in kvf.load_weights(model, path)


@pytest.mark.parametrize("layout", ["openai.pth", "hugging_face.safetensors", "vision.pth"])
def test_a_model_without_its_classifier(reference, layout, tmp_path):
    path = write(LAYOUTS[layout](reference), tmp_path / layout)
    model = build(weights=path, class_names=None, include_top=False, pooling="avg")
    start, state = arrays(start_state(reference)), model.state()
    assert not any(name.startswith(("textual", "prompt_learner", "logit_scale", "visual.proj")) for name in state)
    for name, array in state.items():
        if name in start:
            np.testing.assert_array_equal(array, start[name], name)
    assert kvf.load_weights(model, path) == [name for name in state if NOT_OF_CLIP.search(name)]


def test_what_is_missing_in_a_file_of_clip(reference):
    model = build()
    for layout, name, message in (
        (openai_state, "visual.conv1.weight", "'visual.patch_embed.proj.weight' is missing"),
        (openai_state, "visual.ln_post.bias", "'visual.ln_post.bias' is missing"),
        (openai_state, "ln_final.bias", "'textual.ln_final.bias' is missing"),
        (hugging_face_state, "text_model.encoder.layers.0.self_attn.k_proj.bias", "no keys or values beside it"),
        (hugging_face_state, "visual_projection.weight", "'visual.proj' is missing"),
    ):
        state = arrays(layout(reference))
        del state[name]
        with pytest.raises(WeightsFileError, match=f"^state: .*({message})"):
            model.load_state(state)
    state = arrays(openai_state(reference))
    state["visual.transformer.resblocks.0.attn.in_proj_bias"] = np.zeros(35, "float32")
    with pytest.raises(WeightsFileError, match=r"in_proj_bias' has shape \(35,\), which is not of queries"):
        model.load_state(state)


def same(state, written):
    assert written.keys() == state.keys()
    for name, array in state.items():
        assert written[name].dtype == array.dtype and written[name].shape == array.shape, name
        assert written[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("name", ["all_prompts", "local_middle_shared", "global_front"])
def test_the_originals_checkpoint_there_and_back(name):
    """Bit for bit, with the constant vectors around the context, and nothing left over."""
    path = folder(name) / "checkpoint.pth"
    model = kvf.VitaCLIPB(weights=path, **arguments(name))
    assert kvf.load_weights(model, path) == []
    same(checkpoint(name), model.state(unused=True))


@pytest.mark.parametrize("name", ["summary_only", "no_prompts"])
def test_a_checkpoint_without_texts_there_and_back(name):
    model = kvf.VitaCLIPB(weights=None, **{**arguments(name), "text_depth": None, "classes": 4, "class_names": None})
    with pytest.warns(UserWarning, match="has no classifier"):
        left = kvf.load_weights(model, folder(name) / "checkpoint.pth")
    assert left == ["text_features"]
    written = model.state(unused=True)
    del written["text_features"]
    same(checkpoint(name), written)


def test_what_training_saves_goes_back_to_the_rendering(reference, tmp_path):
    torch.save(training_checkpoint(reference), tmp_path / "training.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build(weights=tmp_path / "training.pth")
    written = model.state(unused=True)
    same(arrays(reference.state_dict()), written)
    torch.save({name: torch.from_numpy(array) for name, array in written.items()}, tmp_path / "back.pth")
    reference.load_state_dict(torch.load(tmp_path / "back.pth"), strict=True)


def test_a_checkpoint_of_zero_shot_training_scores_any_names():
    """Its context belongs to the names it was trained with; a model without a context scores others by their texts."""
    name = "zeroshot_templates"
    changes = {"context": None, "class_names": ["a cat", "a dog"]}
    model = kvf.VitaCLIPB(weights=folder(name) / "checkpoint.pth", **{**arguments(name), **changes})
    state = checkpoint(name)
    for key, array in model.state().items():
        if key != "text_features":
            np.testing.assert_array_equal(array, state[key], key)
    assert model.text_features.shape[0] == 2


@pytest.mark.parametrize("argument", ["class_names", "labels"])
def test_names_of_another_number_than_those_of_a_file(argument, tmp_path):
    """Both arguments do the same; of as many classes as the file has, its activation is taken too."""
    build(context=None, classifier_activation="sigmoid").save(tmp_path / "three.keras")
    for names, activation in ((["a cat", "a dog"], "softmax"), (["a cat", "a dog", "a horse"], "sigmoid")):
        changes = {"class_names": None, argument: names, "context": None}
        model = build(weights=tmp_path / "three.keras", **changes)
        assert model.labels == tuple(names) and model.output_shape == (None, len(names))
        assert model.classifier.activation.__name__ == activation


# === What is published ===


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with FakeHub() as hub:
        use(hub, monkeypatch, tmp_path / "hub")
        yield hub


@pytest.mark.parametrize(
    ("weights", "file"),
    [
        ("clip", "model.safetensors"),
        ("clip", "pytorch_model.bin"),
        (f"hf://{REPOSITORY}", "model.safetensors"),
        (f"hf://{REPOSITORY}/other/x.pth", "other/x.pth"),
    ],
)
def test_clip_of_the_hub(reference, hub, tmp_path, monkeypatch, weights, file):
    monkeypatch.chdir(tmp_path)
    # A folder of this name does not stand in the way.
    (tmp_path / "clip").mkdir()
    path = write(hugging_face_state(reference), tmp_path / file.rpartition("/")[2])
    hub.publish(REPOSITORY, {"tf_model.h5": b"x", "config.json": b"{}", file: path.read_bytes()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", START)
        model = build(weights=weights)
    assert model.input_shape == (None, 4, 32, 32, 3) and model.labels == NAMES
    np.testing.assert_array_equal(model.state()["visual.proj"], reference.visual.proj.detach().numpy())


def test_the_authors_file_is_for_a_browser():
    page = "https://drive.google.com/file/d/1vxgNg_lmGBRKNiY4VAy-aiCb-GuOAJNZ/view"
    with pytest.raises(WeightsDownloadError, match=rf"weights='k400': VitaCLIPB/k400 .*{re.escape(page)} .*its path"):
        build(weights="k400", class_names=None)


def test_golden_texts_are_those_of_the_package():
    """The class names that the authors trained with are the package's, in the same order."""
    names = json.loads((folder("clip_tokens") / "expected.json").read_text())["class_names"]["k400"]
    assert list(names) == kvf.load_labels("k400")
