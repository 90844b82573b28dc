"""A reader of the published Keras weights: the `.h5` files that a subclassed Keras 2 model's `save_weights` wrote.

Such a file is a group a layer, listed in order in the attribute `layer_names`; each lists its tensors in order in
`weight_names`. The numbers in the names (`dense_17`) tell only what else was built in that process, so a tensor's
meaning is read from its place and shape. Keras lists the variables that a layer owns through plain lists before those
of its sub-layers, hence the order inside a block:

    norm1; spatial focal convolutions; temporal focal convolutions; f; h; proj; f_temporal; h_temporal; norm2; fc1; fc2

and the order of the groups: the embedding, the stages (blocks, then the downsampling), the final norm, the head.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_video_focalnet.models.video_focalnet.keras3_h5 import is_whole_h5, read_whole_h5
from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.hdf5 import Group, Tensor, TensorFile, names_in, open_hdf5, read

_AGAIN = "give a .h5 that a Keras 2 Video-FocalNet's save_weights wrote"

# From the axes of a Keras kernel to those of PyTorch, by rank: (in, out), (k, in, out), (kh, kw, in, out), ...
_AXES = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1), 5: (4, 3, 0, 1, 2)}


@dataclass
class _Weight:
    """A tensor of the file, not yet read."""

    path: str
    leaf: str
    data: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def array(self) -> np.ndarray:
        return np.ascontiguousarray(read(self.data).transpose(_AXES[len(self.shape)]))


class _Cursor:
    """Walks the tensors of one group in order and takes what is expected, or says what it found instead."""

    def __init__(self, group: str, weights: list[_Weight]):
        self._group = group
        self._weights = weights
        self._next = 0
        self.state: dict[str, np.ndarray] = {}

    def peek(self) -> _Weight | None:
        return self._weights[self._next] if self._next < len(self._weights) else None

    def next_rank(self) -> int | None:
        weight = self.peek()
        return None if weight is None else len(weight.shape)

    def take(self, name: str, leaf: str, shape: tuple[int | None, ...]) -> _Weight:
        """Takes the next tensor as `name`; None in `shape` fits any length."""
        weight = self.peek()
        wanted = f"({', '.join('any' if n is None else str(n) for n in shape)})"
        if weight is None:
            raise WeightsFileError(
                f"tensor {name!r} (a {leaf} of shape {wanted}) is missing: "
                f"group {self._group!r} ends before it; {_AGAIN}"
            )
        fits = len(weight.shape) == len(shape) and all(
            n is None or n == found for n, found in zip(shape, weight.shape, strict=True)
        )
        if not fits or weight.leaf != leaf:
            raise WeightsFileError(
                f"{weight.path!r} of shape {weight.shape} stands where {name!r} is expected, a {leaf} of shape "
                f"{wanted}: it is of a wrong shape, or a tensor before it is missing or extra; {_AGAIN}"
            )
        self.state[name] = weight.array()
        self._next += 1
        return weight

    def end(self):
        weight = self.peek()
        if weight is not None:
            raise WeightsFileError(f"{weight.path!r} of shape {weight.shape} is one tensor too many; {_AGAIN}")

    def norm(self, name: str, width: int | None) -> int:
        weight = self.take(f"{name}.weight", "gamma", (width,))
        self.take(f"{name}.bias", "beta", weight.shape)
        return weight.shape[0]

    def affine(self, name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """Takes a kernel and its bias; gives the kernel's shape."""
        weight = self.take(f"{name}.weight", "kernel", shape)
        self.take(f"{name}.bias", "bias", weight.shape[-1:])
        return weight.shape


def read_keras2_h5(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a Keras 2 Video-FocalNet `.h5`, of `save_weights` or `save`, as a state in the reference's names.

    The arrays are in PyTorch's layouts, the file's numbers bit for bit. Depths, focal levels and windows, widths and
    the class count all follow from the file, so no model is needed. A `WeightsFileError` names the file and the first
    tensor that is missing, extra or of a wrong shape.
    """
    return read_keras2(path)[0]


def read_keras2(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """As `read_keras2_h5`, with the class names, which only a whole model that Keras 3 saved as `.h5` carries."""
    kind = sniff(path)
    with named_errors(path):
        if kind != "hdf5":
            raise WeightsFileError(f"not an HDF5 file: it is {DESCRIPTIONS[kind]}; download the file again")
        with open_hdf5(path) as file:
            return read_whole_h5(file) if is_whole_h5(file) else (_state(file), None)


def _state(file: TensorFile) -> dict[str, np.ndarray]:
    root = file.root
    if "layer_names" not in root.attributes and file.has(root, "model_weights"):
        root = file.group(root, "model_weights")
    if not any(name.startswith("layer_names") for name in root.attributes):
        new = file.has(root, "layers") or file.has(root, "_layer_checkpoint_dependencies")
        what = "a Keras 3 .weights.h5 (rename it so)" if new else "without the attribute 'layer_names'"
        raise WeightsFileError(f"not a file of Keras 2's save_weights: {what}; {_AGAIN}")
    groups = [_Cursor(name, weights) for name, weights in _groups(file, root) if weights]
    if len(groups) < 3:
        raise WeightsFileError(
            f"only {len(groups)} groups have weights; an embedding, stages and a norm need 3; {_AGAIN}"
        )
    embedding, *rest = groups
    width = _embedding(embedding)
    # The head is the one group that begins with a matrix.
    head = rest.pop() if rest[-1].next_rank() == 2 else None
    *stages, norm = rest
    for index, stage in enumerate(stages):
        width = _stage(stage, index, width, last=index == len(stages) - 1)
    norm.norm("norm", width)
    if head is not None:
        head.affine("head", (width, None))
    state = {}
    for group in groups:
        group.end()
        state |= group.state
    return state


def _groups(file: TensorFile, root: Group) -> Iterator[tuple[str, list[_Weight]]]:
    names = _names(root, "layer_names")
    # Weights that the model owns itself, which Keras keeps apart from its layers.
    own = "top_level_model_weights"
    if own not in names and file.has(root, own) and "weight_names" in file.group(root, own).attributes:
        names.append(own)
    for name in names:
        group = file.group(root, name)
        yield name, [_weight(file, group, path) for path in _names(group, "weight_names")]


def _names(group: Group, attribute: str) -> list[str]:
    found = names_in(group, attribute)
    if found is None:
        raise WeightsFileError(f"group {group.name!r} lacks the attribute {attribute!r}; {_AGAIN}")
    return found


def _weight(file: TensorFile, group: Group, path: str) -> _Weight:
    data = file.tensor(group, path)
    if len(data.shape) not in _AXES:
        raise WeightsFileError(f"tensor {path!r} has shape {data.shape}, not that of a weight; {_AGAIN}")
    return _Weight(path, path.rsplit("/", 1)[-1].split(":")[0], data)


def _embedding(group: _Cursor) -> int:
    # A tubelet's kernel has the axis of time in front.
    axes = 5 if group.next_rank() == 5 else 4
    width = group.affine("patch_embed.proj", (None,) * axes)[-1]
    return group.norm("patch_embed.norm", width)


def _stage(group: _Cursor, index: int, width: int, last: bool) -> int:
    block = 0
    # A block begins with a norm's vector, the downsampling with a kernel.
    while block == 0 or group.next_rank() == 1:
        _block(group, f"layers.{index}.blocks.{block}", width)
        block += 1
    if last:
        return width
    name = f"layers.{index}.downsample"
    width = group.affine(f"{name}.proj", (None, None, width, None))[-1]
    return group.norm(f"{name}.norm", width)


def _block(group: _Cursor, name: str, width: int):
    modulation = f"{name}.modulation"
    group.norm(f"{name}.norm1", width)
    levels = 0
    while levels == 0 or group.next_rank() == 4:
        window = group.peek().shape[0] if group.next_rank() == 4 else None
        group.take(f"{modulation}.focal_layers.{levels}.0.weight", "kernel", (window, window, 1, width))
        levels += 1
    for level in range(levels):
        group.take(f"{modulation}.focal_layers_temporal.{level}.0.weight", "kernel", (None, width, width))
    group.affine(f"{modulation}.f", (width, 2 * width + levels + 1))
    group.affine(f"{modulation}.h", (1, 1, width, width))
    group.affine(f"{modulation}.proj", (width, width))
    group.affine(f"{modulation}.f_temporal", (width, width + levels + 1))
    group.affine(f"{modulation}.h_temporal", (1, width, width))
    group.norm(f"{name}.norm2", width)
    hidden = group.affine(f"{name}.mlp.fc1", (width, None))[-1]
    group.affine(f"{name}.mlp.fc2", (hidden, width))
