"""What can be wrong with files. The message names the file, what is wrong and what to do."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A Checkpoint that cannot be found, read or written; the message says which and what to do."""


class DatasetError(ValueError):
    """A Dataset that cannot be opened or used; the message names the file and what to do."""


class GalleryError(ValueError):
    """A Gallery that cannot be read; the message says which and why."""


class PictureError(ValueError):
    """A file that is no picture that Kyara reads; the message is "NAME: what is wrong"."""
