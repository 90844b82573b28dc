"""Several devices or processes on 127.0.0.1 train the model that one device trains on the same batches."""

import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_video_focalnet.training.distribution import Distribution, choose
from tests.training import distribution_worker

BACKEND = keras.backend.backend()
ROOT = Path(__file__).parents[2]
TIMEOUT = 300  # seconds after which processes are taken to wait for each other
# What these models cost is what compiling them costs.
ON_CPU = {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "OMP_NUM_THREADS": "1",
}


def free_ports(count):
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def environments(distribute, count):
    """What to tell each of several processes."""
    ports = free_ports(2)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    for index in range(count):
        if distribute == "multi_worker":
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            yield {"TF_CONFIG": json.dumps(config)}
        elif distribute == "data_parallel" and count > 1:
            names = ("JOB_ADDRESSES", addresses[0]), ("NUM_PROCESSES", count), ("PROCESS_ID", index)
            yield {f"KERAS_DISTRIBUTION_{name}": str(value) for name, value in names}
        elif distribute == "data_parallel":
            yield {"XLA_FLAGS": f"{ON_CPU['XLA_FLAGS']} --xla_force_host_platform_device_count=4"}
        elif distribute == "process_group":
            ranks = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": count}
            yield {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0])} | {k: str(v) for k, v in ranks.items()}
        else:
            yield {}


def run(folder, distribute, count, *options):
    """The results of each of `count` processes, a dict of arrays each."""
    folder.mkdir()
    processes = []
    for index, environment in enumerate(environments(distribute, count)):
        # Where there is a CPU alone, several processes are found by themselves, several devices on JAX.
        name = distribute if distribute == "mirrored" else "auto"
        command = [sys.executable, "-m", "tests.training.distribution_worker", name]
        with open(folder / f"{index}.log", "wb") as log:
            processes.append(
                subprocess.Popen(
                    [*command, str(folder / f"{index}.npz"), *options],
                    env={**os.environ, **ON_CPU, **environment},
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    until = time.monotonic() + TIMEOUT
    try:
        # One that fails leaves the others waiting.
        while any(p.poll() is None for p in processes) and not any(p.poll() for p in processes):
            if time.monotonic() > until:
                break
            time.sleep(0.1)
    finally:
        codes = [process.poll() for process in processes]
        for process in processes:
            process.kill()
            process.wait()
    output = "\n".join(f"process {i}: {c}\n{(folder / f'{i}.log').read_text()[-5000:]}" for i, c in enumerate(codes))
    assert codes == [0] * count, output
    results = []
    for index in range(count):
        with np.load(folder / f"{index}.npz") as arrays:
            results.append(dict(arrays))
    return results


@functools.cache
def alone(recipe):
    """The results of one device, in this process."""
    with keras.device("cpu"):  # as the others
        return distribution_worker.results(choose(None), recipe, distribution_worker.shares)


@pytest.mark.parametrize("recipe", [(), pytest.param(("--recipe",), marks=pytest.mark.slow)], ids=["keras", "recipe"])
@pytest.mark.parametrize(
    "backend,distribute,processes,replicas,options",
    [
        pytest.param("tensorflow", "mirrored", 1, 2, ("--devices", "2"), marks=pytest.mark.slow),
        pytest.param("tensorflow", "multi_worker", 2, 2, (), marks=pytest.mark.slow),
        pytest.param("tensorflow", "multi_worker", 2, 2, ("--whole-batches",), marks=pytest.mark.slow),
        pytest.param("jax", "data_parallel", 1, 4, (), marks=pytest.mark.slow),
        pytest.param("jax", "data_parallel", 2, 2, (), marks=pytest.mark.slow),
        pytest.param("torch", "process_group", 2, 2, (), marks=pytest.mark.slow),
    ],
)
def test_training_is_that_of_one_device(backend, distribute, processes, replicas, options, recipe, tmp_path):
    if backend != BACKEND:
        pytest.skip(f"{distribute} exists on {backend} alone")
    expected = alone(bool(recipe))
    results = run(tmp_path / "run", distribute, processes, *options, *recipe)
    assert [tuple(result["process"]) for result in results] == [(i, processes, replicas) for i in range(processes)]
    for result in results:
        for what in ("losses", "history", "scores", "weights", "predictions"):
            difference = np.abs(result[what] - expected[what]).max()
            print(f"{distribute}, {processes} processes, {recipe or 'SGD'}, {what}: {difference:.1e}")
            assert result[what].shape == expected[what].shape
            assert difference < 1e-4, what
    # Training moved the loss by much more than what is tolerated.
    assert np.ptp(expected["losses"]) > 0.05
    if backend != "jax":
        kept = np.concatenate([result["kept"] for result in results])
        np.testing.assert_array_equal(kept[0], expected["kept"][0])
        assert kept.shape == (replicas, 64)
        assert len(np.unique(kept, axis=0)) == replicas, "two replicas drop the same frames"


def test_a_way_of_another_backend_names_that_of_this_one():
    other, needs = ("data_parallel", "JAX") if BACKEND == "tensorflow" else ("mirrored", "TensorFlow")
    own = {"tensorflow": "'mirrored' or 'multi_worker'", "jax": "'data_parallel'", "torch": "'process_group'"}[BACKEND]
    with pytest.raises(ValueError, match=f"distribute='{other}' needs the {needs} backend; on .* use {own}"):
        choose(other)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match='distribute must be one of "auto", None, "mirrored".*received \'horovod\''):
        choose("horovod")


def test_without_a_distribution_keras_trains_as_ever():
    distribution, model, batches = choose(None), keras.Sequential([keras.layers.Dense(1)]), [1]
    assert type(distribution) is Distribution and distribution.replicas == 1
    step = model.train_step
    assert distribution.prepare(model) is model and model.train_step == step
    assert distribution.dataset(batches) is batches


@pytest.mark.parametrize("batch_size,replicas", [(6, 4), (3, 2), (1, 8)])
def test_a_batch_that_replicas_cannot_share_is_refused(batch_size, replicas):
    message = f"batch_size is {batch_size}, which {replicas} replicas cannot share equally; pass a multiple"
    with pytest.raises(ValueError, match=re.escape(message)):
        Distribution(replicas=replicas).process_batch(batch_size)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TF_CONFIG is TensorFlow's")
@pytest.mark.parametrize("config", [None, '{"cluster": {"worker": ["127.0.0.1:1"]}}'])
def test_workers_must_be_listed(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="needs the environment variable TF_CONFIG to list two processes or more"):
        choose("multi_worker")


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch has no scope")
def test_a_model_of_another_scope_is_refused():
    distribution = choose("mirrored" if BACKEND == "tensorflow" else "data_parallel")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="build it inside `with distribution.scope"):
        distribution.prepare(model)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_gradients_are_not_accumulated_under_a_strategy():
    distribution = choose("mirrored")
    with distribution.scope():
        model = distribution.prepare(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
        model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), "mse")
    with pytest.raises(ValueError, match="gradient_accumulation_steps is 2, .* or 'data_parallel' on JAX"):
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data is TensorFlow's")
def test_a_worker_with_several_devices_gives_each_its_part_of_a_batch():
    import tensorflow as tf

    from keras_video_focalnet.training.distribution_tensorflow import split_batches

    batches = tf.data.Dataset.from_tensor_slices((np.arange(8), np.arange(8) * 10)).batch(4)
    parts = [[array.tolist() for array in part] for part in split_batches(batches, 2).as_numpy_iterator()]
    assert parts == [[[n, n + 1], [n * 10, n * 10 + 10]] for n in (0, 2, 4, 6)]


@pytest.mark.skipif(BACKEND != "torch", reason="torchrun is PyTorch's")
def test_a_process_group_needs_torchrun(monkeypatch):
    for name in ("RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(ValueError, match="RANK, MASTER_ADDR is missing; start the program by `torchrun"):
        choose("auto")


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch alone has a process a GPU")
def test_several_gpus_and_one_process_give_a_warning(monkeypatch):
    import torch

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.warns(UserWarning, match="One of 4 GPUs is used.*torchrun --nproc-per-node=4"):
        assert type(choose("auto")) is Distribution
