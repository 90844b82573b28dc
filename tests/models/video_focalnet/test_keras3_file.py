"""Our own `.weights.h5` and `.keras` files: broken, hostile, quantized, and of another type."""

import io
import json
import shutil
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.weights.errors import WeightsFileError
from tests.states import read_state, reference_slots, state_of

SMALL = {"embed_dim": 2, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 32, 3), "classes": 9}
NORM = "layers/focal_block/norm1/vars"
STEM = "layers/patch_embedding/vars"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.weights.h5"
    kvf.VideoFocalNet(**SMALL).save_weights(path)
    return path


@pytest.fixture
def path(whole, tmp_path):
    return shutil.copy(whole, tmp_path / "bad.weights.h5")


def put(name, *args, **kwargs):
    """A change that writes another tensor under a name."""

    def change(file):
        del file[name]
        file.create_dataset(name, *args, **kwargs)

    return change


def drop(name):
    return lambda file: file.__delitem__(name)


def group_for(name):
    def change(file):
        del file[name]
        file.create_group(name)

    return change


def twice(file):
    del file[f"{NORM}/1"]
    file[f"{NORM}/1"] = file[f"{NORM}/0"]


def soft(file):
    del file[f"{NORM}/1"]
    file[f"{NORM}/1"] = h5py.SoftLink(f"/{NORM}/0")


def virtual(file):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
    del file[f"{NORM}/0"]
    file.create_virtual_dataset(f"{NORM}/0", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(f"{NORM}/0", data=np.float32(1)), f"tensor '{NORM}/0' has shape () where 1 axes are expected"),
        (group_for(f"{NORM}/0"), f"tensor '{NORM}/0' is a group"),
        (drop(f"{NORM}/1"), f"tensor '{NORM}/1' is missing"),
        (drop("layers/focal_block/fc2"), "group 'layers/focal_block/fc2/vars' is missing"),
        (put(f"{NORM}/0", data=["a", "b"]), f"tensor '{NORM}/0' is of type object"),
        (put(f"{NORM}/0", data=h5py.Empty("f4")), f"tensor '{NORM}/0' is of type float32 and shape None"),
        (put(f"{STEM}/0", data=np.ones(4, "f4")), f"tensor '{STEM}/0' has shape (4,) where 4 axes"),
        (put(f"{STEM}/0", data=np.ones((5, 4, 3, 2), "f4")), f"tensor '{STEM}/0' of shape (5, 4, 3, 2)"),
        (put(f"{STEM}/0", (4, 0, 3, 2), "f4"), f"tensor '{STEM}/0' of shape (4, 0, 3, 2)"),
        (put("layers", data=np.ones(2, "f4")), "'layers' is a tensor where a group is expected"),
        (put(f"{NORM}/0", (1 << 40,), "f4", chunks=(1 << 10,)), f"'{NORM}/0' of shape (1099511627776,) has no numbers"),
        (put(f"{NORM}/0", (1 << 27,), "f4"), f"'{NORM}/0' of shape (134217728,) has no numbers"),
        (put(f"{NORM}/0", data=np.ones(2, "f4"), compression="gzip", chunks=(2,)), f"'{NORM}/0' is compressed"),
        (put(f"{NORM}/0", (2,), "f4", external=[("other", 0, 8)]), f"'{NORM}/0' has no numbers of its own"),
        (virtual, f"'{NORM}/0' has no numbers of its own"),
        (twice, f"'{NORM}/1' is one that occurred before"),
        (soft, f"'{NORM}/1' is a link"),
        (put("layers/focal_block/modulation/vars/2", data=np.ones((3, 2, 2, 2), "f4")), "which is no temporal kernel"),
    ],
)
def test_a_tensor_that_is_none(path, change, message):
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(WeightsFileError) as error:
        read_state(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("name", [f"{NORM}/0", "layers/focal_block/norm1", "layers/focal_block", "layers"])
def test_links_to_other_files_are_not_followed(path, name, whole):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(whole), name)
    with pytest.raises(WeightsFileError, match=f"'{name}(/vars)?' is a link") as error:
        read_state(path)
    assert str(path) in str(error.value)


def test_a_chunk_that_unpacks_to_far_more_is_not_read(path):
    with h5py.File(path, "a") as file:
        change = put(f"{NORM}/0", (2,), "f4", maxshape=(None,), chunks=(1 << 24,), compression="gzip")
        change(file)
        file[f"{NORM}/0"][:] = 1
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(WeightsFileError, match="is compressed"):
        read_state(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def keras_file(path, weights, config):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.write(weights, "model.weights.h5")
    return path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "describes no model"),
        ('{"config": "x"}', "describes no model"),
        ("null", "describes no model"),
        ("{", "damaged or cut short"),
        ("[" * 100_000, "damaged or cut short"),
        ('{"config": {"labels": 5}}', "labels are '5', not a list of names"),
        ('{"config": {"labels": "abcdefghi"}}', "labels are 'abcdefghi', not a list of names"),
        ('{"config": {"labels": [1, 2, 3, 4, 5, 6, 7, 8, 9]}}', "not a list of names"),
        ('{"config": {"labels": ["a", "b"]}}', "labels are 2 names, but the classifier has 9 classes"),
    ],
)
def test_configurations_that_are_none(whole, tmp_path, config, message):
    path = keras_file(tmp_path / "bad.keras", whole, config)
    with pytest.raises(WeightsFileError, match=message) as error:
        read_state(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_damaged_member(whole, tmp_path):
    config = json.dumps({"config": {}})
    path = keras_file(tmp_path / "bad.keras", whole, config)
    assert read_state(path)[1] is None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(WeightsFileError, match=r"bad\.keras: .*damaged"):
        read_state(path)


def test_quantized_models_are_refused(tmp_path):
    model = kvf.VideoFocalNet(**SMALL)
    model.get_layer("stage0_block0").modulation.f.quantize("int8")
    for path, save in ((tmp_path / "int8.weights.h5", model.save_weights), (tmp_path / "int8.keras", model.save)):
        save(path)
        with pytest.raises(WeightsFileError, match="quantized.*keras.saving.load_model") as error:
            read_state(path)
        assert str(path) in str(error.value)
    for function in (reference_slots, state_of):
        with pytest.raises(ValueError, match=r"is quantized \('layers.0.blocks.0.modulation.f.weight' is int8\)"):
            function(model)


def test_bfloat16_is_widened_exactly(tmp_path):
    model = kvf.VideoFocalNet(**SMALL, dtype="bfloat16")
    path = tmp_path / "half.weights.h5"
    model.save_weights(path)
    with h5py.File(path) as file:
        # NumPy has no bfloat16: Keras saves bytes.
        assert file[f"{STEM}/0"].dtype == np.dtype("V2")
    state, _ = read_state(path)
    for name, slot in reference_slots(model).items():
        assert state[name].dtype == np.float32
        expected = keras.ops.convert_to_numpy(keras.ops.cast(slot.variable, "float32"))
        np.testing.assert_array_equal(slot.to_variable(state[name]), expected, err_msg=name)
    assert np.abs(state["patch_embed.proj.weight"]).max() > 0


def test_other_void_types_are_no_bfloat16(path):
    with h5py.File(path, "a") as file:
        put(f"{NORM}/0", data=np.zeros(2, "V2"))(file)
        file[f"{NORM}/0"].attrs["dtype"] = "float8"
    with pytest.raises(WeightsFileError, match=f"'{NORM}/0' is of type"):
        read_state(path)


def test_any_byte_may_be_damaged(whole, tmp_path):
    """Whatever comes of it, it is a state or an error that names the file; `tests.weights.fuzz` tries thousands."""
    content, path = whole.read_bytes(), tmp_path / "bad.weights.h5"
    places = np.random.default_rng(0).integers(len(content), size=12)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(io.BytesIO(damaged).getvalue())
        try:
            read_state(path)
        except WeightsFileError as error:
            assert str(path) in str(error)
