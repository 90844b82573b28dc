"""How well-conditioned the gradient of `micro_options` is: `python -m tests.conditioning`.

Three tables of our PyTorch oracle, of the worst parameter's norm of difference over norm.

The first is float64 throughout, so there is no rounding but what is put in: the clip is multiplied by 1 + e, e normal
with the standard deviation of one rounding to float32. It says how far the gradient moves at the golden clip and at
random ones.

The second sets the oracle in float32 beside itself in float64, at the golden clip and at clips within a hundred
roundings of it: what PyTorch itself, in the reference's own layout, is off by, and how much of that is luck.

The third is what one rounding a layer costs with no other error: all is computed in float64, but the output of every
linear layer, convolution, norm and activation, and the gradient that arrives there, is rounded to float32 once.
"""

import importlib.util
import json
import sys

if importlib.util.find_spec("pytest") is None:
    sys.exit("conditioning needs pytest, as all of the tests do: pip install -e '.[dev]' in a clone of the repository")

import numpy as np
import torch

from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.golden import expected, golden
from weights_conversion.torch_reference import VideoFocalNet

torch.set_num_threads(1)

ROUNDING = 3e-8
NEAR = 3e-6


class Rounded(torch.autograd.Function):
    """Rounds a tensor to float32, and its gradient too."""

    @staticmethod
    def forward(context, tensor):
        return tensor.float().double()

    @staticmethod
    def backward(context, gradient):
        return gradient.float().double()


def gradients(clip, labels, dtype=torch.float64, layers_round=False):
    config = json.loads((golden("micro_options") / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in ("batch", "num_frames", "image_size")}
    model = VideoFocalNet(**config, drop_path_rate=0.0).to(dtype)
    state = read_state_dict(golden("micro_options") / "checkpoint.pth")
    model.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
    if layers_round:
        for layer in model.modules():
            if not list(layer.children()):
                layer.register_forward_hook(lambda layer, inputs, output: Rounded.apply(output))
    logits = model(torch.tensor(clip, dtype=dtype).permute(0, 1, 4, 2, 3))
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


def difference(actual, exact):
    return max(np.linalg.norm(actual[k] - exact[k]) / np.linalg.norm(exact[k]) for k in exact)


def disturbed(clip, size, seed):
    return clip * (1 + np.random.default_rng(seed).normal(size=clip.shape) * size)


def movement(clip, labels, draws=8):
    exact = gradients(clip, labels)
    moved = [difference(gradients(disturbed(clip, ROUNDING, seed), labels), exact) for seed in range(draws)]
    return np.median(moved), np.max(moved)


def single_precision(clip, labels):
    clip = clip.astype("float32")
    return difference(gradients(clip, labels, torch.float32), gradients(clip, labels))


def rounded_layers(clip, labels):
    clip = clip.astype("float32").astype("float64")
    return difference(gradients(clip, labels, layers_round=True), gradients(clip, labels))


def report(title, error, clip, labels):
    print(f"\n{title}")
    print("{:10} {:9.1e}".format("golden", error(clip, labels)))
    near = [error(disturbed(clip, NEAR, seed), labels) for seed in range(16)]
    print("{:10} {:9.1e} {:9.1e}  smallest {:.1e}".format("near it", np.median(near), np.max(near), np.min(near)))


def main():
    data = expected("micro_options")
    golden_clip = data["input"].astype("float64")
    print(f"{'clip':10} {'median':>9} {'largest':>9}")
    print("{:10} {:9.1e} {:9.1e}".format("golden", *movement(golden_clip, data["labels"])))
    for seed in range(3):
        clip = np.random.default_rng(seed).normal(size=golden_clip.shape)
        print("{:10} {:9.1e} {:9.1e}".format(f"random {seed}", *movement(clip, data["labels"])))

    report("float32 against float64", single_precision, golden_clip, data["labels"])
    report("outputs of layers rounded to float32 against float64", rounded_layers, golden_clip, data["labels"])


if __name__ == "__main__":
    main()
