"""The Gallery: a self-describing folder of pictures.

    *.png          the pictures
    gallery.csv    one row per picture: file_name, seed, attributes, score, source; best first if ranked
    index.html     the web page
    sheet.png      contact sheet of the first pictures

Galleries are untrusted: a row may only refer to a file inside the folder."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import shlex
import shutil
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files.atomic import (
    check_free,
    free_folder,
    missing_folders,
    put_back,
    remove_empty,
    write_atomic,
    write_errors,
)
from kyara.files.errors import GalleryError
from kyara.files.gallery_page import PAGE, SHEET, TABLE, page
from kyara.files.metadata import csv_text
from kyara.files.names import counted
from kyara.files.ownership import JOURNAL
from kyara.files.pictures import center_crop, decode, encode_jpeg, encode_png, pad_to, resize, upright_size
from kyara.files.pictures import sheet as side_by_side
from kyara.files.workers import processors, thread_map

ON_SHEET, ON_PAGE, PAIRS = 256, 1000, 100
"""Maximum number of pictures on the sheet and on the page, and of those on the page with a picture before them, so that
viewers and browsers can open them."""
BESIDE, STRIP = 192, 64  # Maximum sides of the picture shown beside another, and of each in the strip of further ones
BEFORE = 640  # Maximum length of the longer side of a picture before another, in pixels
THUMBNAIL = 256  # Maximum length of the longer side of a thumbnail, in pixels
WAITING = 4  # Maximum number of pictures for each encoding thread that are not written yet
FLUSH = 64  # Number of rows after which the table is flushed to disk
SPARE = 64  # Number of additional thumbnails kept in memory before the lowest-scored are dropped


def read_gallery(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a Gallery as column -> cell in order, "" for missing cells. Raises GalleryError if the table is
    missing or damaged, or refers to a file outside the folder. Does not check that the files exist."""
    table, folder = path / TABLE, path.resolve()
    try:
        # File names may not be valid UTF-8; surrogateescape restores their bytes.
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header, *cells = [*csv.reader(file)] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise GalleryError(f"{table}: not a readable table ({error})") from error
    if "file_name" not in header:
        raise GalleryError(f"{table}: has no column file_name; the first line must be the header")
    rows = [dict.fromkeys(header, "") | dict(zip(header, row, strict=False)) for row in cells if row]
    for row in rows:
        name = row["file_name"]
        if not name or "\0" in name or not (path / name).resolve().is_relative_to(folder):
            raise GalleryError(f"{table}: {name!r} is not a file inside the gallery")
    return rows


def best_first(scores: Sequence[float], indices: Iterable[int]) -> list[int]:
    """The order of a Gallery: `indices` into `scores`, highest score first. Ties keep their order, and NaN (no score)
    comes last."""
    return sorted(indices, key=lambda i: math.inf if math.isnan(scores[i]) else -scores[i])


class GalleryWriter:
    """Writes a Gallery picture by picture, keeping only a few bytes per picture and the thumbnails of the sheet in
    memory. Threads encode the pictures and write their files while the caller computes the next ones; the rows of the
    table are written in order, each after its file. An interrupted run leaves an unsorted Gallery without a page; what
    was there before if no picture was written."""

    def __init__(
        self, path: Path, columns: Sequence[str], *, sources: Iterable[str | Path] = (), force: bool = False
    ) -> None:
        """`columns` follow file_name in the table. `force` replaces an existing Gallery unless it contains one of the
        `sources`."""
        check_free(path, TABLE, force=force, sources=sources)
        self._missing = missing_folders(path)
        self._earlier = free_folder(path, TABLE, force=force)
        self.path = path
        self.columns = ("file_name", *columns)
        self._scores = array("d")
        self._starts = array("Q")  # byte offset of each row in the table
        self._thumbnails: dict[int, np.ndarray] = {}
        self._before: dict[str, bytes] = {}  # JPEG files
        self._beside: dict[str, list[bytes]] = {}
        threads = processors()
        self._pool, self._most_waiting = ThreadPoolExecutor(threads), WAITING * threads
        self._waiting: deque[tuple[Future[np.ndarray | None], dict[str, object], float]] = deque()
        try:
            with write_errors(path / TABLE):
                self._table = (path / TABLE).open("w+b")
                self._end = self._table.write(_line(self.columns))
                self._table.flush()
                self._journal = (path / JOURNAL).open("wb", buffering=0)
        except BaseException:
            self._put_back()
            raise

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        try:
            with contextlib.nullcontext() if kind is None else contextlib.suppress(Exception):  # not to hide an error
                self.flush()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._table.close()
            self._journal.close()
            if self._starts:
                self._delete_earlier()
            elif kind is not None or self._earlier:
                self._put_back()
        if self._starts and isinstance(error, KeyboardInterrupt) and not error.args:
            raise KeyboardInterrupt(self._interrupted()) from error

    def _interrupted(self) -> str:
        """What an interrupted run has left, and how to go on."""
        out = shlex.quote(str(self.path))
        return f"interrupted: {counted(len(self), 'picture')} in {out}; --out {out} --force begins again"

    def _put_back(self) -> None:
        put_back(self.path, self._earlier, TABLE)
        remove_empty(self._missing)

    def _delete_earlier(self) -> None:
        """Deletes the Gallery that this one replaces."""
        if self._earlier:
            shutil.rmtree(self._earlier, ignore_errors=True)
            self._earlier = None

    def __len__(self) -> int:
        return len(self._starts) + len(self._waiting)

    def add(
        self,
        file_name: str,
        picture: np.ndarray | bytes,
        recipe: Mapping[str, Any] | None = None,
        before: np.ndarray | None = None,
        beside: Sequence[np.ndarray] = (),
        /,  # a column may have any name
        *,
        score: float | None = None,
        **cells: object,
    ) -> None:
        """Adds one picture, (H, W, 3) uint8 or the bytes of a PNG file, and its row. `recipe` is stored in the PNG if
        `picture` is an array, which must not be changed afterwards. The page has a slider between it and the picture
        `before`, (H, W, 3) uint8. Or the page shows the first of the pictures `beside` next to it, and the others when
        it is enlarged; give more than one for the first `PAIRS` only. `finish` sorts the rows by `score`, highest
        first. Raises OSError if this file or one added before it cannot be written."""
        row = {"file_name": file_name, "score": "" if score is None else f"{score:.4f}", **cells}
        number = math.nan if score is None else score
        if before is not None and len(self._before) < PAIRS:
            self._before[file_name] = encode_jpeg(thumbnail(before, BEFORE), 88)
        if len(beside) and len(self._beside) < ON_PAGE:
            self._beside[file_name] = [encode_jpeg(thumbnail(beside[0], BESIDE), 85)]
            if len(beside) > 1:
                self._beside[file_name].append(encode_jpeg(strip(beside[1:]), 80))
        shown = not isinstance(picture, bytes) and (not math.isnan(number) or len(self) < ON_SHEET)
        file = self.path / file_name
        self.announce(file_name)
        self._waiting.append((self._pool.submit(_write_picture, file, picture, recipe, shown), row, number))
        if len(self._waiting) > self._most_waiting:
            self._write_row()

    def announce(self, file_name: str) -> None:
        """Notes that a file of that name is about to be written, so that --force knows what a killed run has left."""
        with write_errors(self.path / JOURNAL):
            self._journal.write(f"{file_name}\n".encode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        """Waits until all pictures and their rows are written. Raises OSError if one cannot be."""
        while self._waiting:
            self._write_row()
        if not self._table.closed:
            with write_errors(self.path / TABLE):
                self._table.flush()

    def _write_row(self) -> None:
        """Waits for the file of the first waiting picture, and writes its row."""
        written, row, score = self._waiting.popleft()
        small = written.result()
        i = len(self._starts)
        self._starts.append(self._end)
        self._scores.append(score)
        with write_errors(self.path / TABLE):
            self._end += self._table.write(_line([str(row.get(column, "")) for column in self.columns]))
            if i % FLUSH == 0:
                self._table.flush()
        if small is not None:
            self._keep_thumbnail(i, small)

    def _keep_thumbnail(self, i: int, small: np.ndarray) -> None:
        """Keeps the thumbnails of the best pictures so far, or of the first ones if there are no scores."""
        self._thumbnails[i] = small
        if len(self._thumbnails) >= ON_SHEET + SPARE:
            self._thumbnails = {i: self._thumbnails[i] for i in best_first(self._scores, self._thumbnails)[:ON_SHEET]}

    def finish(
        self,
        *,
        command: str,
        sheet: Callable[[Sequence[Path]], bytes] | None = None,
        about: str = "",
        keep: int | None = None,
        films: Sequence[str] = (),
        left_out: Sequence[tuple[str, str]] = (),
    ) -> list[dict[str, str]]:
        """Sorts the table best first if there are scores, deletes all but the best `keep`, and writes the sheet and the
        page. Returns the rows shown on the page.

        `about` is the second line of the page; `films` are names of videos or animations in the folder to be embedded,
        `left_out` names of files that are not used, and why.
        `sheet` renders the contact sheet of the given files as PNG; by default it shows their thumbnails in a grid."""
        self.flush()
        order = best_first(self._scores, range(len(self)))
        for i in order[keep:] if keep is not None else ():
            (self.path / self._row(i)["file_name"]).unlink()
        order = order[:keep]

        def write_table(temporary: Path) -> None:
            with temporary.open("wb") as file:
                file.write(_line(self.columns))
                file.writelines(self._bytes(i) for i in order)
            self._table.close()  # Windows replaces no open file

        first = [self._row(i) for i in order[:ON_PAGE]]
        write_atomic(self.path / TABLE, write_table)
        shown = [self.path / row["file_name"] for row in first]
        if shown:
            self._write(SHEET, sheet(shown[:ON_SHEET]) if sheet else self._sheet(order[:ON_SHEET], shown))
        title, aspect = self.path.resolve().name, _aspect(shown[0]) if shown else 1.0
        html = page(
            title,
            first,
            len(order),
            about=about,
            command=command,
            aspect=aspect,
            films=films,
            before=self._before,
            beside=self._beside,
            left_out=left_out,
        )
        self._write(PAGE, html.encode("utf-8", errors="replace"))
        self._journal.close()
        (self.path / JOURNAL).unlink(missing_ok=True)
        self._delete_earlier()
        return first

    def _sheet(self, order: Sequence[int], files: Sequence[Path]) -> bytes:
        kept = self._thumbnails
        found = [kept[i] if i in kept else thumbnail(decode(file)) for i, file in zip(order, files, strict=False)]
        return encode_png(side_by_side(found))

    def _bytes(self, i: int) -> bytes:
        start = self._starts[i]
        self._table.seek(start)
        return self._table.read(self._starts[i + 1] - start if i + 1 < len(self) else -1)

    def _row(self, i: int) -> dict[str, str]:
        (cells,) = csv.reader(io.StringIO(self._bytes(i).decode("utf-8", "surrogateescape"), newline=""))
        return dict(zip(self.columns, cells, strict=True))

    def _write(self, name: str, content: bytes) -> None:
        write_atomic(self.path / name, lambda temporary: temporary.write_bytes(content))


def _write_picture(
    file: Path, picture: np.ndarray | bytes, recipe: Mapping[str, Any] | None, shown: bool
) -> np.ndarray | None:
    """Writes a picture as PNG. Returns its thumbnail if it may be `shown` on the sheet."""
    png = picture if isinstance(picture, bytes) else encode_png(picture, recipe)
    with write_errors(file):
        file.write_bytes(png)
    return thumbnail(picture) if shown and not isinstance(picture, bytes) else None


def _line(cells: Iterable[str]) -> bytes:
    return csv_text([cells]).encode("utf-8", "surrogateescape")


def _aspect(png: Path) -> float:
    """Aspect ratio width / height as browsers show it, from the header."""
    width, height = upright_size(png)
    return width / height


def thumbnail(picture: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """A copy of the picture (H, W, 3) uint8, its longer side at most `side`."""
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    return resize(picture, max(1, round(width * scale)), max(1, round(height * scale))).copy()


def strip(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """K pictures in one row, each a square: (STRIP, K * STRIP, 3)."""
    return np.concatenate([center_crop(picture, STRIP, STRIP) for picture in pictures], 1)


def contact_sheet(files: Sequence[Path]) -> bytes:
    """A PNG with the pictures of `files` in a grid, each padded to the aspect ratio of the first."""
    height, width = thumbnail(decode(files[0])).shape[:2]

    def small(file: Path) -> np.ndarray:  # a thread has one picture of full size at a time
        return pad_to(decode(file), width, height)

    threads, found = processors(), list[np.ndarray]()
    for _, picture in thread_map(small, files, threads, 2 * threads):
        if isinstance(picture, Exception):
            raise picture
        found.append(picture)
    return encode_png(side_by_side(found))
