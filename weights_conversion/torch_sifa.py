"""SIFA in plain PyTorch: an implementation of its own, the oracle of the tests and the peer of the benchmarks.

SIFA is "Stand-Alone Inter-Frame Attention in Video Models" (Long et al., CVPR 2022). Clips are `(batch, frames, height,
width, 3)`, what stands between layers `(batch, channels, frames, height, width)`, and parameters have the names of the
authors' checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TUBELET = 4


def inter_frame_attention(
    queries: Tensor, keys: Tensor, offsets: Tensor | None, kernel_size: int = 3, dilation: int = 1
) -> tuple[Tensor, Tensor]:
    """Compare each place of one map with a window of another, and sum the window by the similarities.

    Args:
        queries: `(batch, channels, height, width)`.
        keys: of the same shape.
        offsets: `(batch, 2 * kernel_size**2, height, width)`, of each tap first down, then right; None: all zero.
        kernel_size: odd side of the window.
        dilation: distance of its taps.

    Returns:
        The sums, as `queries`, and the similarities, `(batch, kernel_size**2, height, width)`.
    """
    batch, channels, height, width = keys.shape
    taps = kernel_size**2
    if offsets is None:
        samples = F.unfold(keys, kernel_size, dilation, dilation * (kernel_size // 2))
        samples = samples.reshape(batch, channels, taps, height, width)
    else:
        steps = dilation * (torch.arange(kernel_size, device=keys.device) - kernel_size // 2).to(keys.dtype)
        rows = torch.arange(height, device=keys.device, dtype=keys.dtype)[:, None]
        columns = torch.arange(width, device=keys.device, dtype=keys.dtype)
        offsets = offsets.reshape(batch, taps, 2, height, width)
        y = rows + steps.repeat_interleave(kernel_size)[:, None, None] + offsets[:, :, 0]
        x = columns + steps.repeat(kernel_size)[:, None, None] + offsets[:, :, 1]
        # The centres of the outermost places are half a place from the borders, at -1 and 1.
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
        grid = grid.reshape(batch, taps * height, width, 2)
        samples = F.grid_sample(keys, grid, "bilinear", "zeros", align_corners=False)
        samples = samples.reshape(batch, channels, taps, height, width)
    similarities = torch.einsum("bchw,bckhw->bkhw", queries, samples) / channels
    return torch.einsum("bkhw,bckhw->bchw", similarities, samples), similarities


def attend_to_next_frame(x: Tensor, offsets: Tensor | None, kernel_size: int, dilation: int) -> Tensor:
    """Attention of every frame of `(batch, channels, frames, height, width)` to the next one; zero in the last."""
    batch, channels, frames, height, width = x.shape
    queries, keys = (
        part.transpose(1, 2).reshape(batch * (frames - 1), channels, height, width)
        for part in (x[:, :, :-1], x[:, :, 1:])
    )
    if offsets is not None:
        offsets = offsets.transpose(1, 2).reshape(batch * (frames - 1), -1, height, width)
    sums, _ = inter_frame_attention(queries, keys, offsets, kernel_size, dilation)
    sums = sums.reshape(batch, frames - 1, channels, height, width).transpose(1, 2)
    return F.pad(sums, (0, 0, 0, 0, 0, 1))


def frame_conv(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv3d:
    """A convolution of every frame."""
    return nn.Conv3d(inputs, outputs, (1, side, side), (1, stride, stride), (0, side // 2, side // 2), bias=False)


class Bottleneck(nn.Module):
    """A ResNet's bottleneck: plain, with the context of the clip, or with attention to the next frame."""

    def __init__(self, inputs: int, width: int, stride: int, kind: str, kernel_size: int = 3, dilation: int = 1):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = frame_conv(inputs, width, 1), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = frame_conv(width, width, 3, stride), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = frame_conv(width, outputs, 1), nn.BatchNorm3d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(frame_conv(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs))
        self.kind, self.kernel_size, self.dilation = kind, kernel_size, dilation
        if kind == "context":
            self.fc1, self.fc2 = nn.Linear(outputs, outputs // 16), nn.Linear(outputs // 16, outputs)
        elif kind == "attention":
            self.conv_offset = frame_conv(width, 2 * kernel_size**2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        if self.kind == "attention":
            now = y[:, :, 1:]
            offsets = self.conv_offset(torch.sigmoid(now - y[:, :, :-1]) * now + now)
            y = y + attend_to_next_frame(y, offsets, self.kernel_size, self.dilation)
        y = self.bn3(self.conv3(y))
        total = y + (x if self.downsample is None else self.downsample(x))
        if self.kind == "context":
            total = total + self.fc2(F.relu(self.fc1(y.mean((2, 3, 4)))))[:, :, None, None, None]
        return F.relu(total)


class SIFANet(nn.Module):
    """SIFA-Net: `forward` gives the logits of both heads."""

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        num_classes: int = 400,
        kernel_size: int = 3,
        drop_rate: float = 0.5,
    ):
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (TUBELET, 7, 7), (TUBELET, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        inputs = [width, *(4 * width * 2**stage for stage in range(3))]

        def stage(number: int, stride: int) -> nn.Sequential:
            blocks = []
            for block in range(depths[number]):
                kind = "plain" if number == 0 else ("attention" if block % 2 else "context")
                first = (inputs[number], stride) if block == 0 else (4 * width * 2**number, 1)
                blocks.append(Bottleneck(first[0], width * 2**number, first[1], kind, kernel_size))
            return nn.Sequential(*blocks)

        self.layer1, self.layer2, self.layer3 = stage(0, 1), stage(1, 2), stage(2, 2)
        self.layer4, self.layer4_dual = stage(3, 2), stage(3, 1)
        self.dropout = nn.Dropout(drop_rate)
        self.fc, self.fc_dual = (nn.Linear(32 * width, num_classes) for _ in range(2))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                # A block begins as its shortcut.
                nn.init.zeros_(module.bn3.weight)

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.bn1(self.conv1(clip.permute(0, 4, 1, 2, 3))))
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = self.layer3(self.layer2(self.layer1(x)))
        dual = self.layer4_dual(F.max_pool3d(x, (2, 1, 1), (2, 1, 1)))
        pooled, pooled_dual = (self.dropout(branch.mean((2, 3, 4))) for branch in (self.layer4(x), dual))
        return self.fc(pooled), self.fc_dual(pooled_dual)

    def scores(self, clip: Tensor) -> Tensor:
        """The mean of the softmaxes of both heads."""
        return sum(logits.softmax(-1) for logits in self(clip)) / 2


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a bias for relative positions."""

    def __init__(self, channels: int, heads: int, window: int):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"), -1).reshape(
            -1, 2
        )
        step = places[:, None] - places + window - 1
        self.register_buffer("index", step[..., 0] * (2 * window - 1) + step[..., 1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        rows, tokens, channels = x.shape
        q, k, v = self.qkv(x).reshape(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(rows // len(mask), 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(rows, tokens, channels))


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: in training a branch is left out of some frames, and what is kept is scaled up."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * (x.new_empty(*x.shape[:2], 1, 1, 1).bernoulli_(keep) / keep)


class TransformerBlock(nn.Module):
    """Window attention, a look at other frames, an MLP; on `(batch, frames, height, width, channels)`."""

    def __init__(
        self,
        channels: int,
        heads: int,
        grid: tuple[int, int],
        window: int,
        block: int,
        kernel_size: int,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.drop_path = DropPath(drop_path_rate)
        self.window = min(window, *grid)
        self.shift = window // 2 if block % 2 and min(grid) > window else 0
        self.kernel_size = kernel_size
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn, self.mlp = WindowAttention(channels, heads, self.window), Mlp(channels)
        mask = None
        if self.shift:
            self.conv = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False)
            lines = [torch.zeros(side) for side in grid]
            for line in lines:
                line[-self.window : -self.shift], line[-self.shift :] = 1, 2
            regions = (3 * lines[0][:, None] + lines[1])[None, :, :, None]
            regions = self.cut(regions)[..., 0]
            mask = torch.where(regions[:, :, None] == regions[:, None], 0.0, -100.0)
        else:
            self.tda_norm = nn.LayerNorm(channels)
        self.register_buffer("mask", mask, persistent=False)

    def cut(self, x: Tensor) -> Tensor:
        """Windows of `(batch, height, width, channels)`."""
        batch, height, width, channels = x.shape
        w = self.window
        x = x.reshape(batch, height // w, w, width // w, w, channels).transpose(2, 3)
        return x.reshape(-1, w * w, channels)

    def joined(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """What `cut` cut, in one piece again."""
        batch, height, width, channels = shape
        w = self.window
        return x.reshape(batch, height // w, width // w, w, w, channels).transpose(2, 3).reshape(shape)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames, height, width, channels = x.shape
        y = torch.roll(self.norm1(x).flatten(0, 1), (-self.shift, -self.shift), (1, 2))
        y = self.joined(self.attn(self.cut(y), self.mask), y.shape)
        x = x + self.drop_path(torch.roll(y, (self.shift, self.shift), (1, 2)).reshape(x.shape))
        if self.shift:
            line = x.permute(0, 4, 2, 3, 1).reshape(batch, channels, height * width, frames)
            x = x + self.conv(line).reshape(batch, channels, height, width, frames).permute(0, 4, 2, 3, 1)
        else:
            attended = attend_to_next_frame(x.permute(0, 4, 1, 2, 3), None, self.kernel_size, 1)
            x = x + self.tda_norm(attended.permute(0, 2, 3, 4, 1))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """One token of each square of two by two."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, :, row::2, column::2] for column in range(2) for row in range(2)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class SIFATransformer(nn.Module):
    """SIFA-Transformer: `forward` gives logits."""

    def __init__(
        self,
        size: tuple[int, int] = (224, 224),
        embed_dim: int = 128,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int = 7,
        patch_size: int = 4,
        kernel_size: int = 3,
        num_classes: int = 400,
        drop_rate: float = 0.5,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        piece = (TUBELET, patch_size, patch_size)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, embed_dim, piece, piece)})
        self.layers = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            grid = tuple(side // (patch_size * 2**stage) for side in size)
            channels = embed_dim * 2**stage
            parts = nn.ModuleDict()
            parts["blocks"] = nn.Sequential(
                *(
                    TransformerBlock(channels, heads, grid, window_size, block, kernel_size, next(rates))
                    for block in range(depth)
                )
            )
            if stage < len(depths) - 1:
                parts["downsample"] = PatchMerging(channels)
            self.layers.append(parts)
        self.norm, self.dropout = nn.LayerNorm(channels), nn.Dropout(drop_rate)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patch_embed["proj"](clip.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        for parts in self.layers:
            for part in parts.values():
                x = part(x)
        return self.fc(self.dropout(self.norm(x).mean((2, 3)))).mean(1)


def sifa_net50(num_classes: int = 400, **options) -> SIFANet:
    """SIFA-Net on ResNet-50: 43.0 M parameters with 400 classes."""
    return SIFANet(num_classes=num_classes, **options)


def sifa_transformer_s(num_classes: int = 400, **options) -> SIFATransformer:
    """SIFA-Transformer on Swin-S: 53.3 M parameters with 400 classes."""
    sizes = {"embed_dim": 96, "num_heads": (3, 6, 12, 24), "drop_path_rate": 0.3}
    return SIFATransformer(num_classes=num_classes, **{**sizes, **options})


def sifa_transformer_b(num_classes: int = 400, **options) -> SIFATransformer:
    """SIFA-Transformer on Swin-B: 94.5 M parameters with 400 classes."""
    sizes = {"embed_dim": 128, "num_heads": (4, 8, 16, 32), "drop_path_rate": 0.5}
    return SIFATransformer(num_classes=num_classes, **{**sizes, **options})
