"""`video-focalnet timeline` on files, and on what comes live: pipes, standard input, addresses, cameras."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet import open_live
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.cli.timeline import clock
from keras_video_focalnet.data import live_video
from tests.colours import COLOURS, colour_frames, colour_model, colour_video

# What is tested here is the same on every backend but for the model; `make verify` runs it on all.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")

EXPECTED = [(0.0, 4.0, "class 0"), (4.0, 8.0, "class 2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One video, red and then blue, in several containers."""
    folder = tmp_path_factory.mktemp("videos")
    for ending in ("mp4", "ts", "mkv"):
        colour_video(folder / f"video.{ending}", ("red", 40), ("blue", 40))
    return folder


def invoke(*arguments, **options):
    return CliRunner().invoke(main, ["timeline", *map(str, arguments)], **options)


def spans(segments):
    return [(segment["start"], segment["end"], segment["label"]) for segment in segments]


def test_a_table(folder, colours):
    result = invoke(folder / "video.mp4", "--weights", colours, "--window", "1", env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == str(folder / "video.mp4")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [row[:3] for row in rows] == [["0:00.00", "0:04.00", "class 0"], ["0:04.00", "0:08.00", "class 2"]]
    assert result.stderr == ""


def test_json_and_files(folder, colours, tmp_path):
    options = ("--weights", colours, "--window", "10", "--unit", "frames", "--out", tmp_path / "out")
    result = invoke(folder / "video.mp4", *options, "--json", "--labels", _names(tmp_path))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert spans(told["segments"]) == [(0.0, 4.0, "red"), (4.0, 8.0, "blue")]
    assert json.loads((tmp_path / "out" / "segments.json").read_text()) == told
    with open(tmp_path / "out" / "segments.csv", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["red", "blue"]
    assert len(list((tmp_path / "out").iterdir())) == 5


def _names(folder):
    path = folder / "names.txt"
    path.write_text("\n".join(COLOURS))
    return path


def test_segments_of_standard_input_and_of_a_stream(folder, colours, tmp_path):
    options = ("--weights", colours, "--window", "1", "--live", "--json")
    for ending in ("ts", "mkv"):
        data = (folder / f"video.{ending}").read_bytes()
        result = invoke("-", *options, "--out", tmp_path / ending, input=data)
        assert result.exit_code == 0, result.output
        segments = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row[2] for row in spans(segments)] == ["class 0", "class 2"]
        np.testing.assert_allclose([row[:2] for row in spans(segments)], [row[:2] for row in EXPECTED], atol=0.01)
        told = json.loads((tmp_path / ending / "segments.json").read_text())
        assert told["segments"] == segments and told["video"] == "standard input"
    result = invoke(folder / "video.ts", *options[:-1])
    assert result.stdout.splitlines()[0].split()[:4] == ["0:00.00", "0:04.00", "class", "0"]


def test_an_mp4_that_comes_has_to_be_complete(folder, colours):
    result = invoke(folder / "video.mp4", "--weights", colours, "--live")
    assert result.exit_code == 1
    assert "cannot be opened" in result.stderr and "has to be complete, without --live" in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_segments_of_a_pipe_come_while_it_is_written(tmp_path):
    from keras_video_focalnet import stream_timeline

    path, written = tmp_path / "pipe", []
    os.mkfifo(path)

    def write():
        import av

        with open(path, "wb") as pipe, av.open(pipe, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.thread_count = 1
            for number, picture in enumerate(colour_frames(("red", 40), ("blue", 200))):
                # What the pipe holds is all that may be there before it is read.
                while number > 100 and not seen.wait(20):
                    return
                written.append(number)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(stream.encode())

    seen = threading.Event()
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with open_live(str(path)) as video:
        segments = stream_timeline(colour_model(), video, window=1)
        first = next(segments)
        assert (first.label, len(written)) == ("class 0", 101)
        assert first.end == pytest.approx(4.0)
        seen.set()
        assert [segment.label for segment in segments] == ["class 2"]
    writer.join(20)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{video}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_nothing_is_opened_that_a_stream_names(folder, text):
    data = text.format(video=folder / "video.ts").encode()
    with pytest.raises(ValueError, match="the stream cannot be opened"), open_live(io.BytesIO(data)):
        pass


class Opened(Exception):
    pass


@pytest.fixture
def opened(monkeypatch):
    """What `av.open` is called with; nothing is opened."""
    import av

    calls = []

    def open_nothing(target, **options):
        calls.append((target, options))
        raise Opened

    monkeypatch.setattr(av, "open", open_nothing)
    return calls


def test_addresses_may_use_what_they_need_alone(opened):
    for address in ("rtsp://camera.example/1", "https://example.org/live.ts", "udp://239.0.0.1:1234"):
        with pytest.raises(Opened), open_live(address):
            pass
    rules = [options["container_options"] for _, options in opened]
    assert [target for target, _ in opened][0] == "rtsp://camera.example/1"
    for rule in rules:
        assert not {"file", "pipe", "concat", "data", "subfile", "crypto"} & set(rule["protocol_whitelist"].split(","))
        assert not {"hls", "dash", "concat", "sdp", "mov", "lavfi", "image2"} & set(rule["format_whitelist"].split(","))
    assert ["rtsp" in rule["format_whitelist"].split(",") for rule in rules] == [True, False, False]


def test_cameras_have_a_driver(opened, tmp_path):
    with pytest.raises(Opened), open_live("/dev/video0", device="v4l2", fps=15):
        pass
    ((target, options),) = opened
    assert (target, options["format"], options["container_options"]) == ("/dev/video0", "v4l2", {"framerate": "15"})
    with pytest.raises(ValueError, match="device must be one of"), open_live("x", device="lavfi"):
        pass
    with pytest.raises(ValueError, match="of a camera say the driver too"), open_live("/dev/null"):
        pass


def test_other_addresses_are_refused(opened):
    for address in ("file:///etc/passwd", "concat://a|b", "gopher://x", "data://x"):
        with pytest.raises(ValueError, match="are not taken"), open_live(address):
            pass
    with pytest.raises(FileNotFoundError, match="does not exist"), open_live("nothing.ts"):
        pass
    assert not opened


def test_a_clock_that_is_set_anew_goes_on(monkeypatch):
    class Frame:
        def __init__(self, time):
            self.time = time

    class Stream:
        class codec_context:  # noqa: N801
            @staticmethod
            def decode(packet):
                return [packet]

    class Container:
        @staticmethod
        def demux(_):
            return iter([Frame(time) for time in (95443.0, 95443.5, 0.25, 0.75, 0.5, None, 9000.0)])

    monkeypatch.setattr(live_video, "upright_rgb", lambda frame: frame)
    times = [seconds for seconds, _ in live_video._frames(Container, Stream, 2.0, "x", None)]
    assert times == pytest.approx([0.0, 0.5, 1.0, 1.5, 1.5, 2.0, 2.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'FILE'"),
        (["a.mp4", "--window", "0"], "is not in the range x>0"),
        (["a.mp4", "--start", "3", "--end", "2"], "--end must lie after --start"),
        (["-"], "add --live"),
        (["a.mp4", "--device", "v4l2"], "add --live"),
        (["a.ts", "--live", "--end", "3"], "leave out --start and --end"),
    ],
)
def test_wrong_usage(arguments, message):
    result = invoke(*arguments)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_errors_are_told_in_a_line(folder, colours, tmp_path):
    (tmp_path / "page.mp4").write_text("<html></html>" * 100)
    for arguments, message in (
        (["nothing.mp4"], "nothing.mp4 does not exist"),
        ([tmp_path / "page.mp4"], "is not a video"),
        ([folder / "video.mp4", "--window", "9", "--stride", "0.01"], "window must be at most 256 strides"),
        ([folder / "video.mp4", "--start", "99"], "no frame lies between start and end"),
        ([folder / "video.mp4", "--labels", "k400"], "it has 400 names but the model has 3 classes"),
        ([folder / "video.mp4", "--out", "/proc/nowhere"], "/proc/nowhere"),
    ):
        result = invoke(*arguments, "--weights", colours)
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output
        assert message in result.stderr


def test_ctrl_c_ends_a_stream_with_what_was_seen(colours, tmp_path):
    path = colour_video(tmp_path / "long.ts", ("red", 40), ("blue", 100))
    command = [sys.executable, "-m", "keras_video_focalnet", "timeline", "-", "--live", "--weights", colours]
    process = subprocess.Popen(
        [*command, "--window", "1", "--json", "--out", str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    watchdog = threading.Timer(240, process.kill)
    watchdog.start()
    try:
        # The stream goes on: the pipe stays open, and nothing more comes.
        process.stdin.write(path.read_bytes())
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 130, errors
    assert errors.decode().startswith("Interrupted after ") and "Traceback" not in errors.decode()
    told = json.loads((tmp_path / "out" / "segments.json").read_text())
    assert not told["complete"]
    assert told["segments"] == [first, *map(json.loads, output.splitlines())]
    assert [row["label"] for row in told["segments"]] == ["class 0", "class 2"]


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.999, 61.5, 3723.25)] == ["0:00.00", "1:00.00", "1:01.50", "1:02:03.25"]
