"""How Vita-CLIP's authors train on Kinetics-400, by the settings of their code, as attributes of `Recipe`.

30,000 steps of 256 clips are about 32 epochs of Kinetics-400, at a rate that falls from the first step to 0. Everything
that trains decays: scales, shifts, prompts and the scale of the logits too. Nothing is clipped, smoothed, mixed or
mirrored. The clips are frames that are 16 apart from a random start.

What differs here: their RandAugment is timm's, with 15 operations on whole frames before the crop; ours has the 14 of
its paper and works behind the crop. A video that is too short starts again where theirs
repeats its last frame. The rate of each step is theirs of the step before, as in `WarmupCosine`. With another batch
size the rate is in proportion. They score 3 views in time and 1 in space of each video (`--views 3x1` of `evaluate`).
"""

from typing import Any

_KINETICS: dict[str, Any] = {
    **{"optimizer": "adamw", "epsilon": 1e-8, "epochs": 32, "warmup_epochs": 0.0},
    **{"learning_rate": 4e-4, "warmup_learning_rate": 0.0, "min_learning_rate": 0.0, "rate_batch": 256},
    **{"weight_decay": 0.05, "decay_vectors": True, "clip_norm": None, "label_smoothing": 0.0},
    **{"mixup": 0.0, "cutmix": 0.0, "mix_probability": 0.0, "scale_jitter": None},
    **{"num_frames": 8, "size": 224, "stride": 16, "area": (0.08, 1.0), "flip": 0.0, "color_jitter": 0.0, "gray": 0.0},
    **{"rand_augment": (4, 7.0), "rand_augment_probability": 0.5, "rand_augment_spread": 0.5},
}
RECIPES: dict[str, dict[str, Any]] = {"vita_clip": _KINETICS, "k400": _KINETICS}
