"""What an exported model gives, by name, computed on any backend."""

import contextlib

import keras
from keras import ops

from keras_video_focalnet.models.preprocessing import preprocess_input


@contextlib.contextmanager
def without_activation(head):
    """Have a dense layer give its sums as they are."""
    activation = head.activation
    head.activation = keras.activations.linear
    try:
        yield
    finally:
        head.activation = activation


def output_names(model):
    """Names of what an exported model gives, the model's own output first.

    Args:
        model: A `VideoFocalNet`.

    Returns:
        Tuple of names.
    """
    if model.classes is None:
        return ("features",)
    if model.get_layer("head").activation is keras.activations.linear:
        return ("logits",)
    return ("scores", "logits")


class Outputs:
    """What a model computes from clips, besides its own output, on any backend.

    Args:
        model: A `VideoFocalNet` that takes clips directly.
    """

    def __init__(self, model):
        self.model = model
        self.names = output_names(model)
        self.head = None if model.classes is None else model.get_layer("head")
        end = model.output if self.head is None else self.head.input
        taps = {"end": end, "tokens": model.get_layer("norm").output}
        # A rank of 5, as clips have it, would keep a file off mobile GPU delegates: what follows begins behind it.
        self._behind = keras.Model(model.get_layer("frames").output, taps)

    def __call__(self, tokens):
        """Outputs by name from pixels, `(batch, frames, height * width, 3)`, floating."""
        end = self._behind(self._prepared(tokens), training=False)["end"]
        if self.head is None:
            return {"features": end}
        with without_activation(self.head):
            logits = self.head(end)
        named = {"logits": logits}
        if "scores" in self.names:
            named = {"scores": self.head.activation(logits), **named}
        return named

    def all(self, tokens):
        """Outputs and features by name."""
        return {**self.features(tokens), **self(tokens)}

    def features(self, tokens):
        """What the classifier reads, `(batch, channels)`, and the final norm's `(batch, frames, h, w, channels)`."""
        taps = self._behind(self._prepared(tokens), training=False)
        frames, places, channels = taps["tokens"].shape[1:]
        height, width = self.model.get_layer("stage3_block0").grid_size
        grid = ops.reshape(taps["tokens"], (-1, frames, height, width, channels))
        pooled = taps["end"] if self.head is not None else ops.mean(taps["tokens"], axis=(1, 2))
        return {"pooled": pooled, "grid": grid}

    def _prepared(self, tokens):
        names = {layer.name for layer in self.model.layers}
        return tokens if "normalization" in names else preprocess_input(tokens)
