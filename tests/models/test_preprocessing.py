"""`preprocess_input` against the formula, for arrays and for tensors."""

import numpy as np
import pytest

from keras_video_focalnet.models.preprocessing import IMAGENET, preprocess_input

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
# In the paper's code: a mean of 0.485, 0.456, 0.406 and a deviation of 0.229, 0.224, 0.225 of pixels of 0 to 1.
EXPECTED = (PIXELS / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def test_constants_are_those_of_imagenet_in_pixel_values():
    np.testing.assert_allclose(np.array(IMAGENET.mean) / 255, [0.485, 0.456, 0.406], atol=1e-12)
    np.testing.assert_allclose(np.array(IMAGENET.std) / 255, [0.229, 0.224, 0.225], atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "float32", "float64"])
def test_arrays_stay_arrays(dtype):
    pixels = PIXELS.astype(dtype)
    result = preprocess_input(pixels)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, EXPECTED, atol=1e-5)
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "bfloat16", "float32"])
def test_tensors_stay_tensors(dtype):
    import keras
    from keras import ops

    result = preprocess_input(ops.cast(ops.convert_to_tensor(PIXELS), dtype))
    assert ops.is_tensor(result)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(result), EXPECTED, atol=1e-5)


def test_in_a_functional_model():
    import keras

    inputs = keras.Input((None, None, None, 3), dtype="uint8")
    model = keras.Model(inputs, preprocess_input(inputs))
    np.testing.assert_allclose(model.predict(PIXELS, verbose=0), EXPECTED, atol=1e-5)


def test_a_single_frame_and_lists():
    np.testing.assert_allclose(preprocess_input(PIXELS[0, 0]), EXPECTED[0, 0], atol=1e-5)
    np.testing.assert_allclose(preprocess_input([[[0, 128, 255]]])[0, 0], [-2.1179, 0.20518, 2.64], atol=1e-4)


def test_channels_last_is_named_or_left_out():
    np.testing.assert_array_equal(preprocess_input(PIXELS, data_format="channels_last"), preprocess_input(PIXELS))


@pytest.mark.parametrize("data_format", ["channels_first", "NHWC"])
def test_other_data_formats_are_refused(data_format):
    with pytest.raises(ValueError, match=f"data_format must be None or \"channels_last\", received '{data_format}'"):
        preprocess_input(PIXELS, data_format=data_format)


@pytest.mark.parametrize("shape", [(), (8,), (2, 3, 4, 5, 1), (2, 3, 8, 5), (1, 8, 3, 64, 64)])
def test_a_last_axis_that_is_not_rgb(shape):
    from keras import ops

    for x in (np.zeros(shape), ops.zeros(shape)):
        with pytest.raises(ValueError, match="x must have 3 channels .* on its last axis, received shape"):
            preprocess_input(x)
