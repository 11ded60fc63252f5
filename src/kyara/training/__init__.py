"""Training: the training loop and its components."""
