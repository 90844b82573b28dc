"""Hot kernels, one function each. Inside, the fastest formulation for the running backend."""
