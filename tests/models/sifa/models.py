"""SIFA's small models of the golden data, and a look at what their tests need."""

import keras

from keras_video_focalnet.models.features import feature_taps
from keras_video_focalnet.models.sifa.net import SIFANet
from keras_video_focalnet.models.sifa.transformer import SIFATransformer
from tests.sifa_golden import checkpoint, config, expected

BARE = {"include_preprocessing": False, "classifier_activation": None, "drop_rate": 0.0}


def net(**options):
    """The small SIFA-Net with its golden weights."""
    model = SIFANet(width=4, depths=(2, 2, 3, 2), classes=7, input_shape=(16, 64, 64, 3), **BARE, **options)
    assert model.load_state(checkpoint("sifa_net_micro")) == []
    return model


def transformer(name, **options):
    """A small SIFA-Transformer with its golden weights."""
    settings = config(name)
    arguments = {key: settings[key] for key in ("embed_dim", "depths", "num_heads", "window_size", "patch_size")}
    shape = expected(name)["input"].shape[1:]
    arguments |= {"kernel_size": settings["K"], "classes": 7, "input_shape": shape, "drop_path_rate": 0.0}
    model = SIFATransformer(**arguments, **BARE, **options)
    assert model.load_state(checkpoint(name)) == []
    return model


class Logits(keras.layers.Layer):
    """The logits of each head of a SIFA-Net, and the features of some taps."""

    def __init__(self, model, taps=()):
        super().__init__(dtype=model.dtype_policy, name="logits")
        self.model, self.taps = model, tuple(taps)
        found = feature_taps(model)
        self.features = keras.Model(model.input, [model.pooled, *(found[tap] for tap in taps)])
        self.built = True

    def call(self, inputs, training=False):
        # A model of one output gives it without a list.
        pooled, *features = keras.tree.flatten(self.features(inputs, training=training))
        return [*self.model.classifier.logits_of_heads(pooled), *features]


class Taps(keras.layers.Layer):
    """A model's output, and some of its layers' outputs."""

    def __init__(self, model, layers=()):
        super().__init__(dtype=model.dtype_policy, name="taps")
        self.model = model
        self.features = keras.Model(model.input, [model.output, *(model.get_layer(name).output for name in layers)])
        self.built = True

    def call(self, inputs, training=False):
        # A block that attends gives its similarities besides.
        given = self.features(inputs, training=training)
        given = given if isinstance(given, (list, tuple)) else [given]
        return [tensors[0] if isinstance(tensors, (list, tuple)) else tensors for tensors in given]
