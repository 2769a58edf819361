"""What cdjax is measured against, one file a subject; `experiments.benchmark` runs them."""
