"""What layers compute of their weights alone and keep, so that it is not computed for every clip."""

import keras


def refresh_kept(model: keras.Model, training: bool = False) -> None:
    """Has every layer at or inside a model look after what it keeps: a layer with a method `refresh_kept` keeps some.

    In `training` a layer may leave what its steps compute anyway.

    Whoever computes with a model other than in a step of training calls this before, in Keras's own code and not while
    it traces a graph, and traces the graph inside `force(kept_features="stored")`.
    """
    for layer in _keeping(model):
        layer.refresh_kept(training)


def keeps(model: keras.Model) -> bool:
    """Tell whether a layer at or inside a model keeps something that it computed of weights."""
    return bool(_keeping(model))


def _keeping(model):
    return [layer for layer in model._flatten_layers() if hasattr(layer, "refresh_kept")]
