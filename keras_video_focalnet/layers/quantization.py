"""Which layers inside another are quantized: a layer's configuration describes its own quantization, not theirs."""

from typing import Any

import keras


def quantized_layers(layer: keras.layers.Layer) -> dict[str, dict[str, Any]]:
    """Describes for `get_config` how the dense layers inside a layer are quantized, by their names."""
    return {
        inner.name: {
            "mode": inner.quantization_mode,
            "config": keras.saving.serialize_keras_object(inner.quantization_config),
        }
        for inner in layer._flatten_layers()
        if isinstance(inner, keras.layers.Dense) and inner.quantization_mode is not None
    }


def quantize_layers(layer: keras.layers.Layer, quantized: dict[str, dict[str, Any]] | None) -> None:
    """Quantizes the layers inside a built layer as `quantized_layers` described, so that weights can be loaded."""
    inside = {inner.name: inner for inner in layer._flatten_layers()}
    for name, description in (quantized or {}).items():
        if inside[name].quantization_mode is None:
            config = keras.saving.deserialize_keras_object(description["config"])
            inside[name].quantize(description["mode"], config=config)
