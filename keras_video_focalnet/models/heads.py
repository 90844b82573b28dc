"""The loss of a classifier that has several heads."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_video_focalnet.models.cloning import ClonedWhole


class TrainedByHeads(ClonedWhole):
    """A model whose classifier may have several heads, see `layers.DenseHeads`: the loss is the sum of what each gives.

    The model's own output, what the heads give together, is what metrics and the loss of evaluation are of.
    """

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """As `keras.Model.compute_loss`; in training the sum of the losses of all heads."""
        take = getattr(self.classifier, "take_scores", None)
        each = take(y_pred) if training and take is not None else None
        if not each:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        total = super().compute_loss(x, y, each[0], sample_weight, training)
        for scores in each[1:]:
            loss = super().compute_loss(x, y, scores, sample_weight, training)
            # What layers add to a loss, such as regularization, counts once.
            total = total + loss - sum(ops.sum(added) for added in self.losses)
        return total
