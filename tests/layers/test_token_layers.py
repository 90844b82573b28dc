"""What is particular to attention between tokens, to layers that never train, and to how weights are drawn."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.layers import FusedDense, FusedLayerNormalization, PatchEmbedding, TokenAttention
from keras_video_focalnet.layers.held import held, held_unless
from keras_video_focalnet.layers.initializers import NumpyUniform, xavier_uniform

RNG = np.random.default_rng(0)
BACKEND = keras.backend.backend()


def to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


# === Attention ===


def projections(layer):
    """The kernels and biases of queries, keys, values and outputs in float64, however the layer holds them."""
    if layer.joined:
        kernel, bias = to_numpy(layer.in_proj.kernel), to_numpy(layer.in_proj.bias)
        pairs = list(zip(np.split(kernel, 3, axis=-1), np.split(bias, 3), strict=True))
    else:
        pairs = [(to_numpy(part.kernel), to_numpy(part.bias)) for part in (layer.q_proj, layer.k_proj, layer.v_proj)]
    pairs.append((to_numpy(layer.out_proj.kernel), to_numpy(layer.out_proj.bias)))
    return [(kernel.astype("float64"), bias.astype("float64")) for kernel, bias in pairs]


def numpy_attention(x, others, layer):
    """Attention of tokens `(tokens, channels)` to `others`, query by query."""
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = projections(layer)
    queries, keys, values = x @ wq + bq, others @ wk + bk, others @ wv + bv
    depth, result = x.shape[-1] // layer.num_heads, np.zeros_like(x)
    for place, query in enumerate(queries):
        seen = place + 1 if layer.causal else len(others)
        for head in range(layer.num_heads):
            part = slice(head * depth, (head + 1) * depth)
            shares = np.exp(keys[:seen, part] @ query[part] / np.sqrt(depth))
            result[place, part] = shares @ values[:seen, part] / shares.sum()
    return result @ wo + bo


def drawn(layer, shape):
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_every_token_attends_to_those_that_it_sees(causal, joined):
    x = RNG.normal(size=(2, 3, 5, 6))
    layer = drawn(TokenAttention(3, causal=causal, joined=joined), x.shape)
    given = to_numpy(layer(x.astype("float32")))
    for clip in range(2):
        for frame in range(3):
            wanted = numpy_attention(x[clip, frame], x[clip, frame], layer)
            np.testing.assert_allclose(given[clip, frame], wanted, atol=1e-4)


def test_shares_are_those_by_which_values_are_summed():
    layer = drawn(TokenAttention(2), (None, 5, 6))
    queries, keys, values = (RNG.normal(size=(2, 3, count, 6)).astype("float32") for count in (4, 5, 5))
    shares = to_numpy(layer.shares(*map(keras.ops.convert_to_tensor, (queries, keys)))).reshape(2, 3, 2, 4, 5)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    summed = np.einsum("bfhqk,bfkhd->bfqhd", shares, values.reshape(2, 3, 5, 2, 3)).reshape(2, 3, 4, 6)
    wanted = to_numpy(layer.attend(*map(keras.ops.convert_to_tensor, (queries, keys, values))))
    np.testing.assert_allclose(to_numpy(layer.out_proj(summed)), wanted, rtol=1e-4, atol=1e-5)


def test_further_keys_and_values():
    x, more = RNG.normal(size=(1, 2, 5, 6)), RNG.normal(size=(1, 2, 3, 6))
    layer = drawn(TokenAttention(2), x.shape)
    tokens, prompts = (keras.ops.convert_to_tensor(array.astype("float32")) for array in (x, more))
    pairs = zip(layer.keys_and_values(tokens), layer.keys_and_values(prompts), strict=True)
    keys, values = (keras.ops.concatenate(pair, axis=2) for pair in pairs)
    given = to_numpy(layer.attend(layer.queries(tokens[:, :, :1]), keys, values))
    assert given.shape == (1, 2, 1, 6)
    for frame in range(2):
        wanted = numpy_attention(x[0, frame, :1], np.concatenate([x[0, frame], more[0, frame]]), layer)
        np.testing.assert_allclose(given[0, frame], wanted, atol=1e-4)


def test_a_causal_token_is_blind_to_what_follows():
    x = RNG.normal(size=(1, 6, 4)).astype("float32")
    layer = drawn(TokenAttention(2, causal=True, joined=True), x.shape)
    before = to_numpy(layer(x))
    x[:, 3:] += 5
    after = to_numpy(layer(x))
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).all()


def test_token_attention_refuses():
    with pytest.raises(ValueError, match="num_heads must be an integer of at least 1, received 0"):
        TokenAttention(0)
    for option in ({"causal": "no"}, {"joined": "x"}, {"trains": 3}):
        (name,) = option
        with pytest.raises(ValueError, match=f"{name} must be one of True, False; received"):
            TokenAttention(2, **option)
    with pytest.raises(ValueError, match="num_heads must be a divisor of the 4 channels, received 3"):
        TokenAttention(3)(np.zeros((1, 1, 5, 4), "float32"))


def test_token_attention_that_never_trains():
    layer = TokenAttention(2, trains=False)
    layer.build((None, 5, 8))
    assert (len(layer.weights), layer.trainable_weights) == (8, [])
    layer.trainable = True
    assert layer.trainable_weights == []
    assert TokenAttention.from_config(layer.get_config()).trains is False
    # Wq, Wk, Wv and Wo of 5 tokens, and the two products of attention.
    assert layer.count_macs((1, 5, 8)) == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8


def test_token_attention_can_be_quantized_and_configured_again():
    x = RNG.normal(size=(1, 2, 9, 8)).astype("float32")
    layer = TokenAttention(2)
    before = to_numpy(layer(x))
    layer.v_proj.quantize("int8")
    after = to_numpy(layer(x))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    again = TokenAttention.from_config(layer.get_config())
    again.build(x.shape)
    assert again.v_proj.quantization_mode == "int8" and again.q_proj.quantization_mode is None


# === Layers that never train ===


def test_held_layers_are_those_of_the_class_and_never_train():
    kind = held(FusedDense)
    assert issubclass(kind, FusedDense) and held(FusedDense) is kind
    assert kind.__name__ == FusedDense.__name__
    assert held_unless(True, FusedDense) is FusedDense and held_unless(False, FusedDense) is kind
    layer = kind(3, activate="quick_gelu")
    x = RNG.normal(size=(2, 4)).astype("float32")
    given = to_numpy(layer(x))
    free = FusedDense.from_config(layer.get_config())
    free.build(x.shape)
    free.set_weights(layer.get_weights())
    np.testing.assert_array_equal(to_numpy(free(x)), given)
    assert len(free.trainable_weights) == 2
    for trainable in (False, True):
        layer.trainable = trainable
        assert layer.trainable_weights == [] and len(layer.non_trainable_weights) == 2


def test_a_step_of_training_leaves_held_weights():
    clip = keras.Input((4,))
    layer = held(FusedDense)(3)
    model = keras.Model(clip, keras.layers.Dense(1)(layer(clip)))
    model.trainable = True
    model.compile("sgd", "mse")
    before, after = layer.get_weights(), model.layers[-1].get_weights()
    model.train_on_batch(np.ones((2, 4), "float32"), np.ones((2, 1), "float32"))
    for one, other in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((one != other).any() for one, other in zip(after, model.layers[-1].get_weights(), strict=True))


def test_a_held_layer_can_be_quantized():
    layer, x = held(FusedDense)(6), RNG.normal(size=(2, 8)).astype("float32")
    before = to_numpy(layer(x))
    layer.quantize("int8")
    after = to_numpy(layer(x))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert layer.trainable_weights == []


def test_held_layers_of_a_file_never_train(tmp_path):
    """They are found again by their own names, and those that train read their variables."""

    def made(trains):
        kinds = [held_unless(trains, kind) for kind in (PatchEmbedding, FusedDense, FusedLayerNormalization)]
        patches, dense, norm = kinds
        clip = keras.Input((2, 4 * 4, 3))
        return keras.Model(clip, norm(name="norm")(dense(5, activate=True)(patches(6, grid_size=4)(clip))))

    model, x = made(trains=False), RNG.normal(size=(1, 2, 16, 3)).astype("float32")
    model.layers[-1].set_weights(RNG.normal(size=(2, 5)))
    model.save(tmp_path / "held.keras")
    again = keras.saving.load_model(tmp_path / "held.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    again.trainable = True
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    # The norm of the patches is a layer inside one that is held, and itself is not.
    assert len(again.weights) == 8 and len(again.trainable_weights) == 2
    model.save_weights(tmp_path / "held.weights.h5")
    free = made(trains=True)
    free.load_weights(tmp_path / "held.weights.h5")
    np.testing.assert_array_equal(free.predict(x, verbose=0), model.predict(x, verbose=0))
    assert len(free.trainable_weights) == 8


def test_adapters_of_low_rank_train_beside_a_matrix_that_does_not():
    rows, layer = keras.Input((4,)), held(FusedDense)(3)
    model = keras.Model(rows, layer(rows))
    layer.enable_lora(2)
    assert [weight.name for weight in layer.trainable_weights] == ["lora_kernel_a", "lora_kernel_b"]
    model.compile("sgd", "mse")
    kernel, adapter, bias = (to_numpy(part) for part in (layer._kernel, layer.lora_kernel_b, layer.bias))
    model.train_on_batch(np.ones((2, 4), "float32"), np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(to_numpy(layer._kernel), kernel)
    np.testing.assert_array_equal(to_numpy(layer.bias), bias)
    assert (to_numpy(layer.lora_kernel_b) != adapter).all()


# === Dense layers with CLIP's activation ===


def test_a_dense_layer_with_the_approximate_gelu():
    layer, x = FusedDense(6, activate="quick_gelu"), RNG.normal(size=(2, 5, 4)).astype("float32")
    given = to_numpy(layer(x))
    product = x.astype("float64") @ to_numpy(layer.kernel) + to_numpy(layer.bias)
    np.testing.assert_allclose(given, product / (1 + np.exp(-1.702 * product)), atol=1e-5)
    assert FusedDense.from_config(layer.get_config()).activate == "quick_gelu"
    layer.quantize("int8")
    assert 0 < np.abs(to_numpy(layer(x)) - given).max() < 0.05 * np.abs(given).max()
    with pytest.raises(ValueError, match="activate must be one of False, True, .quick_gelu.; received .relu."):
        FusedDense(6, activate="relu")


# === How weights are drawn ===


def test_even_draws_lie_within_their_limit_and_are_configured_again():
    drawer = NumpyUniform(0.25, seed=7)
    array = to_numpy(drawer((200, 50)))
    assert array.dtype == np.float32 and array.min() >= -0.25 and array.max() <= 0.25
    # The standard deviation of 10,000 draws is within 5 of its own standard errors.
    np.testing.assert_allclose(array.std(), 0.25 / np.sqrt(3), rtol=5 * np.sqrt(0.2) / 100)
    assert drawer.get_config() == {"seed": 7, "limit": 0.25}
    again = keras.initializers.deserialize(keras.initializers.serialize(drawer))
    assert isinstance(again, NumpyUniform)
    np.testing.assert_array_equal(to_numpy(again((200, 50))), array)
    assert xavier_uniform(3, 5).limit == pytest.approx(np.sqrt(6 / 8))
