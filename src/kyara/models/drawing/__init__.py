"""Drawings of people: regions and contours by networks, then flat colours, lines and strokes."""

from kyara.models.drawing.model import Model

__all__ = ["Model"]
