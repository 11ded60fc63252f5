"""Imports a benchmark. They are scripts, no package: each finds the others beside it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem for path in ROOT.glob("*.py"))


def load(name: str) -> Any:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return import_module(name)
