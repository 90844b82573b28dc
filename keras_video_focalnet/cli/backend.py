"""Imports Keras with an installed backend, and without the messages of its start."""

import contextlib
import logging
import os
import sys
import tempfile

from keras_video_focalnet.utils.backend import choose_backend, tell_choice

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Below this level the user wants to read what TensorFlow writes.
_QUIET = "2"
# Nothing but what ends the process: where there is no GPU, its build for GPUs calls that an error each time. What goes
# wrong in an operation is raised.
_QUIETEST = "3"


def quiet_start():
    """Let TensorFlow write no more than what ends the process, and the libraries around it errors alone, unless the
    user has set a level; nothing is imported.
    """
    if os.environ.setdefault(LOG_LEVEL, _QUIETEST) >= _QUIET:
        logging.getLogger("absl").setLevel(logging.ERROR)


def import_keras():
    """Choose a backend and import Keras with it.

    TensorFlow's C++ code writes to the error stream while it is imported, whatever its log level. These messages are
    held back, and shown only if the import fails, or where `TF_CPP_MIN_LOG_LEVEL` asks for them.
    """
    quiet_start()
    choose_backend()
    with _error_stream_held_back() if os.environ[LOG_LEVEL] >= _QUIET else contextlib.nullcontext():
        import keras
    tell_choice()
    return keras


@contextlib.contextmanager
def _error_stream_held_back():
    """Redirect file descriptor 2 to a temporary file, whose content is written to the error stream on an exception."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:
        # There is no error stream to redirect.
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
