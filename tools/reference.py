"""Writes the pages of docs/reference that follow from the code: the options of every verb, and the presets.

python tools/reference.py            # rewrites the pages; tests/test_docs.py checks that they are current
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import docstring_parser
import torch

import kyara
from kyara import models, verbs

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
PAGES = {
    "options-data.md": ("Options: prepare, tag, rank", ("prepare", "tag", "rank")),
    "options-train.md": ("Options: train", ("train",)),
    "options-generate.md": ("Options: generate, translate", ("generate", "translate")),
    "options-avatar.md": ("Options: avatar, invert", ("avatar", "invert")),
    "options-edit.md": ("Options: rewrite, import, export", ("rewrite", "import", "export")),
    "options-studio.md": ("Options: studio", ("studio",)),
    "options-evaluate.md": ("Options: evaluate, compare", ("evaluate", "compare")),
}
SHARED = {
    getattr(verbs, name): "".join("-" * (c.isupper() and i > 0) + c.lower() for i, c in enumerate(name))
    for name in ("Out", "Force", "DryRun", "Device", "Devices", "Precision", "Workers", "Seeds", "Keep")
}
"""Option type of `kyara.verbs` -> the option it is for."""


def function(verb: str) -> Callable[..., Any]:
    return getattr(kyara, "import_" if verb == "import" else verb)  # type: ignore[no-any-return]


def help_of(annotation: Any) -> str | None:
    """The help text in the `Annotated` of an option, if it has one."""
    return next((m.help for m in getattr(annotation, "__metadata__", ()) if getattr(m, "help", None)), None)


def choices(annotation: Any) -> str:
    """The values of a `Literal`, also inside `Annotated` and `| None`."""
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    return next((found for part in get_args(annotation) if not isinstance(part, str) and (found := choices(part))), "")


def options(verb: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Of a verb: (option, default, meaning) of its own options, and the names of those shared with other verbs."""
    rows, shared = [], []
    hints = typing.get_type_hints(function(verb), include_extras=True)
    doc = docstring_parser.parse(inspect.getdoc(function(verb)) or "")
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in doc.params}
    for name, parameter in inspect.signature(function(verb)).parameters.items():
        annotation, default, option = hints[name], parameter.default, "--" + name.replace("_", "-")
        own = texts.get(name, "")
        if annotation in SHARED and not own:
            shared.append(option)
            continue
        if name == "json":
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY:
            option = name.upper()
        elif default is True or typing.get_args(annotation) == (bool, NoneType):
            option = f"{option}, --no-{name.replace('_', '-')}"
        values = choices(annotation)
        cell = f"`{option}`" if not values or option.isupper() else f"`{option} {values}`"
        shown = "on" if default is True else f"`{default}`"
        if default is False or default in (None, "", (), parameter.empty):
            shown = ""
        rows.append((cell, shown, (own or help_of(annotation) or "").replace("|", "\\|")))
    return rows, shared


def options_page(title: str, names: tuple[str, ...]) -> str:
    """A page with a table for each of some verbs."""
    lines = [
        f"# {title}",
        "",
        "[options.md](options.md) explains the options that several verbs share. Written by `tools/reference.py`.",
        "",
    ]
    for verb in names:
        rows, shared = options(verb)
        lines += [f"## kyara {verb}", "", "| option | default | meaning |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
        lines += ["", f"Shared: {', '.join(f'`{option}`' for option in [*shared, '--json'])}.", ""]
    return "\n".join(lines[:-1]) + "\n"


def presets_page() -> str:
    """The presets of every architecture: size, batch, learning rate, and how many weights it stores."""
    lines = [
        "# Presets",
        "",
        "The first preset of a model is its default; `tiny` is for tests. Size is height x width in pixels. Weights:",
        "parameters that a checkpoint stores, in millions. Written by `tools/reference.py`.",
        "",
        "| model | preset | size | batch | learning rate | weights |",
        "|---|---|---|---|---|---|",
    ]
    for name in models.names():
        for i, (preset, config) in enumerate(models.architecture(name).presets.items()):
            size = f"{config.data.height} x {config.data.width}"
            numbers = f"{config.optimizer.batch} | {config.optimizer.lr:g} | {weights(name, config):.2f} M"
            lines.append(
                f"| {f'`{name}`' if i == 0 else ''} | `{preset}` | {size} | {numbers} |".replace("|  |", "| |")
            )
    return "\n".join(lines) + "\n"


def weights(name: str, config: Any) -> float:
    """Millions of parameters that a checkpoint of this model stores."""
    with torch.device("meta"):
        model = models.architecture(name)(config)
    return sum(tensor.numel() for tensor in models.stored(model).values()) / 1e6


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    return {name: options_page(*page) for name, page in PAGES.items()} | {"presets.md": presets_page()}


if __name__ == "__main__":
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
