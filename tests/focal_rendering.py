"""Focal modulation of every design in NumPy, written from the equations of the Video-FocalNet paper (sections 3.1 and
3.1.3), in float64. It counts the multiply-adds of what it computes.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


class Rendering:
    """One block, given its tensors by the reference's names, without the block's own: `norm1.weight`, ...

    Tokens are `(batch, frames, height, width, channels)`.

    Attributes:
        macs: Multiply-adds of the matrix products and convolutions so far.
        used: Names of the tensors that something was computed with.
    """

    def __init__(self, tensors, design="parallel", fusion="multiply"):
        self._tensors = {name: np.float64(tensor) for name, tensor in tensors.items()}
        self._design, self._fusion = design, fusion
        self.macs, self.used = 0, set()

    def block(self, x):
        """The tokens behind a block, and its modulators."""
        x, modulators = x.astype("float64"), []
        divided = self._design == "divided"
        for suffix, design in (("", "spatial"), ("_temporal", "temporal")) if divided else (("", self._design),):
            change, *found = self.modulation(self._norm(f"norm1{suffix}", x), f"modulation{suffix}", design)
            x, modulators = x + change, modulators + found
        hidden = gelu(self._linear("mlp.fc1", self._norm("norm2", x)))
        return x + self._linear("mlp.fc2", hidden), *modulators

    def modulation(self, x, name, design):
        """The modulated tokens (Eq. 4, 9 and 10) and the modulators."""
        channels, modulators = x.shape[-1], []
        query = None
        if design != "temporal":
            query, context, gates = np.split(self._linear(f"{name}.f", x), [channels, 2 * channels], -1)
            levels = self._levels(name, ("focal_layers",))
            pooled = (2, 3)
            if design == "factorized_3d":
                levels, pooled = self._levels(name, ("focal_layers", "focal_layers_temporal")), (1, 2, 3)
            modulators.append(self._linear(f"{name}.h", self._aggregated(context, gates, levels, pooled)))
        if design in ("parallel", "temporal"):
            projected = self._linear(f"{name}.f_temporal", x)
            if query is None:
                query, projected = projected[..., :channels], projected[..., channels:]
            levels = self._levels(name, ("focal_layers_temporal",))
            context = self._aggregated(projected[..., :channels], projected[..., channels:], levels, (1,))
            h = "h_mean_temporal" if self._fusion == "average" else "h_temporal"
            modulators.append(self._linear(f"{name}.{h}", context))
        if self._fusion == "projection":
            factor = self._linear(f"{name}.proj_spatio_temporal", np.concatenate(modulators, -1))
        else:
            factor = (np.mean if self._fusion == "average" else np.prod)(modulators, axis=0)
        return self._linear(f"{name}.proj", query * factor), *modulators

    def _levels(self, name, branches):
        """For each focal level, the kernels that are applied one after the other."""
        levels, level = [], 0
        while f"{name}.{branches[0]}.{level}.0.weight" in self._tensors:
            levels.append([self._tensor(f"{name}.{branch}.{level}.0.weight") for branch in branches])
            level += 1
        return levels

    def _aggregated(self, context, gates, levels, pooled):
        """Hierarchical contextualization and gated aggregation (Eq. 6 to 8) of what a linear layer gave (Eq. 5)."""
        total = 0
        for level, kernels in enumerate(levels):
            for kernel in kernels:
                context = self._over_frame(context, kernel) if kernel.ndim == 4 else self._over_time(context, kernel)
            context = gelu(context)
            total = total + gates[..., level : level + 1] * context
        # The published code passes the average of the last level through GELU once more.
        return total + gates[..., len(levels) :] * gelu(context.mean(pooled, keepdims=True))

    def _over_frame(self, x, kernel):
        """A depth-wise convolution within each frame, by a kernel `(channels, 1, k, k)`."""
        half, (height, width) = kernel.shape[-1] // 2, x.shape[2:4]
        padded = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half), (0, 0)))
        self.macs += x.size * kernel[0].size
        taps = [(row, column) for row in range(2 * half + 1) for column in range(2 * half + 1)]
        return sum(padded[:, :, r : r + height, c : c + width] * kernel[:, 0, r, c] for r, c in taps)

    def _over_time(self, x, kernel):
        """A convolution of each place over the frames by a kernel `(filters, channels, k)`, depth-wise where the kernel
        has one channel.
        """
        half, frames = kernel.shape[-1] // 2, x.shape[1]
        padded = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0)))
        self.macs += x[..., 0].size * kernel.size
        shifted = [(padded[:, tap : tap + frames], kernel[:, :, tap]) for tap in range(2 * half + 1)]
        if kernel.shape[1] == 1:
            return sum(frame * weights[:, 0] for frame, weights in shifted)
        return sum(frame @ weights.T for frame, weights in shifted)

    def _linear(self, name, x):
        weight = self._tensor(f"{name}.weight")
        self.macs += x[..., 0].size * weight.size
        return x @ weight.reshape(weight.shape[:2]).T + self._tensor(f"{name}.bias")

    def _norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return centred / deviation * self._tensor(f"{name}.weight") + self._tensor(f"{name}.bias")

    def _tensor(self, name):
        self.used.add(name)
        return self._tensors[name]
