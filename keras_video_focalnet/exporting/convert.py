"""Conversion, in this process on TensorFlow, in one of its own on other backends.

    python -m keras_video_focalnet.exporting.convert FOLDER

converts the model that lies in a folder; `convert` starts it.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from keras_video_focalnet.exporting.contract import Contract
from keras_video_focalnet.exporting.errors import ExportError
from keras_video_focalnet.exporting.formats import require


def convert(model, contract, path, calibration=None):
    """Write a model in the contract's format, unchecked.

    The converters all begin with a TensorFlow graph: on another backend the model is rebuilt on TensorFlow in another
    process.

    Args:
        model: A `VideoFocalNet` on any backend.
        contract: A `Contract`.
        path: File or folder to write.
        calibration: uint8 clips, `(clips, frames, height, width, 3)`, for `"int8_full"`.

    Raises:
        ImportError: TensorFlow is not installed.
        ExportError: The conversion failed.
    """
    import keras

    require(["tensorflow"], f"Export to {contract.format}")
    if keras.backend.backend() == "tensorflow":
        _write(model, contract, path, calibration)
        return
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model.save(folder / "model.keras")
        (folder / "contract.json").write_text(contract.to_json())
        (folder / "path.json").write_text(json.dumps(str(path)))
        if calibration is not None:
            np.save(folder / "calibration.npy", calibration, allow_pickle=False)
        root = str(pathlib.Path(__file__).parents[2])
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["CUDA_VISIBLE_DEVICES"] = ""  # this process may hold all of a GPU's memory
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "keras_video_focalnet.exporting.convert", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
            raise ExportError(
                f"The conversion to {contract.format} failed in a process with TensorFlow (exit code "
                f"{done.returncode}): {last[0]}"
            )


def _write(model, contract, path, calibration):
    module = importlib.import_module(f"keras_video_focalnet.exporting.{contract.format}")
    write = getattr(module, f"write_{contract.format}")
    write(model, contract, path, *([calibration] if contract.format == "litert" else []))


def main(folder):
    """Converts what `convert` laid into `folder`."""
    import keras
    import numpy as np

    # Registers the classes that the file names.
    from keras_video_focalnet.models import video_focalnet  # noqa: F401

    folder = pathlib.Path(folder)
    contract = Contract.from_json((folder / "contract.json").read_text(), folder)
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    file = folder / "calibration.npy"
    calibration = np.load(file, allow_pickle=False) if file.exists() else None
    _write(model, contract, json.loads((folder / "path.json").read_text()), calibration)


if __name__ == "__main__":
    main(*sys.argv[1:])
