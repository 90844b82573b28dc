"""The learning rate of the published Video-FocalNets."""

import math
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.utils.checks import check_number
from keras_video_focalnet.utils.deprecation import rename_keys, renamed_arguments

RENAMED = {"base_rate": "learning_rate", "warmup_rate": "warmup_learning_rate", "min_rate": "min_learning_rate"}


@renamed_arguments(RENAMED)
@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a cosine whose phase counts the steps of the warm-up too.

    After t updates the rate rises linearly from `warmup_learning_rate` at t = 0 to `learning_rate` at `warmup_steps`.
    From there it is `min_learning_rate + (learning_rate - min_learning_rate) * (1 + cos(pi * t / total_steps)) / 2`:
    the cosine begins with the warm-up, so the rate drops a little where the cosine sets in. As in the published runs,
    the value for update t is used in step t + 1, and steps 0 and 1 both run at the warm-up rate.

    Source: Table 1 of the Video-FocalNet paper (Wasim et al. 2023, arXiv:2307.06947) and its published training runs.

    Args:
        learning_rate: The rate at the end of the warm-up, 0 or more.
        total_steps: Steps of the run, 1 or more; `min_learning_rate` holds after them. With
            `gradient_accumulation_steps` these are batches, as Keras counts them.
        warmup_steps: Steps of the warm-up, from 0 (the default, no warm-up) to `total_steps`.
        warmup_learning_rate: The rate at the start of the warm-up, 0 or more; 0 by default.
        min_learning_rate: The rate at the end of the run, 0 or more; 0 by default.

    Raises:
        ValueError: An argument is outside its range.

    Example:
    >>> schedule = WarmupCosine(0.1, 120, warmup_steps=20, warmup_learning_rate=0.001, min_learning_rate=0.001)
    >>> [round(float(schedule(step)), 4) for step in (0, 1, 20, 21, 120, 500)]
    [0.001, 0.001, 0.095, 0.0934, 0.001, 0.001]
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        warmup_learning_rate: float = 0.0,
        min_learning_rate: float = 0.0,
    ):
        super().__init__()
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.warmup_learning_rate = warmup_learning_rate
        self.min_learning_rate = min_learning_rate
        for name in ("learning_rate", "warmup_learning_rate", "min_learning_rate"):
            check_number(name, getattr(self, name), minimum=0)
        check_number("total_steps", total_steps, minimum=1, remedy="pass epochs times batches")
        remedy = "shorten the warm-up or train for longer"
        check_number("warmup_steps", warmup_steps, minimum=0, maximum=total_steps, remedy=remedy)

    def __call__(self, step: Any) -> Any:
        """Compute the rate, a float32 scalar tensor, of the step before which so many steps were taken."""
        update = ops.maximum(ops.cast(step, "float32") - 1, 0)
        risen = update / max(self.warmup_steps, 1)
        warmup = self.warmup_learning_rate + (self.learning_rate - self.warmup_learning_rate) * risen
        phase = ops.minimum(update / self.total_steps, 1)
        # Half the sum of 1 and a cosine is the squared cosine of half the angle, which loses no digits near the end.
        fraction = ops.square(ops.cos(math.pi / 2 * phase))
        cosine = self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * fraction
        return ops.where(update < self.warmup_steps, warmup, cosine)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, from which `from_config` makes the same schedule."""
        names = ("learning_rate", "total_steps", "warmup_steps", "warmup_learning_rate", "min_learning_rate")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmupCosine":
        """Make a schedule from its configuration, also from one that a saved model holds under the old names."""
        return cls(**rename_keys(config, RENAMED))
