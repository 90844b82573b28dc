"""Programs that JAX compiled, kept in files for the next process."""

import warnings

import keras
import numpy as np
import pytest

from keras_video_focalnet import VideoFocalNetNano, enable_compilation_cache
from keras_video_focalnet.models import compilation_cache

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="The cache is JAX's.")
VARIABLE = "KERAS_VIDEO_FOCALNET_COMPILATION_CACHE"
OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_enable_compilation_cache")
HITS = "/jax/compilation_cache/cache_hits"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch, tmp_path):
    """A package's cache in the test's own folder, and JAX as it was before."""
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(VARIABLE, raising=False)
    compilation_cache.enable_as_told.cache_clear()
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    before = {name: getattr(jax.config, name) for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", True)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()
    compilation_cache.enable_as_told.cache_clear()


@pytest.fixture
def events():
    """The names of JAX's events, as they come."""
    import jax

    names = []

    def listen(name, **_):
        names.append(name)

    jax.monitoring.register_event_listener(listen)
    yield names
    jax.monitoring.unregister_event_listener(listen)


def compiled_anew():
    """What a new process would compute and compile, of which nothing is so small that it is not kept."""
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.clear_caches()
    matrix = np.arange(12.0, dtype="float32").reshape(3, 4)
    return np.asarray(jax.jit(lambda x: jax.numpy.tanh(x @ x.T) + 0.125)(matrix))


def files(folder):
    return [path for path in folder.iterdir() if path.name.endswith("-cache")]


@on_jax
def test_a_program_is_kept_and_taken_by_who_compiles_it_again(tmp_path, events):
    folder = enable_compilation_cache(tmp_path / "programs")
    assert folder.is_dir() and folder.parent == tmp_path / "programs"
    first = compiled_anew()
    kept = files(folder)
    assert kept and HITS not in events
    np.testing.assert_array_equal(compiled_anew(), first)
    assert events.count(HITS) >= 1 and sorted(files(folder)) == sorted(kept)


@on_jax
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"nothing of JAX"])
def test_a_damaged_program_is_warned_of_and_compiled(tmp_path, damage, events):
    folder = enable_compilation_cache(tmp_path)
    first = compiled_anew()
    for path in files(folder):
        path.write_bytes(damage(path.read_bytes()))
    enable_compilation_cache(tmp_path)
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        again = compiled_anew()
    np.testing.assert_array_equal(again, first)
    assert HITS not in events


@on_jax
def test_by_default_programs_lie_beside_the_weights(tmp_path):
    assert enable_compilation_cache().parent == tmp_path / "home" / "jax"


@on_jax
def test_a_folder_that_jax_was_told_stays(tmp_path):
    import jax

    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert enable_compilation_cache() == tmp_path / "own"
    assert enable_compilation_cache(tmp_path / "other").parent == tmp_path / "other"


@on_jax
def test_the_folder_can_be_changed(tmp_path):
    first, second = (enable_compilation_cache(tmp_path / name) for name in ("first", "second"))
    compiled_anew()
    assert files(second) and not files(first)


@on_jax
def test_only_jax_own_limit_is_lowered(tmp_path):
    import jax

    name = "jax_persistent_cache_min_compile_time_secs"
    for before, after in ((1.0, 0.1), (0.0, 0.0), (5.0, 5.0)):
        jax.config.update(name, before)
        enable_compilation_cache(tmp_path)
        assert getattr(jax.config, name) == after


@on_jax
@pytest.mark.parametrize(("told", "kept"), [("1", "home/jax"), ("folder", "folder"), ("0", None), ("", None)])
def test_the_environment_variable_tells_the_first_model(tmp_path, monkeypatch, told, kept):
    import jax

    monkeypatch.setenv(VARIABLE, told if told != "folder" else str(tmp_path / "folder"))
    VideoFocalNetNano(weights=None)
    folder = jax.config.jax_compilation_cache_dir
    assert folder is None if kept is None else folder.startswith(str(tmp_path / kept))


@on_jax
def test_a_folder_of_the_variable_that_cannot_be_used_is_warned_of(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=f"{VARIABLE}=.*programs are not kept"):
        VideoFocalNetNano(weights=None)
    with pytest.raises(OSError, match="file"):
        enable_compilation_cache(tmp_path / "file")


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has such a cache.")
def test_other_backends_say_that_they_have_none(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="JAX alone keeps compiled programs.*KERAS_BACKEND=jax"):
        enable_compilation_cache(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "folder"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoFocalNetNano(weights=None)
    assert not (tmp_path / "folder").exists()
