"""Writes SavedModels, for TensorFlow Serving and other programs that read TensorFlow's format."""

import pathlib

import tensorflow as tf

from keras_video_focalnet.exporting.contract import SAVED_MODEL_CONTRACT
from keras_video_focalnet.exporting.graph import as_tokens, clip_function
from keras_video_focalnet.exporting.outputs import outputs_of
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.autodiff.portable import PORTABLE


def write_saved_model(model, contract, path):
    """Write a SavedModel's folder with the signatures `serve` (also as `serving_default`) and, of ours, `features`."""
    outputs = outputs_of(model)
    signature = tf.TensorSpec((None, *contract.input_shape), contract.input_dtype, name="clip")

    def features(clip):
        with force(**PORTABLE):
            return outputs.features(as_tokens(clip, contract))

    module = tf.Module()
    module.serve = clip_function(model, contract, True, PORTABLE)
    signatures = {"serve": module.serve, "serving_default": module.serve}
    if outputs.has_features:
        module.features = tf.function(features, input_signature=[signature], autograph=False)
        signatures["features"] = module.features
    # TensorFlow saves only variables that it can reach from the module. Those that no function reads, such as a text
    # tower's, stay out.
    read = {id(variable) for function in signatures.values() for variable in function.get_concrete_function().variables}
    module.kept = [variable.value for variable in model.variables if id(variable.value) in read]
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # A message would name the temporary folder, which is moved afterwards.
    try:
        tf.saved_model.save(module, str(path), signatures=signatures)
    finally:
        logger.setLevel(level)
    extra = pathlib.Path(path) / SAVED_MODEL_CONTRACT
    extra.parent.mkdir()
    extra.write_text(contract.to_json())
    if contract.labels is not None:
        (extra.parent / "labels.txt").write_text("\n".join(contract.labels) + "\n")
