"""A model as a TensorFlow function from pixels to named outputs: where every conversion begins."""

import tensorflow as tf

from keras_video_focalnet.exporting.outputs import Outputs
from keras_video_focalnet.ops.formulation import force

# Nothing depends on the machine that exports, and nothing exported is trained.
_ALWAYS = {"linear": "library", "modulation": "inline", "gradients": "automatic"}
# Of what may compute in half precision, in 8 bits or on a GPU: Winograd's filtering is less exact there, or slower.
PORTABLE = {**_ALWAYS, "temporal_conv": "convolution"}
# Of what processors compute in float32: Winograd's filtering where it pays. Its filters take more room than the taps
# they are made of.
FOR_PROCESSORS = {**_ALWAYS, "device": "cpu"}


def clip_function(model, contract, batched, formulations):
    """A function of clips with a fixed signature, as `tf.function`.

    Args:
        model: A `VideoFocalNet`.
        contract: A `Contract`.
        batched: Whether it takes `(batch, frames, height, width, 3)` of any batch, or one clip.
        formulations: Of operations: `PORTABLE` or `FOR_PROCESSORS`, and what else the format needs.

    Returns:
        A `tf.function` with the argument `clip` that gives a dict of outputs by name.
    """
    outputs = Outputs(model)
    signature = tf.TensorSpec((*([None] if batched else []), *contract.input_shape), contract.input_dtype, name="clip")

    def call(clip):
        with force(**formulations):
            named = outputs(as_tokens(clip, contract))
        if not batched and "features" in named and len(named["features"].shape) == 5:
            named["features"] = tf.reshape(named["features"], named["features"].shape[1:])
        return {name: tf.identity(tensor, name=name) for name, tensor in named.items()}

    return tf.function(call, input_signature=[signature], autograph=False)


def as_tokens(clip, contract):
    """One clip or a batch, of any dtype, as float32 `(batch, frames, height * width, 3)`."""
    frames, height, width, channels = contract.input_shape
    # Cast first: phones do that on the CPU, so it must not lie between other operations.
    pixels = tf.cast(clip, "float32")
    return tf.reshape(pixels, (-1 if len(clip.shape) == 5 else 1, frames, height * width, channels))


def frozen(function):
    """`function`'s concrete function with its weights as constants."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function.get_concrete_function())
