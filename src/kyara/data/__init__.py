"""Synthetic training data: distortions, smoothed edges, holes and augmentation."""
