"""Converts a model to the format of a contract: in this process on TensorFlow, in a new process on other backends.

    python -m keras_video_focalnet.exporting.convert FOLDER

converts the model in a folder. `convert` starts this command on JAX and PyTorch.
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
    """Write a model in the contract's format, without checking the result.

    All converters begin with a TensorFlow graph. So on another backend a new process rebuilds the model on TensorFlow.
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
        (folder / "task.json").write_text(
            json.dumps({"path": str(path), "modules": _modules(model), "sys_path": sys.path})
        )
        if calibration is not None:
            np.save(folder / "calibration.npy", calibration, allow_pickle=False)
        root = str(pathlib.Path(__file__).parents[2])
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["CUDA_VISIBLE_DEVICES"] = ""  # The running process may hold all memory of the GPU.
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "keras_video_focalnet.exporting.convert", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
            raise ExportError(
                f"The conversion to {contract.format} failed in a process with TensorFlow (exit code "
                f"{done.returncode}): {last[0]}"
            )


def _modules(model):
    """The modules that define the classes of a model and of its layers, without Keras's own."""
    classes = {type(model), *(type(layer) for layer in model._flatten_layers())}
    return sorted({cls.__module__ for cls in classes if not cls.__module__.startswith(("keras.", "__main__"))})


def _write(model, contract, path, calibration):
    module = importlib.import_module(f"keras_video_focalnet.exporting.{contract.format}")
    write = getattr(module, f"write_{contract.format}")
    write(model, contract, path, *([calibration] if contract.format == "litert" else []))


def main(folder):
    """Convert the model that `convert` saved in `folder`."""
    import keras
    import numpy as np

    folder = pathlib.Path(folder)
    task = json.loads((folder / "task.json").read_text())
    sys.path.extend(entry for entry in task["sys_path"] if entry not in sys.path)
    for module in task["modules"]:
        # This registers the classes that the model's file names.
        importlib.import_module(module)
    contract = Contract.from_json((folder / "contract.json").read_text(), folder)
    # `convert` wrote this file of a model in memory: its lambdas are the caller's own code.
    model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=False)
    file = folder / "calibration.npy"
    calibration = np.load(file, allow_pickle=False) if file.exists() else None
    _write(model, contract, task["path"], calibration)


if __name__ == "__main__":
    main(*sys.argv[1:])
