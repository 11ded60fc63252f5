"""Scoring and ranking of pictures."""
