"""Golden data of Vita-CLIP, as models of ours and what they should give."""

import json

import numpy as np

from keras_video_focalnet.models.vita_clip.model import VitaCLIP
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.golden import golden

# Absolute, of logits and of gradients in float32, and of everything in float64.
SINGLE, DOUBLE = 5e-5, 1e-9
FOLDERS = (
    *("all_prompts", "local_middle_shared", "global_front", "zeroshot_templates"),
    *("summary_only", "no_prompts"),
)
BARE = {"include_preprocessing": False, "classifier_activation": None}


def folder(name):
    return golden(f"vita_clip/{name}")


def config(name):
    return json.loads((folder(name) / "config.json").read_text())


def expected(name):
    return np.load(folder(name) / "expected.npz")


def checkpoint(name):
    return read_state_dict(folder(name) / "checkpoint.pth")


def arguments(name):
    """The constructor's arguments of a folder, by the reference's."""
    settings = config(name)
    kinds = {"summary": "use_summary_token", "local": "use_local_prompts", "global": "use_global_prompts"}
    frames = settings["num_frames"]
    found = {
        "prompts": tuple(kind for kind, key in kinds.items() if settings[key]),
        "num_frames": frames,
        "patch_size": settings["patch_size"][0],
        "embed_dim": settings["feature_dim"],
        "depth": settings["num_layers"],
        "num_heads": settings["num_heads"],
        "mlp_ratio": settings["mlp_factor"],
        "projection_dim": settings["embed_dim"],
        "input_shape": (frames, *settings["input_size"], 3),
        "class_names": settings.get("class_names"),
        **BARE,
    }
    if settings["use_global_prompts"]:
        found["num_global_prompts"] = settings["num_global_prompts"]
    for ours, theirs in (("text_dim", "width"), ("text_heads", "heads"), ("text_depth", "layers")):
        found[ours] = settings.get(f"text_transformer_{theirs}")
    if settings["use_text_prompt_learning"]:
        found["context"] = "class" if settings["text_prompt_CSC"] else "shared"
        found |= {"context_tokens": settings["text_num_prompts"], "context_position": settings["text_prompt_pos"]}
    else:
        found["context"] = None
    return found


def model_of(name, state=None, **changes):
    """The model of a folder with its weights, or with those of a file that training starts from."""
    found = {**arguments(name), **changes}
    given = checkpoint(name) if state is None else state
    if (folder(name) / "text_features.pth").exists():
        found |= {"text_depth": None, "class_names": None}
        given["text_features"] = expected(name)["text_features"]
        found["classes"] = len(given["text_features"])
    model = VitaCLIP(**found)
    left = model.load_state(given)
    assert (left == []) == (state is None)
    return model
