"""The verb `kyara rank`: scores pictures of any source and writes a Gallery, best first."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from tyro.conf import Positional, arg

from kyara import verbs
from kyara.curation.sources import open_pictures, open_to_rank
from kyara.files.atomic import result_folder, still_free, write_atomic
from kyara.files.dataset import Dataset
from kyara.files.gallery import BESIDE, ON_PAGE, PAGE, PAIRS, TABLE, GalleryWriter, best_first, contact_sheet
from kyara.files.gallery_page import COPY, COPY_OF, MARK, PART_COLUMNS, UNFAMILIAR
from kyara.files.metadata import csv_text
from kyara.files.names import counted, listed, short_name, slug
from kyara.files.pictures import PNG_SIGNATURE, decode, encode_png
from kyara.files.shards import Runner
from kyara.files.workers import processors, thread_map

if TYPE_CHECKING:  # they import torch
    from kyara.curation.copies import Originals
    from kyara.curation.judging import Judged

REPORT, NEAREST = "report.json", "nearest.csv"
TEN = 10  # Pictures beside each of the first ones on the page
NOT_KEPT = (
    "file_name",
    "score",
    "source",
    *PART_COLUMNS,
    UNFAMILIAR,
    COPY,
    COPY_OF,
)  # Columns of an existing Gallery: replaced
BUILTIN = "builtin:distortion"
ALSO = {"quality": "", "both": " and content", "content": ", content only"}  # what the score is made of


@dataclasses.dataclass(frozen=True)
class RankResult(verbs.Result):
    """Result of `rank`."""

    pictures: int
    model: str
    checkpoint: str  # Hash of the model's weights
    by: str = "both"  # quality, content or both
    kept: int = 0  # Number of pictures in the Gallery
    unfamiliar: int = 0  # Number of pictures in an unfamiliar style, for which scores are not calibrated
    like: Path | None = None  # The clean pictures with which they were compared
    copies_of: Path | None = None  # The dataset in which originals were searched
    copies: int = 0  # Number of pictures marked as copies, those that were left out included
    left_out: Sequence[Mapping[str, str]] = ()  # file_name and reason of each skipped file
    best: Sequence[Mapping[str, str]] = ()  # The first row of the Gallery's table; empty if there is none
    dry_run: bool = False

    def __str__(self) -> str:
        if self.dry_run:
            return f"would rank {counted(self.pictures, 'picture')} into {self.out}"
        of = f"{self.kept:,} of {counted(self.pictures, 'picture')}"
        lines = [f"{self.out}: {of}, best first by {self.model}{ALSO[self.by]}"]
        if self.unfamiliar:
            those = counted(self.unfamiliar, "picture")
            hint = f"They are unlike those of {self.like}" if self.like else "For scores, see --like"
            lines.append(f"unfamiliar style: {those}; use the order, not the scores. {hint}")
        if self.copies_of is not None:
            lines.append(f"copies of {self.copies_of}: {counted(self.copies, 'picture')}")
        if self.left_out:
            lines.append(f"left out or passed over, see {self.out}/{REPORT}: {len(self.left_out):,}")
            lines += listed((entry["file_name"], entry["reason"]) for entry in self.left_out)
        return "\n".join([*lines, f"look at {self.out}/{PAGE}"])


@verbs.checked
def rank(
    *pictures: Annotated[Positional[Path], arg(metavar="PICTURES...")],
    out: verbs.Out = None,
    model: str = BUILTIN,
    by: Literal["both", "quality", "content"] = "both",
    like: verbs.ExistingPath | None = None,
    keep: verbs.Keep = None,
    threshold: Annotated[float | None, verbs.Range(0, 1, hint="for 90 % write 0.9")] = None,
    any_style: bool = False,
    copies_of: verbs.ExistingPath | None = None,
    copy_threshold: Annotated[float | None, verbs.Range(0, 1)] = None,
    batch: Annotated[int | None, verbs.Range(1, 2**16)] = None,
    workers: verbs.Threads = None,
    engine: verbs.Engine = "local",
    processes: verbs.Processes = None,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> RankResult:
    """Score pictures and write a Gallery of copies, best first.

    The score, 0 to 1, is made of quality, the probability that a picture is undistorted, and content: whether eyes,
    mouth and face look as in clean drawings. Of clean drawings, 95 % score above 0.5. Pictures that cannot be read are
    listed in the summary and in report.json. The sources are not changed. With more than 4,096 pictures, an interrupted
    run goes on where it stopped.

    Args:
        pictures: Pictures, folders, .zip files, Datasets or Galleries; several sources are ranked together.
        model: The scorer of the quality: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        by: What the score is made of. Quality alone is the fastest, and needs no face.
        like: Clean pictures in your style, 20 or more, to compare with: a folder, .zip, Dataset or Gallery.
        threshold: Keep only pictures that score at least this, 0 to 1. Refused if the style is unfamiliar.
        any_style: Apply --threshold in an unfamiliar style too.
        copies_of: The pictures of which there may be copies, such as those that a generator was trained on: a folder,
            .zip, Dataset or Gallery. The page shows the nearest of them beside each picture, and marks copies.
        copy_threshold: Leave out pictures whose copy score is at least this, 0 to 1; 0.5 leaves out what is marked.
        batch: Pictures per batch of the network. By default 64, on a GPU up to 256, as many as its memory allows.
    """
    command = verbs.command_line(rank, locals())
    if not pictures:
        raise ValueError("no pictures given; give pictures, a folder or a .zip")
    name = f"galleries/rank-{short_name(pictures[0])}"
    if copy_threshold is not None and copies_of is None:
        raise ValueError(f"--copy-threshold {copy_threshold}: needs --copies-of DATA")
    if any_style and threshold is None:
        raise ValueError("--any-style: only applies to --threshold; add --threshold, or leave it out")
    sources: list[str | Path] = [*pictures, model, *filter(None, [like, copies_of])]
    default, out = out is None, result_folder(out, name, TABLE, force=force, sources=sources)
    _check_outside(out, pictures, default)
    dataset = open_to_rank(*pictures)
    known = open_pictures(copies_of) if copies_of else None
    # Its name begins with no number: the same command takes the same folder.
    place = out.resolve()  # --out . has no name
    runner = Runner(place.with_name(f"shards-{place.name}"), engine, processes)

    from kyara.curation.copies import Index
    from kyara.curation.judging import FEW, learn_style
    from kyara.curation.scoring import batch_size, load_scorer
    from kyara.curation.task import JudgeTask, Loaded, judged_in_shards, moved
    from kyara.training.runtime import pick_device

    scorer = load_scorer(model, pick_device(device))
    result = RankResult(
        out, len(dataset), model, scorer.checkpoint.hash, by=by, like=like, copies_of=copies_of, dry_run=dry_run
    )
    if dry_run:
        return result
    threads = workers or processors()
    judge = learn_style(open_pictures(like), scorer, batch=batch, workers=threads) if like else None
    contents: dict[int, bytes] = {}
    size = batch or batch_size(scorer)
    task = JudgeTask(dataset, model, by, moved(judge, "cpu"), model == BUILTIN, device, size, threads)
    scores, failed = judged_in_shards(task, runner, Loaded(scorer, judge, contents))
    if threshold is not None and scores.unfamiliar_share > FEW and not any_style:
        share = f"{scores.unfamiliar_share:.0%} of the pictures are in an unfamiliar style"
        raise ValueError(f"--threshold {threshold}: {share}; give clean pictures in it to --like, or add --any-style")
    order, originals = best(scores.scores, threshold=threshold), None
    if known is not None:
        searched = order if copy_threshold is not None else order[:keep]
        originals = Index(known, device, workers=threads, batch=batch, runner=runner).find(dataset, searched)
        order = [i for i in searched if copy_threshold is None or originals.scores[i] < copy_threshold]
        result = dataclasses.replace(result, copies=int((originals.scores[searched] >= MARK).sum()))
    order = order[:keep]
    columns = [name for name in dataset.attributes if name not in NOT_KEPT]
    parts = PART_COLUMNS if scores.parts is not None else ()
    flag = (UNFAMILIAR,) if any(scores.unfamiliar) else ()
    copy = (COPY, COPY_OF) if originals else ()
    names = [*columns, "score", *parts, *flag, *copy, "source"]
    out = still_free(out, TABLE, force=force)
    result = dataclasses.replace(result, out=out)
    with GalleryWriter(out, names, sources=sources, force=force) as written:
        pngs, digits = _pngs(dataset, order, contents, threads), max(4, len(str(len(order))))
        nearest = _add(written, pngs, dataset, scores, originals, columns=columns, digits=digits, failed=failed)
        about = f"best first by {model}{ALSO[by]}" + ", unfamiliar style" * (scores.unfamiliar_share > FEW)
        about += f", beside the nearest of {copies_of}" if copies_of else ""
        unreadable = [(dataset.names[i], failed[i]) for i in sorted(failed)]
        not_used = [*dataset.ignored, *unreadable, *(originals.left_out() if originals else [])]
        first = written.finish(command=command, sheet=contact_sheet, about=about, left_out=not_used)
    result = dataclasses.replace(result, unfamiliar=sum(scores.unfamiliar[i] for i in order))
    left_out = [{"file_name": name, "reason": reason} for name, reason in not_used]
    result = dataclasses.replace(result, kept=len(written), left_out=left_out, best=first[:1])
    report = {name: value for name, value in result.as_json().items() if name not in ("best", "dry_run")}
    _write(out / REPORT, json.dumps(report, indent=2) + "\n")
    if originals:
        _write(out / NEAREST, csv_text([("file_name", "nearest", "similarity"), *nearest]))
    runner.remove()
    return result


def _check_outside(out: Path, sources: Sequence[Path], default: bool) -> None:
    """ValueError if `out` is inside a source: the next run would rank its copies as well."""
    for source in map(Path, sources):
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            if default:
                raise ValueError(f"{source}: the result would be inside of it; give --out with a folder elsewhere")
            raise ValueError(f"--out {out}: is inside {source}, which is ranked; choose a folder elsewhere")


def _write(path: Path, text: str) -> None:
    write_atomic(path, functools.partial(Path.write_text, data=text, encoding="utf-8", errors="surrogateescape"))


def _add(
    written: GalleryWriter,
    pngs: Iterator[tuple[int, bytes | Exception]],
    dataset: Dataset,
    judged: Judged,
    originals: Originals | None,
    *,
    columns: Sequence[str],
    digits: int,
    failed: dict[int, str],
) -> list[tuple[str, str, str]]:
    """Adds the pictures with their scores and the attributes `columns`; those that cannot be read go to `failed`.
    Returns file name, name and similarity of each of the nearest `originals`."""
    nearest = []
    for i, content in pngs:
        if isinstance(content, Exception):
            failed[i] = dataset.reason(i, content)
            continue
        cells = {name: dataset.attributes[name][i] for name in columns} | judged.cells(i)
        name = f"{len(written) + 1:0{digits}d}-{slug(Path(dataset.names[i]).stem)}.png"
        beside: list[np.ndarray] = []
        if originals:
            cells |= originals.cells(i)
            nearest += [(name, *row) for row in originals.rows(i)]
            shown = TEN if len(written) < PAIRS else int(len(written) < ON_PAGE)
            beside = originals.pictures(i, shown, at_least=BESIDE)
        source = dataset.location(i).as_posix()
        written.add(name, content, None, None, beside, score=judged.scores[i], source=source, **cells)
    return nearest


def best(scores: Sequence[float], threshold: float | None = None) -> list[int]:
    """Indices of the pictures with a score of at least `threshold`, best first. Ties keep their order; NaN (no score)
    is left out."""
    lowest = 0.0 if threshold is None else threshold
    return best_first(scores, (i for i, score in enumerate(scores) if score >= lowest))


def _pngs(
    dataset: Dataset, order: Sequence[int], contents: dict[int, bytes], threads: int
) -> Iterator[tuple[int, bytes | Exception]]:
    """Yields (index, PNG or exception) in order; file contents are taken from `contents` if they are there. PNG files
    are copied unchanged, with their recipe."""

    def png(i: int) -> bytes:
        content = contents.pop(i, None) or dataset.read(i)
        return content if content.startswith(PNG_SIGNATURE) else encode_png(decode(content, f"{dataset.location(i)}"))

    return thread_map(png, order, threads, depth=2 * threads)  # pictures may have many megabytes
