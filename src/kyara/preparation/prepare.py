"""`kyara prepare`: art or photos, as they lie about, become a Dataset.

Pictures pass one by one from the source to the result; only a hash and a thumbnail of each are kept, so that
the memory needed does not grow with the size of the pictures, and hardly with their number.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json as json_format
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tqdm import tqdm

from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.preparation import detect as detectors
from kyara.preparation.duplicates import Impression, Seen, impression

METADATA, REPORT = "metadata.csv", "report.json"
ON_SCREEN = 20
"""Files that are named on the screen for each reason; the report names all."""

UNREADABLE, TOO_SMALL, NO_FACE = "unreadable", "too small", "nothing detected"
PASSED_OVER = "passed over"


def prepare(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    *,
    size: str | None = None,
    crop: Literal["center", "whole"] = "center",
    min_size: int | None = None,
    duplicates: Literal["near", "exact", "keep"] = "near",
    limit: int | None = None,
    detect: str | None = None,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Turn art or photos into a Dataset: cropped, resized, without copies, and a report of what was left out.

    Attributes that SOURCE knows (metadata.csv, metadata.jsonl, dataset.json, names of sub-folders) are kept.
    Nothing in SOURCE is changed.

    Args:
        source: Folder (with all its sub-folders) or .zip of pictures.
        out: Where the Dataset goes: NAME.zip, or the name of a folder.
        size: Size of the pictures: 96 for a square, or HEIGHTxWIDTH such as 512x256. Without it, the largest
            that nine of ten pictures reach, a multiple of 32 and at most 256.
        crop: center cuts the largest centred region of the shape of --size; whole keeps everything and adds
            white at the sides.
        min_size: Leave out pictures whose shorter side has fewer pixels. Without it, half the shorter side of
            --size: nothing is enlarged much more than twice.
        duplicates: near leaves out copies, also resized, recompressed or brightened ones; exact only those
            whose every pixel is the same; keep none.
        limit: Keep at most this many pictures, taken from all over SOURCE.
        detect: Cut out the largest face of each picture: photo finds human faces and turns them upright, ffhq does
            so in the wider frame of that set (both need the extra `photo`).
        workers: Processes that decode pictures. Without it, one for every processor; 0 does without.
        force: Replace an earlier result of prepare at OUT.
        dry_run: Look at everything and report, but write nothing.
        json: Print the report as JSON.

    Returns:
        OUT. Raises DatasetError, FileExistsError or ValueError, which say what to do.
    """
    source, out = Path(source), Path(out)  # from Python, texts will do
    wanted = pictures.parse_size(size) if size else None
    if detect:
        detectors.load(detect)
    target = _Target(out, source, force)
    dataset = open_dataset(source)
    if workers is None:
        workers = _processors() if len(dataset) > 200 else 0
    width, height = wanted or _common_size(dataset, workers)
    look = functools.partial(
        _look,
        width=width,
        height=height,
        crop=crop,
        min_size=min(width, height) // 2 if min_size is None else min_size,
        detect=detect,
    )
    report = Report(str(source), str(out), (height, width), chosen=not wanted, crop=crop, duplicates=duplicates)
    for name, reason in dataset.ignored:
        report.leave_out(PASSED_OVER, name, reason)
    seen = Seen(duplicates)
    order = _order(len(dataset), limit)
    with target.open(dry_run) as write:
        with closing(dataset.map(look, order, workers)) as looks:
            bar = tqdm(looks, total=len(order), unit="picture", disable=None)
            kept = _keep(dataset, order, bar, seen, write, report, limit)
            bar.close()
        report.kept = len(kept)
        if kept:
            write(METADATA, _metadata(dataset, kept))
            write(REPORT, json_format.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False).encode())
    _print(report, None if dry_run or not kept else target.report, json)
    if not kept:
        raise DatasetError(f"{source}: no picture was left; the summary above says why")
    return out


@dataclasses.dataclass
class Report:
    """What prepare did, as report.json says it."""

    source: str
    out: str
    size: tuple[int, int]
    """Height and width of the pictures."""
    chosen: bool
    """The size was not given but found."""
    crop: str
    duplicates: str
    kept: int = 0
    left_out: dict[str, list[dict[str, str]]] = dataclasses.field(default_factory=dict)
    """Reason -> file and detail of each."""

    def leave_out(self, reason: str, name: str, detail: str) -> None:
        self.left_out.setdefault(reason, []).append({"file": _clean(name), "detail": _clean(detail)})


@dataclasses.dataclass
class _Look:
    """What is known of a picture once a worker has fitted it."""

    data: bytes
    impression: Impression


@dataclasses.dataclass
class _Reject:
    """Why a picture that could be decoded is not fitted."""

    reason: str
    detail: str


def _look(
    data: bytes, name: str, *, width: int, height: int, crop: str, min_size: int, detect: str | None
) -> _Look | _Reject:
    """One picture, in a worker process: decoded, fitted, encoded and described."""
    picture = pictures.decode(data, name)
    if detect:
        boxes = detectors.load(detect)(picture)
        if not boxes:
            return _Reject(NO_FACE, f"by {detect}")
        picture = max(boxes, key=lambda box: box.area).cut(picture)
    h, w = picture.shape[:2]
    if min(h, w) < max(min_size, 1):
        return _Reject(TOO_SMALL, f"{w}x{h} pixels, the shorter side must have {min_size}")
    fit = pictures.pad_to if crop == "whole" else pictures.center_crop
    fitted = np.ascontiguousarray(fit(picture, width, height))
    return _Look(pictures.encode_webp(fitted), impression(fitted))


def _keep(
    dataset: Dataset,
    order: np.ndarray,
    looks: Iterable[_Look | _Reject | PictureError],
    seen: Seen,
    write: Callable[[str, bytes], object],
    report: Report,
    limit: int | None,
) -> list[tuple[str, int]]:
    """Hands every picture to the writer or to the report; (file name, index in the source) of those kept."""
    kept: list[tuple[str, int]] = []
    used: set[str] = set()
    for i, look in zip(order, looks, strict=False):
        name = dataset.names[i]
        if isinstance(look, PictureError):
            report.leave_out(UNREADABLE, name, str(look).removeprefix(f"{name}: "))
            continue
        if isinstance(look, _Reject):
            report.leave_out(look.reason, name, look.detail)
            continue
        if copy := seen.find(look.impression):
            report.leave_out(copy[0], name, f"of {dataset.names[copy[1]]}")
            continue
        seen.add(look.impression, int(i))
        file_name = _file_name(look.impression.digest, used)
        write(file_name, look.data)
        kept.append((file_name, int(i)))
        if len(kept) == limit:
            break
    return sorted(kept)


def _file_name(digest: bytes, used: set[str]) -> str:
    """Named by content, spread over folders; a number is added where copies are kept."""
    short = digest.hex()[:12]
    name, number = short, 1
    while name in used:
        number += 1
        name = f"{short}-{number}"
    used.add(name)
    return f"images/{short[:2]}/{name}.webp"


def _metadata(dataset: Dataset, kept: list[tuple[str, int]]) -> bytes:
    """metadata.csv: what the source knew of each picture, and its name there."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file_name", *dataset.attributes, "source"])
    for file_name, i in kept:
        known = [values[i] for values in dataset.attributes.values()]
        table.writerow([file_name, *known, _clean(dataset.names[i])])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _order(n: int, limit: int | None) -> np.ndarray:
    """By name; where not all are wanted, shuffled, lest one folder fill the limit."""
    return np.arange(n) if limit is None else np.random.RandomState(0).permutation(n)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _common_size(dataset: Dataset, workers: int) -> tuple[int, int]:
    """The largest square that nine of ten pictures fill, a multiple of 32 from 32 to 256."""
    sizes = dataset.map(pictures.measure, range(len(dataset)), workers)
    sides = sorted((min(s) for s in sizes if not isinstance(s, PictureError)), reverse=True)
    if not sides:
        raise DatasetError(f"{dataset.path}: not one of its {len(dataset)} pictures can be read")
    side = min(sides[-(-9 * len(sides) // 10) - 1], 256)
    side = max(side // 32 * 32, 32)
    return side, side


class _Target:
    """OUT: checked at the start, filled under another name, and put in place at the end, at once."""

    def __init__(self, out: Path, source: Path, force: bool) -> None:
        self.out, self.zipped = out, out.suffix.lower() == ".zip"
        self.report = out.with_name(f"{out.name}.{REPORT}") if self.zipped else out / REPORT
        here, there = out.resolve(), source.resolve()
        if here == there or here in there.parents or (there in here.parents and not self.zipped):
            raise ValueError(f"{out}: it and {source} must not lie in one another; choose another place")
        if not here.parent.is_dir():
            raise FileNotFoundError(f"{out}: there is no folder {out.parent}; make it first")
        if self.zipped:
            self._check_zip(force)
        else:
            self._check_folder(force)

    def _check_zip(self, force: bool) -> None:
        taken = next((path for path in (self.out, self.report) if path.exists()), None)
        if taken and not force:
            raise FileExistsError(f"{taken}: exists already; add --force to replace it, or choose another name")
        if self.out.exists() and not zipfile.is_zipfile(self.out):
            raise FileExistsError(f"{self.out}: something else than a .zip; choose another name")

    def _check_folder(self, force: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"{self.out}: a file is in the way; a name that ends in .zip makes a zip")
        if self.out.is_dir() and any(self.out.iterdir()):
            if not self.report.is_file():
                raise FileExistsError(f"{self.out}: holds something else; choose an empty or new folder")
            if not force:
                raise FileExistsError(f"{self.out}: exists already; add --force to replace it")

    @contextmanager
    def open(self, dry_run: bool) -> Iterator[Callable[[str, bytes], object]]:
        """A function that adds a file. All of them appear at OUT once the block has ended well and the report
        has been written; otherwise nothing does."""
        if dry_run:
            yield lambda name, data: None
            return
        parent, prefix = self.out.resolve().parent, f".{self.out.name}."
        with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as temporary:
            fill = self._fill_zip if self.zipped else self._fill_folder
            with fill(Path(temporary)) as write:
                yield write

    @contextmanager
    def _fill_zip(self, temporary: Path) -> Iterator[Callable[[str, bytes], object]]:
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
    def _fill_folder(self, temporary: Path) -> Iterator[Callable[[str, bytes], object]]:
        folder = temporary / "new"

        def write(name: str, data: bytes) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

        yield write
        if (folder / REPORT).exists():
            if self.out.exists():
                self.out.rename(temporary / "old")
            folder.rename(self.out)


def _clean(text: str) -> str:
    """Names as files can hold them, whatever bytes a disk or an archive calls a picture."""
    return text.encode("utf-8", "backslashreplace").decode()


def _print(report: Report, path: Path | None, json: bool) -> None:
    if json:
        print(json_format.dumps(dataclasses.asdict(report), indent=2))
        return
    height, width = report.size
    chosen = " (the largest size that nine of ten reach; --size says another)" if report.chosen else ""
    total = report.kept + sum(map(len, report.left_out.values()))
    print(f"{report.kept} of {total} kept, {height}x{width} pixels{chosen}")
    for reason, files in report.left_out.items():
        print(f"{len(files)} {reason}")
        for file in files[:ON_SCREEN]:
            print(_printable(f"    {file['file']}: {file['detail']}"))
        if len(files) > ON_SCREEN:
            print(f"    and {len(files) - ON_SCREEN} more")
    if path is None:
        print("nothing was written")
    else:
        print(f"{report.out}\n{path} names everything that was left out")


def _printable(line: str) -> str:
    """Without the control characters by which a file's name could play with the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
