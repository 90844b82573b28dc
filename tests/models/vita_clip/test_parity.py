"""Whole small models of Vita-CLIP against golden data: features, logits, loss, and every gradient of what trains."""

import functools

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.vita_clip.class_texts import texts_with_context
from keras_video_focalnet.models.vita_clip.other_names import zero_shot
from tests.gradients import by_names, loss_and_gradients, modes
from tests.precision import double_precision
from tests.vita_golden import DOUBLE, FOLDERS, SINGLE, arguments, checkpoint, config, expected, model_of

BACKEND = keras.backend.backend()
# In graphs and by XLA every folder is run in `make verify`, and one of them always.
ALL_PROMPTS, *REST = FOLDERS
CASES = [
    pytest.param(name, mode, marks=[] if name == ALL_PROMPTS or mode == modes()[0] else [pytest.mark.slow])
    for mode in modes()
    for name in FOLDERS
]
on_jax_slow = pytest.mark.slow_on("jax")
# Arrays that are in float32 in the golden files, relative to their largest value.
STORED = 1e-6


def error(actual, wanted):
    """The greatest difference."""
    return float(np.abs(np.asarray(actual, "float64").reshape(wanted.shape) - wanted).max())


def numbers(tensor):
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor)))


@functools.cache
def names_of_three():
    """The names that the supervised checkpoint of `zeroshot_templates` is of."""
    return tuple(config("zeroshot_templates")["class_names"])


def zero_shot_model(template="class_only", **changes):
    """The model of `zeroshot_templates` for the six names of its zero-shot data."""
    settings = config("zeroshot_templates")["zeroshot"]
    names = settings["class_names"]
    return model_of(
        "zeroshot_templates",
        **{"class_names": names, "context": None, "templates": settings["templates"][template], **changes},
    )


def golden_model(name, **changes):
    return zero_shot_model(**changes) if name == "zeroshot_templates" else model_of(name, **changes)


def outputs(model, mode):
    """A function from clips to the outputs of blocks, the video features and the logits."""
    blocks = [layer.output for layer in model.network.layers_of("block")]
    stem = keras.tree.flatten(model.get_layer("patch_embed").output)[0]
    taps = keras.Model(model.input, [stem, *blocks, model.pooled, model.output])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        call = functools.partial(taps, training=False)
        return call if mode == "eager" else tf.function(call, jit_compile=mode == "xla")
    return taps.predict_on_batch if BACKEND == "jax" else functools.partial(taps, training=False)


def value_errors(name, mode, dtype="float32"):
    """The greatest differences of what a model gives on the way to its logits."""
    data, model = expected(name), golden_model(name, dtype=dtype)
    model.classifier.refresh_kept()
    stem, *blocks, pooled, logits = map(numbers, outputs(model, mode)(data["input"].astype(dtype)))
    found = {
        "logits": error(logits, data["logits"]),
        "video_features": error(numbers(model.classifier.video_features(pooled)), data["video_features"]),
        "text_features": error(numbers(model.text_features), data["text_features"]),
        "embedded/tokens": error(stem, data["embedded/tokens"]) / np.abs(data["embedded/tokens"]).max(),
    }
    for place, tokens in enumerate(blocks):
        found[f"blocks/{place}/class_token"] = error(tokens[:, :, 0], data[f"blocks/{place}/class_token"])
        if place < len(blocks) - 1:
            wanted = data[f"blocks/{place}/tokens"]
            found[f"blocks/{place}/tokens"] = error(tokens, wanted) / np.abs(wanted).max()
    return found


def gradient_errors(name, mode, dtype="float32"):
    """The greatest differences of the loss and its gradients, by the reference's names of what trains."""
    data, model = expected(name), golden_model(name, dtype=dtype)
    model.classifier.refresh_kept()
    loss, gradients = loss_and_gradients(model, mode)(data["input"].astype(dtype), data["labels"])
    found = by_names(model, {id(v): g for v, g in zip(model.trainable_variables, gradients, strict=True)})
    assert set(found) == set(config(name)["trainable"]) == {key[5:] for key in data.files if key.startswith("grad/")}
    errors = {key: error(gradient, data[f"grad/{key}"]) for key, gradient in found.items()}
    return {**errors, "loss": abs(loss - float(data["loss"]))}


def within(errors, tolerance):
    """Checks errors; arrays that are stored in float32 have a tolerance of their own."""
    for key, value in errors.items():
        assert value < (max(tolerance, STORED) if key.endswith("tokens") else tolerance), (key, value)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_values(name, mode):
    within(value_errors(name, mode), SINGLE)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_gradients(name, mode):
    within(gradient_errors(name, mode), SINGLE)


@on_jax_slow
@pytest.mark.parametrize("name", FOLDERS)
def test_in_double_precision(name):
    with double_precision():
        within(value_errors(name, modes()[0], "float64"), DOUBLE)
        within(gradient_errors(name, modes()[0], "float64"), DOUBLE)


@pytest.mark.parametrize("name", FOLDERS)
def test_prompts_of_clips(name):
    """Summaries and local prompts of each block, from the tokens that enter it."""
    data, model = expected(name), golden_model(name)
    compared = set()
    for place, layer in enumerate(model.network.layers_of("block")):
        tokens = data[f"blocks/{place - 1}/tokens" if place else "embedded/tokens"]
        given = layer.prompts_of_clips(keras.ops.convert_to_tensor(tokens.astype("float32")))
        for kind, prompts in given.items():
            assert error(numbers(prompts), data[f"blocks/{place}/{kind}"]) < SINGLE
            compared.add(f"blocks/{place}/{kind}")
    assert compared == {key for key in data.files if key.startswith("blocks/") and key.endswith(("summary", "local"))}


# === Other clips ===


@pytest.mark.parametrize("name", ["all_prompts", "summary_only", "no_prompts"])
def test_longer_clips_are_groups_with_prompts_of_their_own(name):
    data = expected(name)
    shape = data["long/input"].shape[1:]
    model = model_of(name, input_shape=shape, long_clips="groups")
    assert error(model.predict(data["long/input"], verbose=0), data["long/logits"]) < SINGLE
    assert error(model.video_features(data["long/input"]), data["long/video_features"]) < SINGLE
    with pytest.raises(ValueError, match=f"must be num_frames={model.num_frames}, received {shape[0]}; score views"):
        model_of(name, input_shape=shape)


def test_clips_that_the_frames_of_prompts_do_not_divide_are_refused():
    """The reference groups frames of two clips then."""
    shape = expected("all_prompts")["straddle/input"].shape[1:]
    with pytest.raises(ValueError, match=r"must be a multiple of num_frames=4.*received 6"):
        model_of("all_prompts", input_shape=shape, long_clips="groups")


# === Texts ===


@pytest.mark.parametrize("name", FOLDERS[:3])
def test_texts_with_a_context(name):
    data, model = expected(name), model_of(name)
    head = model.classifier
    (texts,) = head.texts
    last = texts.ids.shape[1]
    assert (texts.ends == data["eot"]).all() and last == texts.ends.max() + 1
    if model.context_position == "end":
        count = model.context_tokens
        assert (texts.ids[:, 1 + count :] == data["tokens"][:, 1 + count : last]).all()
    given = []
    call = head.textual.call
    head.textual.call = lambda inputs, ends: given.append(numbers(inputs)) or call(inputs, ends)
    head.text_features()
    wanted = data["prompts"]
    assert error(given[0], wanted) / np.abs(wanted).max() < STORED
    places = np.arange(len(texts.ends)), texts.ends
    x = keras.ops.convert_to_tensor(given[0]) + keras.ops.convert_to_tensor(head.textual.positional_embedding)[:last]
    for place, block in enumerate(head.textual.blocks):
        x = block(x)
        assert error(numbers(x)[places], data[f"text/blocks/{place}/eot"]) < SINGLE


@pytest.mark.parametrize("phrase", [0, 1])
def test_a_context_that_starts_from_words(phrase):
    data, words = expected("global_front"), config("global_front")["words"][phrase]
    new = ("prompt_learner", "visual.time_embed", "visual.global_prompts")
    state = {key: array for key, array in checkpoint("global_front").items() if not key.startswith(new)}
    for position in ("end", "middle", "front"):
        changes = {"context_init": words, "context_position": position, "context_tokens": 3}
        model = model_of("global_front", **changes, state=state)
        assert model.classifier.shares_context
        assert error(numbers(model.classifier.ctx), data[f"words/{phrase}/context"]) < STORED
        wanted = data[f"words/{phrase}/{position}/text_features"]
        assert error(numbers(model.text_features), wanted) < SINGLE
    names = arguments("global_front")["class_names"]
    texts = texts_with_context(names, 3, "end", words)
    count = len(texts.words)
    tokens = data[f"words/{phrase}/tokens"]
    assert texts.words == tuple(tokens[0, 1 : 1 + count])
    assert (texts.suffix_ids == tokens[:, 1 + count :]).all()


def test_spaces_around_the_words_of_a_context_take_nothing_from_names():
    names = arguments("global_front")["class_names"]
    plain = texts_with_context(names, 3, "end", "a video of")
    for words in (" a video of", "a video of ", "a  video of", "a_video_ of", "a\tvideo of\n"):
        texts = texts_with_context(names, 3, "end", words)
        assert texts.words == plain.words == (320, 1455, 539)
        np.testing.assert_array_equal(texts.ids, plain.ids)
        np.testing.assert_array_equal(texts.suffix_ids, plain.suffix_ids)


def test_zero_shot():
    data, settings = expected("zeroshot_templates"), config("zeroshot_templates")["zeroshot"]
    supervised = model_of("zeroshot_templates")
    assert supervised.labels == names_of_three()
    assert error(supervised.predict(data["input"], verbose=0), data["supervised/logits"]) < SINGLE
    for name, template in settings["templates"].items():
        wanted = data["logits" if name == "class_only" else f"{name}/logits"]
        shares = np.exp(wanted - wanted.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        given = zero_shot(supervised, data["input"], settings["class_names"], [template])
        assert error(given, shares) < SINGLE
        other = supervised.set_class_names(settings["class_names"], [template])
        assert other.labels == tuple(settings["class_names"]) and other.context is None
        assert error(other.predict(data["input"], verbose=0), wanted) < SINGLE
        assert error(numbers(other.text_features), data[f"{name}/text_features"]) < SINGLE
        (texts,) = other.classifier.texts
        assert (texts.ids == data[f"{name}/tokens"][:, : texts.ids.shape[1]]).all()
    # Several templates: the mean of vectors of length 1.
    features = [data[f"{name}/text_features"] for name in settings["templates"]]
    mean = sum(each / np.linalg.norm(each, axis=-1, keepdims=True) for each in features) / len(features)
    other = supervised.set_class_names(settings["class_names"], list(settings["templates"].values()))
    assert error(numbers(other.text_features), mean) < SINGLE
