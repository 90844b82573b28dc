"""The formulations of a graph that leaves for another machine."""

# It does not depend on the machine that exports, and is never trained. It reads by no computed index: phones' GPUs and
# processors' delegates cannot, and ONNX's converter lets values replace each other that should add up. What is computed
# of weights alone is in it as a constant.
_ALWAYS = {
    **{"linear": "library", "modulation": "inline", "gradients": "automatic"},
    **{"inter_frame_attention": "separable", "undisplaced_attention": "shifted", "attention": "written_out"},
    **{"kept_features": "stored"},
}
# These are for half precision, 8 bits and GPUs, where Winograd's filtering is less exact or slower.
PORTABLE = {**_ALWAYS, "temporal_conv": "convolution"}
# These are for processors in float32, with Winograd's filtering where it is faster. Its filters are larger than the
# convolution kernels that they are made from.
FOR_PROCESSORS = {**_ALWAYS, "device": "cpu"}
