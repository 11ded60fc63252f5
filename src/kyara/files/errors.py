"""Errors about files. The message names the file, what is wrong and what to do."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A Checkpoint cannot be found, read or written."""


class DatasetError(ValueError):
    """A Dataset cannot be opened or used."""


class GalleryError(ValueError):
    """A Gallery cannot be read."""


class PictureError(ValueError):
    """A picture cannot be read; the message is "NAME: what is wrong"."""
