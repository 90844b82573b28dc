"""What the page offers and answers, and what it refuses, without a browser."""

import os
import re
import threading
import warnings

import numpy as np
import pytest

from keras_video_focalnet import VideoFocalNetNano, VitaCLIP
from keras_video_focalnet.cli.class_names import names_in_text
from keras_video_focalnet.models import registry
from tests.clips import encode, write_audio
from tests.small_vita_clip import SIZES, registered

# The page asks functions that are tested on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")
gradio = pytest.importorskip("gradio")
pytest.importorskip("matplotlib")

from keras_video_focalnet.app.answers import COMPUTED, WHY, Answers, Limits, Video  # noqa: E402
from keras_video_focalnet.app.messages import Refused, noted, without_paths  # noqa: E402
from keras_video_focalnet.app.networks import OWN, RANDOM, Networks, Started  # noqa: E402
from keras_video_focalnet.app.page import ANY_BLOCK, Page  # noqa: E402
from keras_video_focalnet.app.uploads import Uploads  # noqa: E402

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def nano():
    return VideoFocalNetNano(weights="camera_motion")


@pytest.fixture(scope="module")
def networks(nano):
    with registered():
        yield Networks(Started("nano", "camera_motion", nano), names_in_text)


@pytest.fixture
def folder(tmp_path):
    """Videos as a page keeps them: one that is taken, and others that are not."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 12, 3), dtype="uint8").repeat(16, 0).repeat(16, 1)
    frames = np.stack([np.roll(noise, 4 * number, axis=1)[:, :128] for number in range(20)])
    encode(tmp_path / "clip.mp4", frames)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text <b>.mp4").write_text("no video " * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    write_audio(tmp_path / "sound.mp4")
    return tmp_path


class Visitor:
    session_hash = "a"


@pytest.fixture
def page(networks, folder):
    return Page(networks, Answers(Limits(seconds=3)), Uploads(folder))


def told(function, *arguments):
    """What a page tells of an error."""
    with pytest.raises(gradio.Error) as caught:
        given = function(*arguments)
        list(given if given is not None else ())
    return caught.value.message


# === What is offered ===


def test_models_and_weights_are_those_of_the_registry(networks):
    assert [value for _, value in networks.models()] == [one.short_name for one in registry.builders().values()]
    assert [value for _, value in networks.weights("tiny")] == ["k400", "imagenet", RANDOM]
    assert (networks.model(), networks.default_weights("nano")) == ("nano", "camera_motion")
    assert networks.default_weights("tiny") == "k400" and networks.default_weights("vita-clip") == "clip"
    assert networks.takes_names("vita-clip") and not networks.takes_names("nano")


@pytest.mark.parametrize("weights", ["/etc/passwd", "https://example.org/a.safetensors", "none", "", None, "k400"])
def test_a_browser_names_no_file_and_no_address(networks, weights):
    with pytest.raises(Refused, match="Weights: nano has none that are called"):
        networks.load("nano", weights)
    with pytest.raises(Refused, match="Model: there is none that is called"):
        networks.load(weights if weights else "run", "camera_motion")


def test_weights_that_are_not_here_are_not_fetched(networks, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_OFFLINE", "1")
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_HOME", str(tmp_path))
    with pytest.raises(Refused, match="k400 of tiny are not on this machine") as caught:
        networks.load("tiny", "k400")
    assert "--model tiny --weights k400" in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_file_that_the_command_was_started_with(nano):
    own = Networks(Started("run", None, nano, labels=tuple("abcdefghi")), names_in_text)
    assert own.models()[0] == ("run", OWN) and own.weights(OWN) == [(OWN, OWN)] and own.model() == OWN
    assert own.default_weights(OWN) == OWN and own.default_weights("nano") == "camera_motion"
    loaded = own.load(OWN, OWN)
    assert (loaded.network, loaded.labels, loaded.title) == (nano, tuple("abcdefghi"), "run")
    with pytest.raises(Refused):
        Networks(Started("nano", "camera_motion", nano), names_in_text).load(OWN, OWN)


def test_two_networks_are_kept(networks, nano):
    first = networks.load("nano", "camera_motion")
    assert first.network is nano and not first.is_random
    names = ("small-vita-clip", RANDOM, "a cat, a dog")
    second = networks.load(*names)
    assert second.is_random and "random weights" in second.title and second.labels == ("a cat", "a dog")
    assert networks.load(*names).network is second.network
    third = networks.load("small-vita-clip", RANDOM, "a cat\na horse\n\n a dog,")
    assert third.labels == ("a cat", "a horse", "a dog")
    assert networks.load("small-vita-clip", RANDOM, "a cat,a horse,a dog").network is third.network
    assert networks.load(*names).network is second.network
    assert networks.load("nano", "camera_motion").network is nano
    networks.load("small-vita-clip", RANDOM, "a cat\na horse\n\n a dog,")
    assert networks.load(*names).network is not second.network


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Class names: this model compares the video with names"),
        (" \n ", "Class names: this model"),
        ("a,,b", "names that say something"),
        ("a cat, A  cat", "a cat"),
        ("k400, a cat", "'k400' is a data set among names"),
        ("names.txt, a cat", "'names.txt' is a file among names"),
        ("/etc/passwd.txt", "is a file among names"),
        (",".join(map(str, range(501))), "there are 501; write 500 or fewer"),
        ("a" * 20_001, "20001 letters"),
        ("long " * 200 + ", a cat", "77"),
    ],
)
def test_names_that_are_refused(networks, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        networks.load("small-vita-clip", RANDOM, text)


def test_a_single_name_is_warned_of(networks):
    assert any("always 1" in note for note in networks.load("small-vita-clip", RANDOM, "a cat").notes)
    with pytest.raises(ValueError, match="'imagenet' is a data set whose class names are not in the package"):
        names_in_text("imagenet")
    assert len(names_in_text(" k400\n")) == 400


def test_names_that_the_command_was_started_with_stay_as_they_are():
    model = VitaCLIP(("a horse, white", "a dog"), input_shape=(4, 32, 32, 3), **SIZES)
    own = Networks(Started("run", None, model, names=("a horse, white", "a dog")), names_in_text)
    assert own.takes_names(OWN) and own.load(OWN, OWN, "a horse, white\na dog").network is model
    assert own.load(OWN, OWN, "a horse\na dog").labels == ("a horse", "a dog")


# === What is answered ===


def test_the_parts_of_an_answer(page, folder):
    asked = (str(folder / "clip.mp4"), "nano", "camera_motion", "", COMPUTED, ANY_BLOCK, Visitor)
    first, second, third = page.answer(*asked)
    assert first[0].label == "Answer of nano, camera_motion" and first[0].num_top_classes is None
    assert max(first[0].value["confidences"], key=lambda row: row["confidence"])["label"].startswith("pan")
    blocks = [value for _, value in first[3].choices]
    assert blocks[:2] == [ANY_BLOCK, "stage0_block0"] and len(blocks) > 3
    asked = (*asked[:4], WHY, "stage0_block0")
    assert isinstance(page.look(*asked), gradio.Image)
    assert "stage9" in told(page.look, *asked[:5], "stage9")
    assert (folder / "clip.mp4").exists()


@pytest.mark.parametrize("frames", [1, 2])
def test_one_frame_of_an_odd_size(networks, tmp_path, frames):
    answers = Answers(Limits())
    encode(tmp_path / "one.mp4", np.full((frames, 34, 258, 3), 99, "uint8"))
    loaded = networks.load("nano", "camera_motion")
    with answers.open(tmp_path / "one.mp4") as video:
        assert len(answers.scores(loaded, video)) == 5
        for picture in (answers.maps(loaded, video, None, COMPUTED), answers.timeline(loaded, video)):
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.std() > 0


def test_a_random_network_compares_with_hostile_names(networks, folder):
    answers, loaded = Answers(Limits()), networks.load("small-vita-clip", RANDOM, f"{HOSTILE}, {'long ' * 12}")
    with answers.open(folder / "clip.mp4") as video:
        scores = answers.scores(loaded, video)
        assert set(scores) == {HOSTILE, ("long " * 12).strip()} and sum(scores.values()) == pytest.approx(1, abs=1e-3)
        assert answers.maps(loaded, video, None, WHY).std() > 0 and answers.timeline(loaded, video).std() > 0


def test_windows_of_a_long_video_are_few(networks):
    answers, loaded = Answers(Limits()), networks.load("nano", "camera_motion")
    assert answers._stride(loaded, 100) is None
    assert answers._stride(loaded, 4800) == 10


def test_what_goes_on_ends_with_the_page(networks, folder):
    answers, loaded = Answers(Limits()), networks.load("nano", "camera_motion")
    with answers.open(folder / "clip.mp4") as video:
        answers.stopped.set()
        with pytest.raises(Refused, match="being closed"):
            answers.timeline(loaded, video)
    with pytest.raises(Refused, match="being closed"):
        answers.open(folder / "clip.mp4")


# === What is refused ===


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.mp4", "empty.mp4 is empty, no video"),
        ("text <b>.mp4", "text &lt;b&gt;.mp4 is not a video"),
        ("list.m3u8", "list.m3u8"),
        ("sound.mp4", "sound.mp4"),
    ],
)
def test_what_is_no_video_is_refused_and_removed(page, folder, name, message):
    text = told(page.check, str(folder / name), Visitor)
    assert message in text and str(folder) not in text and "<" not in text
    assert not (folder / name).exists()


def test_limits(folder):
    size = os.path.getsize(folder / "clip.mp4")
    Video(folder / "clip.mp4", Limits(size / 2**20, 2.0)).reader.close()
    with pytest.raises(Refused, match="clip.mp4 has 0 MB, more than the .* MB that this page takes; choose a smaller"):
        Video(folder / "clip.mp4", Limits((size - 1) / 2**20))
    with pytest.raises(Refused, match="longer than the 1.5 seconds that this page takes; cut it"):
        Video(folder / "clip.mp4", Limits(seconds=1.5))
    encode(folder / "fast.mp4", np.zeros((70, 32, 32, 3), "uint8"), rate=1000)
    with pytest.raises(Refused, match="more than 48 frames"):
        Video(folder / "fast.mp4", Limits(seconds=0.2))


def test_a_length_that_is_not_stated_is_looked_for(folder):
    encode(folder / "clip.h264", np.zeros((40, 32, 32, 3), "uint8"))
    with pytest.raises(Refused, match="longer"):
        Video(folder / "clip.h264", Limits(seconds=0.5))


def test_questions_without_a_video_or_about_one_that_is_gone(page, folder):
    rest = ("nano", "camera_motion", "", COMPUTED, ANY_BLOCK)
    assert "There is no video yet" in told(page.answer, None, *rest, Visitor)
    assert page.look(None, *rest)["__type__"] == "update"
    text = told(page.answer, str(folder / "gone.mp4"), *rest, Visitor)
    assert "gone.mp4" in text and str(folder) not in text


def test_what_nobody_expected_is_told_without_a_traceback(page, folder, monkeypatch, capsys):
    monkeypatch.setattr(Answers, "scores", lambda *_: 1 / 0)
    text = told(page.answer, str(folder / "clip.mp4"), "nano", "camera_motion", "", COMPUTED, ANY_BLOCK, Visitor)
    assert "terminal" in text and "division" not in text
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_paths_are_not_told(monkeypatch):
    assert without_paths("/tmp/x y/a.mp4 is bad", "/tmp/x y/a.mp4", "a.mp4") == "a.mp4 is bad"
    assert without_paths("see ~/cache/b.bin, or 'c/d'") == "see b.bin, or 'c/d'"
    assert without_paths(r"C:\Users\john doe\x.bin: bad") == "x.bin: bad"
    monkeypatch.setenv("HOME", "/home/john o'doe")
    assert without_paths("/home/john o'doe/cache/x.bin: bad") == "cache/x.bin: bad"
    assert without_paths("1/2 and https://example.org/a/b") == "1/2 and https://example.org/a/b"


def test_warnings_of_other_threads_are_not_ones_own():
    notes = []
    with warnings.catch_warnings(record=True), noted(notes):
        warnings.warn("my own", stacklevel=1)
        other = threading.Thread(target=warnings.warn, args=("/tmp/of somebody else.mp4 is damaged",))
        other.start()
        other.join()
        warnings.warn("my own", stacklevel=1)
    assert notes == ["my own"]


# === Uploads ===


def test_uploads_go_with_their_visitors(tmp_path):
    files = tmp_path / "files"
    uploads = Uploads(files)
    paths = [files / name / "clip.mp4" for name in "abc"]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    uploads.hold("x", paths[0])
    uploads.hold("y", paths[0])
    uploads.hold("x", paths[1])
    assert paths[0].exists()
    uploads.drop("y")
    assert not paths[0].parent.exists()
    uploads.hold("x", paths[2], beside=True)
    assert paths[1].exists()
    uploads.drop("x")
    uploads.drop("nobody")
    assert os.listdir(files) == []
    outside = tmp_path / "mine.mp4"
    outside.touch()
    uploads.hold("x", outside)
    uploads.drop("x")
    assert outside.exists()
