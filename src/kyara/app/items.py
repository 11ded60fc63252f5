"""What follows from an item of Make: with which others it can be computed, its names, and whether a file is it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kyara.app.collection import Item
from kyara.app.painter import Sheet
from kyara.files.names import counted, slug
from kyara.generation.recipe import Blend, read_like
from kyara.generation.shots import file_name


def sheet_of(item: Item, large: bool = False) -> Sheet:
    blend = Blend(**item.blend) if item.blend else None
    return Sheet(item.model, item.truncation, item.mirror, blend, large, item.checkpoint)


def generator_of(item: Item) -> tuple[object, ...]:
    """What only pictures of the same generator have in common."""
    return item.model, item.checkpoint, item.blend


def describes(path: Path, item: Item, names: Sequence[str]) -> bool:
    """Whether there is a picture at `path` whose recipe names these generators."""
    try:
        recipe = read_like(path)
    except (OSError, ValueError):  # there is none, or it was damaged
        return False
    parents = [recipe.blend.parent] if recipe.blend else []
    return (recipe.checkpoint, [recipe.model, *parents]) == (item.checkpoint, [*names])


def number_name(item: Item) -> str:
    """A file name that no other picture of the collection has."""
    return f"{slug(Path(file_name(item.shot, item.number)).stem)}-{item.number}"


def named(item: Item) -> str:
    """A picture, as the page calls it."""
    return f"seed {item.shot['seed']}" if "seed" in item.shot else f"picture {item.number}"


def origin_of(items: Sequence[Item]) -> str:
    """Where the pictures of an export come from; those of one run may be from several of its checkpoints."""
    text, made = "chosen in kyara studio", dict[str, set[str]]()
    for item in items:
        made.setdefault(item.model, set()).add(item.checkpoint)
    several = [f"{counted(len(hashes), 'checkpoint')} of {model}" for model, hashes in made.items() if len(hashes) > 1]
    return f"{text}, from {', '.join(several)}" if several else text
