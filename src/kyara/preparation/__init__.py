"""Art becomes a dataset."""
