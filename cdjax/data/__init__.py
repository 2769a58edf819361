"""Training images: folders, TensorFlow Datasets or generated ones, as endless batches of crops."""
