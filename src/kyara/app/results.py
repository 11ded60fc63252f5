"""The comparisons and evaluations in the project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara.app.project import Project
from kyara.evaluation.compare import PAGE, TABLE
from kyara.files.names import counted

EVALUATIONS = "evaluations"  # folder of those that were started in the browser
LARGEST = 2**24  # bytes of a file that is looked into
PLACES = (TABLE, f"*/{TABLE}", f"*/*/{TABLE}", "*.json", f"{EVALUATIONS}/*.json")


def find_results(project: Project) -> list[dict[str, Any]]:
    """What `kyara compare` and `kyara evaluate --out` wrote, the newest first: kind, path, title, and when it was
    `changed`. A comparison has a `page`; an evaluation has its `scores`, as name, value and which values are better."""
    files = {file for place in PLACES for file in project.folder.glob(place)}
    found = [result for file in files if (result := _result(project, file))]
    return sorted(found, key=lambda one: -one["changed"])


def _result(project: Project, file: Path) -> dict[str, Any] | None:
    try:
        inside = file.resolve().is_relative_to(project.folder)
        if not inside or file.parts[len(project.folder.parts)].startswith(".") or file.stat().st_size > LARGEST:
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
        about = {"path": project.relative(file), "changed": file.stat().st_mtime}
        if file.name == TABLE:
            title = " and ".join(str(model["name"]) for model in content["models"])
            return {**about, "kind": "comparison", "title": title, "page": project.relative(file.with_name(PAGE))}
        title = f"{content['a']['path']}, {counted(content['a']['count'], 'picture')}"
        return {**about, "kind": "evaluation", "title": title, "scores": [*_scores(content)]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # another file
        return None


def _scores(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for score in content["scores"]:
        yield {"name": score["what"], "value": score["value"], "better": score["better"]}
