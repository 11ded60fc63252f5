"""Evaluation of pictures: features, metrics and comparison of models."""
