"""The house: imports go down, never up; and what the outside sees of it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kyara

SOURCE = Path(kyara.__file__).parent
FLOORS = [
    "__main__", "__init__", "app", "evaluation", "rewriting", "inversion", "generation", "curation", "labels",
    "preparation", "training", "models", "perception", "data", "nn", "verbs", "files", "weights",
]  # fmt: skip
"""Imports go down this list, never up."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("kyara", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def floor(module: str) -> int:
    return FLOORS.index([*module.split("."), "__init__"][1])


def imported(path: Path) -> set[str]:
    """Modules of Kyara that a file imports, at its top, inside functions or for the type checker alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return {name for name in found if name.split(".")[0] == "kyara"}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, also in a circle; empty if there are none."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for other in sorted(imports.get(module, set())):
            if found := search(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next(filter(None, (search(module, []) for module in imports)), [])


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ("kyara", "kyara.__main__")])
def test_imports_go_down(module: str) -> None:
    for other in imported(MODULES[module]) - {"kyara"}:  # the version: everybody may know it
        assert floor(other) >= floor(module), f"{module} imports {other}"


def test_no_two_files_import_each_other() -> None:
    assert not circle({module: imported(path) - {"kyara"} for module, path in MODULES.items()})


def test_the_rules_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import kyara.models.base\nfrom kyara.training import loop\n\ndef f():\n    from kyara import files\n"
    )
    assert imported(bad) == {"kyara.training.loop", "kyara.models.base", "kyara.files"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_models_holds_architectures_alone() -> None:
    from kyara import models

    there = {path.stem for path in (SOURCE / "models").iterdir()} - {"__pycache__"}
    assert there == {*models.names(), "__init__", "base"}


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
    assert not re.search(r"None|default: (False|''|)\)|--no-(force|dry-run|json)", shown.stdout)  # would say nothing


def test_a_mistake_is_told_in_a_line() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "kyara", "train", "stylegan2", "/nowhere"], capture_output=True, text=True
    )
    assert shown.returncode == 1
    assert "/nowhere" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_ranking_imports_nothing_that_only_training_needs() -> None:
    script = """
import sys
import torch
from kyara.generation import pipeline
from kyara.curation.scoring import load_scorer
load_scorer("builtin:distortion", torch.device("cpu"))
heavy = {"lightning_fabric", "transformers", "torch._dynamo", "tensorboard"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)
