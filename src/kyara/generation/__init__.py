"""Generating pictures with trained models."""
