"""How good compressed networks are: image metrics, explained variance, comparisons of models."""
