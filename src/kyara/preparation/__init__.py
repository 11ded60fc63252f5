"""Preparing datasets: cropping, alignment, face detection and removal of duplicates."""
