"""Keeps a model's variables in the model on JAX, whatever happens while Keras computes with them.

On JAX Keras takes the values out of a model's variables while it fits, evaluates or predicts, passes them from step to
step, and gives their memory away to the step that computes the next ones. Where it is interrupted, only this module
knows the last ones.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import keras

# Locks and values of models lie beside them, not in them: neither can be pickled or copied.
_LOCKS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_STATES: weakref.WeakKeyDictionary[Any, deque] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()
_GROUPS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


@contextlib.contextmanager
def exclusive(model: keras.Model) -> Iterator[None]:
    """Lets one thread at a time use a model, on JAX; it may do so several times over."""
    if keras.backend.backend() != "jax":
        yield
        return
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        yield


@contextlib.contextmanager
def whole(model: keras.Model) -> Iterator[None]:
    """As `exclusive`, for what reads or writes the variables: a callback finds them as the last step left them."""
    with exclusive(model):
        if isinstance(model, JaxState):
            model.jax_state_sync()
        yield


class JaxState(keras.Model):
    """A model whose variables get their values back after any error and any interrupt."""

    def _get_jax_state(self, *args, purge_model_variables=False, **groups):
        state = super()._get_jax_state(*args, **groups)
        _STATES[self] = deque([(None, state)], maxlen=1)
        if purge_model_variables:
            self._purge_model_variables(*args, **groups)
        return state

    def _make_function(self, step_function, *args, **kwargs):
        def step(state, data):
            states = _STATES[self]
            # An interrupt is raised between two instructions of Python: this one keeps the result before it ends.
            states.extend(map(step_function, (state,), (data,)))
            return states[-1]

        inherited = super()._make_function(step, *args, **kwargs)

        def function(state, iterator):
            try:
                return inherited(state, iterator)
            except BaseException:
                self.jax_state_sync()
                raise

        return function

    def jax_state_sync(self):
        """As Keras's own, with the values that the last step gave."""
        if self in _STATES and not self._jax_state_synced:
            state = _STATES[self][-1][1]
            # Steps of training have all groups, those of evaluation have no optimizer, those of prediction no metrics.
            groups = {2: _GROUPS[:2], 3: (*_GROUPS[:2], _GROUPS[3]), 4: _GROUPS}[len(state)]
            self._jax_state = dict(zip(groups, state, strict=True))
        super().jax_state_sync()

    @contextlib.contextmanager
    def kept_whole(self) -> Iterator[None]:
        """What Keras does with the model inside leaves it with all its values, also where it is cut short."""
        # A callback that predicts finds the model as its last step of training left it.
        self.jax_state_sync()
        try:
            yield
        except BaseException:
            optimizer = getattr(self, "optimizer", None)
            variables = [*self.variables, *self.metrics_variables, *(optimizer.variables if optimizer else ())]
            if any(variable._value is None for variable in variables):
                self._jax_state_synced = False
            self.jax_state_sync()
            raise
        finally:
            self._jax_state = None
            _STATES.pop(self, None)
