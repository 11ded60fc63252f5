"""Layers, filters, losses and conditioning that architectures share."""
