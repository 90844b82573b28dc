"""The reference's training run, step by step: losses, gradient norms and the weights that come out."""

import keras
import pytest

from tests.precision import double_precision
from tests.training import golden_run


def check(errors, loss, gradient_norm, parameters):
    worst = max(errors.by_parameter.items(), key=lambda item: item[1])
    assert errors.loss < loss
    assert errors.gradient_norm < gradient_norm
    assert errors.parameters < parameters, worst


def test_the_run_is_the_references():
    errors = golden_run.errors(jit_compile=keras.backend.backend() == "jax")
    check(errors, golden_run.LOSS, golden_run.GRADIENT_NORM, golden_run.PARAMETERS)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX is always compiled by XLA, PyTorch never")
def test_the_run_is_the_references_compiled_by_xla():
    check(golden_run.errors(jit_compile=True), golden_run.LOSS, golden_run.GRADIENT_NORM, golden_run.PARAMETERS)


@pytest.mark.slow
def test_the_run_is_the_references_in_double_precision():
    """Without rounding: what is left is the golden file's own, which is float32."""
    with double_precision():
        check(golden_run.errors(jit_compile=keras.backend.backend() == "jax", dtype="float64"), 1e-6, 1e-6, 1e-6)
