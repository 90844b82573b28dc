"""Prompts alone learn what a camera does, through towers of random weights that stay as they are."""

import keras
import numpy as np
import pytest

from examples.camera_motion.photographs import HELD_OUT, TRAINING, load_photographs, vary_photographs
from examples.camera_motion.synthesis import move_window
from keras_video_focalnet.models.vita_clip.model import VitaCLIP
from tests.models.vita_clip.models import trained_names

MOVES = ("static", "pan left", "tilt up")
FRAMES, SIDE, PATCH = 4, 8, 16
EPOCHS, BATCH, RATE = 8, 64, 0.005


def clips_of_moves(photographs, count, rng):
    """Clips `(count, 4, 16, 16, 3)` uint8 and the numbers of their moves.

    They are grey, of one brightness and contrast, and of 8 x 8 points, each shown as a square of 2 x 2 pixels. So one
    patch is a whole frame of few values, and what projections that nobody trained tell of it differs with the move.
    """
    labels = np.arange(count) % len(MOVES)
    clips = np.empty((count, FRAMES, PATCH, PATCH, 3), "uint8")
    for clip, label in zip(clips, labels, strict=True):
        photograph = photographs[rng.integers(len(photographs))]
        speed = None if MOVES[label] == "static" else rng.uniform(0.3, 0.5)
        window = {"num_frames": FRAMES, "size": SIDE, "coverage": rng.uniform(0.4, 0.95)}
        grey = move_window(photograph, MOVES[label], speed, rng=rng, **window).mean(-1)
        grey = (128 + 55 * (grey - grey.mean()) / max(grey.std(), 4)).clip(0, 255).round()
        clip[:] = grey.repeat(PATCH // SIDE, 1).repeat(PATCH // SIDE, 2)[..., None]
    return clips, labels


def mirrored(clips, labels, rng):
    """The clips once more, some upside down, mirrored or as negatives, where that leaves the move as it is."""
    copies = clips.copy()
    for copy, label in zip(copies, labels, strict=True):
        if MOVES[label] != "tilt up" and rng.random() < 0.5:
            copy[:] = copy[:, ::-1]
        if MOVES[label] != "pan left" and rng.random() < 0.5:
            copy[:] = copy[:, :, ::-1]
        if rng.random() < 0.5:
            copy[:] = 255 - copy
    return np.concatenate([clips, copies]), np.concatenate([labels, labels])


def small_random_towers():
    """Four blocks and one of text, whose random weights are large enough for tokens to differ from each other."""
    sizes = {"embed_dim": 64, "depth": 4, "num_heads": 16, "patch_size": PATCH, "projection_dim": 32}
    sizes |= {"text_dim": 32, "text_heads": 2, "text_depth": 1, "context_tokens": 4, "mlp_ratio": 2.0}
    model = VitaCLIP(MOVES, prompts=("summary",), input_shape=(FRAMES, PATCH, PATCH, 3), **sizes)
    rng = np.random.default_rng(0)
    stem = model.get_layer("patch_embed")
    for variable in (stem.cls_token, stem.pos_embed):
        variable.assign(rng.standard_normal(variable.shape))
    for block in model.network.layers_of("block"):
        block.attention.out_proj.kernel.assign(block.attention.out_proj.kernel * 8)
    return model


@pytest.mark.slow
def test_prompts_learn_moves_of_a_camera():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    pictures = vary_photographs(load_photographs(TRAINING), 60, rng)
    clips, labels = mirrored(*clips_of_moves(pictures, 12_000, rng), rng)
    unseen, moves = clips_of_moves(load_photographs(HELD_OUT), 900, rng)

    model = small_random_towers()
    before = model.state()
    schedule = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * len(clips) // BATCH)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(clips, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)

    scores = model.predict(unseen, verbose=0)
    accuracy = (scores.argmax(-1) == moves).mean()
    print(f"{accuracy:.1%} of {len(moves)} clips of held-out photographs")
    assert accuracy > 0.9
    after = model.state()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved - {"text_features"} == trained_names(model)

    order = [2, 0, 1]
    other = model.set_class_names([MOVES[place] for place in order])
    np.testing.assert_allclose(other.predict(unseen, verbose=0), scores[:, order], rtol=0, atol=1e-5)
