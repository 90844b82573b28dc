"""The designs that the paper of Video-FocalNet compares, as whole models."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models import registry
from keras_video_focalnet.weights.errors import WeightsFileError
from tests.exporting.delegation import check_litert
from tests.exporting.small_model import clips_like, small
from tests.golden import golden, options
from tests.models.conformance import CHECKS, Case, run
from tests.models.conformance_case import BACKEND, scattered
from tests.states import read_state

DESIGNS = ("parallel", "spatial", "factorized_3d", "factorized_encoder", "divided")
VARIANTS = {design: {"design": design} for design in DESIGNS}
VARIANTS |= {fusion: {"fusion": fusion} for fusion in ("average", "projection")}
OTHERS = [name for name in VARIANTS if name != "parallel"]
# What most checks look at hardly depends on the design.
QUICK = ("taps", "roles", "state_there_and_back")
FAMILY = registry.find_family("VideoFocalNetT")


@dataclasses.dataclass(frozen=True)
class Variant(Case):
    """A builder's case whose models have a design and a fusion."""

    options: tuple = ()

    def build(self, **arguments):
        return super().build(**{**dict(self.options), **arguments})


CASES = {name: Variant(FAMILY, FAMILY.builders[0], tuple(VARIANTS[name].items())) for name in OTHERS}


def checks():
    for name in CHECKS:
        slow = name not in QUICK or BACKEND != "torch" or BACKEND in CHECKS[name].slow_on
        yield pytest.param(name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("check", checks())
@pytest.mark.parametrize("name", CASES)
def test_a_variant_keeps_the_contract(name, check, tmp_path):
    run(CASES[name], check, tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.slow_on("tensorflow", "jax")
def test_a_variant_trains_saves_and_loads(name, tmp_path):
    model = scattered(small(**VARIANTS[name], drop_path_rate=0.1))
    clips, classes = np.concatenate([clips_like(model, 4)] * 2), np.arange(8) % 5
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    history = model.fit(clips, classes, batch_size=8, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, array in zip(model.trainable_weights, before, strict=True):
        assert (keras.ops.convert_to_numpy(weight) != array).any(), weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.design, loaded.fusion) == (model.design, model.fusion)
    np.testing.assert_allclose(loaded.predict(clips, verbose=0), model.predict(clips, verbose=0), atol=1e-6)
    # A builder takes design and fusion from the file.
    built = kvf.VideoFocalNetNano(weights=tmp_path / "model.keras", embed_dim=8, depths=(1, 1, 1, 1))
    assert (built.design, built.fusion) == (model.design, model.fusion)


@pytest.mark.parametrize("name", VARIANTS)
def test_taps_name_the_modulators_that_exist(name):
    taps = list(kvf.feature_taps(small(**VARIANTS[name])))
    design = VARIANTS[name].get("design", "parallel")
    modulators = {
        "spatial": ["spatial_modulator"],
        "factorized_3d": ["spatio_temporal_modulator"],
        "factorized_encoder": ["spatial_modulator"],
    }.get(design, ["spatial_modulator", "temporal_modulator"])
    assert taps[: 1 + len(modulators)] == ["stage0_block0", *(f"stage0_block0/{name}" for name in modulators)]
    if design == "factorized_encoder":
        assert taps[-2:] == ["temporal_block0", "temporal_block0/temporal_modulator"]


def test_a_configuration_without_a_design_is_the_papers():
    config = small().get_config()
    assert (config.pop("design"), config.pop("fusion")) == ("parallel", "multiply")
    model = kvf.VideoFocalNet.from_config(config)
    assert (model.design, model.fusion) == ("parallel", "multiply")


@pytest.mark.parametrize("name", ["parallel", "average"])
def test_a_whole_h5_file_keeps_the_fusion(name, tmp_path):
    """Keras has functions called `multiply` and `average`, and puts them in place of the words."""
    model = small(**VARIANTS[name])
    model.save(tmp_path / "model.h5")
    loaded = keras.saving.load_model(tmp_path / "model.h5")
    assert loaded.fusion == model.fusion
    state, _ = read_state(tmp_path / "model.h5")
    assert sorted(state) == sorted(model.state())


def test_tubelets_of_twice_the_frames_give_as_many_tokens():
    """Patches of 8 frames and tubelets of 16 (section 4.3, Figure 6b) differ in the stem alone."""
    patches, tubelets = small(input_shape=(8, 32, 32, 3)), small(input_shape=(16, 32, 32, 3), tubelet_size=2)
    taps = [kvf.feature_taps(model) for model in (patches, tubelets)]
    assert [tuple(tap.shape) for tap in taps[0].values()] == [tuple(tap.shape) for tap in taps[1].values()]
    assert taps[0]["stage0_block0"].shape[1:3] == (8, 8 * 8)
    stem = 8 * (8 * 8) * (4 * 4 * 3) * 8
    assert kvf.count_macs(tubelets) - kvf.count_macs(patches) == stem
    assert tubelets.count_params() - patches.count_params() == 4 * 4 * 3 * 8


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("spatial", "average")])
def test_an_image_model_says_the_same_of_a_still_clip(name):
    image, video = scattered(small(design="spatial", labels=None)), small(**VARIANTS[name], labels=None)
    missing = video.load_state(image.state())
    assert missing and all("_temporal" in tensor for tensor in missing)
    still = clips_like(image, 2)[:, :1].repeat(4, 1)
    np.testing.assert_allclose(video.predict(still, verbose=0), image.predict(still, verbose=0), atol=1e-5)
    assert video.load_state(image.state(), temporal_init="random") == missing


def test_a_mean_of_modulators_cannot_be_an_image_models():
    image, video = small(design="spatial"), small(fusion="average")
    with pytest.raises(WeightsFileError, match='temporal_init="identity" does not exist with fusion="average".*random'):
        video.load_state(image.state())
    assert video.load_state(image.state(), temporal_init="random")
    with pytest.raises(ValueError, match='pass temporal_init="random"'):
        kvf.VideoFocalNetT(weights="imagenet", fusion="average")


@pytest.mark.parametrize("name", OTHERS)
def test_published_weights_of_another_design_or_fusion_are_refused(name):
    argument, value = next(iter(VARIANTS[name].items()))
    remedy = f"pass weights=None, or leave {argument} out"
    for builder in (kvf.VideoFocalNetNano, kvf.VideoFocalNetB):
        with pytest.raises(ValueError, match=f'{argument}="{value}" is not that of the published weights.*{remedy}'):
            builder(**VARIANTS[name])
    with pytest.raises(
        WeightsFileError, match='build it with design="parallel", fusion="multiply", or pass weights=None'
    ):
        kvf.VideoFocalNetNano(weights=golden("micro") / "checkpoint.pth", **{**options("micro"), **VARIANTS[name]})


def test_weights_of_every_variant_fit_no_other():
    models = {name: small(**VARIANTS[name]) for name in VARIANTS}
    for name, model in models.items():
        for other, state in ((other, models[other].state()) for other in models):
            if name == other:
                assert model.load_state(state) == []
            elif other != "spatial":  # Which has what an image model has.
                with pytest.raises(WeightsFileError, match=f"build it with design=.{models[other].design}"):
                    model.load_state(state)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_processor_takes_a_variant_whole(name, tmp_path):
    pytest.importorskip("ai_edge_litert")
    model = small(**VARIANTS[name])
    check_litert(tmp_path / "model.tflite", kvf.export(model, tmp_path / "model.tflite", clips=clips_like(model)))
