"""Train a small model, VideoFocalNetNano or another, to say how the camera moves, from photographs alone.

    python -m examples.camera_motion.train --out nano_camera_motion.safetensors
    python -m examples.camera_motion.train --model sifa_net_nano --out sifa_net_nano.safetensors

The clips are synthesized during training, none twice. Without further measures the loss stays at ln 9 for thousands of
steps; three things make it fall at once: for VideoFocalNetNano first weights that respond to the order of the frames
(`first_weights.py`), batches in which every scene is seen with each of the nine motions, so that only the motion
separates the classes, and clips that are easy at first (clean, of medium speed) and grow harder. `--resume` continues a
run that was stopped.

With `TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1` it takes the fewest CPU-minutes: a second thread makes it
faster, but spends much of its own time waiting.
"""

import os
import pathlib
import time
from collections.abc import Iterable, Sequence

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import keras
import numpy as np

from examples.camera_motion.first_weights import prepare
from examples.camera_motion.motions import CAMERA_MOTIONS, OPPOSITE
from examples.camera_motion.photographs import HELD_OUT, TRAINING, load_photographs, vary_photographs
from examples.camera_motion.synthesis import augment, synthesize_clip
from examples.camera_motion.windowed_picture import Picture
from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.data.workers import batches_by_number
from keras_video_focalnet.models import registry
from keras_video_focalnet.training.recipe import Recipe, get_recipe
from keras_video_focalnet.training.train import train
from keras_video_focalnet.weights.safetensors_file import write_safetensors

DEFAULT_MODEL = "VideoFocalNetNano"
SIDE = 64
STEPS_AN_EPOCH = 100
STEPS = 2700
WARMUP_STEPS = 200
ONE_HOT = np.eye(len(CAMERA_MOTIONS), dtype="float32")


class MotionClips:
    """Batches of synthesized clips, as `train` takes them; the n-th is a function of the seed and of n alone.

    Args:
        photographs: Pictures to make clips of.
        steps: Number of batches that training takes in all.
        scenes: Scenes in a batch; each gives nine clips, one of every motion.
        seed: Seed of the random numbers.
        easy: Fraction of the training over which the difficulty rises.
        num_frames: Frames in a clip, 8 by default.
    """

    def __init__(
        self, photographs: Sequence[Picture], steps: int, scenes: int, seed: int, easy: float, num_frames: int = 8
    ):
        self.photographs = photographs
        self.steps = steps
        self.scenes = scenes
        self.seed = seed
        self.easy = easy
        self.num_frames = num_frames
        self.batch_size = scenes * len(CAMERA_MOTIONS)
        self.broken = BrokenVideos()

    def __len__(self) -> int:
        return STEPS_AN_EPOCH

    def batches(self, first: int = 0) -> Iterable:
        """The batches from number `first` on, without end."""
        return batches_by_number(self.batch, first)

    def names(self, number: int) -> list[str]:
        """What distinguishes a batch from the others."""
        return [f"seed {self.seed}, batch {number}"]

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Clips, `(clips, num_frames, 64, 64, 3)` uint8, and targets, `(clips, 9)`."""
        rng = np.random.default_rng((self.seed, step))
        hardest = min(1.0, step / (self.easy * self.steps)) if self.easy else 1.0
        clips, labels = zip(*(self._scene_clips(rng, hardest) for _ in range(self.scenes)), strict=True)
        return np.concatenate(clips), ONE_HOT[np.concatenate(labels)]

    def _scene_clips(self, rng: np.random.Generator, hardest: float) -> tuple[np.ndarray, np.ndarray]:
        # Late in training some clips are still easy, so that clean footage stays familiar, and some are harder than any
        # clip that is tested.
        difficulty = hardest * rng.uniform(0.5, 1.35)
        photo = self.photographs[rng.integers(len(self.photographs))]
        rotation = rng.uniform(-0.4, 0.4) if rng.uniform() < 0.3 else 0.0
        clips, labels = [], []
        for motion in ("static", "pan left", "tilt up", "zoom in", "roll clockwise"):
            options = {"others": self.photographs, "rotation": rotation, "num_frames": self.num_frames}
            clip = synthesize_clip(photo, motion, rng, difficulty, **options)
            clips.append(clip)
            labels.append(motion)
            if motion != "static":
                clips.append(clip[::-1])
                labels.append(OPPOSITE[motion])
        return augment(np.stack(clips), [CAMERA_MOTIONS.index(label) for label in labels], rng, together=True)


class UnseenClips:
    """Clips from the photographs that are never trained on, the same every epoch."""

    def __init__(self, count: int, seed: int, batch_size: int = 60, num_frames: int = 8):
        self.clips, self.labels = unseen_photograph_clips(count, seed, num_frames=num_frames)
        self.batch_size = batch_size
        self.broken = BrokenVideos()

    def __len__(self) -> int:
        return -(-len(self.clips) // self.batch_size)

    def batches(self, first: int = 0) -> Iterable:
        """The batches from number `first` to the last."""
        return batches_by_number(self.batch, first, len(self))

    def names(self, number: int) -> list[str]:
        """What distinguishes a batch from the others."""
        return [f"batch {number} of unseen photographs"]

    def batch(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Clips, targets and weights."""
        rows = slice(number * self.batch_size, (number + 1) * self.batch_size)
        targets = ONE_HOT[self.labels[rows]]
        return self.clips[rows], targets, np.ones(len(targets), "float32")


def unseen_photograph_clips(
    count: int, seed: int, difficulty: float = 1.0, num_frames: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Make clips from the held-out photographs, of every motion and photograph in turn, with their labels.

    Args:
        count: Number of clips.
        seed: Seed of the random numbers.
        difficulty: As `synthesize_clip` takes it, 1 by default.
        num_frames: Frames in a clip, 8 by default.

    Returns:
        `(count, num_frames, 64, 64, 3)` uint8 and `(count,)` indices into `CAMERA_MOTIONS`.
    """
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
            num_frames=num_frames,
        )
        for i, label in enumerate(labels)
    ]
    return np.stack(clips), labels


def motion_recipe(steps: int, learning_rate: float, batch_size: int) -> Recipe:
    """Make the recipe: Muon with averaged weights, a warm-up and a cosine over all steps."""
    return get_recipe(
        "finetune",
        epochs=-(-steps // STEPS_AN_EPOCH),
        warmup_epochs=min(WARMUP_STEPS, steps) / STEPS_AN_EPOCH,
        learning_rate=learning_rate,
        warmup_learning_rate=learning_rate / 10,
        min_learning_rate=learning_rate / 50,
        rate_batch=batch_size,
        optimizer="muon",
        weight_decay=0.02,
        label_smoothing=0.0,
        clip_norm=1.0,
        use_ema=True,
        ema_momentum=0.995,
    )


def build_model(name: str, weights: str | None = None, seed: int = 0) -> keras.Model:
    """Build a model of the nine motions that takes clips of 64x64 pixels and gives logits.

    Args:
        name: Any name of a builder, see `find_builder`.
        weights: What the builder takes for `weights`; None, the default, means first weights.
        seed: Seed of the first weights.
    """
    keras.utils.set_random_seed(seed)
    builder = registry.find_builder(name)
    frames = registry.default_shape(builder.name)[0]
    options = {"classes": len(CAMERA_MOTIONS), "input_shape": (frames, SIDE, SIDE, 3), "classifier_activation": None}
    model = registry.find_family(name).function(builder)(weights=weights, **options)
    if weights is None and builder.name == DEFAULT_MODEL:
        prepare(model, seed)
    return model


@click.command()
@click.option("--model", "name", default=DEFAULT_MODEL, show_default=True, help="Name of a builder of a small model.")
@click.option("--out", default="nano_camera_motion.safetensors", show_default=True, help="File of the weights.")
@click.option("--run", default="camera_motion_run", show_default=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option("--steps", default=STEPS, show_default=True, help="Batches to train on, a multiple of 100.")
@click.option("--scenes", default=8, show_default=True, help="Scenes in a batch, of nine clips each.")
@click.option("--learning-rate", default=3e-3, show_default=True, help="Highest learning rate.")
@click.option("--easy", default=0.25, show_default=True, help="Fraction of the training over which clips grow hard.")
@click.option("--start-from", default=None, help="File of weights to begin with, instead of first weights.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first weights and the data.")
def main(
    name: str,
    out: str,
    run: str,
    resume: bool,
    steps: int,
    scenes: int,
    learning_rate: float,
    easy: float,
    start_from: str | None,
    seed: int,
) -> None:
    """Train, test on unseen photographs and write the weights."""
    start = time.process_time()
    model = build_model(name, start_from, seed)
    frames = model.input_shape[1]
    photographs = vary_photographs(load_photographs(TRAINING), 800, np.random.default_rng(seed))
    clips = MotionClips(photographs, steps, scenes, seed, easy, frames)
    recipe = motion_recipe(steps, learning_rate, clips.batch_size)
    validation = UnseenClips(180, seed=1, num_frames=frames)
    train(model, clips, validation, recipe, out=pathlib.Path(run), resume=resume)

    test, labels = unseen_photograph_clips(1800, seed=2, num_frames=frames)
    right = model.predict(test, batch_size=64, verbose=0).argmax(-1) == labels
    click.echo(f"accuracy on 1800 clips of unseen photographs: {right.mean():.4f}")
    metadata = {"classes": ", ".join(CAMERA_MOTIONS), "made by": "examples/camera_motion/train.py", "seed": str(seed)}
    write_safetensors(out, model.state(), metadata)
    click.echo(f"wrote {out}; {(time.process_time() - start) / 60:.1f} CPU-minutes since it was begun or resumed")


if __name__ == "__main__":
    main()
