"""Which layers inside another are quantized: a layer's configuration describes its own quantization, not theirs."""

from collections.abc import Iterator
from typing import Any

import keras


def quantized_layers(layer: keras.layers.Layer) -> dict[str, dict[str, Any]]:
    """Describes for `get_config` how a dense layer, or those inside a layer, are quantized.

    Keys are a layer's own name or the names from the first layer inside to the quantized one, with `/` between.
    """
    return {
        path: {
            "mode": inner.quantization_mode,
            "config": keras.saving.serialize_keras_object(inner.quantization_config),
        }
        for path, inner in _named(layer)
        if isinstance(inner, keras.layers.Dense) and inner.quantization_mode is not None
    }


def quantize_layers(layer: keras.layers.Layer, quantized: dict[str, dict[str, Any]] | None) -> None:
    """Quantizes the layers inside a built layer as `quantized_layers` described, so that weights can be loaded."""
    named = dict(_named(layer))
    # Files of version 0.1.0 have the last name alone.
    inside = {**{inner.name: inner for inner in named.values()}, **named}
    for path, description in (quantized or {}).items():
        if inside[path].quantization_mode is None:
            config = keras.saving.deserialize_keras_object(description["config"])
            inside[path].quantize(description["mode"], config=config)


def _named(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """A layer by its name, and those inside by their paths."""
    yield layer.name, layer
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from ((inner.name if deep is inner else f"{inner.name}/{path}", deep) for path, deep in _named(inner))
