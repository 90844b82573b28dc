"""Damaged copies of videos of every codec and container: each gives frames or an error that names it, gives the same
frames however they are asked for, and reaches nothing else. Where FFmpeg alone makes different pictures of it from
time to time, that is counted apart.

`python -m tests.data.fuzz_videos` reads 50 copies of each of 80 videos, in child processes, and prints what was found
with its seeds. Whatever goes wrong is told by its video and seed, which `--seed` reads again alone:
`python -m tests.data.fuzz_videos --videos "av1 2.mkv" --seed 17`.
"""

import argparse
import contextlib
import faulthandler
import functools
import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from keras_video_focalnet.data import video_file
from keras_video_focalnet.data.clip import read_clip, read_frames, shrink
from keras_video_focalnet.data.in_order import iterate_frames
from keras_video_focalnet.data.video import open_video, upright_rgb
from keras_video_focalnet.data.video_file import MEMORY
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, numbered_frames
from tests.data.traps import make_secrets, servers, shows_secret

# Of each codec: the encoder, its options, others for a second video in the first three containers, and the containers
# and raw streams that it is in.
X265 = "pools=none:frame-threads=1:log-level=none"
CODECS = {
    "h264": (
        "libx264",
        {"g": "10", "bf": "2", "preset": "ultrafast", "crf": "20"},
        {"g": "12", "bf": "0", "preset": "veryfast", "x264-params": "slices=2"},
        "mp4 frag.mp4 mkv mov ts avi flv mxf h264",
    ),
    "hevc": (
        "libx265",
        {"preset": "ultrafast", "x265-params": f"{X265}:keyint=10:bframes=2"},
        {"preset": "ultrafast", "x265-params": f"{X265}:keyint=8:bframes=0"},
        "mp4 frag.mp4 mkv mov ts hevc",
    ),
    "vp9": (
        "libvpx-vp9",
        {"g": "10", "cpu-used": "8", "deadline": "realtime"},
        {"g": "12", "cpu-used": "8", "lag-in-frames": "8"},
        "webm mkv mp4 frag.mp4 ivf",
    ),
    "av1": (
        "libsvtav1",
        {"g": "10", "preset": "12", "svtav1-params": "lp=1"},
        {"g": "7", "preset": "13", "svtav1-params": "lp=1:pred-struct=1"},
        "mp4 frag.mp4 mkv webm ivf obu",
    ),
    "mpeg4": ("mpeg4", {"g": "10"}, {"g": "8", "bf": "2"}, "mp4 avi mkv mov m4v"),
    "vp8": (
        "libvpx",
        {"g": "10", "cpu-used": "8", "deadline": "realtime"},
        {"g": "6", "cpu-used": "8"},
        "webm mkv ivf",
    ),
    "mpeg1": ("mpeg1video", {"g": "10"}, {"g": "6", "bf": "2"}, "mpg m1v ts mkv"),
    "mpeg2": ("mpeg2video", {"g": "10"}, {"g": "6", "bf": "2"}, "mpg m2v ts mxf mkv mov"),
    "mjpeg": ("mjpeg", {}, None, "avi mov mkv mjpeg"),
    "prores": ("prores_ks", {}, None, "mov mkv mxf"),
    "ffv1": ("ffv1", {"level": "3"}, None, "mkv avi"),
    "gif": ("gif", {}, None, "gif"),
    "apng": ("apng", {}, None, "apng"),
    "flv1": ("flv1", {"g": "6"}, None, "flv"),
}
PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le", "gif": "rgb8", "apng": "rgb24"}
COUNT = 50
LENGTH = 36
# Seconds after which a read is taken to hang.
LONGEST = 60
# Pixels of a picture that takes long to make small.
LARGE = 1 << 19
# Numbers at which programs go wrong.
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0x10000000]


def mutated(data, rng, words):
    """Some bytes with a few changes: bits, numbers, names, parts cut out, doubled, moved or emptied."""
    data = bytearray(data)
    for _ in range(1 + int(rng.exponential(2))):
        # Headers lie at the ends, and there most can be done.
        edge = int(rng.exponential(200)) % max(len(data), 1)
        place = int(rng.choice([edge, max(len(data) - 1 - edge, 0), rng.integers(0, max(len(data), 1))]))
        length = int(2 ** rng.uniform(0, 10))
        part = data[place : place + length]
        kind = int(rng.integers(9))
        if kind == 0 and data:
            for where in rng.integers(0, len(data), int(2 ** rng.uniform(0, 7))):
                data[where] ^= 1 << int(rng.integers(8))
        elif kind in (1, 2):
            width = int(rng.choice([1, 2, 4, 4, 8]))
            number = int(rng.choice(NUMBERS)) % 256**width
            data[place : place + width] = number.to_bytes(width, "big" if kind == 1 else "little")
        elif kind == 3:
            word = words[rng.integers(len(words))]
            data[place : place + len(word)] = word
        elif kind == 4:
            del data[place : place + length]
        elif kind == 5:
            data[place:place] = part * int(rng.integers(1, 4))
        elif kind == 6:
            target = int(rng.integers(0, len(data) + 1))
            data[target:target] = part
        elif kind == 7:
            data[place : place + length] = bytes(len(part))
        else:
            del data[int(rng.integers(len(data) // 8, len(data) + 1)) :]
    return bytes(data)


def scratched(data, rng):
    """Some bytes with damage to the middle of files: bits flipped, parts emptied, cut out, or the end cut off."""
    data = bytearray(data)
    first, second = sorted(rng.integers(0, len(data), 2).tolist())
    kind = int(rng.integers(6))
    if kind < 3:
        for where in rng.integers(0, len(data), int(2 ** rng.uniform(0, 6))):
            data[where] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        stop = min(second, first + int(2 ** rng.uniform(0, 10)))
        data[first:stop] = bytes(stop - first)
    elif kind == 4:
        del data[first : min(second, first + int(2 ** rng.uniform(0, 10)))]
    else:
        del data[max(second, len(data) // 8) :]
    return bytes(data)


def make_videos():
    """The name of every video, its encoder, options, pixels and options of its container, as a dict."""
    videos = {}
    for codec, (encoder, *variants, containers) in CODECS.items():
        for number, options in enumerate(variants):
            for ending in containers.split()[: (None, 3)[number]] if options is not None else ():
                container = {"movflags": "frag_keyframe+empty_moov"} if "frag" in ending else {}
                videos[f"{codec} {number + 1}.{ending}"] = encoder, options, PIXELS.get(codec, "yuv420p"), container
    return videos


VIDEOS = make_videos()
MADE = ("sound", "mutation")
# What no reader can be steadier than; of so many copies it may be one.
UNSTEADY = "FFmpeg differs from itself"
FEWEST_BETWEEN = 500


def make(folder, video):
    """Encode a video that nothing is wrong with."""
    encoder, options, pixels, container = VIDEOS[video]
    encode(folder / f"sound {video}", footage(), encoder, 25, pixels, options, container=container)


def footage():
    """Frames with their numbers, dim, on a texture that moves and a little noise."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 70, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    moving = np.stack([np.roll(texture, (number, 2 * number), (0, 1)) for number in range(LENGTH)])
    return numbered_frames(LENGTH) // 2 + moving + rng.integers(0, 10, (LENGTH, 48, 64, 3), np.uint8)


def words_of(folder, ports):
    """Names of boxes, and of files and addresses that must not be reached."""
    tcp, udp = ports
    names = [b"moov", b"cmov", b"dref", b"alis", b"url ", b"stsz", b"trun", b"elst", b"uuid", b"sidx", b"RIFF", b"idx1"]
    targets = [folder / "secret.mp4", "secret.ts", f"http://127.0.0.1:{tcp}/", f"udp://127.0.0.1:{udp}"]
    texts = [str(target).encode() for target in targets]
    return names + texts + [b"ffconcat version 1.0\nfile secret.mp4\n", b"#EXTM3U\n#EXTINF:1,\nsecret.ts\n"]


def watch():
    """End the process where a read does not return; a thread of its own does so, also while the C library runs."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)


def resident(name):
    """Bytes of this process: VmRSS now, VmHWM at most since it was last reset."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10


def disagreements(path, threads, before_each=lambda: None):
    """What of a video depends on how it is asked for: each frame alone, windows forwards and backwards, parts between
    two times, frames by their number in all, against the whole. `before_each` is called before each read.
    """
    small = functools.partial(shrink, short_side=24)
    with VideoReader(path, threads) as reader:
        whole = [block[0] for block in reader.blocks(1, small)]
    if not whole:
        with contextlib.suppress(ValueError):
            return [f"frames {read_frames(path, lambda total: [0], short_side=24).shape} of none"]
        return []

    def differs(read, numbers):
        before_each()
        pictures = [whole[number] for number in numbers]
        if len({picture.shape for picture in pictures}) > 1:
            return False
        try:
            return not np.array_equal(read(), np.stack(pictures))
        except (ValueError, OSError):
            return True

    found, total = [], len(whole)
    with VideoReader(path, threads) as reader:
        # Making large pictures small takes long, as often as that.
        often = LENGTH if np.prod(reader.size) < LARGE else 4
    for number in range(0, total, -(-total // often)):
        if differs(lambda number=number: read_frames(path, [number], short_side=24, threads=threads), [number]):
            found.append(number)
    for step in (5, -7):
        with VideoReader(path, threads) as reader:
            for first in range(0, total, 5)[:: 1 if step > 0 else -1][: often // 4]:
                window = range(first, min(first + abs(step), total))
                if differs(lambda reader=reader, window=window: reader.read(window, small), window):
                    found.append(str(window))
    with VideoReader(path, threads) as reader:
        if len(reader) != total:
            found.append(f"len {len(reader)} of {total}")
    if differs(lambda: read_frames(path, lambda count: [0, count // 2, count - 1], short_side=24), [0, total // 2, -1]):
        found.append("by their number in all")
    times = [seconds for seconds, _ in iterate_frames(functools.partial(open_video, path, threads))]
    with VideoReader(path, threads) as reader:
        for start in (times[total // 3], 1.3):
            numbers = [number for number in range(total) if start <= times[number] + 1e-6 < start + 0.6]
            if numbers and differs(lambda start=start: reader.read_between(start, start + 0.6, small), numbers):
                found.append(f"between {start:.2f} s and {start + 0.6:.2f} s")
    return found


def decoder_differs(path):
    """Whether FFmpeg alone makes different pictures of a file's packets, all in order, by how many threads it has, and
    says nothing of damage. Its HEVC decoder leaves what it does not reach of a damaged picture as memory was.
    """
    import av

    digests = set()
    for threads in (1, None, 3):
        digest = hashlib.sha256()
        with contextlib.closing(open_video(path, threads)) as video, contextlib.suppress(av.error.FFmpegError):
            for frame in itertools.chain.from_iterable(map(video.decode, video.packets())):
                if frame.is_corrupt:
                    return False
                digest.update(upright_rgb(frame).tobytes())
            digests.add(digest.digest())
            continue
        return False
    return len(digests) > 1


def compared(path, threads):
    """What depends on how it is asked for, or whether FFmpeg differs from itself."""
    found = disagreements(path, threads, watch)
    return UNSTEADY if found and decoder_differs(path) else found


def read_all(folder, video, seeds, ports, compares):
    """Read the damaged copies of some seeds in this process: prints each seed before it is read, and then what came."""
    data, words = (folder / f"sound {video}").read_bytes(), words_of(folder, ports)
    read_clip(io.BytesIO(data), 2, 32)
    path = folder / f"mutation {video}"
    # Each copy counts as written long ago, so that readers take the indices of those before them.
    video_file.SETTLED_NS = -(10**18)
    for seed in seeds:
        print(json.dumps(seed), flush=True)
        rng = np.random.default_rng([seed, len(data)])
        path.write_bytes(mutated(data, rng, words) if seed % 2 else scratched(data, rng))
        measured = Path("/proc/self/clear_refs").exists()
        if measured:
            Path("/proc/self/clear_refs").write_text("5")
            before = resident("VmRSS")
        outcomes = []
        for read in (
            lambda: read_clip(path, num_frames=4, size=(24, 32), threads=1),
            lambda: read_frames(path, lambda total: [0, total // 2, total - 1], short_side=24),
            *([lambda seed=seed: compared(path, (1, None, 3)[seed % 3])] if compares else ()),
        ):
            watch()
            try:
                outcomes.append(outcome_of(read()))
            except (ValueError, OSError) as error:
                outcomes.append("error" if str(path) in str(error) else f"unnamed {error!r}")
            except Exception as error:
                outcomes.append(f"unexpected {error!r}")
        faulthandler.cancel_dump_traceback_later()
        taken = resident("VmHWM") - before if measured else 0
        if taken > max(MEMORY, 10 * path.stat().st_size):
            outcomes.append(f"took {taken >> 20} MB")
        print(json.dumps([seed, outcomes]), flush=True)


def outcome_of(read):
    """The outcome of reading frames, or of asking for them in several ways."""
    if isinstance(read, str):
        return read
    if isinstance(read, list):
        return f"differ: {read}" if read else "the same"
    return "secret" if shows_secret(read) else "frames"


def fuzz(folder, video, seeds, ports, compares=True):
    """Read damaged copies in child processes, a new one where one ends; the outcomes counted, and what went wrong."""
    found, wrong, seeds = Counter(), [], list(seeds)
    while seeds:
        job = json.dumps([str(folder), video, seeds, ports, compares])
        command = [sys.executable, "-W", "ignore", "-m", "tests.data.fuzz_videos", "--child", job]
        child = subprocess.run(command, capture_output=True, text=True, timeout=10 * LONGEST * (len(seeds) + 1))
        lines = [json.loads(line) for line in child.stdout.splitlines()]
        for seed, outcomes in (line for line in lines if isinstance(line, list)):
            found.update(outcomes)
            bad = [outcome for outcome in outcomes if outcome not in ("frames", "error", "the same", UNSTEADY)]
            wrong += [(video, seed, *bad)] if bad else []
        if child.returncode == 0:
            break
        if not lines or isinstance(lines[-1], list):
            raise RuntimeError(f"The child process ended with {child.returncode}: {child.stderr[-2000:]}")
        wrong.append((video, lines[-1], f"ended with {child.returncode}", child.stderr[-1500:]))
        seeds = [seed for seed in seeds if seed > lines[-1]]
    return found, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", nargs="+", default=list(VIDEOS), choices=list(VIDEOS), metavar="NAME")
    parser.add_argument("--count", type=int, default=COUNT, help="damaged copies of each video")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="read the copy of this seed alone")
    parser.add_argument("--no-comparison", action="store_true", help="do not compare the ways of asking for frames")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, video, seeds, ports, compares = json.loads(options.child)
        os.chdir(folder)
        read_all(Path(folder), video, seeds, ports, compares)
        return
    first, count = (options.first, options.count) if options.seed is None else (options.seed, 1)
    failures, total = [], Counter()
    with tempfile.TemporaryDirectory() as temporary, servers() as ports:
        folder = Path(temporary) / "inside"
        folder.mkdir()
        make_secrets(folder)
        for video in options.videos:
            make(folder, video)
            start = time.monotonic()
            found, wrong = fuzz(folder, video, range(first, first + count), ports, not options.no_comparison)
            failures += wrong
            total.update(found)
            seconds = time.monotonic() - start
            print(f"{video}: seeds {first} to {first + count - 1}, {dict(found)}, {seconds:.0f} s", flush=True)
            for failure in wrong:
                print("  WRONG:", *failure, flush=True)
        left = {path.name for path in folder.iterdir()}
    print(f"{len(options.videos)} videos, {count * len(options.videos)} copies: {dict(total)}")
    if total[UNSTEADY] > max(count * len(options.videos) / FEWEST_BETWEEN, 1):
        failures.append(f"{total[UNSTEADY]} times {UNSTEADY}")
    expected = {"secret.mp4", "secret.ts"} | {f"{name} {video}" for video in options.videos for name in MADE}
    if left != expected:
        failures.append(f"files were made: {left - expected}")
    sys.exit(f"{len(failures)} went wrong: {failures}" if failures else 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
