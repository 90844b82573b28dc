"""How well-conditioned the gradient of `micro_options` is: `python -m tests.conditioning`.

Everything here is float64 in our PyTorch oracle, so there is no rounding but what is put in: the clip is multiplied by
1 + e, e normal with the standard deviation of one rounding to float32. The table says how far the gradient moves (worst
parameter, norm of difference over norm) at the golden clip and at random ones.
"""

import json

import numpy as np
import torch

from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.golden import expected, golden
from weights_conversion.torch_reference import VideoFocalNet

ROUNDING = 3e-8


def gradients(clip, labels):
    config = json.loads((golden("micro_options") / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in ("batch", "num_frames", "image_size")}
    model = VideoFocalNet(**config, drop_path_rate=0.0).double()
    state = read_state_dict(golden("micro_options") / "checkpoint.pth")
    model.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
    logits = model(torch.tensor(clip, dtype=torch.float64).permute(0, 1, 4, 2, 3))
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


def movement(clip, labels, draws=8):
    exact, moved = gradients(clip, labels), []
    for seed in range(draws):
        noise = np.random.default_rng(seed).normal(size=clip.shape) * ROUNDING
        other = gradients(clip * (1 + noise), labels)
        moved.append(max(np.linalg.norm(other[k] - exact[k]) / np.linalg.norm(exact[k]) for k in exact))
    return np.median(moved), np.max(moved)


def main():
    data = expected("micro_options")
    golden_clip = data["input"].astype("float64")
    print(f"{'clip':10} {'median':>9} {'largest':>9}")
    print("{:10} {:9.1e} {:9.1e}".format("golden", *movement(golden_clip, data["labels"])))
    for seed in range(3):
        clip = np.random.default_rng(seed).normal(size=golden_clip.shape)
        print("{:10} {:9.1e} {:9.1e}".format(f"random {seed}", *movement(clip, data["labels"])))


if __name__ == "__main__":
    main()
