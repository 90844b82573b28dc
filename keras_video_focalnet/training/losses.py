"""The loss and the metrics of a classifier, for one label a clip or several."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.utils.checks import check_number

# The name of the metric that is the loss over the rows that count.
CROSS_ENTROPY = "cross_entropy"
# The metric by which the best epoch is chosen: with one label a clip, and with several.
TOP1, AVERAGE_PRECISION = "top1", "average_precision"
# Tells something where there are more classes than this.
TOP5, TOP5_CLASSES = "top5", 5


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class ClassWeightedCrossentropy(keras.losses.Loss):
    """Cross-entropy in which each class has a weight.

    With one label a clip, the categorical cross-entropy of a clip is multiplied by the weights of its classes, averaged
    by its target: the weight of its class, or where clips are mixed, of both. With several labels the loss is the mean
    over the classes of the binary cross-entropy, in which a weight multiplies the part of the clips that have the
    label: `-(weight * target * log(score) + (1 - target) * log(1 - score))`.

    Call it with targets `(batch, classes)` of 0 to 1 and scores of the same shape; it gives their mean over the batch,
    a float32 scalar.

    Args:
        class_weights: A weight of each class, 0 or more.
        multi_label: Whether a clip can have several labels, False by default.
        from_logits: Whether the scores are logits, False by default: then they are shares that a softmax or sigmoid
            gives.
        **kwargs: Of `keras.losses.Loss`.

    Raises:
        ValueError: A weight is negative or no finite number.

    Example:
    >>> loss = ClassWeightedCrossentropy([1.0, 3.0], from_logits=True)
    >>> print(f"{float(loss(np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]]))):.3f}")
    2.079
    """

    def __init__(
        self, class_weights: Sequence[float], multi_label: bool = False, from_logits: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.class_weights = [check_number("class_weights", weight, minimum=0) for weight in class_weights]
        self.multi_label = multi_label
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Give the loss of each clip, `(batch,)`."""
        weights = ops.convert_to_tensor(self.class_weights, y_pred.dtype)
        y_true = ops.cast(y_true, y_pred.dtype)
        if not self.multi_label:
            losses = ops.categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)
            return losses * ops.sum(y_true * weights, axis=-1)
        if self.from_logits:
            with_label, without_label = ops.softplus(-y_pred), ops.softplus(y_pred)
        else:
            epsilon = keras.config.epsilon()
            scores = ops.clip(y_pred, epsilon, 1 - epsilon)
            with_label, without_label = -ops.log(scores), -ops.log(1 - scores)
        return ops.mean(weights * y_true * with_label + (1 - y_true) * without_label, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {name: getattr(self, name) for name in ("class_weights", "multi_label", "from_logits")}
        return {**super().get_config(), **own}


def build_loss(from_logits: bool, multi_label: bool, class_weights: Sequence[float] | None) -> keras.losses.Loss:
    """Make the loss of a classifier."""
    if class_weights is not None:
        return ClassWeightedCrossentropy(class_weights, multi_label, from_logits)
    kind = keras.losses.BinaryCrossentropy if multi_label else keras.losses.CategoricalCrossentropy
    return kind(from_logits=from_logits)


def build_metrics(classes: int, from_logits: bool, multi_label: bool) -> list[keras.metrics.Metric]:
    """Make the metrics of a classifier, of which the first tells how good it is."""
    # The loss that Keras reports is a mean over all rows, those of weight 0 too; this metric is over those that count.
    kind = keras.metrics.BinaryCrossentropy if multi_label else keras.metrics.CategoricalCrossentropy
    cross_entropy = kind(name=CROSS_ENTROPY, from_logits=from_logits)
    if multi_label:
        common = {"multi_label": True, "num_labels": classes, "from_logits": from_logits}
        curves = {AVERAGE_PRECISION: "PR", "roc_auc": "ROC"}
        return [*(keras.metrics.AUC(curve=curve, name=name, **common) for name, curve in curves.items()), cross_entropy]
    top5 = keras.metrics.TopKCategoricalAccuracy(min(TOP5_CLASSES, classes), name=TOP5)
    return [keras.metrics.CategoricalAccuracy(name=TOP1), top5, cross_entropy]


def gives_logits(model: keras.Model, multi_label: bool) -> bool:
    """Say whether the scores of a classifier are logits; else they are a softmax, or with several labels a sigmoid."""
    activation = getattr(model.layers[-1], "activation", None)
    scores = keras.activations.sigmoid if multi_label else keras.activations.softmax
    if activation not in (keras.activations.linear, scores):
        raise ValueError(
            f"the model {model.name!r} ends in the layer {model.layers[-1].name!r}, which is no classifier with a "
            f"{scores.__name__} or without an activation{' for several labels a clip' * multi_label}; build it with "
            "include_top=True and classifier_activation=None, or add a keras.layers.Dense(classes)."
        )
    return activation is keras.activations.linear
