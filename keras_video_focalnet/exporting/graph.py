"""Makes a TensorFlow function from pixels to named outputs of a model. Every conversion begins with it."""

import tensorflow as tf

from keras_video_focalnet.exporting.outputs import outputs_of
from keras_video_focalnet.ops.autodiff.formulation import force


def clip_function(model, contract, batched, formulations):
    """Make a `tf.function` of clips with a fixed signature."""
    outputs = outputs_of(model)
    signature = tf.TensorSpec((*([None] if batched else []), *contract.input_shape), contract.input_dtype, name="clip")

    def call(clip):
        with force(**formulations):
            named = outputs(as_tokens(clip, contract))
        if not batched and "features" in named and len(named["features"].shape) == 5:
            named["features"] = tf.reshape(named["features"], named["features"].shape[1:])
        return {name: tf.identity(tensor, name=name) for name, tensor in named.items()}

    return tf.function(call, input_signature=[signature], autograph=False)


def as_tokens(clip, contract):
    """Convert one clip or a batch of any dtype to float32 `(batch, frames, height * width, 3)`."""
    frames, height, width, channels = contract.input_shape
    # The cast comes first: phones run it on the CPU, so it must not stand between operations of the GPU.
    pixels = tf.cast(clip, "float32")
    return tf.reshape(pixels, (-1 if len(clip.shape) == 5 else 1, frames, height * width, channels))


def frozen(function):
    """Return the concrete function of `function`, with its weights as constants."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function.get_concrete_function())
