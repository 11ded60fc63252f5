"""The card of a Checkpoint: its licence and credit, for files that are given away."""

from __future__ import annotations

import re
from typing import NamedTuple

from kyara.files.checkpoint import CARD, Checkpoint

ABOUT_RIGHTS = re.compile(r"licen[cs]e|credit|artist|artwork|author|copyright|publish|research", re.IGNORECASE)


class Card(NamedTuple):
    """A card and what it says about rights."""

    text: str  # the whole card, without its front matter
    license: str  # the value of `license` in the front matter
    rights: tuple[str, ...]  # table rows, as "name: value", and paragraphs about licence and credit


def read_card(checkpoint: Checkpoint) -> Card:
    """The card of a Checkpoint. Without one, the licence is unknown."""
    path = checkpoint.path / CARD
    if not path.is_file():
        return Card("", "unknown", ("This checkpoint has no card: its licence is unknown.",))
    whole = path.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---\n", whole, re.DOTALL)
    text = whole[front.end() :] if front else whole
    named = re.search(r"^license:[ \t]*(.+)$", front[1] if front else "", re.MULTILINE)
    parts = [_row(part) for block in re.split(r"\n\s*\n", text) for part in _parts(block)]
    rights = tuple(part for part in parts if ABOUT_RIGHTS.search(part))
    return Card(text.strip(), named[1].strip().strip("\"'") if named else "unknown", rights)


def _parts(block: str) -> list[str]:
    """The rows of a table, or a paragraph on one line; nothing for code and headings."""
    if block.startswith(("    ", "#")):
        return []
    return block.strip().splitlines() if block.lstrip().startswith("|") else [" ".join(block.split())]


def _row(part: str) -> str:
    """Plain text of a paragraph or of a table row: "name: value"."""
    cells = [cell.strip() for cell in part.strip().strip("|").split("|")] if part.startswith("|") else [part]
    return re.sub(r"\*\*|`", "", ": ".join(filter(None, cells)))
