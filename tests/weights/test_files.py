import pytest

from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff_bytes

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
