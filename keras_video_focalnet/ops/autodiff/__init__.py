"""How a kernel chooses its formulation, what its backward pass keeps, and what XLA compiles: the page to read first.

A kernel in `keras_video_focalnet.ops` is one function of tensors. Three ideas make it fast on every backend.

1. **A choice of formulation** (`formulation.py`). The same result can be computed in several ways: a convolution over
   time by the library or by Winograd's minimal filtering. A kernel hands its ways to `choose`, with the one that its
   rule prefers for the backend, the device and the shapes. Tests, benchmarks and exports override the rules by
   `with force(temporal_conv="convolution"):`. A choice is made when a function is traced, and belongs to the context
   that forces it: it does not reach other threads.
2. **Gradients by hand, and what they keep** (`gradients.py`, `rematerialization.py`). Between the forward and the
   backward pass a backend keeps the result of every small step. A kernel under `with_gradients` computes its gradients
   itself and says by `keeping` what it needs for them, often its input alone. `rematerialized` goes further: it keeps
   the input of half a block and computes the rest again in the backward pass.
3. **Regions for XLA** (`fusion.py`). XLA decides which operations become one loop over memory, and on a CPU joins too
   many or too few. `compiled_apart` keeps a function out of its consumers, `sums_in_one_pass` joins reductions, and
   `xla_region` compiles a part of a TensorFlow graph where the graph cannot be compiled as one.

Gradients by hand can be differentiated once; `force(gradients="automatic")` brings back those of the backend. All of
this changes speed and memory, and rounding at most: never what is computed.
"""
