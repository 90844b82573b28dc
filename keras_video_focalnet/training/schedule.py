"""The learning rate of the published runs."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a cosine whose phase counts all steps (paper Table 1; golden README).

    After t updates the rate rises linearly from `warmup_rate` at t = 0 to `base_rate` at `warmup_steps`. From there it
    is `min_rate + (base_rate - min_rate) * (1 + cos(pi * t / total_steps)) / 2`: the cosine began with the warm-up, so
    the rate drops a little as it sets in. As in the published runs, the value for update t is used in step t + 1, and
    steps 0 and 1 both run at the warm-up rate.

    Args:
        base_rate: float >= 0, the rate at the end of the warm-up.
        total_steps: int >= 1, steps of the whole run; `min_rate` holds after them. With
            `gradient_accumulation_steps` these are batches, as Keras counts them.
        warmup_steps: int in [0, total_steps], steps of the warm-up.
        warmup_rate: float >= 0, the rate at the start of the warm-up.
        min_rate: float >= 0, the rate at the end.

    Raises:
        ValueError: an argument is outside its range.

    Example:
    >>> schedule = WarmupCosine(0.1, total_steps=120, warmup_steps=20, warmup_rate=0.001, min_rate=0.001)
    >>> [round(float(schedule(step)), 4) for step in (0, 1, 20, 21, 120, 500)]
    [0.001, 0.001, 0.095, 0.0934, 0.001, 0.001]
    """

    def __init__(self, base_rate, total_steps, warmup_steps=0, warmup_rate=0.0, min_rate=0.0):
        super().__init__()
        for name, rate in {"base_rate": base_rate, "warmup_rate": warmup_rate, "min_rate": min_rate}.items():
            if not 0 <= rate < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, received {rate!r}.")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, received {total_steps!r}; pass epochs times batches.")
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                f"warmup_steps must be from 0 to total_steps={total_steps}, received {warmup_steps!r}; shorten the "
                "warm-up or train for longer."
            )
        self.base_rate = base_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.warmup_rate = warmup_rate
        self.min_rate = min_rate

    def __call__(self, step):
        update = ops.maximum(ops.cast(step, "float32") - 1, 0)
        risen = update / max(self.warmup_steps, 1)
        warmup = self.warmup_rate + (self.base_rate - self.warmup_rate) * risen
        phase = ops.minimum(update / self.total_steps, 1)
        # Half the sum of 1 and a cosine, as the square of that of half the angle: nothing cancels near the end.
        cosine = self.min_rate + (self.base_rate - self.min_rate) * ops.square(ops.cos(math.pi / 2 * phase))
        return ops.where(update < self.warmup_steps, warmup, cosine)

    def get_config(self):
        return {
            "base_rate": self.base_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "warmup_rate": self.warmup_rate,
            "min_rate": self.min_rate,
        }
