"""What both conversion scripts need: the options behind a state, a comparison with the oracle, a report."""

import importlib.util
from dataclasses import dataclass, field

import numpy as np

# Largest difference of logits that float32 arithmetic explains, as a share of the largest logit.
TOLERANCE = 1e-4
CHECK_SIZE = 64
# The builder whose family's files are converted.
ARCHITECTURE = "VideoFocalNetT"


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        source: the file that was read.
        target: the file that was written.
        tensors: number of tensors in the source.
        parameters: number of values in them.
        unmapped: names in the source that have no place in the target.
        initialized: names in the target that the source does not have, left as the model initializes them.
        identical: whether the target, read back from its file, holds every value of the source bit for bit.
        difference: largest difference of the logits to the PyTorch implementation, as a share of the largest logit;
            None: not measured.
        why_not: why it was not measured.
    """

    source: str
    target: str
    tensors: int
    parameters: int
    unmapped: list[str] = field(default_factory=list)
    initialized: list[str] = field(default_factory=list)
    identical: bool = False
    difference: float | None = None
    why_not: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was lost: all mapped, read back bit for bit, and the same logits where they were compared."""
        return not self.unmapped and self.identical and (self.difference is None or self.difference <= TOLERANCE)

    def __str__(self) -> str:
        """The report as lines of text."""
        if self.difference is None:
            output = f"not compared with PyTorch: {self.why_not}"
        else:
            output = f"differs from PyTorch by {self.difference:.1e} of the largest logit (at most {TOLERANCE:.0e})"
        lines = [
            f"source       {self.source}",
            f"target       {self.target}",
            f"tensors      {self.tensors} with {self.parameters:,} values",
            f"unmapped     {len(self.unmapped)}{_first(self.unmapped)}",
            f"initialized  {len(self.initialized)}{_first(self.initialized)}",
            f"read back    {'bit for bit' if self.identical else 'NOT the same values'}",
            f"output       {output}",
            f"result       {'passed' if self.passed else 'FAILED'}",
        ]
        return "\n".join(lines)


def _first(names: list[str]) -> str:
    return f", first {names[0]}" if names else ""


def infer_options(state: dict[str, np.ndarray]) -> dict:
    """Tells from names and shapes how the network of a state is built.

    Two options leave no trace in a state and are not in the answer: `use_postln` and `normalize_modulator`.

    Args:
        state: arrays by the reference's names, in PyTorch layouts.

    Returns:
        Arguments of `torch_reference.VideoFocalNet`, in the reference's names; `num_classes` is 0 without a classifier.

    Raises:
        ValueError: the state is not of a (Video-)FocalNet; names the first tensor that is missing.

    Example:
        >>> infer_options(read_weights("tests/data/micro/checkpoint.pth", ARCHITECTURE)[0])["depths"]
        (1, 1, 2, 1)
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in state:
            raise ValueError(f"the state has no tensor {name!r}; pass the weights of a Video-FocalNet or a FocalNet.")
        return state[name].shape

    def count(pattern: str) -> int:
        found = 0
        while pattern.format(found) in state:
            found += 1
        return found

    stages = count("layers.{}.blocks.0.norm1.weight")
    depths = tuple(count(f"layers.{stage}.blocks.{{}}.norm1.weight") for stage in range(stages))
    kernels = [
        [
            shape(f"layers.{stage}.blocks.0.modulation.focal_layers.{level}.0.weight")[-1]
            for level in range(count(f"layers.{stage}.blocks.0.modulation.focal_layers.{{}}.0.weight"))
        ]
        for stage in range(stages)
    ]
    if not all(kernels) or not kernels:
        raise ValueError("the state has no focal layers; pass the weights of a Video-FocalNet or a FocalNet.")
    embed_dim, *_, kernel = shape("patch_embed.proj.weight")
    # Between stages the stride is always 2: a kernel of 3 there tells that patches overlap, in the stem as well.
    use_conv_embed = stages > 1 and shape("layers.0.downsample.proj.weight")[-1] == 3
    hidden, width = shape("layers.0.blocks.0.mlp.fc1.weight")
    return {
        "num_classes": state["head.weight"].shape[0] if "head.weight" in state else 0,
        "embed_dim": embed_dim,
        "depths": depths,
        "focal_levels": tuple(map(len, kernels)),
        "focal_windows": tuple(levels[0] for levels in kernels),
        "focal_factor": tuple(levels[1] - levels[0] if len(levels) > 1 else 2 for levels in kernels),
        "mlp_ratio": hidden / width,
        "patch_size": (kernel + 1) // 2 if use_conv_embed else kernel,
        "tubelet_size": 1 if len(shape("patch_embed.proj.weight")) == 4 else shape("patch_embed.proj.weight")[2],
        "use_conv_embed": use_conv_embed,
        "use_layerscale": "layers.0.blocks.0.gamma_1" in state,
        "use_postln_in_modulation": "layers.0.blocks.0.modulation.ln.weight" in state,
    }


def build_model(options: dict, **kwargs):
    """Builds our Keras model from options in the reference's names and further arguments of `VideoFocalNet`."""
    from keras_video_focalnet import VideoFocalNet

    options = dict(options)
    classes = options.pop("num_classes")
    top = {"classes": classes} if classes else {"include_top": False, "pooling": "avg"}
    return VideoFocalNet(**{**options, **top, **kwargs})


def same_values(state: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether `other` has every tensor of `state`, in float32 bit for bit."""
    return all(
        name in other and np.float32(array).tobytes() == np.float32(other[name]).tobytes()
        for name, array in state.items()
    )


def difference_to_oracle(state: dict[str, np.ndarray], options: dict) -> tuple[float | None, str | None]:
    """Runs our Keras model and the PyTorch implementation on one random clip with the weights of a state.

    A state of an image model is compared on a still clip, with the temporal branch initialized to the identity.

    Args:
        state: arrays by the reference's names.
        options: the options of its network, in the reference's names.

    Returns:
        The largest difference of the logits as a share of the largest logit, and None; or None and why there is none.
    """
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch is not installed"
    import torch

    from keras_video_focalnet.models.video_focalnet.weights import is_temporal
    from weights_conversion.torch_reference import FocalNet, VideoFocalNet

    is_video = any(map(is_temporal, state))
    shape = (4 * options["tubelet_size"], CHECK_SIZE, CHECK_SIZE, 3)
    clip = np.random.default_rng(0).normal(size=(1, *shape)).astype("float32")
    if not is_video:
        clip = np.repeat(clip[:, :1], shape[0], axis=1)

    # All of it in float32, whatever policy the user's Keras is set to.
    model = build_model(
        options, input_shape=shape, include_preprocessing=False, classifier_activation=None, dtype="float32"
    )
    model.load_state(state)
    actual = model.predict(clip, verbose=0)

    oracle = (VideoFocalNet if is_video else FocalNet)(**options).eval()
    oracle.load_state_dict({name: torch.tensor(np.float32(array)) for name, array in state.items()})
    channels_first = torch.from_numpy(clip).movedim(-1, -3)
    with torch.inference_mode():
        wanted = oracle(channels_first if is_video else channels_first[:, 0]).numpy()
    return float(np.abs(actual - wanted).max() / np.abs(wanted).max()), None
