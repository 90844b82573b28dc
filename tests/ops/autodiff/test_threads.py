"""What one thread forces is no other thread's business, and reaches what belongs to the same computation."""

import asyncio
import contextvars
import json
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

from keras_video_focalnet.layers import FocalBlock
from keras_video_focalnet.ops.autodiff.formulation import choose, force, forced_choices
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients
from keras_video_focalnet.ops.autodiff.rematerialization import rematerialized

BACKEND = keras.backend.backend()
# So many channels and frames that the rule takes Winograd's filtering on a CPU.
TOKENS = (1, 4, 4, 192)


def in_a_thread(function, *arguments):
    """What `function` gives in a thread of its own."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    thread.join()
    return results[0]


def block_model():
    keras.utils.set_random_seed(0)
    tokens = keras.Input(TOKENS[1:])
    return keras.Model(tokens, FocalBlock(192, grid_size=2)(tokens)[0])


def answers():
    """Of a new model: an answer that is traced, and one that is not."""
    model, x = block_model(), np.random.default_rng(0).normal(size=TOKENS).astype("float32")
    return model.predict(x, verbose=0), keras.ops.convert_to_numpy(model(x, training=False))


def test_choices_nest_and_end():
    assert forced_choices() == {}
    with force(linear="library"):
        with force(temporal_conv="winograd", linear="onednn"):
            assert forced_choices() == {"linear": "onednn", "temporal_conv": "winograd"}
        assert forced_choices() == {"linear": "library"}
        with pytest.raises(RuntimeError, match="inside"), force(linear="onednn"):
            raise RuntimeError("inside")
        assert forced_choices() == {"linear": "library"}
    assert forced_choices() == {}


def test_a_thread_does_not_see_what_another_forces():
    """Not what it forces before, nor while, the other looks; the other's own choices come and go meanwhile."""
    forces, looked, seen = threading.Event(), threading.Event(), []

    def look():
        seen.append(forced_choices())
        with force(linear="library"):
            forces.wait()
            seen.append(forced_choices())
        seen.append(forced_choices())
        looked.set()

    thread = threading.Thread(target=look)
    with force(temporal_conv="winograd"):
        thread.start()
        with force(depthwise_conv2d="shifted"):
            forces.set()
            looked.wait()
            assert forced_choices() == {"temporal_conv": "winograd", "depthwise_conv2d": "shifted"}
    thread.join()
    assert seen == [{}, {"linear": "library"}, {}]


def test_a_copied_context_carries_what_is_forced():
    with force(temporal_conv="winograd"):
        context = contextvars.copy_context()
    assert in_a_thread(context.run, forced_choices) == {"temporal_conv": "winograd"}


def test_a_model_that_is_first_traced_while_another_thread_forces_answers_as_alone():
    alone = in_a_thread(answers)
    with force(temporal_conv="convolution"):
        forced = answers()
        beside = in_a_thread(answers)
    for wanted, other, given in zip(alone, forced, beside, strict=True):
        np.testing.assert_array_equal(given, wanted)
        # The two formulations round differently, so equality says something.
        assert not np.array_equal(other, wanted)


def test_rematerialization_computes_again_in_the_formulation_of_the_forward_pass():
    """Though the backward pass runs outside of what forced it, in another thread."""
    seen = []

    def square(x):
        name = choose("square", {"product": "product", "power": "power"}, "power")
        seen.append(name)
        return x * x, 2 * x

    x = np.float32([3.0])
    if BACKEND == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        with force(square="product"):
            y, _ = rematerialized(square, tensor)
        in_a_thread(y.sum().backward)
        slope = tensor.grad
    elif BACKEND == "jax":
        import jax

        with force(square="product"):
            y, backward = jax.vjp(lambda x: rematerialized(square, x)[0], x)
        (slope,) = in_a_thread(backward, np.ones_like(y))
    else:
        import tensorflow as tf

        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            with force(square="product"):
                y, _ = rematerialized(square, tensor)
        slope = in_a_thread(tape.gradient, y, tensor)
    np.testing.assert_array_equal(np.asarray(slope), [6.0])
    assert set(seen) == {"product"}
    assert len(seen) == (1 if BACKEND == "jax" else 2)  # JAX traces once and computes again what it traced.


@pytest.mark.skipif(BACKEND != "torch", reason="torch.export marks every thread as compiling")
def test_what_another_thread_exports_leaves_gradients_as_they_are():
    import torch

    started, looked = threading.Event(), threading.Event()

    class Waiting(torch.nn.Module):
        def forward(self, x):
            started.set()
            looked.wait()
            return x + 1

    thread = threading.Thread(target=torch.export.export, args=(Waiting(), (torch.ones(2),)))
    square = with_gradients(lambda x: (x * x, keeping(lambda x, upstream: 7.0 * upstream, x)))
    x = torch.tensor(3.0, requires_grad=True)
    thread.start()
    started.wait()
    try:
        assert torch.compiler.is_compiling()  # else this test says nothing
        square(x).backward()
    finally:
        looked.set()
        thread.join()
    assert float(x.grad) == 7.0  # that by hand, which is wrong to tell it apart


def test_tasks_of_one_thread_do_not_see_what_another_task_forces():
    async def look(forces, looked):
        await forces.wait()
        seen = forced_choices()
        looked.set()
        return seen

    async def both():
        forces, looked = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(look(forces, looked))
        with force(temporal_conv="winograd"):
            forces.set()
            await looked.wait()
        return await task

    assert asyncio.run(both()) == {}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.map_fn and tf.py_function are TensorFlow's")
def test_what_tensorflow_traces_is_part_of_what_forces():
    import tensorflow as tf

    def choice(_):
        return tf.constant(forced_choices().get("linear", "rule"))

    def forced_choice(_):
        with force(linear="library"):
            return choice(_)

    def inside_map(xs):
        return tf.map_fn(choice, xs, fn_output_signature=tf.string)

    def inside_python(x):
        return tf.py_function(forced_choice, [x], tf.string)

    numbers = tf.constant([1.0])
    with force(linear="library"):
        assert inside_map(numbers).numpy() == [b"library"]
        assert tf.function(inside_map)(numbers).numpy() == [b"library"]
        assert list(tf.data.Dataset.from_tensors(1.0).map(choice).as_numpy_iterator()) == [b"library"]
        assert tf.py_function(choice, [1.0], tf.string).numpy() == b"library"
    # While a graph runs, Python runs in TensorFlow's threads: there a function forces for itself.
    assert tf.function(inside_python)(numbers).numpy() == b"library"
    assert tf.function(inside_map)(numbers).numpy() == [b"rule"]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_the_threads_of_replicas_compute_as_the_thread_forces_that_starts_them():
    """On two CPU devices, in a process of its own: devices are set before TensorFlow starts."""
    command = [sys.executable, "-m", "tests.ops.autodiff.mirrored_choices"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    library, rule = {"linear": "library"}, {}
    assert seen["graph"] == seen["eager"] == [library, library]
    assert seen["nested"] == [{"linear": "library", "temporal_conv": "winograd"}] * 2
    assert seen["after"] == seen["beside"] == [rule, rule]
