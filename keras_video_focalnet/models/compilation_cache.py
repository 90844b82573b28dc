"""Programs that JAX compiled, kept in files for the next process."""

import functools
import hashlib
import os
import platform
import warnings
from pathlib import Path

import keras

from keras_video_focalnet.weights.download import cache_dir

VARIABLE = "KERAS_VIDEO_FOCALNET_COMPILATION_CACHE"
"""Environment variable: `1` keeps compiled programs in the default folder, a path in that folder, `0` or nothing none.

The first model that is built on JAX reads it; the other backends have no use for it.
"""

# What takes less time is compiled as fast as it is read. JAX's own limit is a second, in which a small model compiles.
_LEAST_SECONDS = 0.1
_LEAST_SECONDS_OF_JAX = 1.0


def enable_compilation_cache(folder: str | os.PathLike | None = None) -> Path:
    """Have JAX keep what it compiles from now on in files, and take it from there in later processes.

    The first call of a model then takes about half of its time: JAX still traces the model, but XLA does not compile
    it. It holds for all that JAX compiles in this process, training too. A program is taken again for the same
    computation and shapes, by the same version of JAX. Every kind of processor has a folder of its own, so machines may
    share `folder`. Of a damaged file JAX warns, and compiles as it would without; remove the file that the warning
    names. The files are programs that this process runs: let nobody write them whom you do not trust.

    Args:
        folder: Folder of the files, which is made if it is not there. None: the one that JAX has already
            (`JAX_COMPILATION_CACHE_DIR`), otherwise `jax` beside the published weights in the cache of this package
            (`KERAS_VIDEO_FOCALNET_HOME`).

    Returns:
        The folder in which this processor's programs lie.

    Raises:
        RuntimeError: The backend is not JAX: TensorFlow and PyTorch keep no such files.
        OSError: The folder cannot be made or written, or is not this user's alone to write.

    Example:
        >>> enable_compilation_cache().is_dir()  # doctest: +SKIP
        True
    """
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            f"JAX alone keeps compiled programs in files, and the backend is {keras.backend.backend()}: leave "
            "enable_compilation_cache out, or set KERAS_BACKEND=jax before Keras is imported."
        )
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if folder is None and jax.config.jax_compilation_cache_dir:
        # What JAX was told is the user's own choice, in which nothing is changed but the limit.
        own = Path(jax.config.jax_compilation_cache_dir)
    else:
        own = (cache_dir() / "jax" if folder is None else Path(folder).expanduser()).absolute() / _processor()
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = own.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
            raise PermissionError(
                f"folder {own} belongs to somebody else, or others may write it, and its files are programs that would "
                "run here; pass a folder of your own."
            )
        if not os.access(own, os.W_OK | os.X_OK):
            raise PermissionError(f"folder {own} cannot be written; give access there, or pass another folder.")
        jax.config.update("jax_compilation_cache_dir", str(own))
        # JAX opens its cache once, and would go on with the one before.
        compilation_cache.reset_cache()
    if jax.config.jax_persistent_cache_min_compile_time_secs == _LEAST_SECONDS_OF_JAX:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    return own


@functools.cache
def enable_as_told() -> None:
    """Do so once where the environment variable says so; a folder that cannot be used is warned of."""
    told = os.environ.get(VARIABLE, "").strip()
    if told in ("", "0") or keras.backend.backend() != "jax":
        return
    try:
        if told != "1" and not Path(told).expanduser().is_absolute():
            raise FileNotFoundError("it must be 1 or the path of a folder from / or ~ on.")
        enable_compilation_cache(None if told == "1" else told)
    except OSError as error:
        warnings.warn(f"{VARIABLE}={told}: programs are not kept, {error}", stacklevel=2)


def _processor():
    """A name of this kind of processor: a program for another may have instructions that this one lacks."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else [platform.processor()]
    told = {line for line in lines if line.lower().startswith(("flags", "features", "model name", "cpu part"))}
    digest = hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()
    return f"{platform.machine() or 'unknown'}-{digest[:8]}"
