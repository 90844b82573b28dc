"""What layers compute of their weights alone and keep, so that it is not computed for every clip."""

import keras


def refresh_kept(model: keras.Model) -> None:
    """Has every layer at or inside a model look after what it keeps: a layer with a method `refresh_kept` keeps some.

    Whoever computes with a model other than in a step of training calls this before, in Keras's own code and not while
    it traces a graph, and traces the graph inside `force(kept_features="stored")`.
    """
    for layer in model._flatten_layers():
        refresh = getattr(layer, "refresh_kept", None)
        if refresh is not None:
            refresh()
