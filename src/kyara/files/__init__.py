"""What is on disk: the nouns, and decoding that trusts nothing."""
