"""VGG encoders, their decoders and embeddings, as data (`Spec`) and as Linen modules."""
