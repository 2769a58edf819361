"""Programs over the library: benchmarks and experiments."""
