"""`train`: a recipe, a model and two sources of batches, through `fit`, so that nothing is lost when it is killed."""

import contextlib
import dataclasses
import numbers
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_video_focalnet.data.batch_source import BatchSource
from keras_video_focalnet.data.datasets import VideoList
from keras_video_focalnet.models.opening import describe_model
from keras_video_focalnet.training.callbacks import (
    BrokenVideosLog,
    MetricsLog,
    StopAtNonFiniteLoss,
    write_table,
)
from keras_video_focalnet.training.checkpoint import CheckpointFolder
from keras_video_focalnet.training.config import (
    CONFIG,
    HOW,
    WHAT,
    build_model,
    check_places,
    settle,
    write_config,
)
from keras_video_focalnet.training.distribution import Distribution, choose
from keras_video_focalnet.training.figures import BROKEN_FILES
from keras_video_focalnet.training.progress import Progress
from keras_video_focalnet.training.recipe import Recipe
from keras_video_focalnet.training.results import BEST, MODEL, load_best, write_results
from keras_video_focalnet.training.run import Run
from keras_video_focalnet.training.sources import (
    Videos,
    check_model,
    class_names,
    complete_training,
    complete_validation,
    find_videos,
    make_source,
    prepared,
)
from keras_video_focalnet.training.stream import BatchStream

__all__ = ["load_best", "train"]

CHECKPOINTS = "checkpoints"


def train(
    model: keras.Model | Callable[[], keras.Model] | str | os.PathLike | None = None,
    training: Videos | None = None,
    validation: Videos | float | None = None,
    recipe: Recipe | str | None = None,
    *,
    out: str | os.PathLike,
    resume: bool = False,
    save_every: int | None = None,
    distribute: str | None = None,
    tensorboard: bool = False,
    progress: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    class_weights: Sequence[float] | str | None = None,
    weights: str | os.PathLike | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    max_broken: float | None = None,
    balanced: bool = False,
) -> dict[str, list[float]]:
    """Train a model by a recipe, with checkpoints from which a killed run continues to the same result.

    It is what `video-focalnet train` calls: equal arguments and seeds give the same weights and the same folder. It
    compiles the model by the recipe and calls `model.fit`; every piece of it is usable alone.

    The recipe is applied whole. Of videos and of a `ClipDataset`, what is left open (transform, mixing with label
    smoothing, sampling; for validation the crop) is taken from the recipe and the model. Where the model takes
    normalized clips, as one that was built with `include_preprocessing=False` does, their clips are normalized. The
    clips of another source are given to the model as they are. A `ClipDataset` with a mixing
    or sampling that contradicts the recipe is an error, and a transform of its own is used with a warning. The clips of
    another source are mixed and their labels smoothed, unless it has an attribute `mixing`, see `BatchSource`. Where
    the clips of `training` can have several labels (its attribute `multi_label`), the loss and the metrics are those of
    several, see `Recipe.compile`.

    Args:
        model: The name of a builder, such as `"nano"`, whose model is built for the classes of the videos and as the
            recipe wants it; or what `open_model` takes, such as the folder of a run, whose model is trained on; or a
            Keras model from clips to class scores, or a function without arguments that builds one. A function or a
            name is needed where `distribute` wants variables to be made within a distribution.
        training: Training videos: a folder with one sub-folder for each class, a list file, a `VideoList`, or batches
            without end, such as a `ClipDataset` with `training=True`.
        validation: Validation videos of the same kinds, a folder or list with the classes of the training videos; or
            what fraction of the training videos, above 0 and below 1, to hold out. By default None: no validation.
        recipe: A `Recipe` or the name of one; None, the default, takes `"finetune"`.
        out: Folder of the run. It receives `config.json`, `checkpoints/`, `best.safetensors` (see `load_best`) and
            `metrics.csv`, and at the end `model.keras` of the best epoch (which gives scores), `labels.txt`,
            `curves.png` and `summary.json`; with `tensorboard`, events in `logs/`; `broken.csv` and `broken_val.csv`
            where videos could not be read; `not_finite.json` where the loss became NaN or infinite.
        resume: Whether to continue from the newest checkpoint in `out`, False by default. A run without a checkpoint
            begins from the start. What is not passed is what `config.json` says, so that of a run that was begun with
            names of a model and of videos `train(out="run", resume=True)` is all. A recipe with more epochs goes on to
            those, with the learning rate that the longer schedule has.
        save_every: Steps between checkpoints; None (the default) means an epoch. At SIGTERM and SIGINT a checkpoint is
            written too, unless several processes train together: then the run continues from the last one.
        distribute: How to train on several devices or in several processes, see `choose`: None (the default, one
            device), `"auto"` or another name. Each process passes sources that give its own part of the batches, see
            the argument `shard` of `ClipDataset`; of videos it takes its part itself.
        tensorboard: Whether to write events for TensorBoard, False by default.
        progress: Whether to show progress within each epoch, a line for each and a summary at the end on the error
            stream, True by default.
        callbacks: Further Keras callbacks; none by default.
        class_weights: A weight of each class in the loss of training, or `"balanced"` for those of
            `VideoList.class_weights`; None, the default, weighs all alike. See `Recipe.compile`.
        weights: Of a model that is built by its name, what its builder takes for `weights`, or `"none"` for random
            ones; None, the default, takes those that it is published with.
        batch_size: Clips in a batch of videos, of all processes together; 8 by default. A data set has its own.
        seed: Integer >= 0, by default 0: of the order and the draws of videos, and where the model is built by its name
            of all random numbers, for which it sets Keras's seed.
        workers: Processes that read videos, 2 by default. A data set has its own.
        max_broken: Fraction of an epoch's videos that may be broken, 0.1 by default. A data set has its own.
        balanced: Whether to draw all classes of videos equally often, False by default. A data set has its own.

    Returns:
        The history: lists of one value an epoch, by name (`epoch` and `step` from 1, `loss`, `top1`, `top5` where there
        are more than five classes, `val_loss`, ..., `learning_rate`, `clips_per_second`, `data_wait_share`; with
        several labels a clip `average_precision` and `roc_auc` instead of `top1` and `top5`). A model that was passed
        holds the weights of the last epoch, or their moving average where the recipe has `use_ema`.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        FileNotFoundError: `out` holds no run to resume, or videos or weights of it no longer lie where they did.
        ValueError: The run in `out` is of another model, recipe, backend or number of steps an epoch; the classes of
            model, training and validation differ, or there is only one; the recipe and the clips contradict each other;
            or one of the sources has several labels a clip and the other has one.
        TrainingInterrupted: SIGTERM or SIGINT arrived; the state is saved.
        NonFiniteLossError: The loss became NaN or infinite.

    Example:
        >>> parts = [VideoRecord("bikes.mp4", 0, end=1.0), VideoRecord("bikes.mp4", 1, start=1.0, end=2.0)]
        >>> videos = VideoList(parts, ["the first second", "the next"])  # or the folder or list of your own
        >>> options = {"out": "run", "batch_size": 2, "workers": 0, "progress": False}
        >>> history = train("nano", videos, recipe=get_recipe("finetune", epochs=1), **options)
        >>> history["epoch"], open_model("run").labels
        ([1], ('the first second', 'the next'))
    """
    out = Path(out)
    given = {name: value for name, value in locals().items() if name in (*WHAT, *HOW)}
    given |= {"class_weights": _listed(class_weights), "balanced": balanced or None, "tensorboard": tensorboard or None}
    given |= {"data": _named(training), "model": _named(model)}
    given |= _named_validation(validation)
    return run_training(given, out, resume, progress, callbacks, model, training, validation)


def run_training(
    given: Mapping[str, Any],
    out: Path,
    resume: bool,
    progress: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    model: keras.Model | Callable[[], keras.Model] | str | None = None,
    training: Videos | None = None,
    validation: Videos | float | None = None,
) -> dict[str, list[float]]:
    """Train as `given` says, values by the names of `config.json`, with objects in place of what names cannot tell."""
    is_named = model is None or isinstance(model, (str, os.PathLike))
    if resume and not (out / CONFIG).exists():
        _check_can_begin(
            out, given.get("model") if is_named else model, given.get("data") if training is None else training
        )
    config, recipe = settle(given, out, resume)
    checkpoints = CheckpointFolder(out / CHECKPOINTS)
    if not resume and (checkpoints.files() or any((out / name).exists() for name in (BEST, MODEL))):
        raise FileExistsError(f"{out} holds a run; pass resume=True to go on with it, or another out.")
    distribute = config["distribute"]
    if resume:
        wanted = [
            name for name, value in (("data", training), ("root", training), ("val", validation)) if value is None
        ]
        check_places(config, [*wanted, *(("model", "weights") if is_named else ())], out)
    if is_named:
        if config["model"] is None:
            raise ValueError("model is missing; pass the name of one, such as 'nano', or the Keras model itself.")
        keras.utils.set_random_seed(config["seed"])
    training, validation = find_videos(config, training, validation)
    _check_used(given, is_named, isinstance(training, VideoList))
    names = class_names(training)
    distribution = choose(None if distribute == "none" else distribute)
    with distribution.scope():
        if is_named:
            if names is None:
                raise ValueError("a model is built by its name for the classes of videos; pass the Keras model itself.")
            model = build_model(config, recipe, names)
        elif not isinstance(model, keras.Model):
            model = model()
    check_model(model, recipe, training)
    is_listed = isinstance(training, VideoList), isinstance(validation, VideoList)
    training = make_source(training, model, config, distribution, training=True, balanced=bool(config["balanced"]))
    if validation is not None:
        validation = make_source(validation, model, config, distribution)
    config["batch_size"] = training.batch_size

    settings = _settings(recipe, config, training, validation)
    save_every = config["save_every"] or len(training)
    several = "multi_label" in settings
    config["multi_label"] = several or None
    facts = describe_model(model, names or getattr(model, "labels", None), several)
    run = Run(checkpoints, len(training), save_every, out / BEST, settings, distribution, facts)
    run.resume()
    for source in (training, validation):
        if source is not None:
            distribution.process_batch(source.batch_size)
    if is_listed[0] or run.completes_clips:
        training = complete_training(training, model, recipe, config["seed"])
    if validation is not None and (is_listed[1] or run.completes_clips):
        validation = complete_validation(validation, model, recipe)
    if run.prepares_clips:
        training = prepared(training, model)
        validation = None if validation is None else prepared(validation, model)
    elif prepared(training, model) is not training:
        warnings.warn(
            f"the run in {out} was begun by a version that gave {model.name} pixels of 0 to 255, which it does not "
            "normalize itself, and goes on so; begin anew in another folder, or give it such pixels in prediction too.",
            stacklevel=3,
        )
    out.mkdir(parents=True, exist_ok=True)
    if run.is_first_process:
        if not resume:
            _remove_reports(out)
        write_config(out, config, recipe, names, facts, resume)
    sources = {"training": training, "validation": validation}
    bar = Progress(run, recipe.epochs, sources, out) if progress and run.is_first_process else None
    _fit(model, recipe, run, sources, out, bool(config["tensorboard"]), bar, callbacks)
    if run.is_first_process and run.history:
        # A run that was killed between its last checkpoint and its table lacks a line in the table.
        write_table(out / "metrics.csv", run.history)
        lines = write_results(model, run.history, out, sources, names)
        if bar is not None:
            bar.say(lines)
    return run.history


def _check_can_begin(out, model, training):
    if model is None or training is None:
        raise FileNotFoundError(
            f"out={str(out)!r} holds no run to go on with; pass the folder of one, or begin one with a model and "
            "training= (--data)."
        )


def _remove_reports(out):
    """Take away what a run wrote that never came to a checkpoint: the reports of videos would go on."""
    for name in (*BROKEN_FILES.values(), "not_finite.json"):
        (out / name).unlink(missing_ok=True)


def _check_used(given, is_named, is_listed):
    """Raise where an argument would do nothing."""
    if given.get("weights") is not None and not is_named:
        raise ValueError("weights is for a model that is built by its name; load them into the model that you pass.")
    for name in ("batch_size", "workers", "max_broken", "balanced"):
        if given.get(name) is not None and not is_listed:
            raise ValueError(f"{name} is for videos by name or in a VideoList; pass it to the data set that you made.")


def _named(videos):
    return os.fspath(videos) if isinstance(videos, (str, os.PathLike)) else None


def _named_validation(validation):
    fraction = isinstance(validation, numbers.Real)
    return {"val": None if fraction else _named(validation), "val_split": float(validation) if fraction else None}


def _listed(class_weights):
    text = class_weights is None or isinstance(class_weights, str)
    return class_weights if text else [float(weight) for weight in class_weights]


def _settings(recipe, config, training, validation):
    """What a resumed run must have in common with the one that was saved."""
    settings = {
        "backend": keras.backend.backend(),
        "steps_per_epoch": len(training),
        "validation": validation is not None,
        **dataclasses.asdict(recipe),
    }
    # Checkpoints of runs without these have no such entries.
    if _has_several_labels(training, validation):
        settings["multi_label"] = True
    class_weights = config["class_weights"]
    if class_weights is not None:
        if class_weights == "balanced":
            if class_names(training) is None:
                raise ValueError("class_weights='balanced' counts videos, and the source lists none; pass numbers.")
            class_weights = training.videos.class_weights()
        settings["class_weights"] = class_weights
    return settings


def _fit(model, recipe, run, sources, out, tensorboard, bar, callbacks):
    """Train until the run is at its end; the model then holds the run's state."""
    training, validation = sources["training"], sources["validation"]
    distribution, steps = run.distribution, run.steps_per_epoch
    with distribution.scope():
        recipe.compile(
            model,
            steps_per_epoch=steps,
            batch_size=training.batch_size,
            multi_label="multi_label" in run.settings,
            class_weights=run.settings.get("class_weights"),
        )
    model = distribution.prepare(model)
    with contextlib.ExitStack() as stack:
        own_callbacks = _own_callbacks(stack, run, recipe, sources, out, tensorboard, bar)
        if distribution.process_count == 1:
            stack.enter_context(run.saving_at_signals())
        stack.enter_context(_raising_source_errors(training, validation))
        stack.enter_context(warnings.catch_warnings())
        # Keras warns so where a validation set ends whose length it does not know.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        warnings.filterwarnings("ignore", "`shuffle=True` was passed, but will be ignored")
        # `batches` gives what can be read again every epoch; a strategy of TensorFlow's takes only a `tf.data.Dataset`.
        validation_data = validation and validation.batches()
        if validation_data and keras.backend.backend() == "tensorflow":
            validation_data = BatchStream(validation).for_fit(len(validation))
        while run.epoch < recipe.epochs:
            run.stream = BatchStream(training, run.step)
            _build_variables(model, run.stream.example, distribution)
            # Keras can begin within an epoch only by an epoch that has fewer steps.
            done = run.step % steps
            model.fit(
                distribution.dataset(run.stream.for_fit()),
                initial_epoch=run.epoch,
                epochs=run.epoch + 1 if done else recipe.epochs,
                steps_per_epoch=steps - done,
                validation_data=validation_data and distribution.dataset(validation_data),
                callbacks=[*own_callbacks, *callbacks],
                verbose=0,
            )
            if model.stop_training:
                break
        if run.has_pending_state:
            # The run was finished when it was resumed, or it ended with a shortened epoch: then the model does not hold
            # the state of the run.
            _build_variables(model, next(iter(training.batches(run.step))), distribution)
            run.restore_into(model)
            model.optimizer.finalize_variable_values(model.trainable_weights)


def _has_several_labels(training: BatchSource, validation: BatchSource | None) -> bool:
    several = [bool(getattr(source, "multi_label", False)) for source in (training, validation) if source is not None]
    if several[0] != several[-1]:
        raise ValueError(
            "one of the training and validation clips has several labels and the other has one; pass multi_label=True "
            "to video_list for both, or for none."
        )
    return several[0]


def _own_callbacks(stack, run, recipe, sources, out, tensorboard, bar):
    """Make the callbacks of a run, in the order in which they must be called, and close them with the stack."""
    distribution = run.distribution
    suffix = "" if distribution.process_count == 1 else f"_{distribution.process_index}"
    names = sources["training"].names
    # The guard comes before the run, which must not save weights that are not finite.
    callbacks = [StopAtNonFiniteLoss(out / f"not_finite{suffix}.json", lambda batch: run.step, names), run]
    if run.is_first_process:
        metrics = MetricsLog(run.history, out / "metrics.csv", out / "logs" if tensorboard else None)
        callbacks.append(metrics)
        stack.callback(metrics.close)
        for name, source in sources.items():
            if source is not None:
                broken = BrokenVideosLog(source.broken, out / BROKEN_FILES[name])
                callbacks.append(broken)
                # The list is also written where too many broken videos end the run.
                stack.callback(broken.write)
        if bar is not None:
            callbacks.append(stack.enter_context(bar))
    if recipe.use_ema:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    return callbacks


@contextlib.contextmanager
def _raising_source_errors(*sources: BatchSource | None) -> Iterator[None]:
    """Raise the error that ended a source itself: TensorFlow's input pipelines turn it into one of their own."""
    try:
        yield
    except Exception as error:
        errors = (source.broken.error for source in sources if source is not None)
        source_error = next((candidate for candidate in errors if candidate), None)
        if source_error is None or source_error is error:
            raise
        raise source_error from error


def _build_variables(model: keras.Model, batch: Any, distribution: Distribution) -> None:
    """Make every variable of a run, because only variables that exist can be restored."""
    with distribution.scope():
        model._symbolic_build(data_batch=batch)
