"""CLIP of Transformers with random weights, and ours with what it saves: the same features of images and texts."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.vita_clip.class_texts import plain_texts
from keras_video_focalnet.models.vita_clip.tokenizer import END, START, VOCABULARY_SIZE, tokenize
from tests.models.vita_clip.models import BARE, NAMES, build, undrawn

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# Absolute, of features of up to 4, and of cosines.
TOLERANCE = 1e-5
SMALL = {"embed_dim": 12, "depth": 2, "num_heads": 3, "patch_size": 16, "projection_dim": 6}
SMALL |= {"text_dim": 8, "text_heads": 2, "text_depth": 2, "input_shape": (2, 48, 48, 3)}
FULL = {"embed_dim": 768, "depth": 12, "num_heads": 12, "patch_size": 16, "projection_dim": 512}
FULL |= {"text_dim": 512, "text_heads": 8, "text_depth": 12, "input_shape": (2, 224, 224, 3)}


def clip_model(sizes):
    """A random `CLIPModel`, of which no part is without effect."""
    shared = {"hidden_act": "quick_gelu", "projection_dim": sizes["projection_dim"]}

    def tower(width, heads, depth):
        sized = {"hidden_size": sizes[width], "intermediate_size": 4 * sizes[width]}
        return {**shared, **sized, "num_attention_heads": sizes[heads], "num_hidden_layers": sizes[depth]}

    images = {"image_size": sizes["input_shape"][1], "patch_size": sizes["patch_size"]}
    vision = {**tower("embed_dim", "num_heads", "depth"), **images}
    text = {
        **tower("text_dim", "text_heads", "text_depth"),
        "vocab_size": VOCABULARY_SIZE,
        "bos_token_id": START,
        "eos_token_id": END,
    }
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config=vision, text_config=text, projection_dim=sizes["projection_dim"], logit_scale_init_value=4.6
        )
    )
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
    return model.eval()


def as_arrays(tensor):
    return getattr(tensor, "pooler_output", tensor).numpy()


@pytest.mark.parametrize("sizes", [SMALL, pytest.param(FULL, marks=pytest.mark.slow)], ids=["small", "full"])
def test_the_same_features(sizes, tmp_path):
    theirs = clip_model(sizes)
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    with undrawn():
        ours = build(weights=tmp_path / "model.safetensors", prompts=(), context=None, **sizes, **BARE)
    assert not ours.state()["visual.time_embed"].any()
    frames = np.random.default_rng(0).standard_normal((2, *sizes["input_shape"][1:])).astype("float32")
    tokens = torch.tensor(tokenize(NAMES), dtype=torch.long)
    with torch.no_grad():
        images = theirs.get_image_features(torch.tensor(frames).permute(0, 3, 1, 2))
        texts = theirs.get_text_features(tokens, attention_mask=torch.ones_like(tokens))
        images, texts = as_arrays(images), as_arrays(texts)
        logits = theirs(pixel_values=torch.tensor(frames).permute(0, 3, 1, 2), input_ids=tokens).logits_per_image
    # Each image is a clip that stands still.
    clips = np.repeat(frames[:, None], sizes["input_shape"][0], 1)
    head = ours.classifier
    given = keras.ops.convert_to_numpy(head.text_features((plain_texts(NAMES),)))
    for name, array, wanted in (
        ("images", ours.video_features(clips), images),
        ("texts", given, texts),
        ("kept texts", keras.ops.convert_to_numpy(ours.text_features), texts),
    ):
        error = np.abs(array - wanted).max()
        assert error < TOLERANCE, (name, error, np.abs(wanted).max())
    error = np.abs(ours.predict(clips, verbose=0) - logits.numpy()).max() / np.exp(4.6)
    assert error < TOLERANCE, error
