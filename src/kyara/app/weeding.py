"""What `kyara prepare` reported about the sources of a dataset, and what a person ticks to leave out of it."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kyara.app.project import Project, ProjectError
from kyara.files.atomic import write_atomic
from kyara.files.names import slug
from kyara.preparation.report import DROPPED, face_name

Report = Mapping[str, Any]


class Weeding:
    """The reports of the project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._ticking = threading.Lock()

    def path(self, data: str) -> Path | None:
        """The file of a dataset's report, if it has one."""
        path = self.project.existing(data)
        report = path / "report.json" if path.is_dir() else path.with_name(f"{path.name}.report.json")
        return report if report.is_file() else None

    def read(self, data: str) -> Report:
        """The report of a dataset. ProjectError if it has none."""
        return self._versioned(data)[0]

    def _versioned(self, data: str) -> tuple[Report, int]:
        """The same, and when it was written."""
        if (path := self.path(data)) is None:
            raise ProjectError(f"{data}: has no report; prepare it first")
        changed = path.stat().st_mtime_ns
        with _undamaged(data):
            return _read(path, changed), changed

    def rows(self, data: str) -> dict[str, Any]:
        """What became of every source picture, for the page, and the names that are ticked. Pictures are known by their
        rows, so browsers keep them by the report's `version` as well."""
        report, version = self._versioned(data)
        with _undamaged(data):
            places = {name: i for i, one in enumerate(report["pictures"]) for name in _names(one)}
            rows = [_row(one, places) for one in report["pictures"]]
            about = {key: report[key] for key in ("sources", "size", "kept")}
        return {"path": data, "version": str(version), **about, "rows": rows, "ticked": self.ticked(data)}

    def ticked(self, data: str) -> list[str]:
        """Names of pictures, and of faces as in `scene.png#2`, to leave out: those of the last `tick`, or, without it,
        those that were left out by --drop."""
        report = self.read(data)
        with _undamaged(data):
            places = {name: outcome for one in report["pictures"] for name, outcome in _names(one).items()}
        before = self.project.state("ticks", f"{slug(data)}.json")  # of an earlier version of Kyara
        file = next((one for one in (self._ticks(data), before) if one.is_file()), None)
        if file is None:
            return [name for name, outcome in places.items() if outcome["reason"] == DROPPED]
        try:
            return [name for name in json.loads(file.read_text(encoding="utf-8")) if name in places]
        except (ValueError, TypeError) as error:
            where = self.project.relative(file)
            raise ProjectError(f"{data}: what was ticked cannot be read; delete {where} to tick anew") from error

    def tick(self, data: str, added: Sequence[str], removed: Sequence[str]) -> None:
        """Remembers what is ticked from now on, and what no longer is: other tabs may have ticked other pictures."""
        with self._ticking:
            names = dict.fromkeys([*self.ticked(data), *added])
            text = json.dumps([name for name in names if name not in {*removed}], ensure_ascii=False)
            write_atomic(self._ticks(data), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _ticks(self, data: str) -> Path:
        """The file of a dataset's ticks. Others may have the same `slug`."""
        unlike = hashlib.sha256(data.encode()).hexdigest()[:8]
        return self.project.state("ticks", f"{slug(data)}-{unlike}.json")


@contextmanager
def _undamaged(data: str) -> Iterator[None]:
    """While a dataset's report is read. ProjectError if it is not as expected."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ProjectError(f"{data}: its report is of another version or damaged; prepare it again") from error


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> Report:
    """Read once, as long as it is not `changed`: every thumbnail asks for it."""
    found: Report = json.loads(path.read_text(encoding="utf-8"))
    return found


def _names(one: Report) -> dict[str, Report]:
    """A source picture and its faces, by name."""
    faces = {face_name(one["file"], i): face for i, face in enumerate(one["faces"])}
    return {one["file"]: one, **(faces if one["cut"] else {})}


def _row(one: Report, places: Mapping[str, int]) -> dict[str, Any]:
    """A source picture. If it was cut to its faces, it is as sharp and as unlike others as the worst of them."""
    parts = one["faces"] if one["cut"] else [one]
    nearest = min((part for part in parts if part["distance"] is not None), key=lambda p: p["distance"], default={})
    sharpness = [part["sharpness"] for part in parts if part["sharpness"] is not None]
    kept = any(part["kept"] is not None for part in parts)
    reasons = dict.fromkeys(part["reason"] for part in parts if part["reason"])
    keys = ("box", "reason", "detail")
    faces = [{"name": face_name(one["file"], i), "kept": face["kept"] is not None, **{key: face[key] for key in keys}}
             for i, face in enumerate(one["faces"])]  # fmt: skip
    return {
        "file": one["file"],
        "kept": kept,
        "reason": "" if kept else one["reason"] or ", ".join(reasons),
        "detail": one["detail"],
        "size": one["size"],
        "sharpness": min(sharpness, default=None),
        "nearest": places.get(nearest.get("nearest", "")),
        "distance": nearest.get("distance"),
        "cut": one["cut"],
        "faces": faces,
    }
