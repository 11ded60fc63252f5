"""File names as text for people."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` for one line of a terminal: a name that someone else gave a file may hold control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
