"""Recipes: what a picture says about how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyara.files.names import printable
from kyara.files.pictures import read_recipe
from kyara.generation.shots import Shot
from kyara.verbs import LAST_SEED

BUILTIN = "builtin:anime"
LARGEST = 100
"""More layers than any generator has."""


@dataclass(frozen=True)
class Blend:
    """The parent that a model was blended with, as `styles.blend` takes it."""

    parent: str
    checkpoint: str
    position: float
    width: float


@dataclass(frozen=True)
class Recipe:
    """How a picture was made, read from the picture."""

    source: Path
    model: str
    checkpoint: str
    truncation: float
    mirror: bool
    shot: Shot
    blend: Blend | None = None

    def find(self, given: str) -> str:
        """The name of the model that made the picture: `given`, or the recipe's if `given` is the default.
        ValueError if that is another model."""
        return self._check(self.model if given == BUILTIN else given, self.checkpoint, given=given != BUILTIN)

    def find_parent(self) -> str:
        """The name of the model that was blended in. ValueError if another model has that name now."""
        assert self.blend is not None
        return self._check(self.blend.parent, self.blend.checkpoint, given=False)

    def with_labels(self, labels: Mapping[str, str]) -> Recipe:
        """The same recipe with these labels changed, and all others kept."""
        changed = {**self.shot, "labels": {**self.shot["labels"], **labels}}
        return dataclasses.replace(self, shot=changed)

    def _check(self, name: str, wanted: str, *, given: bool) -> str:
        from kyara.files import checkpoint  # imports torch

        hint = "name the model that made it: kyara generate MODEL --like " + str(self.source)
        # A picture from anywhere must not make this computer fetch something from anywhere.
        if not given and name.startswith(("hf-hub:", "//", "\\\\")):
            raise ValueError(f"--like {self.source}: was made by {printable(name)}, which is elsewhere; {hint}")
        try:
            found = checkpoint.read(name).hash
        except (OSError, ValueError) as error:
            raise ValueError(f"--like {self.source}: its model cannot be opened ({error}); {hint}") from error
        if found != wanted:
            made = f"was made by checkpoint {wanted} ({printable(name if not given else self.model)})"
            raise ValueError(f"--like {self.source}: {made}, but {printable(name)} is checkpoint {found}; {hint}")
        return name


def read_like(path: Path) -> Recipe:
    """The recipe in the PNG at `path`. ValueError if it has none, or one that is not valid."""
    recipe = read_recipe(path)
    if recipe is None:
        raise ValueError(f"--like {path}: has no recipe; only PNG files as Kyara wrote them have one")
    shot: Shot | None = None
    match recipe:
        case {"seed": int(seed)} if 0 <= seed <= LAST_SEED:
            shot = {"seed": seed}
        case {"seeds": [int(a), int(b)], "position": float() | int() as position}:
            if a != b and 0 <= min(a, b) <= max(a, b) <= LAST_SEED and 0 <= position <= 1:
                shot = {"seeds": [a, b], "position": position}
        case {"latent": str(text)}:
            shot = {"latent": text}
    match recipe:
        case {
            "model": str(model),
            "checkpoint": str(made_by),
            "truncation": float() | int() as truncation,
            "mirror": bool(mirror),
            "labels": labels,
        } if shot and _is_labels(labels) and abs(truncation) <= 2:
            return Recipe(path, model, made_by, truncation, mirror, {**shot, "labels": labels}, _blend(path, recipe))
    raise ValueError(f"--like {path}: its recipe is not one that this version of Kyara can repeat")


def _blend(path: Path, recipe: Mapping[str, Any]) -> Blend | None:
    match recipe.get("blend"):
        case None:
            return None
        case {
            "parent": str(parent),
            "checkpoint": str(made_by),
            "position": float() | int() as position,
            "width": float() | int() as width,
        } if 0 <= width <= LARGEST and 0 <= position <= LARGEST:
            return Blend(parent, made_by, position, width)
    raise ValueError(f"--like {path}: its recipe blends models in a way that this version of Kyara does not know")


def _is_labels(labels: Any) -> bool:
    return isinstance(labels, dict) and all(isinstance(value, str) and value for value in labels.values())
