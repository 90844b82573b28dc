import dataclasses
from pathlib import Path

import pytest

from keras_video_focalnet.labels import DATA_SETS
from keras_video_focalnet.models import registry

pytestmark = pytest.mark.backend_free

LABELS = Path(registry.__file__).parents[1] / "labels"

# Tables 2 to 6 of the paper, the views of its section 4.1, and the sizes of the golden README.
PUBLISHED = {
    ("VideoFocalNetT", "k400"): (400, 79.8, (4, 3), 49_553_272, 63.00),
    ("VideoFocalNetS", "k400"): (400, 81.4, (4, 3), 88_735_168, 124.33),
    ("VideoFocalNetB", "k400"): (400, 83.6, (4, 3), 157_389_216, 220.65),
    ("VideoFocalNetB", "k600"): (600, 86.7, (4, 3), 157_594_216, 220.65),
    ("VideoFocalNetB", "ssv2"): (174, 71.1, (1, 3), 157_157_566, 220.65),
    ("VideoFocalNetB", "diving48"): (48, 90.8, (1, 3), 157_028_416, 220.65),
    ("VideoFocalNetB", "activitynet"): (200, 89.8, (1, 3), 157_184_216, 220.65),
}


def test_published_figures():
    video = {(entry.architecture, entry.name): entry for entry in registry.entries() if entry.top1}
    assert video.keys() == PUBLISHED.keys()
    for key, figures in PUBLISHED.items():
        entry = video[key]
        assert (entry.classes, entry.top1, entry.views, entry.parameters, entry.gmac) == figures
        assert entry.input_shape == (8, 224, 224, 3)
        assert entry.google_drive and entry.licence == "MIT"


def test_addresses():
    urls = {entry.url for entry in registry.entries() if entry.url}
    port = "https://github.com/innat/Video-FocalNets/releases/download/v1.0/TFVideoFocalNet"
    spatial = "https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_"
    resnet = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    swin = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
    assert urls == {
        *(f"{port}{part}_8x224.h5" for part in ("T_K400", "S_K400", "B_K400", "B_K600", "B_SSV2", "B_D48", "B_ANET")),
        *(f"{spatial}{size}_srf.pth" for size in ("tiny", "small", "base")),
        *(f"{resnet}resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5" for depth in (50, 101)),
        *(f"{swin}swin_{name}.pth" for name in ("small_patch4_window7_224", "base_patch4_window7_224")),
        f"{swin}swin_large_patch4_window7_224_22kto1k.pth",
        "hf://openai/clip-vit-base-patch16",
    }
    assert registry.find_entry("base", "ssv2").file_name == "TFVideoFocalNetB_SSV2_8x224.h5"
    cached = [entry.cache_name for entry in registry.entries()]
    assert len(set(cached)) == len(cached)


def test_an_entry_is_downloaded_or_bundled_or_named_by_a_page():
    for entry in registry.entries():
        ways = [way is not None for way in (entry.url, entry.bundled, None if entry.url else entry.page)]
        assert sum(ways) == 1, entry
        assert (entry.top1 is None) == (entry.views is None)
    bundled = registry.find_entry("nano", "camera_motion")
    assert bundled.file_name == "nano_camera_motion.safetensors"
    assert (bundled.classes, bundled.input_shape, bundled.labels) == (9, (8, 64, 64, 3), "camera_motion")


def test_vita_clip():
    """An image model with texts has no classes, and the authors' own file is on Google Drive alone."""
    authors = registry.find_entry("vita-clip", "Kinetics-400")
    assert (authors.url, authors.file_name, authors.labels) == (None, "", "kinetics400")
    assert (authors.parameters, authors.gmac, authors.input_shape) == (186_867_457, 149.30, (8, 224, 224, 3))
    assert authors.page == "https://drive.google.com/file/d/1vxgNg_lmGBRKNiY4VAy-aiCb-GuOAJNZ/view"
    clip = registry.find_entry("vita-clip", "clip")
    assert (clip.classes, clip.labels, clip.input_shape, clip.page) == (None, None, (1, 224, 224, 3), None)
    assert registry.default_shape("vita-clip", "clip") == (8, 224, 224, 3)
    assert registry.find_builder("vita-clip").weights is None
    assert registry.list_models("vita-clip") == ["k400", "clip"]


def test_labels_fit_the_classes():
    for entry in registry.entries():
        if entry.labels:
            lines = (LABELS / f"{entry.labels}.txt").read_text(encoding="utf-8").splitlines()
            assert len([line for line in lines if line.strip()]) == entry.classes


@pytest.mark.parametrize(
    ("architecture", "weights", "name"),
    [
        ("VideoFocalNetT", "k400", "k400"),
        ("tiny", "kinetics400", "k400"),
        ("T", "Kinetics-400", "k400"),
        ("Video_FocalNet_S", "kinetics_400", "k400"),
        ("base", "something-something-v2", "ssv2"),
        ("base", "Something Something V2", "ssv2"),
        ("b", "ss-v2", "ssv2"),
        ("base", "activitynet-1.3", "activitynet"),
        ("base", "ANET", "activitynet"),
        ("base", "d48", "diving48"),
        ("base", "Diving-48", "diving48"),
        ("VideoFocalNetBase", "K600", "k600"),
        ("small", "imagenet-1k", "imagenet"),
        ("nano", "camera motion", "camera_motion"),
    ],
)
def test_names_and_long_names(architecture, weights, name):
    assert registry.find_entry(architecture, weights).name == name


def test_no_name_means_two_things():
    for entry in registry.entries():
        for name in (entry.name, entry.long_name, *DATA_SETS[entry.name].aliases):
            assert registry.find_entry(entry.architecture, name) is entry


def test_unknown_names_tell_what_there_is():
    with pytest.raises(ValueError, match=r"weights='ssv2' .* VideoFocalNetT. Use one of 'k400', 'imagenet'"):
        registry.find_entry("tiny", "ssv2")
    with pytest.raises(ValueError, match=r"architecture='huge' .* VideoFocalNetB"):
        registry.find_entry("huge", "k400")


def test_list_models():
    assert registry.list_models("base") == ["k400", "k600", "ssv2", "diving48", "activitynet", "imagenet"]
    assert registry.list_models("nano") == ["camera_motion"]
    assert len(registry.list_models()) == len(registry.entries()) == 20
    assert "VideoFocalNetS/k400" in registry.list_models()


def test_entries_are_constant():
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.entries()[0].top1 = 100


@pytest.fixture
def with_a_variant():
    family = registry.find_family("nano")
    plain = registry.find_entry("nano", "camera_motion")
    variant = dataclasses.replace(plain, variant=(16, 64), input_shape=(16, 64, 64, 3))
    registry.register(dataclasses.replace(family, entries=(*family.entries, variant)))
    yield variant
    registry.register(family)


def test_a_variant_is_found_by_its_frames_and_size_and_brings_its_shape(with_a_variant):
    assert with_a_variant.name == "camera_motion_16x64"
    assert registry.find_entry("nano", "Camera-Motion_16x64") is with_a_variant
    assert registry.default_shape("nano", "camera_motion_16x64") == (16, 64, 64, 3)
    for weights in ("camera_motion", None, "nowhere/model.pth"):
        assert registry.default_shape("nano", weights) == (8, 64, 64, 3)
    assert registry.default_shape("tiny", "imagenet") == (8, 224, 224, 3)


def test_an_entry_point_that_fails_takes_nothing_down(monkeypatch):
    class Broken:
        value = "broken.package"

        def load(self):
            raise ImportError("no such library")

    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [Broken()])
    registry._load_entry_points.cache_clear()
    with pytest.warns(UserWarning, match="entry point 'broken.package' .* fails: ImportError"):
        assert registry.find_builder("tiny").name == "VideoFocalNetT"
    registry._load_entry_points.cache_clear()
