"""Does what the README says, from top to bottom, as someone who has it and the wheel.

    python -m tests.newcomer.run --fresh torch

makes a wheel and a fresh environment with a backend (and TensorFlow, which `export` needs), and runs each command and
each Python block of the README there, in a folder that has a video and folders of training videos. What needs a
download or the clone says so in the README and is left out.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command between backticks in the text.
INLINE = re.compile(r"`(video-focalnet (?:train|predict|evaluate|export|models|doctor)[^`]*)`")


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


def do(text, folder, python, environment):
    """Do every step of a README's text in a folder: the commands in turn, then the Python blocks as one script, since
    later ones go on from earlier ones. Returns the number of blocks; a CalledProcessError tells which step failed.
    """
    blocks = [step for kind, step in steps(text) if kind == "python"]
    for kind, step in steps(text):
        if kind == "shell":
            print(f"$ {step}", flush=True)
            command = [python, "-m", "keras_video_focalnet", *step.split()[1:]]
            subprocess.run(command, cwd=folder, env=environment, check=True)
    (folder / "blocks.py").write_text("".join(blocks))
    print("$ python blocks.py", flush=True)
    subprocess.run([python, "blocks.py"], cwd=folder, env=environment, check=True)
    return len(blocks)


def fresh_environment(folder, backend):
    """A new environment with the wheel and one backend; returns its interpreter."""
    wheels, place = folder / "wheels", folder / "environment"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("*.whl")
    venv.create(place, with_pip=True)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [
        python,
        *pip[1:],
        "install",
        "-c",
        ROOT / "constraints.txt",
        f"{wheel}[{backend},tensorflow,train,evaluate,export]",
    ]
    subprocess.run(install, check=True)
    return python


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
        python = fresh_environment(folder, backend)
        work = folder / "work"
        work.mkdir()
        make_videos(work)
        home = folder / "home"
        home.mkdir()
        # Files are written by TensorFlow, so that with another backend there are two, of which the variable chooses.
        chosen = {} if backend == "tensorflow" else {"KERAS_BACKEND": backend}
        environment = clean_environment(HOME=str(home), XDG_CACHE_HOME=str(home / "cache"), **chosen)
        do((ROOT / "README.md").read_text(), work, str(python), environment)
    print(f"The README runs from top to bottom on {backend}.")


if __name__ == "__main__":
    main()
