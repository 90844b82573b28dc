"""The reference's random initialization."""

import math

import keras


def linear_kernel():
    """Weights of linear layers: normal, standard deviation 0.02."""
    return keras.initializers.RandomNormal(stddev=0.02)


def convolution(fan_in):
    """Weights and biases of convolutions: uniform within one over the square root of the inputs to one output."""
    limit = 1.0 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit)
