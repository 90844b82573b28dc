"""Labelled videos in two parts, and the weights of their classes."""

import collections
import os
import warnings
from collections.abc import Sequence

import numpy as np

from keras_video_focalnet.utils.checks import check_integer, check_number


def label_set(label: int | tuple[int, ...]) -> tuple[int, ...]:
    """The labels of a record, whether it has one or several."""
    return label if isinstance(label, tuple) else (label,)


def held_out_files(records: Sequence, fraction: float, seed: int) -> set[str]:
    """The files, by their real paths, to hold out of records: about a fraction of those of each class.

    It is iterative stratification (Sechidis et al. 2011): the rarest label comes first, and each of its files goes
    where that label is wanted most. Training gets at least one file of each label.
    """
    check_number("fraction", fraction, above=0, below=1)
    generator = np.random.default_rng([check_integer("seed", seed, minimum=0)])
    labels = collections.defaultdict(set)
    for record in records:
        # Videos without any label are divided like those of a further class.
        labels[real_path(record)].update(label_set(record.label) or {-1})
    ordered = sorted(labels)
    files = [ordered[index] for index in generator.permutation(len(ordered))]
    return _stratified(files, labels, fraction)


def _stratified(files, labels, fraction):
    remaining = collections.defaultdict(dict)
    for file in files:
        for label in labels[file]:
            remaining[label][file] = None
    # How many files of each label, and of all, each side still wants: training, then held out.
    wanted = {label: [len(found) * (1 - fraction), len(found) * fraction] for label, found in remaining.items()}
    total = [len(files) * (1 - fraction), len(files) * fraction]
    trained, held_out = set(), set()
    while remaining:
        rarest = min(remaining, key=lambda label: (len(remaining[label]), label))
        for file in list(remaining[rarest]):
            needs_training = not labels[file] <= trained
            # What is left after subtracting ones from a product is compared without its rounding.
            preference = [(round(wanted[rarest][side], 6), round(total[side], 6)) for side in (0, 1)]
            side = 0 if needs_training or preference[0] >= preference[1] else 1
            if side:
                held_out.add(file)
            else:
                trained |= labels[file]
            total[side] -= 1
            for label in labels[file]:
                wanted[label][side] -= 1
                if label in remaining:
                    del remaining[label][file]
        remaining = {label: found for label, found in remaining.items() if found}
    return held_out


def real_path(record) -> str:
    """The file of a record, whatever links lead to it."""
    return os.path.realpath(record.path)


def check_split(training: Sequence, held_out: Sequence, class_names: Sequence[str], fraction: float) -> None:
    """Raise where nothing is held out, and warn of classes of which nothing is."""
    if not held_out or not training:
        raise ValueError(
            f"fraction={fraction} leaves no video to {'validate' if training else 'train'}; pass another fraction, or "
            "more videos."
        )
    sides = training, held_out
    trained, validated = ({label for record in side for label in label_set(record.label)} for side in sides)
    lacking = sorted(trained - validated)
    if lacking:
        some = ", ".join(str(class_names[label]) for label in lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        warnings.warn(
            f"{len(lacking)} of {len(trained)} classes have too few videos to validate a fraction of {fraction} of "
            f"them ({some}).",
            stacklevel=3,
        )


def balanced_weights(records: Sequence, classes: int, multi_label: bool) -> list[float]:
    """Weights with which every class counts the same; see `VideoList.class_weights`."""
    labels = [label for record in records for label in label_set(record.label)]
    counts = np.bincount(np.array(labels, np.int64), minlength=classes)
    if multi_label:
        weights = (len(records) - counts) / np.maximum(counts, 1)
        # A label that all videos have, or none, leaves nothing to balance.
        return np.where((counts == 0) | (weights == 0), 1.0, weights).tolist()
    weights = len(records) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts == 0, 1.0, weights).tolist()
