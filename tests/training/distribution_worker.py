"""Trains a tiny model by one way of distribution and writes what came of it: started by test_distribution.py.

python -m tests.training.distribution_worker DISTRIBUTE OUT.npz [--devices N] [--recipe] [--whole-batches]
"""

import argparse
import atexit
import os

import keras
import numpy as np

from keras_video_focalnet import VideoFocalNet
from keras_video_focalnet.layers import StochasticDepth
from keras_video_focalnet.training.distribution import choose

BATCH, STEPS, EPOCHS, CLASSES, SHAPE = 4, 3, 2, 3, (4, 32, 32, 3)


def main():
    """Reads the command line; writes the results, without pickle."""
    parser = argparse.ArgumentParser()
    parser.add_argument("distribute")
    parser.add_argument("out")
    parser.add_argument("--devices", type=int, default=1, help="logical devices of TensorFlow")
    parser.add_argument("--recipe", action="store_true", help="our own optimizer, with accumulation where it can be")
    parser.add_argument("--whole-batches", action="store_true", help="TensorFlow gives each process its share")
    arguments = parser.parse_args()
    if arguments.devices > 1:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * arguments.devices)
    # What is registered later is called earlier.
    atexit.register(check_that_the_group_is_left)
    distribution = choose(arguments.distribute)
    np.savez(arguments.out, **results(distribution, arguments.recipe, whole if arguments.whole_batches else shares))


def check_that_the_group_is_left():
    """Fails where the process ends as a member of a process group of PyTorch."""
    if keras.backend.backend() == "torch":
        from torch import distributed

        if distributed.is_initialized():
            print("The process ends as a member of its group.", flush=True)
            os._exit(3)


def results(distribution, recipe, give):
    """The results of this process, as arrays by name."""
    measured = train(distribution, recipe, give)
    measured["process"] = [distribution.process_index, distribution.process_count, distribution.replicas]
    if keras.backend.backend() != "jax":
        measured["kept"] = kept(distribution)
    return {name: np.asarray(value) for name, value in measured.items()}


def train(distribution, recipe, give):
    """What a training run gives: losses, metrics, weights and predictions, as arrays by name."""
    # On JAX the same seed is up to each process; on the others it begins with weights of its own.
    keras.utils.set_random_seed(0 if keras.backend.backend() == "jax" else distribution.process_index)
    with distribution.scope():
        model = VideoFocalNet(
            embed_dim=8,
            depths=(1, 1, 1, 1),
            focal_levels=1,
            input_shape=SHAPE,
            classes=CLASSES,
            drop_path_rate=0,
            classifier_activation=None,
        )
        distribution.prepare(model)
        model.compile(
            _optimizer(recipe),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            weighted_metrics=[keras.metrics.TopKCategoricalAccuracy(1, name="top1")],
        )
        if not recipe:
            # In the first step TensorFlow would trace that step twice; with `recipe` what `fit` makes is tried too.
            model.optimizer.build(model.trainable_variables)
    losses = []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(float(logs["loss"])))
    validation = give(distribution, _batches(seed=1))
    history = model.fit(
        give(distribution, _batches(seed=0) * EPOCHS),
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        validation_data=validation,
        validation_steps=STEPS,
        callbacks=[record],
        verbose=0,
    ).history
    scores = model.evaluate(validation, steps=STEPS, return_dict=True, verbose=0)
    return {
        "losses": losses,
        "history": [history[name] for name in ("loss", "top1", "val_loss", "val_top1")],
        "scores": [scores["loss"], scores["top1"]],
        "weights": np.concatenate([np.ravel(weight) for weight in model.get_weights()]),
        "predictions": model.predict(validation, steps=STEPS, verbose=0),
    }


def _optimizer(recipe):
    # The gradients are longer than what they are clipped to: by the end it tells whose norm was taken.
    if not recipe:
        return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, global_clipnorm=0.5)
    from keras_video_focalnet.training.optimizers import TorchSGD

    steps = None if keras.backend.backend() == "tensorflow" else 2
    return TorchSGD(0.05, global_clipnorm=0.5, gradient_accumulation_steps=steps)


def _batches(seed):
    """A list of (clips, targets, weights); some clips do not count, unequally many in either half of a batch."""
    rng = np.random.default_rng(seed)
    return [
        (
            rng.integers(0, 256, (BATCH, *SHAPE), "uint8"),
            np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, BATCH)],
            np.array([1, 1, 1, step % 2], "float32"),
        )
        for step in range(STEPS)
    ]


def shares(distribution, batches):
    """What to give to `fit` in a process that has its share of the batches."""
    rows = distribution.process_batch(BATCH)
    own = slice(distribution.process_index * rows, (distribution.process_index + 1) * rows)
    batches = [tuple(array[own] for array in batch) for batch in batches]
    if keras.backend.backend() == "tensorflow":
        return distribution.dataset(_tf_dataset(batches))
    import grain

    return distribution.dataset(grain.MapDataset.source(batches))


def whole(distribution, batches):
    """What to give to `fit` in a process that has all of the batches."""
    return _tf_dataset(batches)


def _tf_dataset(batches):
    import tensorflow as tf

    arrays = tuple(map(np.concatenate, zip(*batches, strict=True)))
    return tf.data.Dataset.from_tensor_slices(arrays).batch(len(batches[0][0]), drop_remainder=True)


def kept(distribution):
    """What stochastic depth keeps of a clip of 64 frames, in each replica of this process, a row each."""
    with distribution.scope():
        clip = keras.Input((64, 1))
        model = distribution.prepare(keras.Model(clip, StochasticDepth(0.5, seed=7)(clip)))
    ones = np.ones((1, 64, 1), "float32")
    distribution.synchronize(model)  # once more: it must make no difference
    if keras.backend.backend() == "torch" or distribution.replicas == 1:
        outputs = [model(ones, training=True)]
    else:
        strategy = distribution.strategy
        outputs = strategy.experimental_local_results(strategy.run(lambda: model(ones, training=True)))
    return np.concatenate([keras.ops.convert_to_numpy(output)[..., 0] for output in outputs]) > 0


if __name__ == "__main__":
    main()
