"""Files on disk: Dataset, Checkpoint and Gallery, and decoding of untrusted pictures."""
