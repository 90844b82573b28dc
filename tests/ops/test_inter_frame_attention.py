"""The operator in every formulation against golden data, and what it does at the edges."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.inter_frame_attention import MOST_MULTIPLIED, MOST_PLACES, inter_frame_attention
from tests.gradients import values_and_gradients
from tests.precision import double_precision
from tests.sifa_golden import DOUBLE, GRADIENTS, VALUES, error, expected

BACKEND = keras.backend.backend()
# Kernel size and dilation by case.
CASES = {"k3d1": (3, 1), "k3d1_integer": (3, 1), "k5d1": (5, 1), "k3d2": (3, 2), "k5d2": (5, 2), "k3d1_far": (3, 1)}
CASES["k5d1_zero"] = (5, 1)
FORMULATIONS = ("product", "gather", "mixed", "separable")
COMPILED = (False, True) if BACKEND == "tensorflow" else (False,)
# Of what no other case covers; the others run in `make verify`.
QUICK = ("k3d1", "k3d1_integer")
cases = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES]
)


def attend(window, displaced=True):
    """The operator on clips: the first frame asks itself, every other one the frame before it."""

    def of_clips(clips, offsets=None):
        shape = clips.shape
        queries = ops.concatenate([clips[:, :1], clips[:, :-1]], axis=1)
        queries, keys = (ops.reshape(x, (-1, *shape[2:])) for x in (queries, clips))
        if displaced:
            offsets = ops.reshape(offsets, (-1, *shape[2:4], offsets.shape[-1]))
        given = inter_frame_attention(queries, keys, offsets if displaced else None, *window)
        return ops.reshape(ops.concatenate(given, axis=-1), (*shape[:4], -1))

    return of_clips


def errors(case, jit_compile, dtype="float32", displaced=True):
    """Errors of sums, similarities and gradients, each relative to the largest value of the golden array."""
    data = expected("sifa_operator", f"{case}/input")
    golden = {name.removeprefix(f"{case}/"): data[name] for name in data.files if name.startswith(f"{case}/")}
    arrays = [golden[name].astype(dtype) for name in (("input", "offset") if displaced else ("input",))]
    probes = np.concatenate([golden["probe"], golden["probe_correlation"]], -1).astype(dtype)
    value, gradients = values_and_gradients(attend(CASES[case], displaced), arrays, probes, jit_compile)
    channels = arrays[0].shape[-1]
    found = {"sums": error(value[..., :channels], golden["aggregated"])}
    found["similarities"] = error(value[..., channels:], golden["correlation"])
    for name, gradient in zip(("input", "offset"), gradients, strict=False):
        found[f"gradient of {name}"] = error(gradient, golden[f"grad_{name}"] + golden[f"grad_{name}_correlation"])
    return found


def within(found, values, gradients):
    return all(error < (gradients if name.startswith("gradient") else values) for name, error in found.items())


@cases
@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("jit_compile", COMPILED)
def test_golden(case, formulation, jit_compile):
    with force(inter_frame_attention=formulation):
        found = errors(case, jit_compile)
    assert within(found, VALUES, GRADIENTS), found


@cases
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_golden_in_double_precision(case, formulation):
    with double_precision(), force(inter_frame_attention=formulation):
        found = errors(case, False, "float64")
    assert within(found, DOUBLE, DOUBLE), found


@pytest.mark.parametrize("formulation", ["shifted", "masked"])
@pytest.mark.parametrize("jit_compile", COMPILED)
def test_without_offsets_it_is_as_with_offsets_of_zero(jit_compile, formulation):
    with force(undisplaced_attention=formulation):
        found = errors("k5d1_zero", jit_compile, displaced=False)
    assert set(found) == {"sums", "similarities", "gradient of input"}
    assert within(found, VALUES, GRADIENTS), found


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_automatic_gradients_agree(formulation):
    with force(inter_frame_attention=formulation, gradients="automatic"):
        found = errors("k3d1_integer", False)
    if formulation == "separable":
        # It has no slope where a position is a whole number.
        assert found.pop("gradient of offset") > GRADIENTS
    assert within(found, VALUES, GRADIENTS), found


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_positions_far_outside_read_nothing_and_have_no_gradient(formulation):
    """Of each tap that lies outside as a whole: at -1 and at the height exactly, and further than an integer counts."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(1, 2, 4, 5, 3)).astype("float32")
    for far in (-1.0, 4.0, 1e20, -1e20):
        offsets = np.zeros((1, 2, 4, 5, 2), "float32")
        # From the row that a place lies in to the row `far`.
        offsets[..., 0] = far - np.arange(4)[:, None]
        with force(inter_frame_attention=formulation):
            value, (of_maps, of_offsets) = values_and_gradients(
                attend((1, 1)), [maps, offsets], np.ones((1, 2, 4, 5, 4), "float32")
            )
        assert not value.any() and not of_maps.any() and not of_offsets.any(), far


def test_half_precision_keeps_positions_exact():
    """An eighth of a place is lost where bfloat16 counts to 27."""
    side = 28
    ramp = np.broadcast_to(np.arange(side, dtype="float32"), (1, side, side))[..., None]
    offsets = np.zeros((1, side, side, 2), "float32")
    offsets[..., 1] = 0.0625
    given, _ = inter_frame_attention(
        ops.ones((1, side, side, 1), "bfloat16"), ops.cast(ramp, "bfloat16"), ops.cast(offsets, "bfloat16"), 1
    )
    given = np.asarray(ops.convert_to_numpy(ops.cast(given, "float32")))[0, 0, :-1, 0]
    # The tap is read as it is similar: its square.
    np.testing.assert_allclose(given, (np.arange(side - 1) + 0.0625) ** 2, rtol=2**-6)
    assert given[1] > 1.0


@pytest.mark.parametrize("formulation", ["shifted", "masked", *FORMULATIONS])
def test_half_precision_holds_products_of_many_channels(formulation):
    """A sum of 1024 products of 12 by 12 exceeds 65504, the largest float16; their mean does not."""
    maps = ops.convert_to_tensor((np.random.default_rng(0).uniform(8, 12, (1, 5, 5, 1024))).astype("float16"))
    displaced = formulation in FORMULATIONS
    offsets = ops.zeros((1, 5, 5, 18), "float16")
    with force(**{"inter_frame_attention" if displaced else "undisplaced_attention": formulation}):
        sums, similarities = inter_frame_attention(maps, maps, *([offsets] if displaced else []))
    for found in (sums, similarities):
        assert np.isfinite(ops.convert_to_numpy(found)).all()
    middle = np.asarray(ops.convert_to_numpy(similarities), "float32")[0, 2, 2]
    exact = np.asarray(ops.convert_to_numpy(maps), "float32")[0]
    expected = [(exact[2, 2] * exact[row, column]).mean() for row in (1, 2, 3) for column in (1, 2, 3)]
    np.testing.assert_allclose(middle, expected, rtol=2e-2)


def test_small_maps_are_multiplied_and_large_ones_gathered(monkeypatch):
    """Between them TensorFlow and JAX gather, and multiply for gradients."""
    chosen = []
    module = "keras_video_focalnet.ops.inter_frame_attention.choose"

    def note(operation, ways, default):
        if operation == "inter_frame_attention":
            chosen.append(default)
        return ways[default]

    monkeypatch.setattr(module, note)
    for places in (MOST_MULTIPLIED, MOST_PLACES, MOST_PLACES + 1):
        maps = np.ones((1, 1, places, 1), "float32")
        inter_frame_attention(maps, maps, np.zeros((1, 1, places, 2), "float32"), 1)
    assert chosen == ["product", "product" if BACKEND == "torch" else "mixed", "gather"]
