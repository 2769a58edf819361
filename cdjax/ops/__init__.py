"""Array operations, fast on each backend: convolution, padding, upsampling, matrix products."""
