"""A dataset becomes a network: the one loop and what it needs."""
