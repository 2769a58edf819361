"""Students before training: random, pruned, or fitted layer by layer by least squares."""
