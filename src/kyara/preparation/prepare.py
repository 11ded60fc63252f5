"""The verb `kyara prepare`: converts collections of art or photos to a Dataset.

Pictures are processed one by one. Only a hash, an outline and the entry in the report of each are kept in memory, so
memory use does not depend on the size of the pictures, and hardly on their number."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

from kyara import verbs
from kyara.files import pictures
from kyara.files.archive import THUMBNAILS
from kyara.files.dataset import Dataset, open_datasets
from kyara.files.errors import DatasetError, PictureError
from kyara.files.metadata import csv_text
from kyara.files.names import listed, printable
from kyara.files.workers import processors
from kyara.preparation import detect as detectors
from kyara.preparation.drop import LIST, choose
from kyara.preparation.duplicates import Seen
from kyara.preparation.fit import Crop, fit
from kyara.preparation.report import PASSED_OVER, Entry, LeftOut, left_out
from kyara.preparation.report_page import page
from kyara.preparation.selection import Outcome, Selection
from kyara.preparation.target import REPORT, REPORT_PAGE, Target

UNREPORTED = ("report", "page", "dry_run")  # Fields of the result that are not in report.json


@dataclasses.dataclass(frozen=True)
class PrepareResult(verbs.Result):
    """Result of `prepare`. report.json has the same content, except the last three fields."""

    sources: Sequence[str]
    size: tuple[int, int]  # Height and width of the pictures
    chosen: bool  # Whether the size was derived from the pictures because --size was not given
    crop: str
    duplicates: str
    kept: int
    left_out: LeftOut
    pictures: Sequence[Entry]  # Every file of the sources, kept or left out
    report: Path
    page: Path  # The same as a web page, with thumbnails, to choose pictures for --drop
    dry_run: bool = False

    def __str__(self) -> str:
        height, width = self.size
        chosen = " (the largest size that nine of ten pictures have; --size changes it)" if self.chosen else ""
        total = self.kept + sum(len(files) for reason, files in self.left_out.items() if reason != PASSED_OVER)
        lines = [f"{self.kept} of {total} kept, {height}x{width} pixels{chosen}"]
        for reason, files in self.left_out.items():
            entries = [(file["file"], file["detail"]) for file in files]
            lines += [f"{len(files)} {reason}", *listed(entries, 20)]  # the report lists all of them
        shown = f"{self.page} shows every picture; {self.report.name} lists everything left out"
        written = "nothing was written" if self.dry_run else f"{self.out}\n{shown}"
        return "\n".join([*lines, written])


@verbs.checked
def prepare(
    *sources: Annotated[Positional[Path], arg(metavar="SOURCE... OUT")],
    out: Path | None = None,
    size: str | None = None,
    crop: Crop = "center",
    min_size: Annotated[int | None, verbs.Range(1)] = None,
    duplicates: Literal["near", "exact", "keep"] = "near",
    limit: Annotated[int | None, verbs.Range(1)] = None,
    detect: str | None = None,
    drop: verbs.ExistingFile | None = None,
    workers: Annotated[int | None, verbs.Range(0, 1024)] = None,
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> PrepareResult:
    """Convert art or photos to a Dataset: cropped, resized, without duplicates, with a report of the files left out.

    Attributes of the sources (metadata.csv, metadata.jsonl, dataset.json, names of sub-folders) are kept. The sources
    are not changed.

    Args:
        sources: Folders (with all sub-folders), .zip files or single pictures, and finally the output OUT: NAME.zip or
            the name of a folder. With --out, all of them are sources.
        out: The output, instead of the last SOURCE.
        size: Size of the pictures: 96 for a square, or HEIGHTxWIDTH such as 512x256. By default the largest that nine
            of ten pictures have, a multiple of 32 and at most 256.
        crop: center crops the largest centred region with the aspect ratio of --size; whole keeps the whole picture and
            pads with white.
        min_size: Leave out pictures whose shorter side has fewer pixels. By default half the shorter side of --size, so
            that pictures are enlarged about twice at most.
        duplicates: near removes copies, including resized, recompressed, shifted, mirrored or slightly recoloured
            ones, and keeps other expressions and hair or eye colours of a drawing; exact removes only those with
            identical pixels; keep removes none.
        limit: Keep at most this many pictures, chosen at random from all sources.
        detect: Crop the largest face of each picture: photo detects and aligns human faces, ffhq does so with the
            wider frame of that dataset (both need the extra `photo`).
        drop: Leave out the pictures in this list, a .csv with the column file_name that the page report.html of an
            earlier run saves.
        workers: Worker processes that decode pictures; 0 uses the main process. By default one per processor core.
    """
    command = verbs.command_line(prepare, {**locals(), "drop": LIST})
    if len(sources) < (2 if out is None else 1):
        raise ValueError("give one or more sources and then the output: SOURCE... OUT")
    sources, out = (sources, out) if out else (sources[:-1], sources[-1])
    wanted = pictures.parse_size(size) if size is not None else None
    if detect is not None:
        detectors.load(detect)
    target = Target(out, [*sources, drop] if drop else sources, force)  # A list inside OUT would be deleted with it
    dataset = open_datasets(sources)
    dropped, missing = choose(dataset, drop) if drop else ({}, [])
    if workers is None:
        workers = processors() if len(dataset) > 200 else 0
    width, height = wanted or _common_size(dataset, workers)
    least = min(width, height) // 2 if min_size is None else min_size
    function = functools.partial(fit, width=width, height=height, crop=crop, min_size=least, detect=detect)
    n, names = len(dataset), [str(path) for path in sources]
    # With a limit, use a random order; otherwise one folder could exhaust it.
    order = list(range(n)) if limit is None else np.random.RandomState(0).permutation(n).tolist()
    with target.open(dry_run) as write:
        selection = Selection(dataset, dropped, [*dataset.ignored, *missing], Seen(duplicates), write)
        _select(selection, order, dataset.map(function, order, workers), limit)
        entries = selection.entries()
        result = PrepareResult(
            out, names, (height, width), not wanted, crop, duplicates, len(selection.kept), left_out(entries), entries,
            target.report, target.page, dry_run,
        )  # fmt: skip
        if not selection.kept:
            raise _nothing_left(result)
        report = {name: value for name, value in result.as_json().items() if name not in UNREPORTED}
        write("metadata.csv", _metadata(dataset, selection.kept))
        write(REPORT, json.dumps(report, indent=2, ensure_ascii=False).encode())
        folder = target.beside(THUMBNAILS).name
        write(REPORT_PAGE, page(report, selection.places, folder, f"{command} --force").encode())
    return result


def _select(selection: Selection, order: Sequence[int], outcomes: Generator[Outcome], limit: int | None) -> None:
    """Adds the pictures until `limit` are kept."""
    with closing(outcomes), tqdm(outcomes, total=len(order), unit="picture", disable=None) as bar:
        for i, outcome in zip(order, bar, strict=False):
            selection.add(i, outcome)
            if len(selection.kept) == limit:
                break
    selection.thumbnails.finish()


def _nothing_left(result: PrepareResult) -> DatasetError:
    counts = ", ".join(f"{len(files)} {reason}" for reason, files in result.left_out.items())
    first = printable("{file}: {detail}".format(**next(iter(result.left_out.values()))[0]))
    return DatasetError(f"{', '.join(result.sources)}: no picture was left ({counts}); the first is {first}")


def _metadata(dataset: Dataset, kept: Mapping[int, str]) -> bytes:
    """metadata.csv: the attributes of each picture, and its name in the sources."""
    columns = [*dataset.attributes.values(), dataset.names]
    rows = [[name, *(column[i] for column in columns)] for name, i in sorted((name, i) for i, name in kept.items())]
    return csv_text([["file_name", *dataset.attributes, "source"], *rows]).encode("utf-8", "backslashreplace")


def _common_size(dataset: Dataset, workers: int) -> tuple[int, int]:
    """The largest square that nine of ten pictures have, a multiple of 32 from 32 to 256."""
    sizes = dataset.map(pictures.measure, range(len(dataset)), workers)
    sides = sorted((min(s) for s in sizes if not isinstance(s, PictureError)), reverse=True)
    if not sides:
        raise DatasetError(f"{dataset.path}: none of the {len(dataset)} pictures can be read")
    side = max(min(sides[-(-9 * len(sides) // 10) - 1], 256) // 32 * 32, 32)
    return side, side
