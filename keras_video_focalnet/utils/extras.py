"""Packages that only some functions need: what is missing is told in one line, with what installs it."""

import importlib.util


def require(what: str, extra: str, *modules: str) -> None:
    """Raise where a module is missing; nothing is imported.

    Args:
        what: What needs the modules, as a sentence begins with it.
        extra: The extra of this package that installs them.
        *modules: Names of modules.

    Raises:
        ImportError: One is not installed; the message names all that are missing and the extra.

    Example:
        >>> require("An evaluation", "evaluate", "numpy")
        >>> require("An evaluation", "evaluate", "no_such_module")
        Traceback (most recent call last):
        ImportError: An evaluation needs no_such_module: pip install 'keras-video-focalnet[evaluate]'.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join({"sklearn": "scikit-learn"}.get(name, name) for name in missing)
        raise ImportError(f"{what} needs {names}: pip install 'keras-video-focalnet[{extra}]'.")
