import os
import stat

import pytest

from keras_video_focalnet.weights.files import DESCRIPTIONS, atomic_write, sniff_bytes

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n\0", "hdf5"),
        (b"PK\x03\x04...", "zip"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
        (b"\x10\0\0\0\0\0\0\0{}", "safetensors"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE HTML>", "html"),
        (b"<HTML lang=en>", "html"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html>', "html"),
        (b"<!-- mirror --><html>", "html"),
        (b"version https://git-lfs.github.com/spec/v1", "lfs"),
        (bytes(257) + b"ustar", "tar"),
        (b"plain", "text"),
        (b"\0\1\2", "unknown"),
    ],
)
def test_kinds(head, kind):
    assert sniff_bytes(head) == kind
    assert kind in DESCRIPTIONS


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_atomic_write_honours_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
