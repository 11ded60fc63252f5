"""The verb `kyara rank`: scores pictures of any source and writes a Gallery, best first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

import kyara
from kyara import verbs
from kyara.curation.sources import open_pictures
from kyara.files import shards
from kyara.files.atomic import result_folder, write_atomic
from kyara.files.dataset import Dataset
from kyara.files.gallery import PAGE, TABLE, GalleryWriter, best_first, contact_sheet
from kyara.files.gallery_page import PART_COLUMNS, UNFAMILIAR
from kyara.files.names import counted, listed, short_name, slug
from kyara.files.pictures import PNG_SIGNATURE, decode, encode_png
from kyara.files.workers import CHUNK, processors, thread_map

if TYPE_CHECKING:  # it imports torch
    from kyara.curation.judging import Judged

REPORT = "report.json"
NOT_KEPT = ("file_name", "score", "source", *PART_COLUMNS, UNFAMILIAR)  # Columns of an existing Gallery: replaced
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
            lines.append(f"unfamiliar style: {those}; use the order, not the scores. For scores, see --like")
        if self.left_out:
            lines.append(f"left out, see {self.out}/{REPORT}: {len(self.left_out):,}")
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
    threshold: Annotated[float | None, verbs.Range(0, 1, hint="scores are probabilities")] = None,
    any_style: bool = False,
    batch: Annotated[int | None, verbs.Range(1, 2**16)] = None,
    workers: verbs.Threads = None,
    engine: shards.Engine = "local",
    processes: Annotated[int, verbs.Range(1, 4096)] = 2,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> RankResult:
    """Score pictures and write a Gallery of copies, best first.

    The score, 0 to 1, is made of quality, the probability that a picture is undistorted, and content: whether eyes,
    mouth and face look as in clean drawings. 0.5 is what 5 % of clean drawings fall below. Pictures that cannot be
    read are listed in the summary and in report.json. The sources are not changed. With more than 4,096 pictures, an
    interrupted run goes on where it stopped.

    Args:
        pictures: Pictures, folders, .zip files, Datasets or Galleries; several sources are ranked together.
        model: The scorer of the quality: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        by: What the score is made of. Quality alone is the fastest, and needs no face.
        like: Clean pictures in your style, 20 or more, to compare with: a folder, .zip, Dataset or Gallery.
        threshold: Keep only pictures that score at least this, 0 to 1. Refused if the style is unfamiliar.
        any_style: Apply --threshold in an unfamiliar style too.
        batch: Pictures per batch of the network. By default 64, on a GPU up to 256, as many as its memory allows.
        engine: local is this process; ray is Ray Data (pip install '.[scale]'), on this machine or on the cluster
            at RAY_ADDRESS, whose machines must see the same files.
        processes: Number of processes with --engine ray.
    """
    command = verbs.command_line(rank, locals())
    if not pictures:
        raise ValueError("no pictures given; give pictures, a folder or a .zip")
    name = f"galleries/rank-{short_name(pictures[0])}"
    sources: list[str | Path] = [*pictures, model, *([like] if like else [])]
    out = result_folder(out, name, TABLE, force=force, sources=sources)
    dataset = open_pictures(*pictures)

    import torch

    from kyara.curation.judging import FEW, judged, learn_style
    from kyara.curation.scoring import batch_size, load_scorer
    from kyara.curation.task import JudgeTask
    from kyara.training.runtime import pick_device

    scorer = load_scorer(model, pick_device(device))
    result = RankResult(out, len(dataset), model, scorer.checkpoint.hash, by=by, dry_run=dry_run)
    if dry_run:
        return result
    threads = workers or processors()
    judge = learn_style(open_pictures(like), scorer, batch=batch, workers=threads) if like else None
    contents: dict[int, bytes] = {}
    task = JudgeTask(
        pictures, model, by, judge, model == BUILTIN, device, batch or batch_size(scorer), threads,
        torch.get_num_threads(), contents,
    )  # fmt: skip
    pieces = out.with_name(f"{out.name}.shards")
    key = {
        "data": dataset.fingerprint, "scorer": scorer.checkpoint.hash, "by": by, "batch": task.batch,
        "like": None if like is None else open_pictures(like).fingerprint, "version": kyara.__version__,
    }  # fmt: skip
    task = task if engine == "local" else task.for_other_processes()
    found = shards.run(task, len(dataset), engine=engine, processes=processes, folder=pieces, key=key)
    scores, failed = judged(found.values, by=by), dict(found.failed)
    if threshold is not None and scores.unfamiliar_share > FEW and not any_style:
        share = f"{scores.unfamiliar_share:.0%} of the pictures are in an unfamiliar style"
        raise ValueError(f"--threshold {threshold}: {share}; give clean pictures in it to --like, or add --any-style")
    order = best(scores.scores, keep=keep, threshold=threshold)
    columns = [name for name in dataset.attributes if name not in NOT_KEPT]
    parts = PART_COLUMNS if scores.parts is not None else ()
    flag = (UNFAMILIAR,) if any(scores.unfamiliar) else ()
    with GalleryWriter(out, [*columns, "score", *parts, *flag, "source"], sources=sources, force=force) as written:
        pngs = _pngs(dataset, order, contents, threads)
        _add(written, pngs, dataset, scores, columns=columns, digits=max(4, len(str(len(order)))), failed=failed)
        about = f"best first by {model}{ALSO[by]}" + ", unfamiliar style" * (scores.unfamiliar_share > FEW)
        first = written.finish(command=command, sheet=contact_sheet, about=about)
    result = dataclasses.replace(result, unfamiliar=sum(scores.unfamiliar[i] for i in order))
    unreadable = [(dataset.names[i], failed[i]) for i in sorted(failed)]
    left_out = [{"file_name": name, "reason": reason} for name, reason in (*dataset.ignored, *unreadable)]
    result = dataclasses.replace(result, kept=len(written), left_out=left_out, best=first[:1])
    report = {name: value for name, value in result.as_json().items() if name not in ("best", "dry_run")}
    text = json.dumps(report, indent=2) + "\n"
    write_atomic(out / REPORT, lambda temporary: temporary.write_text(text))
    shards.remove(pieces)
    return result


def _add(
    written: GalleryWriter,
    pngs: Iterator[tuple[int, bytes | Exception]],
    dataset: Dataset,
    judged: Judged,
    *,
    columns: Sequence[str],
    digits: int,
    failed: dict[int, str],
) -> None:
    """Adds the pictures with their scores and the attributes `columns`; those that cannot be read go to `failed`."""
    for i, content in pngs:
        if isinstance(content, Exception):
            failed[i] = dataset.reason(i, content)
            continue
        cells = {name: dataset.attributes[name][i] for name in columns} | judged.cells(i)
        name = f"{len(written) + 1:0{digits}d}-{slug(Path(dataset.names[i]).stem)}.png"
        written.add(name, content, score=judged.scores[i], source=dataset.location(i).as_posix(), **cells)


def best(scores: Sequence[float], *, keep: int | None = None, threshold: float | None = None) -> list[int]:
    """Indices of at most `keep` pictures with a score of at least `threshold`, best first. Ties keep their order; NaN
    (no score) is left out."""
    lowest = 0.0 if threshold is None else threshold
    return best_first(scores, (i for i, score in enumerate(scores) if score >= lowest))[:keep]


def _pngs(
    dataset: Dataset, order: Sequence[int], contents: dict[int, bytes], threads: int
) -> Iterator[tuple[int, bytes | Exception]]:
    """Yields (index, PNG or exception) in order; file contents are taken from `contents` if they are there. PNG files
    are copied unchanged, with their recipe."""

    def png(i: int) -> bytes:
        content = contents.pop(i, None) or dataset.read(i)
        return content if content.startswith(PNG_SIGNATURE) else encode_png(decode(content, f"{dataset.location(i)}"))

    return thread_map(png, order, threads, depth=4 * CHUNK * threads, chunk=CHUNK)
