"""How the Video-FocalNets paper trains on each data set (Table 1, section 4.1), as attributes of `Recipe`."""

from typing import Any

_KINETICS: dict[str, Any] = {
    **{"optimizer": "sgd", "epochs": 120, "warmup_epochs": 20.0},
    **{"learning_rate": 0.1, "warmup_learning_rate": 0.001, "min_learning_rate": 0.001, "rate_batch": 512},
    **{"momentum": 0.9, "weight_decay": 1e-4, "clip_norm": 5.0, "label_smoothing": 0.1},
    **{"mixup": 0.8, "cutmix": 1.0, "cutmix_probability": 0.5},
    **{"num_frames": 8, "size": 224, "area": (0.08, 1.0), "flip": 0.5},
    **{"color_jitter": 0.8, "gray": 0.2, "scale_jitter": (0.75, 1.33)},
}

# Three of them are trained without a flip; in ssv2 and diving48, classes tell left from right.
_WITHOUT_A_FLIP = dict.fromkeys(("ssv2", "diving48", "activitynet"), {**_KINETICS, "flip": 0.0})
RECIPES: dict[str, dict[str, Any]] = {"k400": _KINETICS, "k600": _KINETICS, **_WITHOUT_A_FLIP}
