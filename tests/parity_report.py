"""The worst parity figures of the running backend: `KERAS_BACKEND=jax python -m tests.parity_report`.

Logits are absolute, features and modulators relative to the largest value, gradients are the worst parameter's norm of
difference over norm, trained parameters that of all together. It fails where a figure is above its tolerance, except
for what follows the training run, which is told and not tested: see `test_gradients_with_every_option`.
"""

import importlib.util
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if importlib.util.find_spec("pytest") is None:
    sys.exit("parity_report needs pytest, as all of the tests do: pip install -e '.[dev]' in a clone of the repository")

import keras
import numpy as np

from tests import vita_golden
from tests.gradients import modes
from tests.layers.test_widening import golden_error
from tests.models import test_parity as parity
from tests.models.vita_clip import test_parity as vita_clip
from tests.precision import double_precision, rounded_once
from tests.training import golden_run

BOTH = ("micro", "micro_options")


def row(what, worst, tolerance):
    """Print one figure, and tell whether it is above its tolerance."""
    above = not worst < tolerance
    print(f"{keras.backend.backend():10} {what:45} {worst:9.1e} {tolerance:9.0e}  {'ABOVE' if above else ''}")
    return above


def vita_clip_rows():
    """Print the figures of Vita-CLIP, all absolute, and tell whether one is above its tolerance."""
    above = False

    def rows(what, values, gradients, tolerance):
        logits = [errors["logits"] for errors in values]
        kept = ("tokens", "logits")
        features = [error for errors in values for key, error in errors.items() if not key.endswith(kept)]
        each = {"logits": max(logits), "features": max(features)}
        each["gradients"] = max(max(errors.values()) for errors in gradients)
        return any([row(f"Vita-CLIP, {name}, {what}", error, tolerance) for name, error in each.items()])

    for mode in modes():
        values, gradients = (
            [errors(name, mode) for name in vita_golden.FOLDERS]
            for errors in (vita_clip.value_errors, vita_clip.gradient_errors)
        )
        above |= rows(mode, values, gradients, vita_golden.SINGLE)
    with double_precision():
        values, gradients = (
            [errors(name, modes()[0], "float64") for name in vita_golden.FOLDERS]
            for errors in (vita_clip.value_errors, vita_clip.gradient_errors)
        )
        above |= rows("in float64", values, gradients, vita_golden.DOUBLE)
    return above


def main():
    print(f"{'backend':10} {'worst of':45} {'figure':>9} {'tolerance':>9}")
    above = vita_clip_rows()
    for mode in parity.MODES:
        cases = [name for name, of in parity.CASES if of == mode]
        logits, features = zip(*(parity.output_errors(name, mode) for name in cases), strict=True)
        folders = [errors for errors in features if errors]
        above |= row(f"logits, {mode}, {len(cases)} folders", max(logits), parity.LOGITS)
        above |= row(f"still clip against the image model, {mode}", parity.still_clip_error(mode), parity.LOGITS)
        error = max(max(errors.values()) for errors in folders)
        above |= row(f"features and modulators, {mode}, {len(folders)} folders", error, parity.FEATURES)
    for products in ("native", "widened"):
        # A figure of how models with random weights magnify roundings, for which there is no tolerance.
        errors = {name: golden_error(name, products) for name in (*parity.MICRO, "keras2_h5")}
        row(f"logits in bfloat16, {products}, of the largest", max(errors.values()), math.inf)
    for mode in parity.GRADIENT_MODES:
        error = max(parity.golden_gradient_errors("micro", mode).values())
        above |= row(f"gradients, micro, {mode}", error, parity.GRADIENTS)
        with rounded_once():
            error = max(parity.golden_gradient_errors("micro_options", mode).values())
        above |= row(f"gradients, micro_options, rounded once, {mode}", error, parity.GRADIENTS)
    with double_precision():
        error = max(max(parity.golden_gradient_errors(name, dtype="float64").values()) for name in BOTH)
    above |= row("gradients, both folders, in float64", error, parity.GRADIENTS)
    mode = parity.MODES[-1]
    error = max(parity.oracle_gradient_errors(parity.random_clips(), mode))
    above |= row(f"gradients, micro_options, at other clips, {mode}", error, parity.GRADIENTS)
    trained = golden_run.errors(jit_compile=keras.backend.backend() == "jax")
    above |= row("12 steps of training: losses", trained.loss, golden_run.LOSS)
    above |= row("12 steps of training: gradient norms", trained.gradient_norm, golden_run.GRADIENT_NORM)
    above |= row("12 steps of training: parameters", trained.parameters, golden_run.PARAMETERS)
    for mode in parity.GRADIENT_MODES:
        error = max(parity.golden_gradient_errors("micro_options", mode).values())
        row(f"gradients, micro_options, own kernels, {mode}", error, parity.GRADIENTS)
    mode = parity.MODES[-1]
    errors = parity.oracle_gradient_errors(parity.near_clips(), mode)
    row(f"the same near that clip, {mode}, median", float(np.median(errors)), parity.GRADIENTS)
    with rounded_once():
        errors = parity.oracle_gradient_errors(parity.near_clips(), mode)
    row(f"rounded once near that clip, {mode}, median", float(np.median(errors)), parity.GRADIENTS)
    row(f"rounded once near that clip, {mode}, largest", max(errors), parity.GRADIENTS)
    return int(above)


if __name__ == "__main__":
    sys.exit(main())
