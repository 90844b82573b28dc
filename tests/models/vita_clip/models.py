"""Vita-CLIPs for tests: ours and our PyTorch rendering of the same sizes, and files of CLIP."""

import contextlib

import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.layers import initializers
from keras_video_focalnet.models.vita_clip.tokenizer import encode, tokenize

NAMES = ("opening a door", "closing a door", "hurling (sport)")
SMALL = {
    **{"embed_dim": 12, "depth": 2, "num_heads": 3, "patch_size": 16, "projection_dim": 6, "num_global_prompts": 3},
    **{"text_dim": 8, "text_heads": 2, "text_depth": 2, "context_tokens": 3, "input_shape": (4, 32, 32, 3)},
}


BARE = {"include_preprocessing": False, "classifier_activation": None}


def build(**changes):
    """One of ours by its builder, small where nothing else is said."""
    return kvf.VitaCLIPB(**{"class_names": NAMES, "weights": None, **SMALL, **changes})


def trained_names(model):
    """The reference's names of what trains."""
    training = {id(variable) for variable in model.trainable_variables}
    return {name for name, slot in model.network.slots().items() if id(slot.variable) in training}


@contextlib.contextmanager
def undrawn():
    """Leaves random weights at zero, since drawing those of a large model takes long."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (initializers.NumpyNormal, initializers.NumpyUniform, initializers.NumpyFanInUniform):
            patch.setattr(kind, "draw", lambda self, rng, shape: np.zeros(shape, "float32"))
        yield


def rendering(sizes=SMALL, names=NAMES, spread=0.1, **options):
    """Our PyTorch rendering of given sizes, with random weights that differ from those it begins with."""
    import torch

    from weights_conversion.torch_reference_vita_clip import VitaCLIP

    theirs = {
        **{"embed_dim": "feature_dim", "depth": "num_layers", "num_heads": "num_heads", "projection_dim": "embed_dim"},
        **{"num_global_prompts": "num_global_prompts", "context_tokens": "text_num_prompts"},
        **{"text_dim": "text_transformer_width", "text_heads": "text_transformer_heads"},
        "text_depth": "text_transformer_layers",
    }
    options = {**{theirs[name]: value for name, value in sizes.items() if name in theirs}, **options}
    if "input_shape" in sizes:
        options |= {"num_frames": sizes["input_shape"][0], "input_size": sizes["input_shape"][1:3]}
    place_holders = " ".join(["X"] * options.get("text_num_prompts", 8))
    tokens = tokenize([f"{place_holders} {name}." for name in names])
    torch.manual_seed(0)
    model = VitaCLIP(tokens, [len(encode(name)) for name in names], **options)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(spread * torch.randn_like(value))
        model.prompt_learner.embed(model.textual.token_embedding)
    return model


def arrays(state):
    """A PyTorch state dict as arrays, those of half precision widened."""
    return {name: value.detach().float().numpy() for name, value in state.items()}


def training_checkpoint(model):
    """What the original's training saves of a model after a step of its optimizer."""
    import torch

    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for value in trained:
        value.grad = torch.zeros_like(value)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30_000)
    return {
        "model": {f"module.{name}": value for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "lr_sched": schedule.state_dict(),
        "loss_scaler": {},
        "next_step": 1,
    }


def clips(shape, count=2):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype("float32")
