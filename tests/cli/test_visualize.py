"""`video-focalnet visualize` and `video-focalnet annotate`."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_video_focalnet.cli.main import main
from tests.clips import decode_everything, encode
from tests.colours import colour_video

pytestmark = pytest.mark.slow_on("tensorflow", "jax")


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Noise that moves to the right."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 24, 3), dtype="uint8").repeat(16, 0).repeat(16, 1)
    frames = np.stack([np.roll(noise, 4 * number, axis=1)[:, :128] for number in range(20)])
    return encode(tmp_path_factory.mktemp("video") / "video.mp4", frames)


def test_modulators_of_the_weights_that_ship(video, tmp_path):
    out = tmp_path / "out.png"
    options = ("--model", "nano", "--weights", "camera_motion", "--size", "48", "--out", out)
    result = invoke("visualize", video, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: spatial, temporal; stage1_block0, 8 frames\n"
    with Image.open(out) as image:
        assert image.size == (8 * 48 + 7 * 2, 3 * (48 + 18) + 5 * 2)
    assert os.listdir(tmp_path) == ["out.png"]


def test_grad_cam_and_gates_as_a_video(video, tmp_path):
    out = tmp_path / "out.gif"
    options = ("--block", "stage0_block0", "--what", "grad-cam", "--what", "gates", "--target", "pan left")
    result = invoke("visualize", video, *options, "--size", "32", "--fps", "2", "--start", "0.5", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}: grad-cam of 'pan left', spatial window 3 gate, ")
    with Image.open(out) as image:
        assert (image.n_frames, image.info["duration"], image.width) == (8, 500, 8 * 32 + 7 * 2)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["visualize", "a.mp4"], "Missing option '--out'", 2),
        (["visualize", "a.mp4", "--out", "x.png", "--start", "3", "--end", "2"], "--end must lie after --start", 2),
        (["annotate", "a.mp4", "--out", "x.mp4", "--start", "3", "--end", "2"], "--end must lie after --start", 2),
        (["visualize", "a.mp4", "--out", "x.bmp"], "--out must be a file that ends in .png or .jpg", 1),
        (["annotate", "a.mp4", "--out", "x.gif"], "--out must be a file that ends in .mp4", 1),
        (["annotate", "a.mp4", "--out", "no/x.mp4"], "make the folder first", 1),
    ],
)
def test_wrong_usage(arguments, message, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert os.listdir(tmp_path) == []


def test_errors_are_told_in_a_line(video, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video " * 100)
    out = tmp_path / "out.mp4"
    for arguments, message in (
        (["visualize", video, "--block", "stage7_block0"], "--block has 'stage7_block0', which is no block"),
        (["visualize", video, "--what", "offsets"], "it can show: spatial, temporal, gates, tokens, grad-cam"),
        (["visualize", video, "--what", "grad-cam", "--target", "pan letf"], "did you mean 'pan left'"),
        (["visualize", tmp_path / "nothing.mp4"], "nothing.mp4 does not exist"),
        (["visualize", tmp_path / "empty.mp4"], "empty.mp4"),
        (["visualize", tmp_path / "text.mp4"], "text.mp4"),
        (["annotate", tmp_path / "nothing.mp4"], "nothing.mp4 does not exist"),
        (["annotate", tmp_path / "empty.mp4"], "empty.mp4"),
        (["annotate", tmp_path / "text.mp4"], "text.mp4"),
        (["annotate", video, "--start", "99"], "no frame lies between start and end"),
    ):
        result = invoke(*arguments, "--out", out)
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output
        assert message in result.stderr, result.stderr
    before = video.read_bytes()
    result = invoke("annotate", video, "--out", video)
    assert (
        result.exit_code == 1
        and "--out must be another file than the video itself" in result.stderr
        and video.read_bytes() == before
    )
    assert sorted(os.listdir(tmp_path)) == ["empty.mp4", "text.mp4"]


def test_a_video_with_its_answers(colours, tmp_path):
    source, out = colour_video(tmp_path / "video.mp4", ("red", 40), ("blue", 40)), tmp_path / "out.mp4"
    result = invoke("annotate", source, "--weights", colours, "--window", "1", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: 80 frames, 2 segments\n"
    painted = [picture for _, picture in decode_everything(out)]
    # The strip at the bottom has a colour for each segment, and a line that moves from one end to the other.
    lines = [int(picture[-2:].astype(int).min(axis=(0, 2)).argmax()) for picture in painted]
    assert lines[0] < 4 and lines[-1] > 58 and (np.diff(lines) >= -2).all()
