"""Frozen networks that look at pictures."""
