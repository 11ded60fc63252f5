"""Output of `kyara prepare`: a folder or a .zip, written atomically."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kyara.files import formats, ownership
from kyara.files.archive import THUMBNAILS, UNFINISHED, changed
from kyara.files.atomic import check_free, write_errors
from kyara.files.names import printable
from kyara.preparation.carry import LABELS, METADATA
from kyara.preparation.progress import TEMPORARY, Progress

REPORT, REPORT_PAGE = "report.json", "report.html"
BESIDE = (REPORT, REPORT_PAGE, THUMBNAILS)  # Beside a .zip, not in it
THUMBNAIL = re.compile(re.escape(THUMBNAILS) + "/.*")
REPORTED = {"sources", "size", "kept", "pictures"}  # Keys by which REPORT is known; other verbs write such a file too
Write = Callable[[str, bytes], object]  # (name, content) -> adds a file


class Target:
    """OUT: checked at the start and the end, written under a temporary name, and renamed.

    Raises OSError or ValueError if it cannot be written, or exists and is not an earlier result (with `force`)."""

    def __init__(self, out: Path, sources: Sequence[Path], force: bool) -> None:
        if out.name in ("", ".."):
            raise ValueError(f"{out}: has no name; give that of the folder, such as ../{out.resolve().name}")
        self.is_zip = out.suffix.lower() == ".zip"
        out = out.resolve() if out.is_symlink() else out  # the link stays, and the data is where it leads
        self.out = out
        self._unfinished = out.with_name(f"{out.name}{UNFINISHED}")
        self._old = self._unfinished / f"old.{out.name}"  # where an earlier result is while it is replaced
        self.report, self.page = self.beside(REPORT), self.beside(REPORT_PAGE)
        self._force, here = force, out.resolve()
        for source in sources:
            there = source.resolve()
            if here == there:
                raise ValueError(f"{out}: is a source, too; choose another name for the output, which comes last")
            if here in there.parents or (there in here.parents and not self.is_zip):
                raise ValueError(f"{out}: must not contain {source} or be inside it; choose another place")
        if not here.parent.is_dir():
            raise FileNotFoundError(f"{out}: there is no folder {out.parent}; create it first")
        if not self.is_zip:
            if out.is_file():
                raise FileExistsError(f"{out}: exists and is not a folder; give NAME.zip to write a zip")
            if out.suffix.lower() in formats.SUFFIXES and not out.exists():
                raise ValueError(f"{out}: has the suffix of a picture; give the output, a folder or NAME.zip, last")
            check_free(out, REPORT, force=True)
        if self._old.exists() and not out.exists():  # a run was killed while it replaced it
            self._old.rename(out)
        self.check()

    def check(self) -> None:
        """FileExistsError if OUT may not be replaced. Labels that are written into it after the last check stop the
        run at its end."""
        self._check_existing()
        self._labels = self._written()

    def _written(self) -> Sequence[int]:
        """When the labels of the earlier result were written; a .zip as a whole."""
        return [changed(path) for path in ([self.out] if self.is_zip else [self.out / METADATA, self.out / LABELS])]

    def _check_existing(self) -> None:
        """FileExistsError if there is something that is not an earlier result, or that is one without `force`."""
        existing = next((path for path in (self.out, *map(self.beside, BESIDE)) if path.exists()), None)
        if existing is None or (not self.is_zip and not any(self.out.iterdir())):
            return
        names = self._names()
        if not is_report(self.report):
            why = f"exists, but {self.report} is no report of kyara prepare, so it is not replaced"
            hint = "choose another name or delete it; if it is a source, give the output after it"
            raise FileExistsError(f"{existing}: {why}; {hint}")
        if not self._force:
            raise FileExistsError(f"{existing}: already exists; add --force to replace it, or choose another name")
        if name := ownership.unknown(names, _owned(self.report)):
            why = f"contains {printable(name)}, which kyara prepare did not write, so it is not replaced"
            raise FileExistsError(f"{self.out}: {why}; move that elsewhere, or choose another name")

    def _names(self) -> Iterable[str]:
        """The files in OUT. FileExistsError if it should be a .zip and is none."""
        if not self.is_zip or not self.out.exists():
            return [] if self.is_zip else ownership.entries(self.out)
        try:
            with zipfile.ZipFile(self.out) as archive:
                return [name for name in archive.namelist() if not name.endswith("/")]
        except (zipfile.BadZipFile, OSError) as error:
            raise FileExistsError(f"{self.out}: exists and is not a .zip ({error}); choose another name") from error

    def beside(self, name: str) -> Path:
        """The place of one of the files `BESIDE`."""
        return self.out.with_name(f"{self.out.name}.{name}") if self.is_zip else self.out / name

    @contextlib.contextmanager
    def open(self, dry_run: bool) -> Iterator[tuple[Write, Progress]]:
        """Context manager: a function that adds a file, and the progress of an interrupted run. OUT is only created if
        the block ends without an error."""
        if dry_run:
            yield (lambda name, data: None), Progress(TEMPORARY)
            return
        new = self._unfinished / "new"
        with write_errors(self.out), self._progress() as progress:
            new.mkdir()
            with zipfile.ZipFile(new / "zip", "w") if self.is_zip else contextlib.nullcontext() as archive:

                def write(name: str, data: bytes) -> None:
                    if archive is None or name.partition("/")[0] in BESIDE:
                        path = new / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(data)
                    else:
                        entry = zipfile.ZipInfo(name)  # dated 1980, so that the same pictures give the same file
                        entry.external_attr = 0o644 << 16
                        archive.writestr(entry, data)

                yield write, progress
            self._replace(new)

    def _replace(self, new: Path) -> None:
        """Replaces OUT, and what is beside it. If that fails, all of the earlier result is as before. FileExistsError
        if OUT was changed meanwhile: the run may have taken hours."""
        self._check_existing()
        if self._written() != self._labels:
            raise FileExistsError(f"{self.out}: labels were written at the last moment; the same command goes on")
        places = [(new / "zip" if self.is_zip else new, self.out)]
        if self.is_zip:  # what is beside it first, as --force replaces no .zip without its report
            places = [(new / name, self.beside(name)) for name in BESIDE if (new / name).exists()] + places
        with contextlib.ExitStack() as undo:
            for made, place in places:
                old = self._unfinished / f"old.{place.name}"
                if place.is_dir():  # no folder can be replaced
                    shutil.rmtree(old, ignore_errors=True)  # of a run that was killed after this
                    place.rename(old)
                    undo.callback(_restore, old, place)
                elif place != self.out:
                    if place.exists():
                        shutil.copy2(place, old)
                    undo.callback(_restore, old, place)
                made.replace(place)
            undo.pop_all()

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Progress]:
        """The progress in the folder beside OUT, which is removed at the end. It remains if the run is stopped or
        fails after any picture is done."""
        folder, file = self._unfinished, self._unfinished / "progress.sqlite"
        if folder.exists() and not file.is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder}: exists and is not what an interrupted run left; rename it")
        folder.mkdir(exist_ok=True)
        progress = Progress(file)
        try:
            shutil.rmtree(folder / "new", ignore_errors=True)  # of a killed run
            yield progress
        except BaseException as error:
            begun = progress.begun()
            progress.close()
            shutil.rmtree(folder / "new", ignore_errors=True)
            if not begun:
                file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty: an output that a killed run was replacing
                    folder.rmdir()
            if not isinstance(error, KeyboardInterrupt):
                raise
            done = f"stopped; the same command goes on, and {folder} has what is done"
            raise KeyboardInterrupt(done if begun else "stopped before a picture was done") from error
        progress.close()
        shutil.rmtree(folder, ignore_errors=True)


def _restore(old: Path, place: Path) -> None:
    """Puts back what was at a place, or removes what is there now."""
    if place.is_dir():
        shutil.rmtree(place)
    if old.exists():
        old.replace(place)
    else:
        place.unlink(missing_ok=True)


def _owned(report: Path) -> Callable[[str], bool]:
    """Whether a name belongs to the folder with this report: a picture that it lists, a table of labels, or a page."""
    entries = _objects(json.loads(report.read_text(encoding="utf-8"))["pictures"])
    faces = [face for entry in entries for face in _objects(entry.get("faces"))]
    kept = {str(one["kept"]) for one in (*entries, *faces) if one.get("kept")}
    return ownership.among(frozenset({REPORT, REPORT_PAGE, METADATA, LABELS} | kept), THUMBNAIL)


def _objects(rows: Any) -> list[dict[str, Any]]:
    """The rows of a report, which is untrusted."""
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def is_report(path: Path) -> bool:
    """Whether the file is a report that `kyara prepare` wrote."""
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))) >= REPORTED
    except (OSError, ValueError, TypeError, RecursionError):
        return False
