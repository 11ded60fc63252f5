"""What `kyara prepare` has done so far, in a file, so that an interrupted run goes on."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files.errors import PictureError
from kyara.preparation.duplicates import OUTLINE, Impression
from kyara.preparation.faces import Box, Face
from kyara.preparation.fit import Fitted, Found, Made

TEMPORARY = ""  # A file that SQLite deletes, in memory as long as it is small
IN_USE = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED
DAMAGED = sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB


class Progress:
    """The results of pictures by their index, written at once, so they outlive a killed process. Pictures that could
    not be read in an earlier run have none: the reason may be gone. Raises OSError if the file is in use, damaged or
    cannot be written."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        with self._errors():
            self._file = sqlite3.connect(path, timeout=1, isolation_level=None)
            # The system keeps what was written when the process is killed; nothing needs to wait for the disk.
            self._file.execute("PRAGMA synchronous = OFF")
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute("CREATE TABLE IF NOT EXISTS keys (stage TEXT PRIMARY KEY, key TEXT)")
            columns = "stage TEXT, number INTEGER, result TEXT, PRIMARY KEY (stage, number)"
            self._file.execute(f"CREATE TABLE IF NOT EXISTS results ({columns})")
            failed = """SELECT number FROM results WHERE result LIKE '{"error":%'"""
            self._file.execute(f"DELETE FROM results WHERE number IN ({failed})")  # of all stages: they are related
            self._file.execute("COMMIT")

    def start(self, stage: str, key: Sequence[object]) -> None:
        """Begins a stage. Results of an earlier run are removed if its key, what they depend on, was another."""
        text = json.dumps([str(value) for value in key])
        with self._errors():
            if self._file.execute("SELECT key FROM keys WHERE stage = ?", [stage]).fetchone() != (text,):
                self._file.execute("DELETE FROM results WHERE stage = ?", [stage])
                self._file.execute("REPLACE INTO keys VALUES (?, ?)", [stage, text])

    def done(self, stage: str) -> set[int]:
        """The indices of the pictures that have a result."""
        with self._errors():
            return {number for (number,) in self._file.execute("SELECT number FROM results WHERE stage = ?", [stage])}

    def begun(self) -> bool:
        """Whether any picture has a result, or may have."""
        try:
            return self._file.execute("SELECT 1 FROM results LIMIT 1").fetchone() is not None
        except sqlite3.Error:
            return True

    def add(self, stage: str, number: int, result: Any) -> None:
        """Stores a result: a Found, a Fitted or a PictureError."""
        row = stage, number, json.dumps(_encoded(result))
        with self._errors():
            self._file.execute("REPLACE INTO results VALUES (?, ?, ?)", row)

    def get(self, stage: str, number: int) -> Any:
        """The result of a picture in `done`."""
        query = "SELECT result FROM results WHERE stage = ? AND number = ?"
        with self._errors():
            (text,) = self._file.execute(query, [stage, number]).fetchone()
        try:
            return _decoded(json.loads(text))
        except (ValueError, LookupError, TypeError) as error:
            raise self._unusable(error, self._damaged()) from error

    def close(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises errors of SQLite as an OSError with a hint."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
            hint = "free some space, or check the permissions"
            if code in IN_USE:
                hint = "another `kyara prepare` may be writing the same output"
            elif code in DAMAGED:
                hint = self._damaged()
            raise self._unusable(error, hint) from error

    def _damaged(self) -> str:
        advice = f"delete {Path(self.path).parent} to begin again" if self.path else "run the command again"
        return f"it is damaged, as after a power failure; {advice}"

    def _unusable(self, error: Exception, hint: str) -> OSError:
        return OSError(f"{self.path or 'the temporary file'}: cannot be used ({error}); {hint}")


def _encoded(result: Found | Fitted | PictureError) -> dict[str, Any]:
    if isinstance(result, PictureError):
        return {"error": str(result)}
    if isinstance(result, Found):
        return {"size": result.size, "faces": [_face(face) for face in result.faces]}
    size, made = result
    return {"size": size, "made": [_made(one) for one in made]}


def _decoded(stored: dict[str, Any]) -> Found | Fitted | PictureError:
    if "error" in stored:
        return PictureError(stored["error"])
    height, width = stored["size"]
    if "faces" in stored:
        return Found((height, width), [_read_face(face) for face in stored["faces"]])
    return (height, width), [_read_made(one) for one in stored["made"]]


def _face(face: Box) -> dict[str, Any]:
    stored = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(face).items()}
    return {**stored, "landmarks": isinstance(face, Face)}


def _read_face(stored: dict[str, Any]) -> Box:
    if not stored.pop("landmarks"):
        return Box(**stored)
    points: dict[str, Any] = {name: np.array(value) for name, value in stored.items() if isinstance(value, list)}
    return Face(**{**stored, **points})


def _made(made: Made) -> dict[str, Any]:
    stored = {**made._asdict(), "thumbnail": _text(made.thumbnail), "data": _text(made.data)}
    if made.impression is not None:  # the workers' work: to derive it again would take longer than all else here
        digest, outline, detail = made.impression.digest, made.impression.outline.tobytes(), made.impression.detail
        stored["impression"] = [_text(digest), _text(outline), _text(detail)]
    return stored


def _read_made(stored: dict[str, Any]) -> Made:
    thumbnail, data, seen = base64.b64decode(stored["thumbnail"]), base64.b64decode(stored["data"]), None
    if stored["impression"] is not None:
        digest, outline, detail = (base64.b64decode(part) for part in stored["impression"])
        seen = Impression(digest, np.frombuffer(outline, np.float32).reshape(OUTLINE, OUTLINE, 3), detail)
    return Made(**{**stored, "thumbnail": thumbnail, "data": data, "impression": seen})


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
