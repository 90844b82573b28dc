"""Video-FocalNet and the image FocalNet in plain PyTorch: the oracle of the tests, the peer of the benchmarks.

Written from the paper (Wasim et al., "Video-FocalNets: Spatio-Temporal Focal Modulation for Video Action Recognition",
ICCV 2023, section 3) and from published checkpoints' names and shapes. Parameter names, shapes and their order are
those of the reference checkpoints, so `model.load_state_dict(load_checkpoint(path))` works as it stands. Clips and
images are channels first, as PyTorch users have them.

Example:
    ```python
    import torch
    from weights_conversion.torch_reference import video_focalnet_tiny

    model = video_focalnet_tiny(num_classes=400).eval()
    with torch.inference_mode():
        logits = model(torch.randn(1, 8, 3, 224, 224))  # (1, 400)
    ```
"""

import pickle
from collections.abc import Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from weights_conversion.torch_layers import NORM_EPSILON, FocalBlock, PatchEmbed


class Stage(nn.Module):
    """The blocks of one resolution and, but for the last stage, the downsampling after them."""

    def __init__(self, dim: int, drop_path_rates: Sequence[float], downsample: PatchEmbed | None, **block_options):
        super().__init__()
        self.blocks = nn.ModuleList(FocalBlock(dim, drop_path_rate=rate, **block_options) for rate in drop_path_rates)
        self.downsample = downsample


def per_stage(name: str, value: int | Sequence[int], stages: int) -> list[int]:
    """Returns one value a stage from a number or a sequence."""
    values = [value] * stages if isinstance(value, int) else list(value)
    if len(values) != stages:
        raise ValueError(f"{name}={value!r} has {len(values)} entries but depths has {stages}; give one a stage.")
    return values


class FocalNet(nn.Module):
    """The image FocalNet: the spatial branch of `VideoFocalNet` and nothing else.

    Args:
        num_classes: outputs of the head; 0 leaves the head out.
        embed_dim: channels of stage 0; every stage doubles them.
        depths: blocks a stage.
        focal_levels: context levels, one number or one a stage.
        focal_windows: kernel size of level 0, one number or one a stage.
        focal_factor: growth of the kernel a level, one number or one a stage.
        mlp_ratio: hidden width of the MLP over its input's.
        patch_size: pixels a token at the stem, in both directions.
        use_conv_embed: overlapping patches in the stem and between stages.
        use_layerscale: scale each residual branch by a learned vector.
        layerscale_value: what that vector starts at.
        use_postln: layer norm after modulation and MLP instead of before.
        use_postln_in_modulation: layer norm inside the modulation, before its last projection.
        normalize_modulator: divide gated sums by the number of contexts.
        drop_rate: dropout after the stem, the modulation and both MLP layers.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: a per-stage argument does not have one entry a stage, or a focal kernel would be even.
    """

    has_temporal_branch = False

    def __init__(
        self,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        focal_levels: int | Sequence[int] = 2,
        focal_windows: int | Sequence[int] = 3,
        focal_factor: int | Sequence[int] = 2,
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        use_conv_embed: bool = False,
        use_layerscale: bool = False,
        layerscale_value: float = 1e-4,
        use_postln: bool = False,
        use_postln_in_modulation: bool = False,
        normalize_modulator: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        tubelet_size: int = 1,
    ):
        super().__init__()
        stages = len(depths)
        levels = per_stage("focal_levels", focal_levels, stages)
        windows = per_stage("focal_windows", focal_windows, stages)
        factors = per_stage("focal_factor", focal_factor, stages)
        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * block / last for block in range(sum(depths))])
        dims = [embed_dim * 2**stage for stage in range(stages)]
        self.patch_embed = PatchEmbed(3, embed_dim, patch_size, tubelet_size, use_conv_embed)
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = nn.ModuleList(
            Stage(
                dims[stage],
                [next(rates) for _ in range(depths[stage])],
                PatchEmbed(dims[stage], dims[stage + 1], 2, 1, use_conv_embed) if stage < stages - 1 else None,
                mlp_ratio=mlp_ratio,
                drop_rate=drop_rate,
                use_layerscale=use_layerscale,
                layerscale_value=layerscale_value,
                use_postln=use_postln,
                focal_level=levels[stage],
                focal_window=windows[stage],
                focal_factor=factors[stage],
                temporal=self.has_temporal_branch,
                use_postln_in_modulation=use_postln_in_modulation,
                normalize_modulator=normalize_modulator,
            )
            for stage in range(stages)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=NORM_EPSILON)
        self.head = nn.Linear(dims[-1], num_classes) if num_classes else nn.Identity()
        self.apply(self.initialize)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Truncated normal (0.02) for linear layers; convolutions keep PyTorch's own initialization."""
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward_rows(self, x: Tensor, frames: int, taps: dict[str, Tensor] | None) -> Tensor:
        """Runs embedded rows `(rows, H, W, C)` through all stages and the final norm: `(rows, tokens, 8C)`."""

        def tap(name: str, value: Tensor) -> None:
            if taps is not None:
                taps[f"feature/{name}"] = value.flatten(1, 2)

        tap("patch_embed", x)
        x = self.pos_drop(x)
        for index, stage in enumerate(self.layers):
            modulators: dict[str, Tensor] | None = None if taps is None else {}
            for block in stage.blocks:
                x = block(x, frames, modulators)
            tap(f"stage{index}", x)
            if taps is not None:
                taps.update({f"{name}/stage{index}": value for name, value in modulators.items()})
            if stage.downsample is not None:
                x = stage.downsample(x.permute(0, 3, 1, 2))
        x = self.norm(x)
        tap("norm", x)
        return x.flatten(1, 2)

    def forward_features(self, images: Tensor, taps: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Returns what the final norm gives, `(batch, tokens, 8C)`; with `taps`, also a dict as in `VideoFocalNet`."""
        recorded: dict[str, Tensor] | None = {} if taps else None
        features = self.forward_rows(self.patch_embed(images), 1, recorded)
        return (features, recorded) if taps else features

    def forward(self, images: Tensor) -> Tensor:
        """Classifies normalized images `(batch, 3, H, W)`: logits `(batch, num_classes)`."""
        return self.head(self.forward_features(images).mean(dim=1))


class VideoFocalNet(FocalNet):
    """Video-FocalNet (section 3, Figure 2).

    Args:
        num_classes: outputs of the head; 0 leaves the head out.
        tubelet_size: frames folded into one token; the number of frames must be a multiple of it.
        drop_path_rate: stochastic depth of the last block; drops frames, not clips.
        **options: everything else as in `FocalNet`.

    Raises:
        ValueError: as `FocalNet`; on a call, a clip of another shape than `(batch, frames, 3, H, W)` or with a number
            of frames that `tubelet_size` does not divide.
    """

    has_temporal_branch = True

    def __init__(self, num_classes: int = 400, **options):
        super().__init__(num_classes, **options)

    def embed(self, clip: Tensor) -> tuple[Tensor, int]:
        """Returns the embedded rows `(batch*frames, H', W', C)` and the frames a clip that are left."""
        if clip.ndim != 5 or clip.shape[2] != 3:
            raise ValueError(f"clip has shape {tuple(clip.shape)}; pass (batch, frames, 3, height, width).")
        tubelet = self.patch_embed.tubelet_size
        if clip.shape[1] % tubelet:
            raise ValueError(f"clip has {clip.shape[1]} frames; pass a multiple of tubelet_size={tubelet}.")
        rows = clip.transpose(1, 2) if tubelet > 1 else clip.flatten(0, 1)
        return self.patch_embed(rows), clip.shape[1] // tubelet

    def forward_features(self, clip: Tensor, taps: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Returns what the final norm gives, and on demand what is inside.

        Args:
            clip: normalized pixels, `(batch, frames, 3, H, W)`.
            taps: also return intermediate values.

        Returns:
            `(batch*frames, tokens, 8C)`. With `taps`, a pair of it and a dict: `feature/patch_embed`, `feature/stageS`
            (before downsampling) and `feature/norm`, each `(batch*frames, tokens, channels)`;
            `modulator_spatial/stageS` and `modulator_temporal/stageS` of the last block of stage S, each
            `(batch*frames, H, W, channels)`.
        """
        recorded: dict[str, Tensor] | None = {} if taps else None
        rows, frames = self.embed(clip)
        features = self.forward_rows(rows, frames, recorded)
        return (features, recorded) if taps else features

    def forward(self, clip: Tensor) -> Tensor:
        """Classifies normalized clips `(batch, frames, 3, H, W)`: logits `(batch, num_classes)`."""
        pooled = self.forward_features(clip).mean(dim=1)
        return self.head(pooled.view(clip.shape[0], -1, pooled.shape[-1]).mean(dim=1))


def video_focalnet_tiny(num_classes: int = 400, **options) -> VideoFocalNet:
    """Video-FocalNet-T: 49.6 M parameters with 400 classes."""
    return VideoFocalNet(num_classes, **{"embed_dim": 96, "depths": (2, 2, 6, 2), "drop_path_rate": 0.2, **options})


def video_focalnet_small(num_classes: int = 400, **options) -> VideoFocalNet:
    """Video-FocalNet-S: 88.7 M parameters with 400 classes."""
    return VideoFocalNet(num_classes, **{"embed_dim": 96, "depths": (2, 2, 18, 2), "drop_path_rate": 0.3, **options})


def video_focalnet_base(num_classes: int = 400, **options) -> VideoFocalNet:
    """Video-FocalNet-B: 157.4 M parameters with 400 classes."""
    return VideoFocalNet(num_classes, **{"embed_dim": 128, "depths": (2, 2, 18, 2), "drop_path_rate": 0.5, **options})


def load_checkpoint(path: str | PathLike) -> dict[str, Tensor]:
    """Reads the model's state from a reference checkpoint without running anything that it holds.

    A published training checkpoint carries a configuration object of a third-party class, which PyTorch's own safe
    loader refuses; such a file goes through this project's reader.

    Args:
        path: a `.pth` file with the state at the top or under the key `model`.

    Returns:
        A state that `load_state_dict` takes, on the CPU.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not a checkpoint, or holds no model state.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        from keras_video_focalnet.weights.torch_checkpoint import read_state_dict

        return {name: torch.from_numpy(value.copy()) for name, value in read_state_dict(path).items()}
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no model state; pass a file with tensors at the top or under the key 'model'.")
    return dict(state)
