"""What of Vita-CLIP trains, when its text tower runs, and that nothing is judged by text features of before a step."""

import sys

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.vita_clip.other_names import zero_shot
from keras_video_focalnet.models.vita_clip.text_tower import TextTower
from keras_video_focalnet.training.freezing import linear_probe
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.gradients import by_names, loss_and_gradients
from tests.models.vita_clip.models import SMALL, build, trained_names
from tests.vita_golden import FOLDERS, config, folder, model_of

BACKEND = keras.backend.backend()
LABELS = np.array([0, 1, 2, 1])
# A step moves every number that has a gradient, by about so much.
RATE = 0.01


def clips(count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SMALL["input_shape"]), dtype=np.uint8)


def compiled(model, optimizer=None, **options):
    """A model that trains; without a rate of its own every number moves by about `RATE`."""
    model.compile(optimizer or keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", **options)
    return model


def live_scores(model, x):
    """Scores by text features as the weights are now, whatever is kept."""
    head = model.classifier
    video = keras.ops.convert_to_tensor(model.video_features(x))
    return numbers(head.activation(head.compare(video, head.text_features())))


def numbers(tensor):
    return np.array(keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor)))


# ---- What trains


@pytest.mark.parametrize("name", FOLDERS)
def test_the_rule_of_the_reference(name):
    # That folder's list is of the model that scores other names.
    changes = {"context": None} if name == "zeroshot_templates" else {}
    assert trained_names(model_of(name, **changes)) == set(config(name)["trainable"])
    everything = trained_names(model_of(name, trains="all")) | {"text_features"}
    names = set(read_state_dict(folder(name) / "checkpoint.pth"))
    assert everything - {"text_features"} == names - {"prompt_learner.token_prefix", "prompt_learner.token_suffix"}


@pytest.mark.parametrize("name", ["all_prompts", "local_middle_shared", "no_prompts"])
def test_projections_of_class_tokens_train_on_demand(name):
    added = trained_names(model_of(name, trains="cls_proj")) - set(config(name)["trainable"])
    assert added == {key for key in read_state_dict(folder(name) / "checkpoint.pth") if ".cls_proj." in key}
    assert bool(added) == (name != "no_prompts")


@pytest.mark.parametrize("trains", ["prompts", "cls_proj", "all"])
@pytest.mark.parametrize("context", ["class", None])
@pytest.mark.slow_on("tensorflow", "jax")
def test_a_step_moves_what_trains_and_nothing_else(trains, context):
    model = compiled(build(trains=trains, context=context))
    before = model.state()
    model.train_on_batch(clips(), LABELS)
    after = model.state()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    # A bias of keys changes no attention, so its gradient is zero or what rounding leaves of it.
    idle = {name for name in before if name.endswith("k_proj.bias")}
    expected = trained_names(model)
    assert moved - {"text_features"} <= expected
    assert expected - idle <= moved
    # They follow the context and the text tower.
    assert ("text_features" in moved) == (context is not None or trains == "all")


def test_freeing_all_layers_does_not_free_what_comes_from_clip():
    model = build()
    expected = trained_names(model)
    linear_probe(model)
    assert trained_names(model) == {"logit_scale", "prompt_learner.ctx"}
    for layer in model.layers:
        layer.trainable = True
    assert trained_names(model) == expected


def test_no_gradient_is_computed_of_what_is_frozen():
    """What comes before the first prompt and time takes no part in the backward pass, nor does a frozen matrix."""
    model = build()
    trained = {id(variable) for variable in model.trainable_variables}
    # The golden model has a third block; of each variable the reference has one name.
    golden = {name for name in config("all_prompts")["trainable"] if not name.startswith("visual.blocks.2.")}
    assert trained_names(model) == golden and len(trained) == len(golden)
    _, gradients = loss_and_gradients(model)(model.preprocess_input(clips()), LABELS)
    assert len(gradients) == len(trained)
    # None is of something that the loss does not depend on; a bias of keys changes no attention.
    found = by_names(model, {id(v): g for v, g in zip(model.trainable_variables, gradients, strict=True)})
    assert {name for name, gradient in found.items() if not gradient.any()} <= {n for n in golden if "k_proj.bias" in n}
    if BACKEND != "torch":
        return
    stem = model.get_layer("patch_embed")
    import torch

    asked = {variable.path for variable in model.variables if variable.value.requires_grad}
    assert asked == {variable.path for variable in model.trainable_variables}
    assert all(variable.value.grad is None for variable in model.variables if id(variable) not in trained)
    pixels = torch.zeros((1, 4, 32 * 32, 3))
    assert not stem.patches(pixels).requires_grad
    assert stem(pixels)[0].requires_grad


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch tells what it keeps for the backward pass")
def test_frozen_matrices_keep_no_input_for_the_backward_pass():
    """Kept is, beside weights, what products with a matrix that trains need, and norms, attention and activations."""
    import torch

    kept = {}
    for trains in ("prompts", "all"):
        model = build(trains=trains, embed_dim=48, num_heads=4)
        own = {variable.value.untyped_storage().data_ptr() for variable in model.variables}
        sizes = {}

        def keep(tensor, own=own, sizes=sizes):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(clips(8), training=True).sum()
        kept[trains] = sum(sizes.values())
        del loss
    assert kept["prompts"] < 0.75 * kept["all"], kept


# ---- When the text tower runs


@pytest.fixture
def runs(monkeypatch):
    """How many texts passed the text tower, in turn."""
    texts, call = [], TextTower.call

    def counted(self, inputs, ends):
        texts.append(inputs.shape[0])
        return call(self, inputs, ends)

    monkeypatch.setattr(TextTower, "call", counted)
    return texts


def eager(model):
    return compiled(model, run_eagerly=True)


@pytest.mark.slow_on("jax")
def test_a_step_runs_the_text_tower_once_where_its_context_trains(runs):
    model = eager(build())
    for _ in range(2):
        model.train_on_batch(clips(), LABELS)
    assert runs == [3, 3]
    model.fit(np.concatenate([clips()] * 2), np.tile(LABELS, 2), batch_size=2, epochs=1, verbose=0)
    assert runs == [3] * 6
    # Once for all that follows, whose weights are the same.
    model.predict(clips(), batch_size=1, verbose=0)
    model.evaluate(clips(), LABELS, batch_size=1, verbose=0)
    model.text_features  # noqa: B018
    assert runs == [3] * 7


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("frozen", ["no context", "classifier", "model"])
def test_a_step_does_not_run_the_text_tower_where_nothing_of_it_trains(runs, frozen):
    model = build(context=None) if frozen == "no context" else build()
    if frozen == "classifier":
        model.classifier.trainable = False
    model = eager(model)
    if frozen == "model":
        model.trainable = False
    model.predict(clips(), verbose=0)
    assert runs == [3]
    if frozen != "model":
        model.train_on_batch(clips(), LABELS)
        model.fit(clips(), LABELS, batch_size=2, epochs=2, verbose=0, validation_data=(clips(), LABELS))
    model.evaluate(clips(), LABELS, verbose=0)
    assert runs == [3]


# ---- Fresh text features


@pytest.mark.slow_on("tensorflow", "jax")
def test_fit_is_followed_by_scores_of_what_was_learned():
    model = compiled(build())
    first = model.predict(clips(), verbose=0)
    history = model.fit(
        clips(), LABELS, batch_size=2, epochs=2, verbose=0, validation_data=(clips(3, seed=1), LABELS[:3])
    )
    # Validation within `fit` was by the features of that moment.
    assert model.evaluate(clips(3, seed=1), LABELS[:3], verbose=0) == pytest.approx(
        history.history["val_loss"][-1], rel=1e-5
    )
    found = model.predict(clips(), verbose=0)
    assert np.abs(found - first).max() > 0.01
    np.testing.assert_allclose(found, live_scores(model, clips()), atol=1e-5)
    np.testing.assert_allclose(numbers(model.text_features), numbers(model.classifier.text_features()), atol=1e-6)
    wanted = -np.log(live_scores(model, clips(3, seed=1))[np.arange(3), LABELS[:3]]).mean()
    assert history.history["val_loss"][-1] == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(numbers(model(clips())), found, atol=1e-5)


@pytest.mark.slow_on("tensorflow", "jax")
def test_validation_by_moving_averages_has_their_text_features():
    optimizer = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9)
    model = compiled(build(), optimizer)
    swap = keras.callbacks.SwapEMAWeights()
    data = clips(3, seed=1), LABELS[:3]
    history = model.fit(
        clips(), LABELS, batch_size=2, epochs=3, verbose=0, validation_data=data, callbacks=[swap]
    ).history
    # The model holds the averages in the end.
    wanted = -np.log(live_scores(model, data[0])[np.arange(3), data[1]]).mean()
    assert history["val_loss"][-1] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_model_around_it_has_fresh_text_features_too():
    inner = build(classifier_activation=None)
    clip = keras.Input(SMALL["input_shape"])
    model = compiled(keras.Model(clip, keras.layers.Softmax()(inner(clip))))
    model.predict(clips(), verbose=0)
    model.fit(clips(), LABELS, batch_size=2, epochs=2, verbose=0, validation_data=(clips(), LABELS))
    wanted = numbers(keras.ops.softmax(live_scores(inner, clips())))
    np.testing.assert_allclose(model.predict(clips(), verbose=0), wanted, atol=1e-5)
    np.testing.assert_allclose(inner.predict(clips(), verbose=0), live_scores(inner, clips()), atol=1e-4)


def changed_weights(model, tmp_path):
    other = build(name="other")
    other.classifier.ctx.assign(other.classifier.ctx + 0.5)
    yield "set_weights", lambda: model.set_weights(other.get_weights())
    yield "assign", lambda: model.classifier.ctx.assign(model.classifier.ctx * -3)

    def assign_one_class():
        values = numbers(model.classifier.ctx)
        values[1] = np.random.default_rng(0).normal(size=values[1].shape)
        model.classifier.ctx.assign(values)

    yield "assign one class", assign_one_class
    other.save_weights(tmp_path / "other.weights.h5")
    yield "load_weights", lambda: model.load_weights(tmp_path / "other.weights.h5")
    changed = {**model.state(), "prompt_learner.ctx": np.ones(model.classifier.ctx.shape, "float32")}
    yield "load_state", lambda: model.load_state(changed)
    yield (
        "embedding",
        lambda: model.classifier.textual.token_embedding.assign(model.classifier.textual.token_embedding * 2),
    )


@pytest.mark.slow_on("tensorflow", "jax")
def test_scores_follow_weights_that_are_set(tmp_path):
    model = build()
    for how, change in changed_weights(model, tmp_path):
        before = model.predict(clips(), verbose=0)
        change()
        found = model.predict(clips(), verbose=0)
        assert np.abs(found - before).max() > 1e-3, how
        np.testing.assert_allclose(found, live_scores(model, clips()), atol=1e-5, err_msg=how)
        np.testing.assert_allclose(numbers(model(clips())), found, atol=1e-5, err_msg=how)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_loop_of_ones_own():
    """Steps have gradients of the context, and a call behind them scores by it."""
    keras.utils.set_random_seed(0)
    model = build(classifier_activation=None)
    step = loss_and_gradients(model)
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build(model.trainable_variables)
    losses = []
    for _ in range(8):
        loss, gradients = step(clips(), LABELS)
        losses.append(float(loss))
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
        found = numbers(model(clips()))
        np.testing.assert_allclose(found, live_scores(model, clips()), atol=1e-4)
    assert losses[-1] < losses[0]
    place = next(n for n, variable in enumerate(model.trainable_variables) if variable is model.classifier.ctx)
    assert np.abs(gradients[place]).max() > 0


def traced(model):
    """A model in a graph of the user's own, where the backend traces one."""
    if BACKEND == "tensorflow":
        return sys.modules["tensorflow"].function(model)
    return sys.modules["jax"].jit(lambda x: model(x)) if BACKEND == "jax" else model


@pytest.mark.slow_on("tensorflow")
@pytest.mark.parametrize("freezes", [False, True])
def test_a_graph_of_ones_own_before_anybody_asked_for_text_features(freezes):
    model = build(context="class" if freezes else None)
    model.classifier.trainable = not freezes
    graph = traced(model)
    found = numbers(graph(clips()))
    np.testing.assert_allclose(found, live_scores(model, clips()), atol=1e-5)
    np.testing.assert_allclose(model.predict(clips(), verbose=0), found, atol=1e-5)
    other = build(context="class" if freezes else None)
    model.load_state(other.state())
    np.testing.assert_allclose(numbers(traced(model)(clips())), other.predict(clips(), verbose=0), atol=1e-5)


@pytest.mark.parametrize("what", ["word", "kept"])
def test_one_changed_number_is_noticed(what):
    model = build(context=None)
    right = numbers(model.text_features)
    head = model.classifier
    variable, row = (
        (head.kept.features, 1) if what == "kept" else (head.textual.token_embedding, head.texts[0].ids[0, 1])
    )
    changed = numbers(variable)
    changed[row, 1] += 3
    variable.assign(changed)
    found = numbers(model.text_features)
    np.testing.assert_allclose(found, numbers(head.text_features()), atol=1e-6)
    assert np.array_equal(found, right) == (what == "kept")


@pytest.mark.skipif(BACKEND == "jax", reason="JAX traces what it differentiates")
def test_recorded_gradients_reach_the_context_outside_of_training():
    model = build(classifier_activation=None)
    variable = model.classifier.ctx.value
    if BACKEND == "torch":
        model(clips())[:, 0].sum().backward()
        gradient = variable.grad
    else:
        with sys.modules["tensorflow"].GradientTape() as tape:
            scores = model(clips())[:, 0]
        gradient = tape.gradient(scores, variable)
    assert np.abs(numbers(gradient)).max() > 0


@pytest.mark.skipif(BACKEND != "jax", reason="functions of a model's state")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("context", ["class", None])
def test_gradients_of_a_stateless_call(training, context):
    model = build(context=context, classifier_activation=None)
    state = [
        [variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)
    ]
    expected = loss_and_gradients(model)(clips(), LABELS)[1]

    def loss(trained, rest):
        logits = model.stateless_call(trained, rest, clips(), training=training)[0]
        return keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True).mean()

    for found, wanted in zip(sys.modules["jax"].grad(loss)(*state), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4 * (1e-3 + np.abs(wanted).max()))


# ---- Names in another order


@pytest.mark.parametrize("context", ["class", "shared", None])
def test_the_same_names_in_another_order_permute_the_scores(context):
    model = build(context=context, classifier_activation=None)
    order = [2, 0, 1]
    names = [model.labels[place] for place in order]
    other = model.set_class_names(names)
    assert other.labels == tuple(names) and other.context == context
    # Text features go over bit for bit. A product with them is summed of 6 numbers, in any order of summation.
    assert (numbers(other.text_features) == numbers(model.text_features)[order]).all()
    scores, found = model.predict(clips(), verbose=0)[:, order], other.predict(clips(), verbose=0)
    scale = float(np.exp(numbers(model.classifier.logit_scale)))
    np.testing.assert_allclose(found, scores, rtol=0, atol=16 * 2.0**-24 * scale)
    assert np.ptp(scores, axis=-1).min() > 1e-3
    given = [zero_shot(model, clips(), each) for each in (model.labels, names)]
    np.testing.assert_allclose(given[1], given[0][:, order], atol=1e-5)


def test_new_names_leave_what_was_learned_for_each_class_behind():
    model = build()
    assert model.set_class_names([*model.labels[:2], "a cat"]).context is None
    assert model.set_class_names(model.labels, templates=["a video of {}."]).context is None
    fewer = model.set_class_names(model.labels[1:])
    assert (numbers(fewer.classifier.ctx) == numbers(model.classifier.ctx)[1:]).all()
