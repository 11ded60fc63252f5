"""A generator makes pictures."""
