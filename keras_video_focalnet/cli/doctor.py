"""`video-focalnet doctor` examines the installation; what it prints goes into a report of a bug."""

import contextlib
import getpass
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from keras_video_focalnet import __version__
from keras_video_focalnet.cli.backend import import_keras
from keras_video_focalnet.cli.networks import MODEL, build, clip_size
from keras_video_focalnet.utils.backend import BACKENDS, installed_backends, is_installed

PACKAGE = "keras-video-focalnet"
# Extras that are for work on the package itself.
FOR_DEVELOPERS = ("dev", "docs")

# What the tests ran with: `constraints.txt` of the repository has all packages.
TESTED = {
    "python": "3.11",
    "keras": "3.15.1",
    "tensorflow": "2.21.0",
    "jax": "0.10.2",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "av": "18.1.0",
    "h5py": "3.14.0",
    "ml_dtypes": "0.6.0",
    "pillow": "12.3.0",
    "safetensors": "0.8.0",
}

# Names of what computes faster in low precision, as Linux lists them for processors of Intel, AMD and ARM.
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 BF16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX BF16",
    "bf16": "BF16",
    "i8mm": "I8MM",
}

DECODERS = [
    "h264",
    "hevc",
    "vp8",
    "vp9",
    "av1",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "mjpeg",
    "prores",
    "ffv1",
    "gif",
    "apng",
]

VARIABLES = (
    "KERAS_BACKEND",
    "KERAS_VIDEO_FOCALNET_HOME",
    "KERAS_VIDEO_FOCALNET_OFFLINE",
    "KERAS_VIDEO_FOCALNET_COMPILATION_CACHE",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "XLA_FLAGS",
)
# These name hosts.
HIDDEN_VARIABLES = ("KERAS_VIDEO_FOCALNET_BASE_URL", "HF_ENDPOINT", "HTTPS_PROXY")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context, as_json):
    """Examine the installation and try it out.

    Names of users and hosts are left out, so that all of it can be pasted into a report of a bug. The exit code is 1
    where no backend works or the self-test fails.
    """
    report, healthy = examine()
    report = {section: [without_names(line) for line in lines] for section, lines in report.items()}
    if as_json:
        click.echo(json.dumps({**report, "healthy": healthy}, indent=2))
    else:
        for section, lines in report.items():
            for number, line in enumerate(lines):
                click.echo(f"{section if number == 0 else '':11} {line}".rstrip())
    context.exit(0 if healthy else 1)


def examine():
    """Look at everything: lines by section, and whether the self-test passed."""
    problem = None
    try:
        keras = import_keras()
    except Exception as error:  # An installation can be broken in any way.
        problem = f"{type(error).__name__}: {error}"
    report = {
        "package": [f"{PACKAGE} {__version__}, Python {platform.python_version()}"],
        "system": [f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"],
        "processor": [processor()],
        "backend": [problem or keras.backend.backend(), f"installed: {', '.join(installed_backends()) or 'none'}"],
        "devices": ["unknown"] if problem else _examined(devices, keras.backend.backend()),
        "variables": _examined(variables),
        "versions": _examined(versions),
        "extras": _examined(extras),
        "cache": _examined(cache),
        "decoders": _examined(decoders),
    }
    if not problem and keras.backend.backend() not in BACKENDS:
        report["backend"].append(f"not tested: the package is made for {', '.join(BACKENDS)}")
    healthy, verdict = (False, "not run: no backend works") if problem else self_test()
    return report | {"self-test": [verdict]}, healthy


def _examined(section, *arguments):
    """The lines of a section, or what went wrong: a broken installation is what is to be told of."""
    try:
        return section(*arguments)
    except Exception as error:
        return [f"cannot be found out ({type(error).__name__}: {error})"]


def processor(path="/proc/cpuinfo"):
    """The features of the processor that matter, where the system lists them."""
    try:
        listed = re.search(r"^(?:flags|Features)\s*:(.*)$", Path(path).read_text(), re.MULTILINE)
    except OSError:
        listed = None
    if listed is None:
        return "features unknown, this system does not list them"
    found = set(listed[1].split())
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    names = {flag: name for flag, name in FEATURES.items() if x86 == flag.startswith(("avx", "amx"))}
    return ", ".join(f"{name} {'yes' if flag in found else 'no'}" for flag, name in names.items())


def devices(backend):
    """The devices that the backend sees."""
    if backend == "torch":
        torch = sys.modules["torch"]
        found = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ["cpu", *found, *(["mps"] if torch.backends.mps.is_available() else [])]
    import keras

    return [str(device) for device in keras.distribution.list_devices()]


def variables():
    """The environment variables that change what is computed or read."""
    shown = [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
    hidden = [f"{name} is set" for name in HIDDEN_VARIABLES if os.environ.get(name)]
    return shown + hidden or ["none is set"]


def versions():
    """The versions of the packages that are there, against those that were tested."""
    lines = []
    for name, tested in TESTED.items():
        found = platform.python_version() if name == "python" else installed_version(name)
        if found is None:
            if name not in BACKENDS:
                lines.append(f"{name} is missing: pip install --force-reinstall {PACKAGE}")
            continue
        same = numbers(found)[: len(numbers(tested))]
        word = "as" if same == numbers(tested) else "newer than" if same > numbers(tested) else "older than"
        lines.append(f"{name} {found}, {word} tested" + ("" if word == "as" else f" ({tested})"))
    return lines


def numbers(version):
    """A version as numbers that can be compared."""
    return [int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", version)[0])]


def installed_version(package):
    """The version of an installed package, under any of its names; None where it is missing."""
    names = (package, "tensorflow-cpu", "tf-nightly") if package == "tensorflow" else (package,)
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def extras():
    """Which extras are complete, and the command that installs each of the others."""
    try:
        requirements = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return [f"unknown, {PACKAGE} runs from a folder without being installed"]
    members = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(\[.*\])?[^;]*;.*extra == ['\"]([\w-]+)['\"].*", requirement)
        if match and match[3] not in FOR_DEVELOPERS:
            members.setdefault(match[3], []).append(match[1])
    lines = []
    for extra, packages in members.items():
        missing = [name for name in packages if not _is_there(name)]
        remedy = f"missing {', '.join(missing)}: pip install '{PACKAGE}[{extra}]'"
        lines.append(f"{extra}: {remedy if missing else 'present'}")
    return lines


def _is_there(package):
    # A backend comes under several names: `tensorflow-cpu` is TensorFlow too.
    return is_installed(package) if package in BACKENDS else installed_version(package) is not None


def cache():
    """The folder of downloaded weights, what is in it and what it has room for."""
    from keras_video_focalnet.weights.download import cache_dir

    folder = cache_dir()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return [f"{folder} cannot be used: {there} is a file"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    used = sum(path.stat().st_size for path in files)
    access = "" if os.access(there, os.W_OK) else ", read-only"
    free = shutil.disk_usage(there).free
    return [f"{folder}: {len(files)} files, {used / 1e6:.1f} MB; {free / 1e9:.1f} GB free{access}"]


def decoders():
    """What FFmpeg decodes."""
    try:
        import av
    except ImportError as error:
        return [f"PyAV cannot be imported ({error}): pip install --force-reinstall av"]
    missing = [name for name in DECODERS if not _decodes(av, name)]
    there = [name for name in DECODERS if name not in missing]
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    return [f"libavcodec {version}: {', '.join(there)}", *([f"missing: {', '.join(missing)}"] if missing else [])]


def _decodes(av, name):
    try:
        av.codec.Codec(name, "r")
    except (ValueError, av.FFmpegError):
        return False
    return True


def self_test():
    """Write a video in which the camera pans, read it and classify it; whether that worked, and what to say."""
    begin = time.perf_counter()
    try:
        model = build(MODEL)
        frames, (height, width) = clip_size(model)
        clip = panning_clip(frames, height, width)
        answers = [_classify(model, pixels) for pixels in (clip, clip[::-1])]
    except Exception as error:  # Whatever is broken shall be told.
        return False, f"failed, {type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    if answers != ["pan right", "pan left"]:
        return False, f"failed: a pan to the right and its reverse were taken for {answers[0]!r} and {answers[1]!r}"
    return True, f"passed in {seconds:.1f} s: a pan to the right and its reverse, from a video file to their names"


def panning_clip(frames, height, width, step=6):
    """A window of `(height, width)` that moves to the right over a random picture, `(frames, height, width, 3)`."""
    import numpy as np
    from PIL import Image

    span = width + step * frames
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8 + 2, span // 8 + 2, 3), "uint8")
    picture = np.asarray(Image.fromarray(coarse).resize((span, height), Image.Resampling.BICUBIC))
    return np.stack([picture[:, step * frame : step * frame + width] for frame in range(frames)])


def _classify(model, pixels):
    import av

    from keras_video_focalnet.data.clip import read_clip

    frames, height, width = pixels.shape[:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pan.avi"
        # Every FFmpeg can write this format.
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=8)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuvj420p"
            for picture in pixels:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.copy(), format="rgb24")))
            container.mux(stream.encode())
        clip = read_clip(path, num_frames=frames, size=(height, width))
    scores = model.predict(clip[None], verbose=0)[0]
    return model.labels[int(scores.argmax())]


def without_names(text):
    """A text without the home folder and the names of the user and the host."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    with contextlib.suppress(OSError, KeyError, ImportError):
        text = re.sub(rf"(?<=[/\\]){re.escape(getpass.getuser())}(?![\w-])", "USER", text)
    host = platform.node()
    return re.sub(rf"\b{re.escape(host)}\b", "HOST", text) if len(host) > 3 and host != "localhost" else text
