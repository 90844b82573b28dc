"""Training in several processes with PyTorch, a device each: gradients are averaged over a process group."""

import atexit
import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras

from keras_video_focalnet.training.distribution import Distribution, replica_seed, seed_states

if TYPE_CHECKING:
    import torch


def suitable_method() -> str | None:
    """Name the method that suits the processes of the environment, if there are any."""
    import torch

    if torch.distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return "process_group"
    devices = torch.cuda.device_count()
    if devices > 1:
        warnings.warn(
            f"One of {devices} GPUs is used: PyTorch trains in a process for each. Start them by "
            f"`torchrun --nproc-per-node={devices} ...` in place of `python ...`.",
            stacklevel=3,
        )
    return None


class ProcessGroup(Distribution):
    """A process for every device; `torchrun`'s variables `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, ... say which.

    Gradients and metrics travel as tensors, over NCCL from GPUs and over Gloo from CPUs.
    """

    def __init__(self):
        from torch import distributed

        if not distributed.is_initialized():
            _join()
        super().__init__(distributed.get_rank(), distributed.get_world_size(), distributed.get_world_size())

    def synchronize(self, model: keras.Model) -> None:
        import torch
        from torch import distributed

        variables = list(model.variables)
        if getattr(model, "optimizer", None) is not None:
            variables += model.optimizer.variables
        for variable in variables + model.metrics_variables:
            value = variable.value.detach().contiguous()
            distributed.broadcast(value, 0)
            variable.assign(value)
        for state in seed_states(model):
            seed, draws = keras.ops.convert_to_numpy(state).tolist()
            state.assign([replica_seed(seed, self.process_index), draws])
        if self.process_index > 0:
            # Layers of PyTorch's own draw from its global generator and not from Keras's seeds.
            torch.manual_seed(torch.initial_seed() + self.process_index)

    def _adapt(self, model: keras.Model) -> None:
        train_step, test_step, predict_step = model.train_step, model.test_step, model.predict_step

        def step(data):
            average_gradients(model.optimizer)
            return train_step(data)

        model.train_step = _counting_together(model, step)
        model.test_step = _counting_together(model, test_step)
        model.predict_step = lambda data: keras.tree.map_structure(_gather, predict_step(data))


def _join() -> None:
    import torch
    from torch import distributed

    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"distribute='process_group' needs the environment variables that torchrun sets, but {', '.join(missing)} "
            "is missing; start the program by `torchrun --nproc-per-node=2 ...` in place of `python ...`."
        )
    if torch.cuda.is_available():
        device = int(os.environ.get("LOCAL_RANK", 0))
        if device >= torch.cuda.device_count():
            raise ValueError(
                f"LOCAL_RANK is {device}, but this machine has {torch.cuda.device_count()} GPUs; start no more "
                "processes on it than that."
            )
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    """Ends the threads of the group while Python runs; a process that ends with them may end with SIGABRT."""
    from torch import distributed

    # After an error the others may be waiting for this process, which must not wait for them.
    if distributed.is_initialized() and getattr(sys, "last_value", None) is None:
        distributed.destroy_process_group()


def average_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Have an optimizer average the gradients over all processes before it does anything else, such as clipping them.

    Its `apply` is replaced once, and what it is saved as does not change. With gradient accumulation the gradients of
    every step are averaged, not only those of every update.
    """
    if hasattr(optimizer.apply, "averages_gradients"):
        return
    apply = optimizer.apply

    @functools.wraps(apply)
    def apply_means(grads, trainable_variables=None):
        return apply(_means(grads), trainable_variables)

    apply_means.averages_gradients = True
    optimizer.apply = apply_means


def _means(grads: "Sequence[torch.Tensor | None]") -> "list[torch.Tensor | None]":
    """Average gradients over the processes; None stays None."""
    from torch import distributed

    sums = [None if grad is None else grad.contiguous() for grad in grads]
    present = [tensor for tensor in sums if tensor is not None]
    for work in [distributed.all_reduce(tensor, async_op=True) for tensor in present]:
        work.wait()
    for tensor in present:
        tensor /= distributed.get_world_size()
    return sums


def _counting_together(model: keras.Model, step: Callable) -> Callable:
    """Wrap a step so that each metric counts the batches of all processes, which all see the same values.

    Sums are added up over the processes; other variables of a metric stay as they are in each process.
    """
    from torch import distributed

    @functools.wraps(step)
    def together(data):
        sums = [variable for variable in model.metrics_variables if variable.aggregation == "sum"]
        before = [variable.value.clone() for variable in sums]
        for variable in sums:
            variable.value.zero_()
        step(data)
        for variable, counted in zip(sums, before, strict=True):
            distributed.all_reduce(variable.value)
            variable.value.add_(counted)
        return model.get_metrics_result()

    return together


def _gather(outputs: "torch.Tensor") -> "torch.Tensor":
    """Concatenate the outputs of all processes in their order; their numbers of rows may differ."""
    import torch
    from torch import distributed

    count = distributed.get_world_size()
    rows = [torch.zeros(1, dtype=torch.int64, device=outputs.device) for _ in range(count)]
    distributed.all_gather(rows, torch.full_like(rows[0], len(outputs)))
    rows = [int(number) for number in rows]
    padded = outputs.new_zeros((max(rows), *outputs.shape[1:]))
    padded[: len(outputs)] = outputs
    gathered = [torch.empty_like(padded) for _ in rows]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[:number] for part, number in zip(gathered, rows, strict=True)])


METHODS = {"process_group": ProcessGroup}
