"""The verb `kyara prepare`: converts collections of art or photos to a Dataset.

Pictures are processed one by one. Only a hash and an outline of each are kept in memory, so memory use does not depend
on the size of the pictures, and hardly on their number."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

from kyara import verbs
from kyara.files import formats, pictures
from kyara.files.dataset import Dataset, open_datasets
from kyara.files.errors import DatasetError, PictureError
from kyara.files.metadata import csv_text
from kyara.files.names import listed, printable
from kyara.files.workers import processors
from kyara.preparation import detect as detectors
from kyara.preparation.duplicates import Seen
from kyara.preparation.fit import Crop, Fitted, Rejected, fit
from kyara.preparation.target import REPORT, Target, Write

Outcome = Fitted | Rejected | PictureError
PASSED_OVER = "passed over"  # The reason of files that are not pictures
LeftOut = dict[str, list[dict[str, str]]]  # Reason -> file and detail of each file that was left out


@dataclasses.dataclass(frozen=True)
class PrepareResult(verbs.Result):
    """Result of `prepare`. report.json has the same content, except `dry_run`."""

    sources: Sequence[str]
    size: tuple[int, int]  # Height and width of the pictures
    chosen: bool  # Whether the size was derived from the pictures because --size was not given
    crop: str
    duplicates: str
    kept: int
    left_out: LeftOut
    report: Path
    dry_run: bool = False

    def __str__(self) -> str:
        height, width = self.size
        chosen = " (the largest size that nine of ten pictures have; --size changes it)" if self.chosen else ""
        total = self.kept + sum(len(files) for reason, files in self.left_out.items() if reason != PASSED_OVER)
        lines = [f"{self.kept} of {total} kept, {height}x{width} pixels{chosen}"]
        for reason, files in self.left_out.items():
            entries = [(file["file"], file["detail"]) for file in files]
            lines += [f"{len(files)} {reason}", *listed(entries, 20)]  # the report lists all of them
        written = "nothing was written" if self.dry_run else f"{self.out}\n{self.report} lists everything left out"
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
        workers: Worker processes that decode pictures; 0 uses the main process. By default one per processor core.
    """
    if len(sources) < (2 if out is None else 1):
        raise ValueError("give one or more sources and then the output: SOURCE... OUT")
    sources, out = (sources, out) if out else (sources[:-1], sources[-1])
    wanted = pictures.parse_size(size) if size is not None else None
    if detect is not None:
        detectors.load(detect)
    target = Target(out, sources, force)
    dataset = open_datasets(sources)
    if workers is None:
        workers = processors() if len(dataset) > 200 else 0
    width, height = wanted or _common_size(dataset, workers)
    least = min(width, height) // 2 if min_size is None else min_size
    function = functools.partial(fit, width=width, height=height, crop=crop, min_size=least, detect=detect)
    n, names = len(dataset), [str(path) for path in sources]
    # With a limit, use a random order; otherwise one folder could exhaust it.
    order = list(range(n)) if limit is None else np.random.RandomState(0).permutation(n).tolist()
    with target.open(dry_run) as write:
        kept, left_out = _keep(dataset, order, dataset.map(function, order, workers), Seen(duplicates), write, limit)
        if not kept:
            counts = ", ".join(f"{len(files)} {reason}" for reason, files in left_out.items())
            first = printable("{file}: {detail}".format(**next(iter(left_out.values()))[0]))
            raise DatasetError(f"{', '.join(names)}: no picture was left ({counts}); the first is {first}")
        result = PrepareResult(
            out, names, (height, width), not wanted, crop, duplicates, len(kept), left_out, target.report, dry_run
        )
        report = {name: value for name, value in result.as_json().items() if name not in ("report", "dry_run")}
        write("metadata.csv", _metadata(dataset, kept))
        write(REPORT, json.dumps(report, indent=2, ensure_ascii=False).encode())
    return result


def _keep(
    dataset: Dataset, order: Sequence[int], found: Generator[Outcome], seen: Seen, write: Write, limit: int | None
) -> tuple[list[tuple[str, int]], LeftOut]:
    """Writes at most `limit` accepted pictures. Returns (file name, index) of each, and the files left out."""
    kept: list[tuple[str, int]] = []
    left_out: LeftOut = {}
    used: set[str] = set()

    def leave_out(reason: str, name: str, detail: str) -> None:
        left_out.setdefault(reason, []).append({"file": _encodable(name), "detail": _encodable(detail)})

    for name, reason in dataset.ignored:
        leave_out("unreadable" if formats.by_name(name) else PASSED_OVER, name, reason)
    with closing(found), tqdm(found, total=len(order), unit="picture", disable=None) as bar:
        for i, picture in zip(order, bar, strict=False):
            name = dataset.names[i]
            if isinstance(picture, PictureError):
                leave_out("unreadable", name, str(picture).removeprefix(f"{name}: "))
            elif isinstance(picture, Rejected):
                leave_out(picture.reason, name, picture.detail)
            elif copy := seen.find(picture.impression):
                leave_out(copy[0], name, f"of {dataset.names[copy[1]]}")
            else:
                seen.add(picture.impression, i)
                kept.append((_file_name(picture.impression.digest, used), i))
                write(kept[-1][0], picture.data)
                if len(kept) == limit:
                    break
    return sorted(kept), left_out


def _file_name(digest: bytes, used: set[str]) -> str:
    """A name derived from the content, in one of 256 folders; duplicates, if kept, get a number."""
    short = digest.hex()[:12]
    names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in used)
    used.add(name)
    return f"images/{short[:2]}/{name}.webp"


def _metadata(dataset: Dataset, kept: Sequence[tuple[str, int]]) -> bytes:
    """metadata.csv: the attributes of each picture, and its name in the sources."""
    columns = [*dataset.attributes.values(), dataset.names]
    rows = [[name, *(column[i] for column in columns)] for name, i in kept]
    return csv_text([["file_name", *dataset.attributes, "source"], *rows]).encode("utf-8", "backslashreplace")


def _common_size(dataset: Dataset, workers: int) -> tuple[int, int]:
    """The largest square that nine of ten pictures have, a multiple of 32 from 32 to 256."""
    sizes = dataset.map(pictures.measure, range(len(dataset)), workers)
    sides = sorted((min(s) for s in sizes if not isinstance(s, PictureError)), reverse=True)
    if not sides:
        raise DatasetError(f"{dataset.path}: none of the {len(dataset)} pictures can be read")
    side = max(min(sides[-(-9 * len(sides) // 10) - 1], 256) // 32 * 32, 32)
    return side, side


def _encodable(text: str) -> str:
    """A name with bytes that are not valid UTF-8 replaced."""
    return text.encode("utf-8", "backslashreplace").decode()
