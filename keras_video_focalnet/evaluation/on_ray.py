"""Jobs over a library of videos on Ray Data: processors read videos, a pool of models computes, on one machine or many.

Ray holds back what would fill its memory, and replaces workers that die. Whatever travels is plain: places in the
library, pixels, rows of numbers, and a model as bytes.
"""

import contextlib
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_video_focalnet.evaluation.library_job import Engine, Outcome, ReadChunk
from keras_video_focalnet.evaluation.reading import Reading
from keras_video_focalnet.evaluation.scorer import PackedModel, Scorer
from keras_video_focalnet.utils.extras import require

LOCAL = "local"
"""The address of a cluster of this machine alone, which lives as long as the job."""

# Bytes of Ray's object store on this machine: at least so many, and room for so many chunks.
LEAST_STORE = 256 << 20
CHUNKS = 32


@contextlib.contextmanager
def ray_cluster(address: str, workers: int, chunk_bytes: int = 0) -> Iterator[None]:
    """Join the cluster at an address, or have one of this machine alone, for the time of a block.

    Args:
        address: `LOCAL`, or as `ray.init` takes it: `"auto"`, `"HOST:PORT"` or `"ray://HOST:PORT"`. Where the program
            has joined a cluster already, it is used and left as it is.
        workers: Processors of a cluster of this machine.
        chunk_bytes: Size of what travels at a time.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: There is no cluster at the address.
    """
    require("A job on Ray", "ray", "ray", "pyarrow")
    # Ray reads this when it is imported: its processes would write what is none of the user's business.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Its workers would stand back behind every other program of the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == LOCAL:
            store = max(LEAST_STORE, CHUNKS * chunk_bytes)
            ray.init(
                address=LOCAL, num_cpus=workers, object_store_memory=store, include_dashboard=False, **quiet
            )  # fmt: skip
        else:
            ray.init(address=address, **quiet)
        yield
    finally:
        ray.shutdown()


def ray_engine(read: Callable[[int], Reading], model: PackedModel | None, models: int | None, **scorer: Any) -> Engine:
    """An engine of the cluster that was joined.

    Args:
        read: Reads a video, see `ReadViews`; its attribute `shape` is that of a video's clips.
        model: The model that computes; None where reading is all there is to do.
        models: Copies of the model; None for one a GPU, or where there is none, one for two processors.
        **scorer: Arguments of `Scorer` besides the model.
    """
    import ray

    resources = ray.cluster_resources()
    processors, gpus = max(1, int(resources.get("CPU", 1))), int(resources.get("GPU", 0))
    models = models or gpus or max(1, processors // 2)
    threads = None if gpus else max(1, processors // models)
    # A model on a processor reserves none: it shares them with the workers that it waits for.
    reserved = {"num_gpus": min(1, gpus / models)} if gpus else {"num_cpus": 0}
    reference = None if model is None else ray.put(model)

    def outcomes(chunks):
        with _quiet_context() as data:
            videos = data.range(len(chunks), override_num_blocks=len(chunks))
            videos = videos.map_batches(_ReadBlock(ReadChunk(read, chunks), getattr(read, "shape", None)), batch_size=1)
            if reference is not None:
                videos = videos.map_batches(
                    _ScoreBlock,
                    fn_constructor_args=(reference, threads, scorer),
                    compute=data.ActorPoolStrategy(size=min(models, len(chunks))),
                    batch_size=None,
                    **reserved,
                )
            for block in videos.iter_batches(batch_size=None, batch_format="numpy"):
                yield from _outcomes(block)

    return outcomes


@contextlib.contextmanager
def _quiet_context():
    """Ray's module of data: it tells nothing, and goes on where a block is lost, which is done again afterwards."""
    from ray import data

    context, level = data.DataContext.get_current(), logging.getLogger("ray.data").level
    wanted = {"enable_progress_bars": False, "max_errored_blocks": -1, "print_on_execution_start": False}
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, wanted[name])
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield data
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logging.getLogger("ray.data").setLevel(level)


def _outcomes(block: dict[str, np.ndarray]) -> Iterator[Outcome]:
    for place, number in enumerate(block["number"].tolist()):
        about = json.loads(str(block["about"][place]))
        if "failed" in about:
            raise RuntimeError(f"the model failed in a worker of Ray:\n{about['failed']}")
        values = block["values"][place] if "values" in block and about.pop("computed", False) else None
        yield number, values, about


class _ReadBlock:
    """A chunk's number, as Ray hands it over, -> the readings as arrays; zeros stand for what cannot be read."""

    def __init__(self, read: ReadChunk, shape: tuple[int, ...] | None):
        self._read, self._shape = read, shape

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        readings = self._read(int(block["id"][0]))
        arrays = {
            "number": np.array([reading.number for reading in readings], np.int64),
            "about": _texts({"computed": reading.clips is not None, **reading.about} for reading in readings),
        }
        if self._shape is not None:
            empty = np.zeros(self._shape, np.uint8)
            arrays["clips"] = np.stack(
                [empty if reading.clips is None else reading.clips for reading in readings]
            )  # fmt: skip
        return arrays


def _texts(values):
    # Plain ASCII, whatever the names of files are.
    return np.array([json.dumps(value) for value in values], object)


class _ScoreBlock:
    """A model of the pool. What goes wrong is told as a row, since Ray passes over what an error loses."""

    def __init__(self, reference: Any, threads: int | None, options: dict[str, Any]):
        import ray

        self._failed = None
        try:
            self._scorer = Scorer(ray.get(reference).load(threads), **options)
        except Exception:
            self._failed = traceback.format_exc()

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = {"number": block["number"], "about": block["about"]}
        try:
            if self._failed is None:
                return {**arrays, "values": self._values(block)}
        except Exception:
            self._failed = traceback.format_exc()
        return {**arrays, "about": _texts({"failed": self._failed} for _ in block["number"])}

    def _values(self, block):
        computed = np.array([json.loads(str(about))["computed"] for about in block["about"]], bool)
        values = np.zeros((len(computed), self._scorer.width), np.float32)
        if computed.any():
            values[computed] = self._scorer(block["clips"][computed])
        return values
