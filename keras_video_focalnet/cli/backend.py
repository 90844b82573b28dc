"""Imports Keras with an installed backend, and without the messages of its start."""

import contextlib
import importlib.abc
import logging
import os
import re
import sys
import tempfile

from keras_video_focalnet.utils.backend import choose_backend, tell_choice

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Below this level the user wants to read what TensorFlow writes.
_QUIET = "2"
# Nothing but what ends the process: where there is no GPU, its build for GPUs calls that an error each time. What goes
# wrong in an operation is raised.
_QUIETEST = "3"
# Lines that LiteRT and TensorFlow write of themselves.
NOISE = re.compile(rb"INFO: Created TensorFlow Lite|[IWE]\d{4} \d\d|[IWE]0000 |WARNING: All log messages before absl")


def quiet_start():
    """Let TensorFlow write no more than what ends the process, and the libraries around it errors alone, unless the
    user has set a level; nothing is imported.
    """
    if os.environ.setdefault(LOG_LEVEL, _QUIETEST) >= _QUIET:
        logging.getLogger("absl").setLevel(logging.ERROR)
        if not any(isinstance(finder, _QuietTensorFlow) for finder in sys.meta_path):
            sys.meta_path.insert(0, _QuietTensorFlow())


def import_keras(begun_with=None):
    """Choose a backend, that of a run that goes on if nobody chose another, and import Keras with it.

    TensorFlow's C++ code writes to the error stream while it is imported, whatever its log level. These messages are
    held back, and shown only if the import fails, or where `TF_CPP_MIN_LOG_LEVEL` asks for them.
    """
    quiet_start()
    choose_backend(begun_with)
    with error_stream_held_back() if os.environ[LOG_LEVEL] >= _QUIET else contextlib.nullcontext():
        import keras
    tell_choice()
    return keras


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Holds back what TensorFlow writes while it is imported, whoever imports it: under the other backends Keras does,
    in the middle of a command.
    """

    def find_spec(self, fullname, path=None, target=None):
        """Find what the other finders find, and have it imported quietly."""
        if fullname != "tensorflow":
            return None
        found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in found if spec is not None), None)
        execute = getattr(getattr(spec, "loader", None), "exec_module", None)
        if execute is not None:

            def execute_quietly(module):
                with error_stream_held_back():
                    execute(module)

            spec.loader.exec_module = execute_quietly
        return spec


@contextlib.contextmanager
def error_stream_held_back(noise=None):
    """Redirect file descriptor 2 to a temporary file, whose content is written to the error stream on an exception.

    Of what a block writes that ends well only lines that begin with the pattern `noise`, of bytes, are left out; None
    leaves out all.
    """
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
        else:
            sys.stderr.flush()
            os.dup2(saved, 2)
            held.seek(0)
            for line in held if noise is not None else ():
                if not noise.match(line):
                    os.write(2, line)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
