"""Does what the README says, from top to bottom, as someone who has it and the wheel.

    python -m tests.newcomer.run --fresh torch

makes a wheel and a fresh environment with one backend, and does there what the README has, in a folder that has a video
and folders of training videos: each command and each Python block, those that are indented in the text too. Before a
chapter it adds the extras which that needs. So all before "Export", which needs TensorFlow, is done with one backend
alone. What needs a download or the clone says so in the README and is left out.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command between backticks in the text.
INLINE = re.compile(r"`(video-focalnet (?:train|predict|evaluate|score|prepare|timeline|export|models|doctor)[^`]*)`")


def steps(text):
    """`(kind, text)` of what the README has one do, in its order: "shell" commands and "python" blocks."""
    found = [(match.start(), match[1] or "shell", match[2]) for match in FENCE.finditer(text)]
    inside = [(match.start(), match.end()) for match in FENCE.finditer(text)]
    for match in INLINE.finditer(text):
        if not any(first <= match.start() < last for first, last in inside):
            found.append((match.start(), "shell", match[1].replace("\n", " ")))
    result = []
    for _, kind, content in sorted(found):
        if kind == "shell":
            lines = [line for line in content.splitlines() if line.startswith("video-focalnet")]
            result += [("shell", line.partition("#")[0].strip()) for line in lines if "downloads" not in line]
        elif kind == "python":
            result.append(("python", content))
    return result


def make_videos(folder):
    """`video.mp4`, and `train` and `val` with a folder for each of two classes: a square that goes right or down."""
    import av

    for number in range(13):
        down, part = number % 2, "train" if number < 8 else "val"
        name = ("right", "down")[down]
        path = folder / "video.mp4" if number == 12 else folder / part / name / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
            stream.codec_context.thread_count = 2
            for place in range(0, 60, 4):
                picture = np.full((96, 96, 3), 40 + 5 * number, np.uint8)
                row, column = (place, 30) if down else (30, place)
                picture[row : row + 30, column : column + 30] = 200
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())


# What the chapters from one of these on need besides a backend.
EXTRAS = {"Fine-tune": "train,evaluate", "Export": "tensorflow,export"}


def parts(text):
    """The text of a README, divided where further extras are needed: pairs of those and of a part."""
    first, *others = re.split(rf"^## ({'|'.join(EXTRAS)})\n", text, flags=re.MULTILINE)
    return [("", first)] + [(EXTRAS[name], part) for name, part in zip(others[::2], others[1::2], strict=True)]


def do(text, folder, python, environment, program=(), before=()):
    """Do every step of a README's text in a folder: the commands in turn, then the Python blocks as one script, since
    later ones go on from earlier ones, and from the blocks `before`. `program` stands for `video-focalnet`, by default
    the module. Returns the blocks; a CalledProcessError tells which step failed.
    """
    program = program or (python, "-m", "keras_video_focalnet")
    blocks = [step for kind, step in steps(text) if kind == "python"]
    for kind, step in steps(text):
        if kind == "shell":
            print(f"$ {step}", flush=True)
            subprocess.run([*program, *step.split()[1:]], cwd=folder, env=environment, check=True)
    (folder / "blocks.py").write_text("".join([*before, *blocks]))
    print("$ python blocks.py", flush=True)
    subprocess.run([python, "blocks.py"], cwd=folder, env=environment, check=True)
    return blocks


def make_wheel(folder):
    """The wheel of the package, made in a folder."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    subprocess.run([*command, "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(folder):
    """Make an environment whose packages are those of the running Python, but for ours, of which it has the wheel.

    Returns its Python, and what begins a command.
    """
    venv.create(folder, with_pip=False)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python, site = programs / "python", sysconfig.get_path("purelib")
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    # What is found first is the wheel, and not the clone, which the running Python knows by a path.
    Path(own, "others.pth").write_text(f"{site}\n")
    wheel = make_wheel(folder / "wheels")
    command = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*command, "--no-deps", "--force-reinstall", wheel], env=clean_environment(), check=True)
    return python, (programs / "video-focalnet",)


def install(python, wheel, extras):
    """Install a wheel with some of its extras, in the versions that were tested."""
    print(f'$ pip install ".[{extras}]"', flush=True)
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    command += ["-c", ROOT / "constraints.txt", f"{wheel}[{extras}]"]
    subprocess.run(command, env=clean_environment(), check=True)


def clean_environment(**variables):
    """The environment variables of a user who has set none of ours."""
    ours = ("PYTHONPATH", "KERAS_BACKEND", "PYTHONSTARTUP", "KERAS_HOME")
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", metavar="BACKEND", required=True, choices=["tensorflow", "jax", "torch"])
    backend = parser.parse_args().fresh
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="newcomer_")))
        wheel = make_wheel(folder / "wheels")
        venv.create(folder / "environment", with_pip=True)
        programs = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        python, program = programs / "python", (programs / "video-focalnet",)
        work, home = folder / "work", folder / "home"
        for made in (work, home):
            made.mkdir()
        make_videos(work)
        text = (ROOT / "README.md").read_text()
        environment = clean_environment(HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
        install(python, wheel, backend)
        before = []
        for extras, part in parts(text):
            if extras:
                install(python, wheel, extras)
            if "tensorflow" in extras:
                # Now there may be two backends, of which the variable chooses.
                environment |= {"KERAS_BACKEND": backend}
            blocks = do(part, work, python, environment, program, before)
            # What later parts go on from is in the first; those of others are done once.
            before = before or blocks
    print(f"The README runs from top to bottom on {backend}.")


if __name__ == "__main__":
    main()
