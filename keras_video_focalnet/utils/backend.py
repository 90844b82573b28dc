"""Chooses an installed backend before Keras is imported; nothing heavy is imported to find out which there are."""

import importlib.util
import json
import logging
import os
import pathlib
import sys

from keras_video_focalnet.utils.checks import did_you_mean

BACKENDS = ("tensorflow", "jax", "torch")
# What else Keras takes; whether it is installed is left to Keras.
OTHER_BACKENDS = ("numpy", "openvino")

_untold: list[str] = []


def choose_backend(begun_with: str | None = None) -> str:
    """Make sure that Keras finds an installed backend when it is imported.

    The choice is the first of these that there is: the backend of Keras if it is imported already, `KERAS_BACKEND`, the
    backend that `keras.json` (in `KERAS_HOME` or `~/.keras`) names, and the first installed one of tensorflow, jax and
    torch. For the last of these `KERAS_BACKEND` is set, and `tell_choice` says so where there was something to choose.

    Args:
        begun_with: The backend that what goes on was begun with; where it is installed, it stands before `keras.json`.

    Returns:
        The backend's name.

    Raises:
        ImportError: None is installed, or the one that is named is not; the message names `KERAS_BACKEND`.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].config.backend()
    named = os.environ.get("KERAS_BACKEND")
    if named:
        _check("KERAS_BACKEND", named)
        return named
    if begun_with in BACKENDS and is_installed(begun_with):
        os.environ["KERAS_BACKEND"] = begun_with
        return begun_with
    path = _keras_json()
    configured = _backend_in(path)
    # Keras itself writes "tensorflow" into a new keras.json, even where TensorFlow is not installed. So such an entry
    # is not taken for the user's choice.
    if configured and (configured != BACKENDS[0] or is_installed(configured)):
        _check(f"The backend in {path}", configured)
        return configured
    installed = installed_backends()
    if not installed:
        raise ImportError(
            "No backend is installed: pip install 'keras-video-focalnet[tensorflow]' (or [jax], or [torch]) brings "
            "one; KERAS_BACKEND chooses among several."
        )
    os.environ["KERAS_BACKEND"] = installed[0]
    if len(installed) > 1:
        others = " and ".join(installed[1:])
        _untold[:] = [
            f"Keras runs on {installed[0]}; {others} {'is' if len(installed) == 2 else 'are'} installed too, and the "
            "environment variable KERAS_BACKEND chooses."
        ]
    return installed[0]


def tell_choice() -> None:
    """Say once, after Keras was imported, which of several backends was taken where nobody had chosen."""
    if _untold and "keras" in sys.modules:
        logging.getLogger("keras_video_focalnet").warning(_untold.pop())


def installed_backends() -> list[str]:
    """List the backends that are installed, in the order in which they are taken."""
    return [backend for backend in BACKENDS if is_installed(backend)]


def is_installed(module: str) -> bool:
    """Tell whether a module is there, without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return module in sys.modules
    # A folder without code, which an uninstalled package may leave behind, has no origin.
    return spec is not None and spec.origin is not None


def _check(where: str, named: str) -> None:
    there = ", ".join(installed_backends()) or "none"
    remedy = f"Set KERAS_BACKEND to one that is installed ({there})"
    if named in BACKENDS and not is_installed(named):
        install = f"pip install 'keras-video-focalnet[{named}]'"
        raise ImportError(f"{where} is {named!r}, which is not installed. {remedy}, or install it: {install}")
    if named not in BACKENDS + OTHER_BACKENDS:
        meant = did_you_mean(named, BACKENDS) or "."
        raise ImportError(f"{where} is {named!r}, which is no backend of Keras{meant} {remedy}.")


def _keras_json() -> pathlib.Path:
    """Where Keras looks for its configuration."""
    home = os.environ.get("KERAS_HOME")
    return (pathlib.Path(os.path.expanduser(home)) if home else pathlib.Path.home() / ".keras") / "keras.json"


def _backend_in(path: pathlib.Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
