"""Choose a Keras backend that is installed, before Keras is imported, and import it without its start-up noise."""

import contextlib
import importlib.util
import json
import os
import pathlib
import sys
import tempfile

BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend():
    """Make sure that Keras, when it is imported, finds a backend that is installed.

    In this order: the backend of a Keras that is imported already, `KERAS_BACKEND`, `keras.json` (in `KERAS_HOME` or
    `~/.keras`), the first installed of tensorflow, jax and torch, for which `KERAS_BACKEND` is set.

    Returns:
        The backend's name.

    Raises:
        ImportError: None is installed, or the one that `KERAS_BACKEND` names is not; the message tells what to install.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "keras" in sys.modules:
        return sys.modules["keras"].config.backend()
    named = os.environ.get("KERAS_BACKEND")
    if named:
        if named in BACKENDS and not _installed(named):
            raise ImportError(
                f"KERAS_BACKEND is {named!r}, which is not installed: pip install 'keras-video-focalnet[{named}]', or "
                f"set KERAS_BACKEND to one that is ({', '.join(filter(_installed, BACKENDS)) or 'none'})."
            )
        return named
    configured = _backend_in_keras_json()
    # Keras writes "tensorflow" into a new keras.json by itself, whatever is installed: that is nobody's choice.
    if configured and (configured not in BACKENDS or _installed(configured)):
        return configured
    for backend in BACKENDS:
        if _installed(backend):
            os.environ["KERAS_BACKEND"] = backend
            return backend
    raise ImportError(
        "No backend is installed: pip install 'keras-video-focalnet[tensorflow]' (or [jax], or [torch]) brings one."
    )


def import_keras():
    """Choose a backend and import Keras with it.

    TensorFlow's C++ code writes to the error stream while it is imported, whatever its log level. What is written there
    is held back, and shown only where the import fails.

    Returns:
        The module `keras`.

    Raises:
        ImportError: As `choose_backend`, or from the import itself.
    """
    choose_backend()
    with _error_stream_held_back():
        import keras
    return keras


@contextlib.contextmanager
def _error_stream_held_back():
    """Send what is written to file descriptor 2 to a file, and on to where it belongs if an exception comes."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:
        # There is no error stream to be quiet on.
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _installed(backend):
    return importlib.util.find_spec(backend) is not None


def _backend_in_keras_json():
    """The backend that keras.json names, or None, looked up where Keras looks."""
    home = os.environ.get("KERAS_HOME")
    folder = pathlib.Path(os.path.expanduser(home)) if home else pathlib.Path.home() / ".keras"
    try:
        return json.loads((folder / "keras.json").read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        return None
