import os
import stat
import subprocess
import sys

import pytest

from keras_video_focalnet.utils.files import atomic_folder, atomic_write, remove_left_behind

pytestmark = pytest.mark.backend_free


def test_atomic_write(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    code = (
        "import os, sys; from keras_video_focalnet.utils.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: os._exit(1)"
    )
    # As long as names may be, one of three bytes a character; and another that begins like it.
    long, other = "語" * 85, "語" * 84 + "a"
    for name in ("a [1].mp4", "a", "n" * 200, long, other):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    (tmp_path / ".a.tmp").touch()
    (tmp_path / "a.tmp").touch()
    assert len(os.listdir(tmp_path)) == 7
    remove_left_behind([tmp_path / long])
    assert len(os.listdir(tmp_path)) == 6
    remove_left_behind([tmp_path / other])
    assert len(os.listdir(tmp_path)) == 5
    remove_left_behind([tmp_path / "a [1].mp4", tmp_path / ("n" * 200), tmp_path / "nowhere" / "b"])
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 3 and left[1:] == [".a.tmp", "a.tmp"] and left[0].startswith(".a.") and left[0].endswith(".tmp")
    remove_left_behind([tmp_path / "a"])
    assert sorted(os.listdir(tmp_path)) == [".a.tmp", "a.tmp"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_atomic_write_honours_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_atomic_folder_moves_all_or_nothing(tmp_path):
    path = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_folder(path) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
            temporary.with_suffix(".json").write_text(content)
            assert not (path / content).exists()
        assert os.listdir(path) == [content]
        assert path.with_suffix(".json").read_text() == content
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert os.listdir(path) == ["new"] and sorted(os.listdir(tmp_path)) == ["model", "model.json"]
