"""Trains a block for two steps on two CPU devices and prints, as JSON, what came of it: run by a test.

python -m tests.layers.mirrored_training inline region
"""

import json
import os
import sys
import unittest.mock

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from keras_video_focalnet.layers import FocalBlock
from keras_video_focalnet.ops import depthwise
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_xla, force


def trained(formulation):
    """Losses, weights, replicas, and whether the modulation was traced for XLA."""
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        clip = keras.Input((4, 64, 8))
        tokens, _, _ = FocalBlock(8, 8, drop_rate=0.1, drop_path_rate=0.2, rematerialize=True)(clip)
        scores = keras.layers.Dense(4)(keras.ops.mean(tokens, axis=(1, 2)))
        model = keras.Model(clip, scores)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    traced_for_xla = set()

    def choose_and_tell(*arguments):
        traced_for_xla.add(compiled_by_xla())
        return choose(*arguments)

    clips = np.random.default_rng(0).normal(size=(4, 4, 64, 8)).astype("float32")
    with force(modulation=formulation), unittest.mock.patch.object(depthwise, "choose", choose_and_tell):
        data = tf.data.Dataset.from_tensor_slices((clips, np.arange(4))).batch(4)
        history = model.fit(data, epochs=2, verbose=0)
    return {
        "losses": history.history["loss"],
        "weights": np.concatenate([np.ravel(weight) for weight in model.get_weights()]).tolist(),
        "replicas": strategy.num_replicas_in_sync,
        "traced_for_xla": sorted(traced_for_xla),
    }


def main(formulations):
    """Prints what each formulation gives."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    print(json.dumps({formulation: trained(formulation) for formulation in formulations}))


if __name__ == "__main__":
    main(sys.argv[1:])
