"""Class names of the data sets, of files and of lists."""

import pathlib

import pytest

from keras_video_focalnet.labels import DATA_SETS, configured_labels, data_set_with, load_labels

pytestmark = pytest.mark.backend_free

# The first and last names as the data sets publish them.
ENDS = {
    "k400": (400, "abseiling", "zumba"),
    "k600": (600, "abseiling", "zumba"),
    "ssv2": (174, "Approaching something with your camera", "Wiping something off of something"),
    "diving48": (48, "Back_15som_05Twis_FREE", "Reverse_Dive_NoTwis_TUCK"),
    "activitynet": (200, "Applying sunscreen", "Playing badminton"),
    "camera_motion": (9, "static", "roll counter-clockwise"),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_data_set(name):
    labels = load_labels(name)
    count, first, last = ENDS[name]
    assert (len(labels), labels[0], labels[-1]) == (count, first, last)
    assert len(set(labels)) == count
    assert all(label == label.strip() != "" for label in labels)
    assert count == DATA_SETS[name].classes


@pytest.mark.parametrize("name", ENDS)
def test_long_names_and_spellings(name):
    labels = load_labels(name)
    long = DATA_SETS[name].file
    for spelling in (long, long.upper(), long.replace("_", "-"), long.replace("_", " "), name.upper()):
        assert load_labels(spelling) == labels


@pytest.mark.parametrize(
    ("spelling", "classes"),
    [
        ("Kinetics-400", 400),
        ("kinetics_400", 400),
        ("anet", 200),
        ("ActivityNet-1.3", 200),
        ("d48", 48),
        ("sthv2", 174),
    ],
)
def test_names_that_weights_take_too(spelling, classes):
    assert len(load_labels(spelling)) == classes


def test_a_data_set_without_names():
    assert data_set_with(1000) is None
    with pytest.raises(ValueError, match="labels='imagenet' is no known data set and no file; pass \"k400\""):
        load_labels("imagenet")


def test_camera_motion_in_the_order_of_the_model():
    assert load_labels("camera_motion") == [
        "static",
        "pan left",
        "pan right",
        "tilt up",
        "tilt down",
        "zoom in",
        "zoom out",
        "roll clockwise",
        "roll counter-clockwise",
    ]


def test_the_known_set_with_that_many_classes():
    for name, (count, _, _) in ENDS.items():
        assert data_set_with(count) == name
    assert data_set_with(37) is None


def test_a_file_and_a_list(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcat\r\ndog \r\nGrußwort\r\n\r\n".encode())
    assert load_labels(path) == ["cat", "dog", "Grußwort"]
    assert load_labels(str(path)) == ["cat", "dog", "Grußwort"]
    assert load_labels(["cat", "dog"]) == ["cat", "dog"]
    assert load_labels(("cat", "dog")) == ["cat", "dog"]


def test_a_list_is_copied():
    names = ["cat", "dog"]
    load_labels(names).append("fox")
    assert names == ["cat", "dog"]


def test_errors_tell_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="labels='kinetics' is no known data set and no file; pass .*, a path"):
        load_labels("kinetics")
    with pytest.raises(FileNotFoundError, match="there is no such file; pass a text file with one name a line"):
        load_labels(pathlib.Path(tmp_path / "missing.txt"))
    blank = tmp_path / "blank.txt"
    blank.write_text("cat\n\ndog\n")
    with pytest.raises(ValueError, match=r"labels='.*blank\.txt' has a blank line 2, which would shift"):
        load_labels(blank)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(ValueError, match=r"labels='.*empty\.txt' holds no class names"):
        load_labels(empty)
    latin = tmp_path / "latin.txt"
    latin.write_bytes("a cat\ncafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels='.*latin\.txt' is not text in UTF-8 \(.* at byte 9\); .* as UTF-8"):
        load_labels(latin)
    for source, kind in ((tmp_path, "folder"), (tmp_path / "saved.KERAS", "model")):
        with pytest.raises(ValueError, match=rf" is a {kind} and no text file .* its labels\.txt, or open_model\("):
            load_labels(source)
    with pytest.raises(ValueError, match="labels is an empty list"):
        load_labels([])
    for unordered in ({"cat", "dog"}, frozenset({"cat"})):
        with pytest.raises(
            ValueError, match="labels is a set, whose order .*; pass a list in the order of the classes"
        ):
            load_labels(unordered)
    # A dict has an order, and so have its keys.
    assert load_labels({"cat": 0, "dog": 1}) == ["cat", "dog"]
    with pytest.raises(ValueError, match="labels must hold strings, received 3 in it"):
        load_labels(["cat", 3])


def test_a_configuration_names_no_file(tmp_path, monkeypatch):
    (tmp_path / "names.txt").write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)
    for given in ("names.txt", tmp_path / "names.txt", "file://names.txt", "imagenet", ""):
        with pytest.raises(ValueError, match="in a configuration is the name of no known data set"):
            configured_labels(given)
    assert configured_labels(None) is None
    assert configured_labels(("a", "b")) == ["a", "b"]
    # A file that is called as a data set does not take its place.
    (tmp_path / "camera_motion").write_text("a\nb\n")
    assert configured_labels("camera_motion") == load_labels("camera_motion") != ["a", "b"]
    with pytest.raises(ValueError, match="labels must hold strings"):
        configured_labels([["a"]])
