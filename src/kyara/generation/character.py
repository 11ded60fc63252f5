"""The default generator, and the networks that were made for its pictures."""

from __future__ import annotations

from collections.abc import Iterable

from kyara.files import checkpoint
from kyara.generation.recipe import BUILTIN

UPSCALER = "builtin:upscaler"  # enlarges them
TAGGER = "builtin:character-tagger"  # reads their attributes


def is_character(generator: str) -> bool:
    """Whether a Checkpoint is builtin:character, or it with rules."""
    return generator == BUILTIN or checkpoint.read(generator).root == checkpoint.read(BUILTIN).hash


def confirmer(given: str | None, generator: str, attributes: Iterable[str]) -> str | None:
    """The tagger that confirms attributes in the pictures of a generator, given the option --confirm: None chooses
    `TAGGER` if it knows both, and "none" none."""
    known = checkpoint.read(TAGGER).config["data"]["attributes"]
    return TAGGER if given is None and {*attributes} <= {*known} and is_character(generator) else named(given)


def enlarger(given: str | None, generator: str) -> str | None:
    """The model that enlarges the pictures of a generator, given the option --upscale: None chooses `UPSCALER` for the
    generators whose pictures it was made for, and "none" none."""
    return UPSCALER if given is None and is_character(generator) else named(given)


def named(option: str | None) -> str | None:
    """The network that an option names, if it names one."""
    return None if option == "none" else option
