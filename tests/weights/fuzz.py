"""Thousands of mutations of small files of weights, in every format: `python -m tests.weights.fuzz`.

A process reads many mutations of one file, each of which gives a state or an error that names the file, within bounds
on time and memory. Python opens no other file meanwhile; what the HDF5 library opens is not seen here (see
`test_opens_nothing` and `test_hdf5`). In that process the HDF5 library is called directly, so that it need not be
started for each; where it crashes, does not return or takes too much memory, the mutation is read again as a user would
read it. So is every hundredth mutation.
"""

import argparse
import codecs
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from keras_video_focalnet.models.video_focalnet.keras2_h5 import read_keras2
from keras_video_focalnet.models.video_focalnet.keras3_file import read_keras3
from keras_video_focalnet.weights import hdf5, hdf5_child
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.keras3_file import check_keras_file, read_keras3_variables
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata, write_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict, read_torch_checkpoint
from tests.models.video_focalnet.test_keras2_h5 import Layout
from tests.weights.torch_files import SIX, Attack, ScriptModule, legacy, tensor, write_zip

COUNT = 2000
AT_ONCE = 250
AS_A_USER = 100
SECONDS = 20
# The library alone: what takes longer is read again within the bounds that a user has.
LIBRARY_SECONDS = 3
MEMORY_BYTES = 256 << 20
TOO_MUCH = f"takes over {MEMORY_BYTES >> 20} MB"
# Events of Python's audit hooks: what no file may cause, and what the process that looks at HDF5 files causes.
ALWAYS = {"os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo", "ctypes.dlopen"}
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty"}
NUMBERS = (0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def _read_index(reader):
    """A reader of sharded weights, given the path of a part."""
    return lambda path: reader(path.with_name(path.name.replace("_00000.weights.h5", ".weights.json")))


READERS = {
    "zip.pth": (read_state_dict, read_torch_checkpoint),
    "legacy.pth": (read_state_dict, read_torch_checkpoint),
    "script.pth": (read_state_dict, read_torch_checkpoint),
    "x.safetensors": (read_safetensors, read_safetensors_metadata),
    "x.h5": (read_keras2,),
    "whole.h5": (read_keras2,),
    "x.weights.h5": (read_keras3_variables, read_keras3),
    "x.weights.json": (read_keras3_variables, read_keras3),
    # The first of the files that the index lists.
    "x_00000.weights.h5": (_read_index(read_keras3_variables), _read_index(read_keras3)),
    "x.keras": (read_keras3_variables, check_keras_file),
}
# A format counts as one where it has two kinds of files.
PART = {name: 0.5 for name in ("zip.pth", "legacy.pth", "script.pth", "x.weights.json", "x_00000.weights.h5")}


def original(name: str, folder: Path) -> bytes:
    """Makes the file that is mutated."""
    path = folder / name
    if name.endswith(".pth"):
        views = {"a.x": tensor("0", (6,), (1,)), "a.y": tensor("1", (3, 2), (2, 1), kind="HalfStorage")}
        value = {"model": views, "config": Attack("true"), "epoch": [1, 2.5, "x", None, (True,)]}
        storages = {"0": SIX.tobytes(), "1": SIX.astype("f2").tobytes()}
        if name == "zip.pth":
            write_zip(path, value, storages)
        elif name == "script.pth":
            inner = ScriptModule({"weight": views["a.x"], "training": True, "sizes": [1, 2], "config": Attack("true")})
            module = ScriptModule({"inner": inner, "tied": inner, "scale": views["a.y"]})
            write_zip(path, module, storages, program=b"class Module(Module):\n  pass\n" * 20)
        else:
            body = b"".join(struct.pack("<q", 6) + content for content in storages.values())
            path.write_bytes(legacy(value, list(storages), body))
    elif name.endswith(".safetensors"):
        state = {f"layer.{number}": np.ones((number, 3), "f4") for number in range(4)}
        write_safetensors(path, state, {"labels": '["a"]', "note": "x"})
    elif name == "x.h5":
        Layout(embed=1, levels=(1, 1), windows=(1, 1), classes=2).write(path)
    elif name == "whole.h5":
        _write_whole_h5(path)
    elif name in ("x.weights.json", "x_00000.weights.h5"):
        parts = [f"mutated.x_{part:05d}.weights.h5" for part in range(2)]
        index = {"metadata": {"total_size": 120}, "weight_map": {"/layers/dense/vars": parts, "/vars": parts[0]}}
        (folder / "mutated.x.weights.json").write_text(json.dumps(index))
        for part, layers in zip(parts, (("patch_embedding/norm", "layer_normalization"), ("dense",)), strict=True):
            _write_keras3(folder / part, layers)
        path = folder / f"mutated.{name}"
    else:
        _write_keras3(folder / "inner.h5")
        content = (folder / "inner.h5").read_bytes()
        if name == "x.weights.h5":
            return content
        config = {"class_name": "Functional", "config": {"labels": ["a", "b", "c"], "layers": [{"name": "x"}] * 5}}
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", content)
    return path.read_bytes()


def _write_keras3(path, layers=("patch_embedding/norm", "layer_normalization", "dense", "dense_1")):
    with h5py.File(path, "w") as file:
        for name in layers:
            variables = file.create_group(f"layers/{name}/vars")
            variables.attrs["name"] = name
            variables["0"], variables["1"] = np.ones((4, 3), "f4"), np.ones(3, "f4")
        half = variables.create_dataset("2", data=np.ones(3, "V2"))
        half.attrs["dtype"] = "bfloat16"


def _write_whole_h5(path):
    layers = {"norm": {"gamma": (3,), "beta": (3,)}, "head": {"kernel": (3, 2), "bias": (2,)}}
    with h5py.File(path, "w") as file:
        config = {"class_name": "VideoFocalNet", "config": {"labels": ["a", "b"], "embed_dim": 3}}
        file.attrs.update({"keras_version": "3.9.0", "backend": "torch", "model_config": json.dumps(config)})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = list(layers)
        for name, shapes in layers.items():
            group.create_group(name).attrs["weight_names"] = [f"{name}/{weight}" for weight in shapes]
            for weight, shape in shapes.items():
                group[f"{name}/{name}/{weight}"] = np.ones(shape, "f4")


def mutated(name: str, content: bytes, seed: int, number: int) -> bytes:
    """Makes one mutation, the same for the same numbers; half of those of archives change a member and its checksum."""
    chance = random.Random(f"{name} {seed} {number}")
    if content[:2] == b"PK" and chance.random() < 0.5:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        member = chance.choice(sorted(members))
        members[member] = _changed(members[member], chance)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for member, inner in members.items():
                archive.writestr(member, inner)
        return out.getvalue()
    return _changed(content, chance)


def _changed(content: bytes, chance: random.Random) -> bytes:
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        if not content:
            break
        place, kind = chance.randrange(len(content)), chance.randrange(8)
        length = min(chance.choice((1, 2, 4, 8, 40, 200)), len(content) - place)
        if kind == 0:
            content[place] = chance.randrange(256)
        elif kind == 1:
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            packed = chance.choice(NUMBERS).to_bytes(8, chance.choice(("little", "big")))
            width = min(chance.choice((1, 2, 4, 8)), len(content) - place)
            content[place : place + width] = packed[:width]
        elif kind == 3:
            del content[place : place + length]
        elif kind == 4:
            content[place:place] = content[place : place + length] * chance.choice((1, 2, 50))
        elif kind == 5:
            content[place:place] = chance.randbytes(length)
        elif kind == 6:
            other = chance.randrange(len(content))
            content[place : place + length] = content[other : other + length]
        elif chance.random() < 0.2:
            del content[place:]
    return bytes(content)


def read(name: str, path: Path, seconds: int) -> str:
    """Reads a file in every way, each in its time; gives "read", "refused", or what is wrong."""
    outcomes = set()
    for reader in READERS[name]:
        signal.alarm(seconds)
        try:
            reader(path)
            outcomes.add("read")
        except WeightsFileError as error:
            named = str(error).startswith(f"{path.parent / path.name.split('_')[0]}")
            outcomes.add("refused" if named else f"names no file: {error}"[:500])
        except Exception as error:
            outcomes.add(f"raises {type(error).__name__}: {error}"[:500])
        signal.alarm(0)
    return max(outcomes, key=lambda outcome: (outcome not in ("read", "refused"), outcome == "read"))


def _read_many(name: str, folder: Path, seed: int, numbers: list[int], as_a_user: bool) -> None:
    """What a process does: it tells each mutation before and after it reads it."""
    content, path = original(name, folder), folder / f"mutated.{name}"
    path.write_bytes(content)
    # What Python imports when it is first needed is no concern of the mutations.
    read(name, path, SECONDS)
    allowed, opened = (str(folder), str(Path(tempfile.gettempdir()) / "weights."), "/proc/self/", os.devnull), []

    def hear(event, arguments):
        if event == "open" and not isinstance(arguments[0], int) and not os.fsdecode(arguments[0]).startswith(allowed):
            opened.append(os.fsdecode(arguments[0]))
        elif event in ALWAYS or (event in STARTS and not as_a_user):
            opened.append(event)

    library = _holds_hdf5(name) and not as_a_user
    if library:
        hdf5.listing = _list_directly
        read(name, path, SECONDS)
    # JSON may be of any of these, and Python opens a file for each when it first needs it.
    for encoding in ("utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32"):
        codecs.lookup(encoding)
    sys.addaudithook(hear)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in numbers:
        print(json.dumps([number, "begins"]), flush=True)
        path.write_bytes(mutated(name, content, seed, number))
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak()
        outcome = read(name, path, LIBRARY_SECONDS if library else SECONDS)
        memory = _peak() - before
        if opened:
            outcome = f"opens {opened}"
        elif memory > MEMORY_BYTES:
            outcome = TOO_MUCH
        print(json.dumps([number, outcome, memory]), flush=True)
        opened.clear()


def _holds_hdf5(name: str) -> bool:
    return name.endswith((".h5", ".keras", ".json"))


def _list_directly(path) -> list[dict]:
    with h5py.File(path, "r") as file:
        entries = [json.dumps(entry) for entry in hdf5_child.listing(file)]
    return [json.loads(entry) for entry in entries]


def _peak() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10


def _process(name: str, seed: int, numbers: list[int], as_a_user: bool) -> tuple[list[list], str]:
    """Runs a process over mutations; gives what it told and how it ended."""
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        about = json.dumps([name, folder, seed, numbers, as_a_user])
        limit = 60 + SECONDS * 3 * len(numbers)
        command = [sys.executable, "-m", "tests.weights.fuzz", "--process", about]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode < 0:
        return told, signal.Signals(-done.returncode).name
    return told, "" if done.returncode == 0 else done.stderr[-1000:]


def run(name: str, count: int, seed: int) -> tuple[Counter, list[str], int]:
    """Tries mutations of one kind of file; gives how many came out how, what is wrong, and the most memory."""
    outcomes, wrong, most = Counter(), [], 0
    waiting = list(range(count))
    again = waiting[::AS_A_USER]
    hdf5_inside = _holds_hdf5(name)
    while waiting:
        told, ending = _process(name, seed, waiting[:AT_ONCE], False)
        done = [line for line in told if line[1] != "begins"]
        for number, outcome, memory in done:
            if outcome == TOO_MUCH and hdf5_inside:
                outcomes[f"library {outcome}"] += 1
                again.append(number)
                continue
            outcomes[outcome if outcome in ("read", "refused") else "wrong"] += 1
            most = max(most, memory)
            if outcome not in ("read", "refused"):
                wrong.append(f"{name} {seed} {number}: {outcome}")
        if ending and not told:
            return outcomes, [*wrong, f"{name}: {ending}"], most
        waiting = waiting[len(done) :]
        if ending:
            number = waiting.pop(0)
            outcomes[f"library ends with {ending}"] += 1
            if hdf5_inside:
                again.append(number)
            else:
                wrong.append(f"{name} {seed} {number}: ends with {ending}")
    # Each in a process of its own would take long; none of them may end it.
    told, ending = _process(name, seed, again, True) if hdf5_inside else ([], "")
    told = [line for line in told if line[1] != "begins"]
    outcomes["read as a user"] = len(told)
    wrong += [f"{name} {seed} {line[0]} as a user: {line[1]}" for line in told if line[1] not in ("read", "refused")]
    if ending or (hdf5_inside and len(told) < len(again)):
        wrong.append(f"{name} {seed} {again[len(told)]} as a user: ends with {ending}")
    return outcomes, wrong, max([most, *(line[2] for line in told)])


def main() -> None:
    """Tries every kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="mutations of each format")
    parser.add_argument("--seed", type=int, default=None, help="begin of the pseudo-random numbers; default by chance")
    parser.add_argument("--only", choices=READERS, help="one kind of file")
    parser.add_argument("--process", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        name, folder, seed, numbers, as_a_user = json.loads(options.process)
        _read_many(name, Path(folder), seed, numbers, as_a_user)
        return
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    failed = False
    for name in [options.only] if options.only else READERS:
        start = time.monotonic()
        outcomes, wrong, most = run(name, int(options.count * PART.get(name, 1)), seed)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{name}, seed {seed}: {counts}; at most {most >> 20} MB; {time.monotonic() - start:.0f} s", flush=True)
        print(*wrong[:20], sep="\n", end="\n" if wrong else "", flush=True)
        failed |= bool(wrong)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
