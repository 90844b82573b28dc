"""Which layers inside another are quantized: a layer's configuration tells its own quantization, not theirs."""

import keras


def quantized_layers(layer):
    """How the dense layers inside a layer are quantized, as `get_config` needs it.

    Args:
        layer: A layer.

    Returns:
        Dict from the name of a layer inside to its `mode` and serialized `config`; empty if nothing is quantized.
    """
    return {
        inner.name: {
            "mode": inner.quantization_mode,
            "config": keras.saving.serialize_keras_object(inner.quantization_config),
        }
        for inner in layer._flatten_layers()
        if isinstance(inner, keras.layers.Dense) and inner.quantization_mode is not None
    }


def quantize_layers(layer, quantized):
    """Quantize the layers inside a built layer, so that weights quantized in the same way can be loaded.

    Args:
        layer: A built layer.
        quantized: What `quantized_layers` gave.
    """
    inside = {inner.name: inner for inner in layer._flatten_layers()}
    for name, how in (quantized or {}).items():
        if inside[name].quantization_mode is None:
            inside[name].quantize(how["mode"], config=keras.saving.deserialize_keras_object(how["config"]))
