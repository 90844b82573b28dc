"""What Vita-CLIP cannot be built of, given or loaded: each error names the argument, the value and the remedy."""

import sys
from pathlib import Path

import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.vita_clip import VitaCLIP, zero_shot
from keras_video_focalnet.weights.errors import WeightsFileError
from tests.models.vita_clip.models import NAMES, SMALL, build

CLIPS = np.zeros((1, *SMALL["input_shape"]), "uint8")
LONG = "word " * 80


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def state(model):
    return model.state(unused=True)


NO_NAMES = [
    (None, r"class_names must say what .* received None; pass a list of names, .*\"k400\", or a text file"),
    ([], "class_names is an empty list; pass one name a class"),
    ("nowhere.txt", r"class_names='nowhere\.txt' is no known data set and no file; pass \"k400\", .*a path or a list"),
    (3, "class_names must be a list of names, the name of a data set or a file, received 3"),
    (["a door", 3], "class_names must hold strings, received 3 in it; pass one name a class"),
    ({"a door", "a cat"}, "class_names is a set, whose order .*; pass a list in the order of the classes"),
    (["a door", " "], "class_names must be names that say something, received ' '"),
    (["a door", "A  door"], "class_names has 'a door' twice, at last as 'A  door', .*name each once"),
    (["a_door", "a door"], "class_names has 'a_door' twice, at last as 'a door', .*name each once"),
    (
        ["x", "a (b)", "a ( b )"],
        r"class_names has 'a \(b\)' twice, at last as 'a \( b \)', which CLIP reads alike, .*once",
    ),
    (["a door", LONG], r"class_names\[1\]='word word .{50,60}…' is too long: .* 8\d tokens of 77; shorten the name"),
]


@pytest.mark.parametrize(("names", "message"), NO_NAMES)
def test_names(model, names, message):
    """The same for a builder, for other names of a model, and for zero-shot scores."""
    for use in (
        lambda: build(class_names=names),
        lambda: build(class_names=names, context=None),
        lambda: model.set_class_names(names),
        lambda: zero_shot(model, CLIPS, names),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_names_that_ftfy_makes_the_same():
    pytest.importorskip("ftfy")
    for names, message in (
        (["a &amp; b", "a & b"], "class_names has 'a &amp; b' twice, at last as 'a & b', which CLIP reads alike"),
        (["a", "&nbsp;"], "class_names must be names that say something, received '&nbsp;'"),
    ):
        with pytest.raises(ValueError, match=message):
            build(class_names=names)
    with pytest.raises(ValueError, match="context_init must be words of at least one token each, or None, received"):
        build(context_init="a &nbsp; video")


def test_files_that_hold_no_names(model, tmp_path, monkeypatch):
    """Each tells of the argument that was given, and of the file by its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("a cat\ncafé\n".encode("latin-1"))
    (tmp_path / "labels").write_text("")
    for given, kind, message in (
        ("latin.txt", ValueError, r"^class_names='latin\.txt' is not text in UTF-8 .* and save it as UTF-8"),
        (Path("none.txt"), FileNotFoundError, r"^class_names='none\.txt': there is no such file; pass a text file"),
        ("labels", ValueError, "^class_names='labels' holds no class names; write one name a line"),
        ("run.keras", ValueError, "^class_names='run.keras' is no known data set and no file"),
        (tmp_path, ValueError, r"^class_names='.*' is a folder .*, or open_model\('.*'\)\.labels\.$"),
    ):
        for use in (lambda given=given: build(class_names=given), lambda given=given: model.set_class_names(given)):
            with pytest.raises(kind, match=message):
                use()


def test_a_name_that_needs_ftfy(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    for use, start in (
        (lambda: build(class_names=["a cat", "café"]), r"^class_names\[1\]='café': T"),
        (lambda: model.set_class_names(["rock & roll"]), r"^class_names\[0\]='rock & roll': T"),
        (lambda: VitaCLIP.check_class_names(["rock & roll"]), r"^class_names\[0\]='rock & roll': T"),
        (lambda: zero_shot(model, CLIPS, ["a cat"], templates=["a vidéo of {}"]), "^T"),
    ):
        message = rf"{start}he text '.*', which is not printable ASCII.*keras-video-focalnet\[text"
        with pytest.raises(ImportError, match=message):
            use()
    assert zero_shot(model, CLIPS, ["a cat", "a dog"]).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 4}, "class_names has 3 names but classes=4; pass one name a class"),
        ({"labels": ["a", "b", "c"]}, "class_names and labels differ; pass one of them"),
        ({"class_names": None, "classes": 3, "context": None}, "class_names must be given where context=None"),
        ({"prompts": ("summry",)}, 'prompts must be one of "summary", "local", "global"; received \'summry\''),
        ({"prompts": 3}, 'prompts must be one of "summary", "local", "global"; received 3'),
        ({"num_global_prompts": 0}, "num_global_prompts must be an integer of at least 1, received 0"),
        ({"context": "classes"}, 'context must be one of "class", "shared", None; received \'classes\''),
        ({"context_tokens": 0}, "context_tokens must be an integer from 1 to 74, received 0"),
        ({"context_tokens": 3_000_000}, "context_tokens must be an integer from 1 to 74, received 3000000"),
        ({"context_tokens": 75}, "context_tokens must be an integer from 1 to 74, received 75"),
        ({"context_tokens": 74}, r"class_names\[\d\]='.*' is too long: .* shorten the name or context_tokens"),
        ({"context_position": "start"}, 'context_position must be one of "end", "middle", "front"; received \'start\''),
        ({"context_init": " "}, "context_init must be words such as \"a video of\", or None, received ' '"),
        ({"context_init": 3}, 'context_init must be words such as "a video of", or None, received 3'),
        ({"context_init": "a <|endoftext|>"}, "context_init must be words of at least one token each, or None, rec"),
        ({"context_init": LONG}, r"context_init must have at most 74 tokens, .* received 'word .*…'; pass fewer words"),
        ({"context_init": "extraordinarily1 " * 40}, "context_init must have at most 74 tokens, .*; pass fewer words"),
        ({"context_init": "word " * 74}, r"class_names\[\d\]='.*' is too long: .* shorten the name or context_init"),
        ({"trains": "prompt"}, 'trains must be one of "prompts", "cls_proj", "all"; received \'prompt\''),
        ({"templates": ("a video",)}, r'templates must be texts with one "\{\}" each, .* received \'a video\''),
        ({"templates": ("{} and {}",)}, r'templates must be texts with one "\{\}" each'),
        ({"templates": ()}, r'templates must be at least one text with "\{\}", received \(\)'),
        ({"templates": None}, r'templates must be texts with one "\{\}" each, .* received None'),
        ({"templates": (LONG + "{}",), "context": None}, r"class_names\[\d\]='.*' is too long: .* or a template"),
        (
            {"templates": ("a video of {}.",)},
            r"templates=\('a video of \{\}\.',\) are for names without a learned context, and context='class' .*None",
        ),
        (
            {"context_init": "a video of", "context": None},
            "context_init='a video of' is what .*; leave it out, or pass",
        ),
        ({"num_frames": 3}, 'must be num_frames=3, received 4; score views .* or pass long_clips="groups"'),
        ({"num_frames": 8}, "must be num_frames=8, received 4; score views"),
        ({"num_frames": 3, "long_clips": "groups"}, "must be a multiple of num_frames=3, .* received 4"),
        ({"num_frames": 0}, "num_frames must be an integer of at least 1, received 0"),
        ({"long_clips": "views"}, "long_clips must be one of None, \"groups\"; received 'views'"),
        ({"input_shape": (None, 32, 32, 3)}, "frames in input_shape must be known, .* received None"),
        ({"input_shape": (4, 32, 32, 1)}, "input_shape must end in 3 channels"),
        ({"patch_size": 64}, r"input_shape needs a height and width of at least 64 pixels, .* resize the frames"),
        ({"num_heads": 5}, "num_heads must be a divisor of the 12 channels, received 5"),
        ({"text_heads": 3}, "text_heads must be a divisor of text_dim=8, received 3"),
        ({"text_depth": 0}, "text_depth must be an integer of at least 1, received 0"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a number above 0, received 0"),
        ({"mlp_ratio": 0.001}, "mlp_ratio must be a number that gives 12 channels at least one hidden unit, "),
        ({"projection_dim": 0}, "projection_dim must be an integer of at least 1, received 0"),
        ({"weights": "ssv2"}, "weights='ssv2' is not published for VitaCLIPB. Use one of 'k400', 'clip'"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_an_unknown_option():
    with pytest.raises(TypeError, match="VitaCLIPB has no argument 'promts'; it has .*prompts, num_global_prompts"):
        build(promts=())


def test_clips(model):
    for frames in (3, 8):
        with pytest.raises(
            ValueError, match=rf"must have shape \(batch, 4, 32, 32, 3\), received \(1, {frames}, .*read"
        ):
            model.predict(np.zeros((1, frames, 32, 32, 3), "uint8"), verbose=0)
        with pytest.raises(ValueError, match=r"must have shape \(batch, 4, 32, 32, 3\)"):
            zero_shot(model, np.zeros((1, frames, 32, 32, 3), "uint8"), ["a cat"])


def test_what_needs_a_text_tower():
    model = build(text_depth=None, class_names=None, classes=3)
    for name, use in (
        ("set_class_names", lambda: model.set_class_names(NAMES)),
        ("zero_shot", lambda: zero_shot(model, CLIPS, NAMES)),
    ):
        with pytest.raises(ValueError, match=f"{name} needs a text tower, .* build it with text_depth and load"):
            use()
    with pytest.raises(TypeError, match="model must be a VitaCLIP, received VideoFocalNet; build one with VitaCLIPB"):
        zero_shot(kvf.VideoFocalNetNano(weights=None), CLIPS, NAMES)
    with pytest.raises(ValueError, match=r'templates must be texts with one "\{\}"'):
        build().set_class_names(NAMES, templates=["a video"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dim": 24}, "is of embed_dim=12 and the model of embed_dim=24; build the model with the"),
        ({"depth": 3, "text_depth": 1}, "is of depth=2, text_depth=2 and the model of depth=3, text_depth=1;"),
        ({"mlp_ratio": 2}, r"is of mlp_ratio=4\.0 and the model of mlp_ratio=2\.0;"),
        ({"projection_dim": 8, "text_dim": 4}, "is of projection_dim=6, text_dim=8 and the model of projection_dim=8,"),
        ({"patch_size": 8, "input_shape": (4, 16, 16, 3)}, "is of patch_size=16 and the model of patch_size=8;"),
        (
            {"input_shape": (4, 48, 48, 3)},
            "is of 4 patches a frame and the model's input_shape of 9; .* 32 x 32 pixels",
        ),
        ({"input_shape": (8, 32, 32, 3)}, "is of num_frames=4 and the model of num_frames=8;"),
        ({"num_global_prompts": 4}, "is of num_global_prompts=3 and the model of num_global_prompts=4;"),
        (
            {"prompts": ("local",)},
            r"is of prompts=\('summary', 'local', 'global'\) and the model of prompts=\('local',\);",
        ),
        ({"context": "shared"}, "is of context='class' and the model of context='shared';"),
        ({"context_tokens": 4}, "is of context_tokens=3 and the model of context_tokens=4;"),
        ({"class_names": ("opening a door", "a cat", NAMES[2])}, "its class 1 is not 'a cat'. Pass class_names as it"),
        ({"class_names": NAMES[::-1]}, "its class 0 is not 'hurling .*'. Pass class_names as .*or context=None"),
        ({"class_names": NAMES[:2]}, r"=\(3, 73, 8\), the model's of \(2, 73, 8\). Pass class_names as it was trained"),
        ({"class_names": None, "classes": 3}, "of 3 names, and the model was built without class_names. Pass"),
    ],
)
def test_checkpoints_of_other_options(state, options, message):
    other = build(**options)
    before = other.get_weights()
    with pytest.raises(WeightsFileError, match=f"^trained.pth: the checkpoint.*{message}"):
        other.load_state(state, "trained.pth")
    for array, value in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, value)


def test_a_checkpoint_without_a_context(state):
    without = {name: array for name, array in state.items() if not name.startswith("prompt_learner")}
    with pytest.raises(WeightsFileError, match="is of context=None and the model of context='class'; build"):
        build().load_state(without)
    assert build(context=None).load_state(without) == []


def test_checkpoints_of_other_architectures(state):
    other = build()
    with pytest.raises(WeightsFileError, match=r"'visual\.cls_token' is missing, .* architecture \(vita_clip_b\)"):
        other.load_state({"head.weight": np.zeros((3, 4)), "norm.bias": np.zeros(4)})
    with pytest.raises(WeightsFileError, match=r"'other\.weight' has no place in the model \(1 left over\)"):
        other.load_state({**state, "other.weight": np.zeros(3)})
    for odd in (np.zeros(()), np.zeros(3), np.zeros((3, 3, 8, 1))):
        for name in ("prompt_learner.ctx", "prompt_learner.token_suffix", "textual.token_embedding.weight"):
            with pytest.raises(WeightsFileError, match="^state: "):
                other.load_state({**state, name: odd})


def test_names_of_classes_in_the_place_of_include_top():
    with pytest.raises(ValueError, match=r"include_top .*True, False.*opening a door"):
        kvf.VitaCLIPB(["opening a door", "closing a door"], weights=None)
