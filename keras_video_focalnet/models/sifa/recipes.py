"""How SIFA's authors train, by the settings in their repository, as attributes of `Recipe`.

They sum the gradients of four batches of 96 clips in Kinetics-400 and average them in Something-Something V1; here they
are averaged in both, so that for the former the rates are four times theirs, and the clipping and the weight decay a
quarter. They decay all weights, `Recipe` matrices and kernels. Half of their clips are blurred, which no recipe here
does. For Something-Something V1 only the rate, the epochs and the warm-up are known; the rest is as in Kinetics-400.
"""

from typing import Any

_KINETICS: dict[str, Any] = {
    **{"optimizer": "sgd", "momentum": 0.9, "nesterov": False, "epochs": 64, "warmup_epochs": 1.0},
    **{"learning_rate": 0.16, "warmup_learning_rate": 0.0016, "min_learning_rate": 4e-6, "rate_batch": 384},
    **{"gradient_accumulation_steps": 4, "weight_decay": 2.5e-5, "clip_norm": 10.0, "label_smoothing": 0.0},
    **{"mixup": 0.0, "cutmix": 0.0, "mix_probability": 0.0, "scale_jitter": None},
    **{"num_frames": 16, "size": 224, "stride": 1, "area": (0.2, 1.0), "flip": 0.5, "color_jitter": 0.8, "gray": 0.2},
}
_SOMETHING: dict[str, Any] = {
    **_KINETICS,
    **{"warmup_epochs": 5.0, "learning_rate": 0.02, "warmup_learning_rate": 2e-4, "min_learning_rate": 1e-6},
    **{"weight_decay": 1e-4, "clip_norm": 40.0, "flip": 0.0},
}
RECIPES: dict[str, dict[str, Any]] = {"k400": _KINETICS, "ssv1": _SOMETHING}
# The settings of a transformer's clips are known by their name alone: 64 frames, every second one.
TRANSFORMER_RECIPES = {name: {**recipe, "num_frames": 64, "stride": 2} for name, recipe in RECIPES.items()}
