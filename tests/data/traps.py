"""Files that are called videos and name other files or addresses, with a secret and servers for them to reach."""

import contextlib
import socket
import struct
from pathlib import Path

import numpy as np

from tests.clips import encode, numbered_frames

SECRET = 0xA5


def secret_frames():
    """The frames of the secret, which carry the number `SECRET`."""
    return numbered_frames(SECRET + 1)[[SECRET] * 8]


def shows_secret(frames):
    """Whether a frame of some is the secret, at any size."""
    bits = np.float32([(SECRET >> bit) & 1 for bit in range(7, -1, -1)])
    columns = [np.array_split(frame.mean(axis=(0, 2)), 8) for frame in frames]
    return any(np.abs([part.mean() / 255 for part in parts] - bits).max() < 0.25 for parts in columns)


@contextlib.contextmanager
def servers():
    """A TCP and a UDP socket on 127.0.0.1; at the end nothing may have come to them."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        for server in (tcp, udp):
            server.bind(("127.0.0.1", 0))
            server.setblocking(False)
        tcp.listen()
        yield tcp.getsockname()[1], udp.getsockname()[1]
        for name, receive in (("TCP", tcp.accept), ("UDP", lambda: udp.recv(1))):
            with contextlib.suppress(BlockingIOError):
                raise AssertionError(f"something came to the {name} server: {receive()}")


def make_secrets(folder):
    """The secret as `secret.mp4`, `secret.ts` and in a folder beside `folder`."""
    outside = Path(folder).parent / "outside"
    outside.mkdir(exist_ok=True)
    for path in (folder / "secret.mp4", folder / "secret.ts", outside / "secret.mp4"):
        encode(path, secret_frames())
    return outside / "secret.mp4"


def referring_movie(target):
    """A QuickTime file without pictures of its own, which says by an alias record that they are in another file."""
    data = target.read_bytes()
    media, movie = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data = data[:media] + bytes(movie - media) + data[movie:]
    path = str(target).encode()
    record = struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">HH", 0xFFFF, 0)
    name = target.name.encode()
    alias = bytes(10) + b"\x01v" + bytes(26 + 12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    alias += struct.pack(">hh", 1, 1) + bytes(16) + record
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    place = data.index(b"dref") - 4
    size = struct.unpack(">I", data[place : place + 4])[0]
    table = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    longer = bytearray(data[:place] + table + data[place + size :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = longer.index(parent) - 4
        struct.pack_into(">I", longer, at, struct.unpack(">I", longer[at : at + 4])[0] + len(table) - size)
    return bytes(longer)


def texts(outside, tcp, udp):
    """Name and text of playlists, lists of files and descriptions of sessions."""
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1" width="64" height="48">'
        "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    session = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {udp} RTP/AVP 96\n"
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><image href="{}" width="64"/></svg>'
    web = f"http://127.0.0.1:{tcp}/secret.ts"
    for name, target in (
        ("near", "secret.mp4"),
        ("far", str(outside)),
        ("up", "../outside/secret.mp4"),
        ("fifo", "fifo.mp4"),
        ("web", web),
        ("tcp", f"tcp://127.0.0.1:{tcp}"),
        ("udp", f"udp://127.0.0.1:{udp}"),
    ):
        yield f"concat {name}.mp4", f"ffconcat version 1.0\nfile '{target}'\n"
        yield f"playlist {name}.m3u8", playlist.format(target)
        yield f"playlist {name}.mp4", playlist.format(target)
        yield f"manifest {name}.mpd", manifest.format(target)
        yield f"drawing {name}.mp4", drawing.format(target)
    yield "session.sdp", session + "a=rtpmap:96 H264/90000\n"
    yield "session.mp4", session + "a=rtpmap:96 H264/90000\n"
    yield "stream.mp4", f"rtsp://127.0.0.1:{tcp}/secret\n"
    yield "script.avs", 'FFmpegSource2("secret.mp4")\n'
    yield "graph.mp4", "movie=secret.mp4\n"
    yield "index.idx", "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n"


def make_traps(folder, outside, tcp, udp):
    """Write all of them into a folder; their paths."""
    paths = []
    for name, text in texts(outside, tcp, udp):
        (folder / name).write_text(text)
        paths.append(folder / name)
    (folder / "reference.mov").write_bytes(referring_movie(outside))
    return [*paths, folder / "reference.mov"]
