"""Models in files: Orbax checkpoints, the models of the package, PyTorch files and teachers."""
