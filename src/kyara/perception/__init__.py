"""Frozen networks for perceptual losses, features and landmarks."""
