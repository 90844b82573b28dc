"""Scripts and helpers for people who port Video-FocalNet checkpoints between PyTorch and Keras.

Everything here is thin over `keras_video_focalnet.weights`, which does the reading and the mapping. The exceptions are
`torch_reference`, `torch_sifa` and `torch_reference_vita_clip`, independent PyTorch implementations: they need PyTorch,
and are what the tests compare the Keras models with and what the benchmarks measure them against. Nothing in the
package `keras_video_focalnet` imports this folder.
"""
