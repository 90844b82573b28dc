"""Trains VideoFocalNetNano to tell how the camera moves, from photographs alone.

    python -m examples.camera_motion.train --out nano_camera_motion.safetensors

The clips are synthesized while training, none twice. The loss would sit at ln 9 for thousands of steps; three things
make it fall at once: first weights that feel the order of the frames (`first_weights.py`), batches in which every scene
is seen with each of the nine motions, so that only the motion tells the classes apart, and clips that are easy at first
(clean, of a middling speed) and grow hard by and by.

With `TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1` it takes the fewest CPU-minutes: a second thread saves time,
but waits for much of its own.
"""

import os
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import keras
import numpy as np

from examples.camera_motion.first_weights import prepare
from examples.camera_motion.photographs import HELD_OUT, TRAINING, load_photographs, vary_photographs
from keras_video_focalnet.data.camera_motion import CAMERA_MOTIONS, OPPOSITE, augment, synthesize_clip
from keras_video_focalnet.models.video_focalnet import VideoFocalNetNano
from keras_video_focalnet.weights.mapping import state_of
from keras_video_focalnet.weights.safetensors_file import write_safetensors

REPORT_EVERY = 100


class MotionClips(keras.utils.PyDataset):
    """Batches of synthesized clips; the n-th batch is a function of the seed and of n alone.

    Args:
        photographs: List of `Picture`.
        steps: Number of batches that training takes in all.
        scenes: Scenes a batch; each gives nine clips, one of every motion.
        seed: Seed.
        easy: Share of the training over which the difficulty rises.
    """

    def __init__(self, photographs, steps, scenes, seed, easy):
        super().__init__()
        self.photographs = photographs
        self.steps = steps
        self.scenes = scenes
        self.seed = seed
        self.easy = easy

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        rng = np.random.default_rng((self.seed, step))
        hardest = min(1.0, step / (self.easy * self.steps)) if self.easy else 1.0
        clips, labels = zip(*(self._scene(rng, hardest) for _ in range(self.scenes)), strict=True)
        return np.concatenate(clips), np.concatenate(labels)

    def _scene(self, rng, hardest):
        # Even late some clips are easy, so that clean footage stays familiar; some are harder than any that are tested.
        difficulty = hardest * rng.uniform(0.4, 1.3)
        photo = self.photographs[rng.integers(len(self.photographs))]
        turn = rng.uniform(-0.4, 0.4) if rng.uniform() < 0.3 else 0.0
        clips, labels = [], []
        for motion in ("static", "pan left", "tilt up", "zoom in", "roll clockwise"):
            clip = synthesize_clip(photo, motion, rng, difficulty, others=self.photographs, turn=turn)
            clips.append(clip)
            labels.append(motion)
            if motion != "static":
                clips.append(clip[::-1])
                labels.append(OPPOSITE[motion])
        return augment(np.stack(clips), [CAMERA_MOTIONS.index(label) for label in labels], rng, together=True)


def unseen_photograph_clips(count, seed, difficulty=1.0):
    """Clips from the photographs that are never trained on, every motion and photograph in turn, with their labels."""
    rng = np.random.default_rng(seed)
    photographs = load_photographs(HELD_OUT)
    labels = np.arange(count) % len(CAMERA_MOTIONS)
    clips = [
        synthesize_clip(
            photographs[i // len(CAMERA_MOTIONS) % len(photographs)],
            CAMERA_MOTIONS[label],
            rng,
            difficulty,
            others=photographs,
        )
        for i, label in enumerate(labels)
    ]
    return np.stack(clips), labels


class Progress(keras.callbacks.Callback):
    """Prints a line now and then: loss and accuracy since the last, accuracy on unseen photographs, CPU time spent."""

    def __init__(self, unseen):
        super().__init__()
        self.unseen = unseen
        self.start = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        """Prints the line where one is due, and starts the averages anew."""
        if (batch + 1) % REPORT_EVERY:
            return
        clips, labels = self.unseen
        right = self.model.predict_on_batch(clips).argmax(-1) == labels
        self.model.reset_metrics()
        click.echo(
            f"step {batch + 1}: loss {logs['loss']:.3f}, accuracy {logs['accuracy']:.3f}, on unseen photographs "
            f"{right.mean():.3f} before weights are averaged, {(time.process_time() - self.start) / 60:.1f} CPU-minutes"
        )


@click.command()
@click.option("--out", default="nano_camera_motion.safetensors", show_default=True, help="File of the weights.")
@click.option("--steps", default=5200, show_default=True, help="Batches to train on.")
@click.option("--scenes", default=4, show_default=True, help="Scenes a batch, of nine clips each.")
@click.option("--learning-rate", default=2e-3, show_default=True, help="Highest learning rate.")
@click.option("--easy", default=0.25, show_default=True, help="Share of the training over which clips grow hard.")
@click.option("--start-from", default=None, help="File of weights to go on from, instead of first weights.")
@click.option("--seed", default=0, show_default=True, help="Of initialization and data.")
def main(out, steps, scenes, learning_rate, easy, start_from, seed):
    """Trains, tests on unseen photographs and writes the weights."""
    start = time.process_time()
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    photographs = vary_photographs(load_photographs(TRAINING), 300, rng)
    model = VideoFocalNetNano(weights=start_from, classes=len(CAMERA_MOTIONS), input_shape=(8, 64, 64, 3))
    if start_from is None:
        prepare(model, seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, steps - 200, alpha=0.02, warmup_target=learning_rate, warmup_steps=200
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.02, clipnorm=1.0, use_ema=True, ema_momentum=0.995)
    # Compiled by XLA, a step took half as long again on two CPU cores.
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    clips = MotionClips(photographs, steps, scenes, seed, easy)
    # One long epoch: its n-th batch has the n-th difficulty.
    model.fit(clips, shuffle=False, verbose=0, callbacks=[Progress(unseen_photograph_clips(180, seed=1))])

    test, labels = unseen_photograph_clips(1800, seed=2)
    right = model.predict(test, batch_size=64, verbose=0).argmax(-1) == labels
    click.echo(f"accuracy on 1800 clips of unseen photographs: {right.mean():.4f}")
    about = {"classes": ", ".join(CAMERA_MOTIONS), "made by": "examples/camera_motion/train.py", "seed": str(seed)}
    write_safetensors(out, state_of(model), about)
    click.echo(f"wrote {out}; {(time.process_time() - start) / 60:.1f} CPU-minutes in all")


if __name__ == "__main__":
    main()
