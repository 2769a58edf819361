"""Array operations, fast on every backend: convolution, padding, upsampling, products."""
