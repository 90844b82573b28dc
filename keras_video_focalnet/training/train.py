"""`train`: a recipe, a model and two sources of batches, through `fit`, so that nothing is lost when it is killed."""

import contextlib
import dataclasses
import warnings
from pathlib import Path

import keras

from keras_video_focalnet.training.callbacks import (
    BrokenVideosLog,
    MetricsLog,
    Progress,
    StopAtNonFiniteLoss,
    write_table,
)
from keras_video_focalnet.training.checkpoint import CheckpointFolder
from keras_video_focalnet.training.distribution import choose
from keras_video_focalnet.training.recipe import recipe as recipe_named
from keras_video_focalnet.training.run import Run
from keras_video_focalnet.training.stream import BatchStream
from keras_video_focalnet.weights.safetensors_file import read_safetensors

BEST = "best.safetensors"


def train(
    model,
    training,
    validation=None,
    recipe="finetune",
    *,
    out,
    resume=False,
    save_every=None,
    distribute=None,
    tensorboard=False,
    progress=True,
    callbacks=(),
):
    """Train a model by a recipe, with checkpoints from which a killed run goes on to the same result.

    It compiles the model by the recipe and calls `model.fit`; every piece of it is usable alone.

    Args:
        model: a Keras model from clips to class scores, or a function that builds one (needed where `distribute`
            wants variables to be made within a distribution).
        training: `BatchSource` of training batches, such as a `ClipDataset`.
        validation: `BatchSource` of validation batches, or None.
        recipe: a `Recipe` or the name of one.
        out: folder of the run; receives `checkpoints/`, `best.safetensors` (see `load_best`), `metrics.csv`, with
            `tensorboard` events in `logs/`, `broken.csv` and `broken_val.csv` where videos could not be read, and
            `not_finite.json` where the loss was no number.
        resume: bool, go on from the newest checkpoint in `out`; a run that has none begins.
        save_every: int, steps between checkpoints; None means an epoch. At SIGTERM and SIGINT one is written too,
            unless several processes train together: then the last one counts.
        distribute: None, "auto" or another name that `choose` takes. Each process passes sources of its own share of
            the batches, see `ClipDataset`'s `shard`.
        tensorboard: bool, write events for TensorBoard.
        progress: bool, show a progress bar and a line for each epoch on the error stream.
        callbacks: further Keras callbacks.

    Returns:
        The history: a dict of lists with one value an epoch (`epoch` and `step` from 1, `loss`, `top1`, `top5`,
        `val_loss`, ..., `learning_rate`, `clips_per_second`, `data_wait_share`). The model holds the weights of the
        last epoch (their moving average where the recipe has `use_ema`).

    Raises:
        FileExistsError: `out` holds checkpoints and `resume` is False.
        ValueError: the checkpoints are of another model, recipe or backend, or of other steps an epoch.
        TrainingInterrupted: SIGTERM or SIGINT came; the state is saved.
        NonFiniteLossError: the loss became NaN or infinite.

    Example:
    ```python
    videos = video_list("train.csv")
    model = VideoFocalNetNano(weights="camera_motion", classes=len(videos.class_names), classifier_activation=None)
    history = train(model, ClipDataset(videos, batch_size=8, size=64, training=True), out="run")
    ```
    """
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    out, steps = Path(out), len(training)
    distribution = choose(distribute)
    checkpoints = CheckpointFolder(out / "checkpoints")
    if not resume and checkpoints.files():
        raise FileExistsError(f"{out} holds checkpoints of a run; pass resume=True to go on with it, or another out.")
    for source in (training, validation):
        if source is not None:
            distribution.process_batch(source.batch_size)
    about = {"backend": keras.backend.backend(), "steps_per_epoch": steps, "validation": validation is not None}
    about |= dataclasses.asdict(recipe)
    run = Run(checkpoints, steps, save_every or steps, out / BEST, about, distribution)
    run.go_on()
    out.mkdir(parents=True, exist_ok=True)

    with distribution.scope():
        model = model if isinstance(model, keras.Model) else model()
        recipe.compile(model, steps_per_epoch=steps, batch_size=training.batch_size)
    model = distribution.prepare(model)
    with contextlib.ExitStack() as stack:
        # The guard comes before the run, which must not save weights that are no numbers.
        which = "" if distribution.process_count == 1 else f"_{distribution.process_index}"
        not_finite = out / f"not_finite{which}.json"
        watchers = [StopAtNonFiniteLoss(not_finite, lambda batch: run.step, training.names), run]
        if run.writes:
            watchers.append(MetricsLog(run.history, out / "metrics.csv", out / "logs" if tensorboard else None))
            stack.callback(watchers[-1].close)
            for source, name in ((training, "broken.csv"), (validation, "broken_val.csv")):
                if source is not None:
                    watchers.append(BrokenVideosLog(source.broken, out / name))
                    # Also where too many of them end the run.
                    stack.callback(watchers[-1].write)
        if run.writes and progress:
            watchers.append(stack.enter_context(Progress(run, recipe.epochs * steps)))
        if recipe.use_ema:
            watchers.append(keras.callbacks.SwapEMAWeights())
        if distribution.process_count == 1:
            stack.enter_context(run.saving_at_signals())
        stack.enter_context(_own_errors(training, validation))
        stack.enter_context(warnings.catch_warnings())
        # That is how Keras takes a validation set that ends without having told its length.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        warnings.filterwarnings("ignore", "`shuffle=True` was passed, but will be ignored")
        # `batches` gives what can be read again every epoch; a strategy of TensorFlow's takes its own data sets alone.
        evaluated = validation and validation.batches()
        if evaluated and keras.backend.backend() == "tensorflow":
            evaluated = BatchStream(validation).for_fit(len(validation))
        while run.epoch < recipe.epochs:
            run.stream = BatchStream(training, run.step)
            _build(model, run.stream.example, distribution)
            # Keras begins within an epoch only if it is told that this one is shorter.
            done = run.step % steps
            model.fit(
                distribution.dataset(run.stream.for_fit()),
                initial_epoch=run.epoch,
                epochs=run.epoch + 1 if done else recipe.epochs,
                steps_per_epoch=steps - done,
                validation_data=evaluated and distribution.dataset(evaluated),
                callbacks=[*watchers, *callbacks],
                verbose=0,
            )
            if model.stop_training:
                break
        if run.waits:
            # Nothing was left to do, or an epoch that was begun before: the state is not yet, or no longer, the run's.
            _build(model, next(iter(training.batches(run.step))), distribution)
            run.put_back(model)
            model.optimizer.finalize_variable_values(model.trainable_weights)
    if run.writes and run.history:
        # A run that was killed between its last checkpoint and its table.
        write_table(out / "metrics.csv", run.history)
    return run.history


def load_best(model, out):
    """Give a model the weights of a run's best epoch.

    Best is the highest `val_top1`, without validation `top1`; of equal ones the last.

    Args:
        model: a model of the architecture that was trained.
        out: the run's folder.

    Raises:
        FileNotFoundError: no epoch of that run has ended yet.
    """
    state = read_safetensors(Path(out) / BEST)
    model.set_weights([state[name] for name in sorted(state)])


@contextlib.contextmanager
def _own_errors(*sources):
    """Raise what ended a source as it was: TensorFlow's input pipelines turn every error into one of their own."""
    try:
        yield
    except Exception as error:
        own = next((source.broken.error for source in sources if source is not None and source.broken.error), None)
        if own is None or own is error:
            raise
        raise own from error


def _build(model, batch, distribution):
    """Make every variable of a run: what is not there cannot be put back."""
    with distribution.scope():
        model._symbolic_build(data_batch=batch)
