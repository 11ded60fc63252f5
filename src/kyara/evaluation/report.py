"""What the results of `kyara evaluate` and `kyara compare` share: numbers as text, and the JSON file."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from kyara.files.atomic import write_atomic
from kyara.verbs import Result

FRECHET_COUNT = 2048
"""With fewer pictures the Fréchet distance depends mostly on their number."""


def format_number(value: float) -> str:
    """Four significant digits, without an exponent from 1e-4 to 1e5."""
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"


def format_interval(low: float | None, high: float | None) -> str:
    """A confidence interval; an empty text if there is none."""
    return "" if low is None or high is None else f"{format_number(low)} to {format_number(high)}"


def to_json(result: Result) -> str:
    """The content of the JSON file that holds a result."""
    table = {name: value for name, value in result.as_json().items() if name not in ("out", "dry_run")}
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    write_atomic(path, partial(Path.write_text, data=text, encoding="utf-8", errors="replace"))
