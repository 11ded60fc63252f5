"""The verb `kyara prepare`: converts collections of art or photos to a Dataset.

Faces are found in all pictures first: they decide the size. Then the pictures are cut one by one. Only the faces, a
hash, an outline and the entry in the report of each are kept in memory, so memory use does not depend on the size of
the pictures, and hardly on their number. What is done is stored, so that an interrupted run goes on."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

from kyara import verbs
from kyara.files import pictures
from kyara.files.archive import THUMBNAILS
from kyara.files.cache import identity
from kyara.files.dataset import Dataset, open_datasets
from kyara.files.errors import DatasetError, PictureError
from kyara.files.names import counted, listed, printable
from kyara.files.workers import processors
from kyara.preparation import detect as detectors
from kyara.preparation.carry import check_size, check_sources, read_earlier, tables
from kyara.preparation.drop import LIST, choose
from kyara.preparation.duplicates import AHEAD, Seen
from kyara.preparation.fit import RULES, Detect, Faces, Fitted, Found, Options, Pad, find, fit, side, sides
from kyara.preparation.frames import Frame
from kyara.preparation.progress import Progress
from kyara.preparation.report import PASSED_OVER, Entry, LeftOut, left_out
from kyara.preparation.report_page import page
from kyara.preparation.selection import Selection
from kyara.preparation.target import REPORT, REPORT_PAGE, Target

FEW = 0.1
"""If a smaller share of the pictures shows a face, `--detect auto` cuts none: they are of something else."""
SEARCHED, MANY = 16, 200  # From these numbers of pictures on, with and without a search for faces, there are workers
SMALL = 64  # pixels: the size is reduced below this only if more than half of the pictures are smaller
Part = tuple[int, int | None]  # Index of a picture, and of a face in it; None for all of it
UNREPORTED = ("report", "page", "dry_run")  # Fields of the result that are not in report.json


@dataclasses.dataclass(frozen=True)
class PrepareResult(verbs.Result):
    """Result of `prepare`. report.json has the same content, except the last three fields."""

    sources: Sequence[str]
    size: tuple[int, int]  # Height and width of the pictures
    chosen: bool  # Whether the size was derived from the pictures because --size was not given
    detect: str
    frame: str
    duplicates: str
    kept: int
    left_out: LeftOut
    pictures: Sequence[Entry]  # Every file of the sources, kept or left out
    carried: int  # Labels that were taken over from the earlier result that this one replaces
    lost: int  # Labels of the earlier result that were not, as this one does not have their pictures
    report: Path
    page: Path  # The same as a web page, with thumbnails, to choose pictures for --drop
    dry_run: bool = False

    def __str__(self) -> str:
        height, width = self.size
        chosen = " (chosen from the sizes of the pictures; --size changes it)" if self.chosen else ""
        total = self.kept + sum(len(files) for reason, files in self.left_out.items() if reason != PASSED_OVER)
        lines = [f"{self.kept} of {total} kept, {height}x{width} pixels{chosen}"]
        lines += [f"{counted(self.carried, 'label')} taken over from the earlier {self.out}"] if self.carried else []
        if self.lost:
            lines.append(f"{counted(self.lost, 'label')} not taken over, as their pictures are not in the new one")
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
    detect: Detect = "auto",
    faces: Faces = "all",
    frame: Frame = "face",
    pad: Pad = "mirror",
    min_size: Annotated[int | None, verbs.Range(1)] = None,
    duplicates: Literal["near", "exact", "keep"] = "near",
    limit: Annotated[int | None, verbs.Range(1)] = None,
    drop: verbs.ExistingFile | None = None,
    workers: Annotated[int | None, verbs.Range(0, 1024)] = None,
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> PrepareResult:
    """Convert illustrations or photos to a Dataset: cut to the faces, upright, resized, without duplicates.

    A report lists every file and face that was left out. Attributes of the sources (metadata.csv, metadata.jsonl,
    dataset.json, names of sub-folders) are kept. The sources are not changed. If it is interrupted, the same command
    goes on. With --force, labels of the earlier result are taken over to the same pictures.

    Args:
        sources: Folders (with all sub-folders), .zip files, films or single pictures, and finally the output OUT:
            NAME.zip or the name of a folder. With --out, all of them are sources. One frame of every second of a film
            is used (extra `video`).
        out: The output, instead of the last SOURCE.
        size: Size of the pictures: 96 for a square, or HEIGHTxWIDTH such as 512x256. By default the largest that nine
            of ten pictures have, a multiple of 32, at most 256; less than 64 only if more than half are smaller.
        detect: How faces are found. auto cuts pictures to their faces unless they are a face already; drawn cuts all;
            photo cuts all and frames faces by their eyes and mouth, as the built-in networks for photos expect;
            mediapipe is photo with another detector (extra `photo`); none looks for no faces and crops the middle.
        faces: all makes a picture of every face, largest only of the largest in each picture.
        frame: What is cut out: the face with its hair, the bust (head and shoulders), or the whole picture.
        pad: What continues a picture at its edges if the frame is larger: mirror repeats it mirrored, white is white.
            Pictures that are neither cut to a face nor kept whole are cropped.
        min_size: Leave out faces and pictures that have fewer pixels, measured on the shorter side of what is cut out.
            By default half the shorter side of --size, so that they are enlarged about twice at most.
        duplicates: near removes copies, including resized, recompressed, shifted, slightly turned, mirrored or
            slightly recoloured ones, and keeps other expressions and hair or eye colours of a drawing; exact removes
            only those with identical pixels; keep removes none. Of copies the largest is kept; with a limit or without
            a detector, the first.
        limit: Keep at most this many pictures, chosen at random from all sources.
        drop: Leave out the pictures and faces in this list, a .csv with the column file_name that the page report.html
            of an earlier run saves.
        workers: Worker processes; 0 uses the main process. By default one per processor core.
    """
    command = verbs.command_line(prepare, {**locals(), "drop": LIST})
    if len(sources) < (2 if out is None else 1):
        raise ValueError("give one or more sources and then the output: SOURCE... OUT")
    sources, out = (sources, out) if out else (sources[:-1], sources[-1])
    _check(detect, faces, frame, pad)
    wanted = pictures.parse_size(size) if size is not None else None
    target = Target(out, [*sources, drop] if drop else sources, force)  # A list inside OUT would be deleted with it
    earlier = read_earlier(out, target.report, sources)
    dataset = open_datasets(sources)
    names = check_sources(dataset, sources, earlier)
    if wanted:
        check_size(earlier, names, (wanted[1], wanted[0]))
    dropped, missing = choose(dataset, drop) if drop else ({}, [])
    if workers is None:
        workers = processors() if len(dataset) > (MANY if detect == "none" else SEARCHED) else 0
    with target.open(dry_run) as (write, progress):
        found = _search(dataset, detect, workers, progress)
        cut = found if _are_cut(found, detect) else [None] * len(dataset)
        width, height = wanted or _common_size(dataset, found, cut, detect, frame, workers)
        check_size(earlier, names, (height, width))
        least = min(width, height) // 2 if min_size is None else min_size
        options = Options(width, height, least, detect, faces, frame, pad)
        order = _order(found, cut, options, limit)
        selection = Selection(dataset, found, dropped, [*dataset.ignored, *missing], Seen(duplicates), write, limit)
        with closing(_cut(dataset, cut, order, options, workers, progress, limit)) as made:
            _select(selection, order, made)
        entries = selection.entries()
        result = PrepareResult(
            out, [str(path) for path in sources], (height, width), not wanted, detect, frame, duplicates,
            len(selection.kept), left_out(entries), entries, 0, 0, target.report, target.page, dry_run,
        )  # fmt: skip
        if not selection.kept:
            raise _nothing_left(result)
        target.check()  # hours may have passed: others may have been labelled since
        earlier = read_earlier(out, target.report, sources)
        check_sources(dataset, sources, earlier)
        labels = tables(dataset, selection.kept, result.as_json(), earlier)
        result = dataclasses.replace(result, carried=labels.carried, lost=labels.lost)
        report = {name: value for name, value in result.as_json().items() if name not in UNREPORTED}
        for name, table in labels.files.items():
            write(name, table)
        write(REPORT, json.dumps(report, indent=2, ensure_ascii=False).encode())
        folder = target.beside(THUMBNAILS).name
        write(REPORT_PAGE, page(report, selection.places, folder, f"{command} --force").encode())
    return result


def _check(detect: Detect, faces: Faces, frame: Frame, pad: Pad) -> None:
    if faces == "largest" and frame == "whole":
        raise ValueError("--faces largest: --frame whole cuts out no faces; leave one out")
    if pad == "white" and detect == "none" and frame != "whole":
        raise ValueError("--pad white: --detect none crops pictures, so that none is continued; add --frame whole")
    if detect == "none":
        for option, value in (("faces", faces != "all" and faces), ("frame", frame == "bust" and frame)):
            if value:
                raise ValueError(f"--{option} {value}: needs faces, and --detect none looks for none; leave one out")
    else:
        detectors.load(detect)  # raises if an extra is missing


def _search(dataset: Dataset, detect: Detect, workers: int, progress: Progress) -> list[Found | None]:
    """The faces in each picture; None for pictures that cannot be decoded, and for all without a detector."""
    if detect == "none":
        return [None] * len(dataset)
    progress.start("faces", [identity(dataset), detectors.identity(detect)])
    done = progress.done("faces")
    missing = [i for i in range(len(dataset)) if i not in done]
    searched = dataset.map(functools.partial(find, detect=detect), missing, workers)
    bar = tqdm(searched, "faces", len(dataset), initial=len(done), unit="picture", disable=None)
    with closing(searched), bar:
        for i, result in zip(missing, bar, strict=True):
            progress.add("faces", i, result)
    results = [progress.get("faces", i) for i in range(len(dataset))]
    return [None if isinstance(result, PictureError) else result for result in results]


def _are_cut(found: Sequence[Found | None], detect: Detect) -> bool:
    """Whether pictures are cut to their faces."""
    with_faces = [bool(one.certain) for one in found if one]
    return detect not in ("auto", "none") or sum(with_faces) > FEW * len(with_faces)


def _order(
    found: Sequence[Found | None], cut: Sequence[Found | None], options: Options, limit: int | None
) -> list[Part]:
    """The order in which pictures and faces are selected: the largest first, since of copies the first is kept. With a
    limit it is random; otherwise one folder could exhaust it. Without a detector sizes are unknown, and it is that of
    the sources."""
    numbers = range(len(found)) if limit is None else np.random.RandomState(0).permutation(len(found)).tolist()
    sizes: dict[Part, int] = {}
    for i in numbers:
        if one := cut[i]:
            sizes |= {(i, face): n for face, n in sides(one, options.detect, options.frame, options.aspect).items()}
        else:
            sizes[i, None] = min(one.size) if (one := found[i]) else 0
    return sorted(sizes, key=sizes.__getitem__, reverse=True) if limit is None else [*sizes]


def _cut(
    dataset: Dataset, found: Sequence[Found | None], order: Sequence[Part], options: Options, workers: int,
    progress: Progress, limit: int | None,
) -> Generator[Fitted | PictureError]:  # fmt: skip
    """What is made from the picture of each part, in this order. Without a limit, under which not all are needed,
    pictures are read in the order of the sources: films are read fastest in that order."""
    detector = None if options.detect == "none" else detectors.identity(options.detect)
    progress.start("pictures", [RULES, identity(dataset), options, any(found), detector])
    done = progress.done("pictures")
    numbers = range(len(dataset)) if limit is None else dict.fromkeys(i for i, _ in order)
    missing = [i for i in numbers if i not in done]
    made = dataset.map(functools.partial(fit, options=options), missing, workers, (found[i] for i in missing))
    bar = tqdm(made, "pictures", len(dataset), initial=len(done), unit="picture", disable=None)
    with closing(made), bar:
        fitted = zip(missing, bar, strict=True)
        for i, face in order:
            while i not in done:
                j, result = next(fitted)
                progress.add("pictures", j, result)
                done.add(j)
            yield _only(progress.get("pictures", i), face)


def _only(fitted: Fitted | PictureError, face: int | None) -> Fitted | PictureError:
    """What was made from one part of a picture: several pictures are in memory at a time, and each may have many."""
    if isinstance(fitted, PictureError):
        return fitted
    size, made = fitted
    return size, [one for one in made if one.face == face]


def _select(selection: Selection, order: Sequence[Part], made: Iterable[Fitted | PictureError]) -> None:
    """Adds pictures and faces until the limit is reached."""
    parts = zip(order, made, strict=False)
    while block := [*itertools.islice(parts, selection.room(AHEAD))]:
        selection.expect([fitted for _, fitted in block])
        for (i, face), fitted in block:
            selection.add(i, face, fitted)
    selection.thumbnails.finish()


def _nothing_left(result: PrepareResult) -> DatasetError:
    counts = ", ".join(f"{len(files)} {reason}" for reason, files in result.left_out.items())
    first = printable("{file}: {detail}".format(**next(iter(result.left_out.values()))[0]))
    return DatasetError(f"{', '.join(result.sources)}: no picture was left ({counts}); the first is {first}")


def _common_size(
    dataset: Dataset, found: Sequence[Found | None], cut: Sequence[Found | None], detect: Detect, frame: Frame,
    workers: int,
) -> tuple[int, int]:  # fmt: skip
    """The largest square that nine of ten pictures have, a multiple of 32 from 32 to 256. If that is less than SMALL,
    the largest that half of them have, up to SMALL. Of the faces in a picture, the largest counts."""
    pixels = [shorter for one in cut if one and (shorter := side(one, detect, frame))]
    if not pixels and any(found):
        pixels = [min(one.size) for one in found if one]
    elif not pixels:
        sizes = list(dataset.map(pictures.measure, range(len(dataset)), workers))
        pixels = [min(size) for size in sizes if not isinstance(size, PictureError)]
        if not pixels:
            raise DatasetError(f"none of {counted(len(dataset), 'picture')} can be read; the first is {sizes[0]}")
    pixels.sort(reverse=True)
    most, half = pixels[-(-9 * len(pixels) // 10) - 1], pixels[-(-len(pixels) // 2) - 1]
    common = max(min(most if most >= SMALL else min(half, SMALL), 256) // 32 * 32, 32)
    return common, common
