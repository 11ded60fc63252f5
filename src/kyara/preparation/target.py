"""Where `kyara prepare` writes: a folder or a .zip that appears complete or not at all."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kyara.files.atomic import write_errors

REPORT = "report.json"
Write = Callable[[str, bytes], object]
"""Adds a file by its name."""


class Target:
    """OUT: checked at the start, written under a temporary name, and renamed at the end.

    OSError or ValueError if it cannot be written, or would overwrite anything but an earlier result with `force`."""

    def __init__(self, out: Path, sources: Sequence[Path], force: bool) -> None:
        self.out, self.is_zip = out, out.suffix.lower() == ".zip"
        self.report = out.with_name(f"{out.name}.{REPORT}") if self.is_zip else out / REPORT
        here = out.resolve()
        for source in sources:
            there = source.resolve()
            if here == there or here in there.parents or (there in here.parents and not self.is_zip):
                raise ValueError(f"{out}: it and {source} must not be inside one another; choose another place")
        if not here.parent.is_dir():
            raise FileNotFoundError(f"{out}: there is no folder {out.parent}; make it first")
        if self.is_zip:
            self._check_zip(force)
        else:
            self._check_folder(force)

    def _check_zip(self, force: bool) -> None:
        existing = next((path for path in (self.out, self.report) if path.exists()), None)
        if existing and not force:
            raise FileExistsError(f"{existing}: exists already; add --force to replace it, or choose another name")
        if self.out.exists() and not zipfile.is_zipfile(self.out):
            raise FileExistsError(f"{self.out}: exists and is not a .zip; choose another name")

    def _check_folder(self, force: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"{self.out}: exists and is not a folder; a name that ends in .zip makes a zip")
        if self.out.is_dir() and any(self.out.iterdir()):
            if not self.report.is_file():
                raise FileExistsError(f"{self.out}: holds something else; choose an empty or new folder")
            if not force:
                raise FileExistsError(f"{self.out}: exists already; add --force to replace it")

    @contextmanager
    def open(self, dry_run: bool) -> Iterator[Write]:
        """A function that adds a file. All files appear at OUT when the block ends without an error and REPORT was
        added; otherwise none does."""
        if dry_run:
            yield lambda name, data: None
            return
        parent, prefix = self.out.resolve().parent, f".{self.out.name}."
        with write_errors(self.out), tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as temporary:
            open_ = self._open_zip if self.is_zip else self._open_folder
            with open_(Path(temporary)) as write:
                yield write

    @contextmanager
    def _open_zip(self, temporary: Path) -> Iterator[Write]:
        archive, report = temporary / "new.zip", temporary / REPORT

        def write(name: str, data: bytes) -> None:
            if name == REPORT:
                report.write_bytes(data)
                return
            entry = zipfile.ZipInfo(name)  # dated 1980: the same pictures make the same file
            entry.external_attr = 0o644 << 16
            file.writestr(entry, data)

        with zipfile.ZipFile(archive, "w") as file:
            yield write
        if report.exists():
            archive.replace(self.out)
            report.replace(self.report)

    @contextmanager
    def _open_folder(self, temporary: Path) -> Iterator[Write]:
        folder = temporary / "new"

        def write(name: str, data: bytes) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

        yield write
        if (folder / REPORT).exists():
            if self.out.exists():
                self.out.rename(temporary / "old")
            folder.rename(self.out)
