"""The bar of long jobs: what it shows on a terminal, and that it shows nothing elsewhere."""

import subprocess
import sys

import pytest

from keras_video_focalnet.utils.progress import Progress, rate_text

pytestmark = pytest.mark.backend_free


def test_it_is_quiet_where_there_is_no_terminal(capsys):
    with Progress(3, title="score") as progress:
        progress.advance(2)
        progress.say("[bold]two[/] done")
    assert progress.done == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "[bold]two[/] done\n")


def test_it_shows_what_is_done_the_rate_and_the_time_left():
    code = (
        "import time\n"
        "from keras_video_focalnet.utils.progress import Progress\n"
        "with Progress(40, unit='videos', title='score', done=10, show=True) as progress:\n"
        "    for _ in range(10):\n"
        "        time.sleep(0.05)\n"
        "        progress.advance()\n"
        "    time.sleep(0.3)\n"
    )
    environment = {"TERM": "xterm-256color", "FORCE_COLOR": "1", "COLUMNS": "100", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and result.stdout == ""
    assert "score" in result.stderr and "20/40 videos" in result.stderr
    assert "videos/s" in result.stderr and "0:00:0" in result.stderr


def test_an_error_takes_the_bar_away():
    with pytest.raises(KeyboardInterrupt), Progress(None, show=False) as progress:
        progress.advance()
        raise KeyboardInterrupt
    assert progress.done == 1


def test_rates_in_words():
    assert [rate_text(rate, "videos") for rate in (None, 0, 0.01, 1, 250)] == [
        "", "", "0.6 videos/min", "1 videos/s", "250 videos/s"
    ]  # fmt: skip
