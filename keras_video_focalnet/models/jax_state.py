"""Keeps a model's variables in the model on JAX, whatever happens while Keras computes with them.

On JAX Keras takes the values out of a model's variables while it fits, evaluates or predicts, passes them from step to
step, gives their memory away to the step that computes the next ones, and puts them back at the end, unless an error
comes first. Models share layers: one around ours and the extractor of its features take the variables out of ours. So
`mend` changes how Keras's trainer does that, for the models that `kept_whole` is about; all others are as before.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

# The values of each model that is kept whole, as its last step left them: beside models, not in them, since neither
# arrays nor locks should be pickled and copied with a model.
_STATES: weakref.WeakKeyDictionary[Any, deque] = weakref.WeakKeyDictionary()
_GROUPS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
# What the mend replaces; it needs all of them.
_MENDED = ("_get_jax_state", "_make_function", "jax_state_sync", "_purge_model_variables")


@dataclass(eq=False)
class _Claim:
    """That a thread uses a model, and so all of its layers."""

    model: Any
    layers: set[Any]
    thread: int = field(default_factory=threading.get_ident)

    def meets(self, other: _Claim) -> bool:
        return not self.layers.isdisjoint(other.layers)


_CLAIMS: list[_Claim] = []
_FREED = threading.Condition()


@contextlib.contextmanager
def exclusive(model: keras.Model) -> Iterator[None]:
    """Lets one thread at a time use a model, or any that shares a layer with it, on JAX; several times over."""
    if keras.backend.backend() != "jax":
        yield
        return
    claim = _Claim(model, set(model._flatten_layers()))
    try:
        with _FREED:
            # All layers at once: who waits holds none of them.
            _FREED.wait_for(lambda: not any(other.thread != claim.thread and claim.meets(other) for other in _CLAIMS))
            _CLAIMS.append(claim)
        yield
    finally:
        with _FREED:
            if claim in _CLAIMS:
                _CLAIMS.remove(claim)
            _FREED.notify_all()


@contextlib.contextmanager
def whole(model: keras.Model) -> Iterator[None]:
    """As `exclusive`, for what reads or writes the variables: a callback finds them as the last step left them."""
    with exclusive(model):
        _give_back(model)
        yield


def _give_back(model):
    """Has every model that this thread computes with, and that shares a layer with `model`, get its values back."""
    if keras.backend.backend() == "jax":
        with _FREED:
            mine = [claim for claim in _CLAIMS if claim.thread == threading.get_ident()]
        own = next(claim for claim in reversed(mine) if claim.model is model)
        for claim in mine:
            if claim.meets(own):
                claim.model.jax_state_sync()


@contextlib.contextmanager
def kept_whole(model: keras.Model) -> Iterator[None]:
    """What Keras does with the model inside leaves it with all its values, also where it is cut short.

    The calling thread has the model by `exclusive`.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    # A callback that predicts finds the model as its last step of training left it.
    _give_back(model)
    around = model in _STATES
    _STATES[model] = deque(maxlen=1)
    try:
        yield
    except BaseException:
        optimizer = getattr(model, "optimizer", None)
        variables = [*model.variables, *model.metrics_variables, *(getattr(optimizer, "variables", None) or ())]
        if any(variable._value is None for variable in variables):
            model._jax_state_synced = False
        model.jax_state_sync()
        raise
    finally:
        model._jax_state = None
        if around:
            _STATES[model] = deque(maxlen=1)
        else:
            _STATES.pop(model, None)


def _groups(state):
    """The names of what is in a state: training has all groups, evaluation no optimizer, prediction no metrics."""
    return {2: _GROUPS[:2], 3: (*_GROUPS[:2], _GROUPS[3]), 4: _GROUPS}[len(state)]


def mend(trainer: type) -> bool:
    """Has Keras's trainer for JAX keep the values that it takes out of a model, where `kept_whole` is about that model.

    A trainer of another make is left alone: then errors and threads do to models what they do without this package.
    """
    if not all(callable(getattr(trainer, name, None)) for name in _MENDED):
        return False
    take, make_function, sync = (getattr(trainer, name) for name in _MENDED[:3])

    @functools.wraps(take)
    def _get_jax_state(self, *args, purge_model_variables=False, **groups):
        if self not in _STATES:
            return take(self, *args, purge_model_variables=purge_model_variables, **groups)
        state = take(self, *args, **groups)
        _STATES[self] = deque([(None, state)], maxlen=1)
        if purge_model_variables:
            self._purge_model_variables(*args, **groups)
        return state

    @functools.wraps(make_function)
    def _make_function(self, step_function, *args, **kwargs):
        def step(state, data):
            if self not in _STATES:
                return step_function(state, data)
            if self._jax_state_synced:
                # Whoever made the data used the model: its values are in its variables, and `state` may be gone.
                state = self._get_jax_state(**dict.fromkeys(_groups(state), True), purge_model_variables=True)
                self._jax_state_synced = False
            states = _STATES[self]
            # An interrupt is raised between two instructions of Python: this one keeps the result before it ends.
            states.extend(map(step_function, (state,), (data,)))
            return states[-1]

        inherited = make_function(self, step, *args, **kwargs)

        def function(state, iterator):
            try:
                return inherited(state, iterator)
            except BaseException:
                self.jax_state_sync()
                raise

        return function

    @functools.wraps(sync)
    def jax_state_sync(self):
        if _STATES.get(self) and not self._jax_state_synced:
            state = _STATES[self][-1][1]
            self._jax_state = dict(zip(_groups(state), state, strict=True))
        sync(self)

    for function in (_get_jax_state, _make_function, jax_state_sync):
        setattr(trainer, function.__name__, function)
    return True
