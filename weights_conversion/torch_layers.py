"""The layers of `torch_reference`: patch embedding, spatio-temporal focal modulation, the block.

Between layers the activations are `(rows, height, width, channels)`, where a row is one frame: linear layers and layer
norms need no copy, and a convolution sees the same memory as a channels-first tensor in the `channels_last` format.
On a CPU the Tiny model runs 14 % faster so than with channels-first copies and a `Conv1d` over time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-5


class StochasticDepth(nn.Module):
    """Drops a whole residual branch of a row with probability `rate` and rescales the rows that are kept.

    A row is one frame of one clip: frames of the same clip are dropped independently, as in the reference.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drops rows of `(rows, ...)` when training."""
        if not self.training or self.rate == 0.0:
            return x
        kept = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(kept)
        return x * mask.div_(kept)


class PatchEmbed(nn.Module):
    """Strided convolution followed by a layer norm: the stem, and with `stride=2` what stands between two stages.

    Args:
        in_channels: channels of the input.
        dim: channels of the output.
        stride: patch size in pixels; 4 in the stem, 2 between stages.
        tubelet_size: frames folded into one token. Above 1 the convolution is three-dimensional.
        use_conv_embed: overlapping patches: kernel 7, padding 2 at stride 4; kernel 3, padding 1 at stride 2.
    """

    def __init__(self, in_channels: int, dim: int, stride: int, tubelet_size: int = 1, use_conv_embed: bool = False):
        super().__init__()
        kernel, padding = (2 * stride - 1, stride // 2) if use_conv_embed else (stride, 0)
        self.tubelet_size = tubelet_size
        if tubelet_size > 1:
            self.proj = nn.Conv3d(
                in_channels,
                dim,
                kernel_size=(tubelet_size, kernel, kernel),
                stride=(tubelet_size, stride, stride),
                padding=(0, padding, padding),
            )
        else:
            self.proj = nn.Conv2d(in_channels, dim, kernel_size=kernel, stride=stride, padding=padding)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Embeds `(rows, C, H, W)`, with a tubelet `(batch, C, frames, H, W)`, to `(rows, H', W', dim)`."""
        x = self.proj(x)
        if self.tubelet_size > 1:
            x = x.transpose(1, 2).flatten(0, 1)
        return self.norm(x.permute(0, 2, 3, 1))


class TemporalConv(nn.Conv1d):
    """A convolution over time, full in channels, applied at every position.

    The kernel is that of a `Conv1d`, `(C, C, k)`, but the input stays `(batch, C, frames, positions)`: moving every
    position into the batch axis, as a `Conv1d` would want it, costs a transposed copy.
    """

    def __init__(self, dim: int, kernel: int, bias: bool):
        super().__init__(dim, dim, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves `(batch, C, frames, positions)` over the frames."""
        return F.conv2d(x, self.weight.unsqueeze(-1), self.bias, padding=(self.padding[0], 0))


class FocalModulation(nn.Module):
    """Spatio-temporal focal modulation (section 3.1, equation 9), or its spatial half for the image model.

    Args:
        dim: channels C.
        focal_level: number L of context levels, besides the global one.
        focal_window: kernel size of level 0.
        focal_factor: growth of the kernel from one level to the next.
        temporal: whether the temporal branch exists.
        use_postln_in_modulation: layer norm on the modulated query, before `proj`.
        normalize_modulator: divide the gated sums by L+1.
        drop_rate: dropout after `proj`.
    """

    def __init__(
        self,
        dim: int,
        focal_level: int = 2,
        focal_window: int = 3,
        focal_factor: int = 2,
        temporal: bool = True,
        use_postln_in_modulation: bool = False,
        normalize_modulator: bool = False,
        drop_rate: float = 0.0,
    ):
        super().__init__()
        kernels = [focal_window + focal_factor * level for level in range(focal_level)]
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(
                f"focal_window={focal_window} with focal_factor={focal_factor} gives kernels {kernels}; "
                "take an odd focal_window and an even focal_factor so that every kernel is odd."
            )
        self.dim = dim
        self.scale = 1.0 / (focal_level + 1) if normalize_modulator else 1.0
        # Created in this order because optimizer states in training checkpoints refer to parameters by position.
        self.f = nn.Linear(dim, 2 * dim + focal_level + 1)
        self.h = nn.Conv2d(dim, dim, kernel_size=1)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)
        self.focal_layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False), nn.GELU())
            for kernel in kernels
        )
        if temporal:
            self.f_temporal = nn.Linear(dim, dim + focal_level + 1)
            self.h_temporal = TemporalConv(dim, kernel=1, bias=True)
            self.focal_layers_temporal = nn.ModuleList(
                nn.Sequential(TemporalConv(dim, kernel, bias=False), nn.GELU()) for kernel in kernels
            )
        else:
            self.f_temporal = None
        self.ln = nn.LayerNorm(dim, eps=NORM_EPSILON) if use_postln_in_modulation else None

    def aggregate(self, projected: Tensor, levels: nn.ModuleList, pooled_axes: tuple[int, ...]) -> Tensor:
        """Gated sum of the contexts of all levels (equations 6 to 8).

        Args:
            projected: `(rows, C+L+1, ., .)`, the context followed by the gates.
            levels: the contextualization functions, one a level.
            pooled_axes: axes over which the last level is averaged into the global context.

        Returns:
            `(rows, C, ., .)`.
        """
        context, gates = projected.split([self.dim, projected.shape[1] - self.dim], dim=1)
        total = None
        for level, contextualize in enumerate(levels):
            context = contextualize(context)
            gate = gates[:, level : level + 1]
            total = context * gate if total is None else total.addcmul(context, gate)
        total = total.addcmul(F.gelu(context.mean(pooled_axes, keepdim=True)), gates[:, -1:])
        return total if self.scale == 1.0 else total * self.scale

    def temporal_modulator(self, x: Tensor, frames: int) -> Tensor:
        """Modulator of the temporal branch, `(rows, H, W, C)`, from the layer's input of that shape."""
        rows, height, width, _ = x.shape
        projected = self.f_temporal(x).view(rows // frames, frames, height * width, -1).permute(0, 3, 1, 2)
        modulator = self.h_temporal(self.aggregate(projected, self.focal_layers_temporal, pooled_axes=(2,)))
        return modulator.permute(0, 2, 3, 1).reshape(rows, height, width, -1)

    def forward(self, x: Tensor, frames: int = 1, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Modulates `(rows, H, W, C)` rows of which every `frames` in turn are one clip.

        Args:
            x: `(rows, H, W, C)`.
            frames: frames a clip; ignored without a temporal branch.
            taps: where to put the modulators, `(rows, H, W, C)` each, under `"modulator_spatial"` and
                `"modulator_temporal"`.

        Returns:
            `(rows, H, W, C)`.
        """
        query, projected = self.f(x).split([self.dim, self.f.out_features - self.dim], dim=-1)
        spatial = self.h(self.aggregate(projected.permute(0, 3, 1, 2), self.focal_layers, pooled_axes=(2, 3)))
        modulated = query * spatial.permute(0, 2, 3, 1)
        if taps is not None:
            taps["modulator_spatial"] = spatial.permute(0, 2, 3, 1)
        if self.f_temporal is not None:
            temporal = self.temporal_modulator(x, frames)
            modulated = modulated * temporal
            if taps is not None:
                taps["modulator_temporal"] = temporal
        if self.ln is not None:
            modulated = self.ln(modulated)
        return self.proj_drop(self.proj(modulated))


class Mlp(nn.Module):
    """Two linear layers with a GELU between; one dropout module serves after each."""

    def __init__(self, dim: int, hidden_dim: int, drop_rate: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(..., dim)` to the same shape."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class FocalBlock(nn.Module):
    """Focal modulation and MLP, each in a residual branch (Figure 2b).

    With `use_postln` the layer norm closes its branch instead of opening it; layer scale and stochastic depth
    follow it.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        use_layerscale: bool = False,
        layerscale_value: float = 1e-4,
        use_postln: bool = False,
        **modulation_options,
    ):
        super().__init__()
        self.use_postln = use_postln
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.modulation = FocalModulation(dim, drop_rate=drop_rate, **modulation_options)
        self.drop_path = StochasticDepth(drop_path_rate)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop_rate)
        self.gamma_1 = nn.Parameter(torch.full((dim,), layerscale_value)) if use_layerscale else None
        self.gamma_2 = nn.Parameter(torch.full((dim,), layerscale_value)) if use_layerscale else None

    def residual(self, branch: Tensor, gamma: Tensor | None) -> Tensor:
        """Makes a branch ready to be added: layer scale, then stochastic depth."""
        return self.drop_path(branch if gamma is None else branch * gamma)

    def forward(self, x: Tensor, frames: int = 1, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Maps `(rows, H, W, C)` to the same shape; `frames` and `taps` as in `FocalModulation`."""
        if self.use_postln:
            x = x + self.residual(self.norm1(self.modulation(x, frames, taps)), self.gamma_1)
            return x + self.residual(self.norm2(self.mlp(x)), self.gamma_2)
        x = x + self.residual(self.modulation(self.norm1(x), frames, taps), self.gamma_1)
        return x + self.residual(self.mlp(self.norm2(x)), self.gamma_2)
