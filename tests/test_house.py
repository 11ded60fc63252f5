"""The house: imports go down, never up; and what the outside sees of it."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kyara

SOURCE = Path(kyara.__file__).parent
FLOORS = [
    "__main__", "__init__", "studio", "evaluation", "rewriting", "inversion", "generation", "curation", "labels",
    "preparation", "training", "models", "data",
]  # fmt: skip
NOUNS = {"checkpoint", "gallery", "hub"}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports, at its top or inside functions; what only the type checker sees does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(inner) for node in checked for inner in ast.walk(node)}
    rooms = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "kyara" and len(parts) > 1:
                rooms.add(parts[1] if parts[1] in FLOORS or parts[1] in NOUNS else "__init__")
    return rooms


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    for there in imported_rooms(path):
        if there == "__init__":  # the version: everybody may know it
            continue
        if here in NOUNS:
            assert there in NOUNS, f"{path} imports {there}"
        elif there not in NOUNS:
            assert FLOORS.index(there) >= FLOORS.index(here), f"{path} imports {there}"


def test_the_rule_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from kyara.training import loop\nimport kyara.models.base\nfrom kyara import data\n")
    assert imported_rooms(bad) == {"training", "models", "data"}


def test_public_names() -> None:
    assert set(kyara.__all__) == {*kyara.VERBS, "load"} - {"import"} | {"import_"}  # a keyword cannot be a name
    assert list(kyara.__all__) == sorted(kyara.__all__)
    for name in kyara.__all__:
        assert callable(getattr(kyara, name))


def test_help_is_quick_and_complete() -> None:
    began = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "kyara", "--help"], capture_output=True, text=True, check=True)
    took = time.perf_counter() - began
    assert all(verb in shown.stdout for verb in kyara.VERBS)
    assert took < 2.0  # half a second on a quiet machine
    heavy = "import sys, kyara, kyara.__main__; assert not {'torch', 'numpy', 'PIL', 'tyro'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", heavy], check=True)


@pytest.mark.parametrize("verb", kyara.VERBS)
def test_every_verb_explains_every_option(verb: str) -> None:
    shown = subprocess.run([sys.executable, "-m", "kyara", verb, "--help"], capture_output=True, text=True, check=True)
    for name in getattr(kyara, verb).__annotations__:
        if name != "return":
            assert name.replace("_", "-") in shown.stdout.lower().replace("_", "-"), name


def test_a_mistake_is_told_in_a_line() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "kyara", "train", "stylegan2", "/nowhere"], capture_output=True, text=True
    )
    assert shown.returncode == 1
    assert "/nowhere" in shown.stderr
    assert "Traceback" not in shown.stderr
