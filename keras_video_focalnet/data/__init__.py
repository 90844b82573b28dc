"""Video file -> clip: decoding and frame sampling, with NumPy alone."""
