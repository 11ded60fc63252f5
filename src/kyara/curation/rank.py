"""The verb `kyara rank`: scores pictures of any source and writes a Gallery, best first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from kyara import verbs
from kyara.curation.sources import open_pictures
from kyara.files.atomic import result_folder, write_atomic
from kyara.files.dataset import Dataset
from kyara.files.gallery import PAGE, TABLE, GalleryWriter, best_first, contact_sheet
from kyara.files.names import counted, listed, short_name, slug
from kyara.files.pictures import PNG_SIGNATURE, decode, encode_png
from kyara.files.workers import CHUNK, processors, thread_map

REPORT = "report.json"
NOT_KEPT = ("file_name", "score", "source")  # Columns of an existing Gallery that are overwritten


@dataclasses.dataclass(frozen=True)
class RankResult(verbs.Result):
    """Result of `rank`."""

    pictures: int
    model: str
    checkpoint: str  # Hash of the model's weights
    kept: int = 0  # Number of pictures in the Gallery
    left_out: Sequence[Mapping[str, str]] = ()  # file_name and reason of each skipped file
    best: Sequence[Mapping[str, str]] = ()  # The first row of the Gallery's table; empty if there is none
    dry_run: bool = False

    def __str__(self) -> str:
        if self.dry_run:
            return f"would rank {counted(self.pictures, 'picture')} into {self.out}"
        of = f"{self.kept:,} of {counted(self.pictures, 'picture')}"
        lines = [f"{self.out}: {of}, best first by {self.model}"]
        if self.left_out:
            lines.append(f"left out, see {self.out}/{REPORT}: {len(self.left_out):,}")
            lines += listed((entry["file_name"], entry["reason"]) for entry in self.left_out)
        return "\n".join([*lines, f"look at {self.out}/{PAGE}"])


@verbs.checked
def rank(
    *pictures: Annotated[Positional[Path], arg(metavar="PICTURES...")],
    out: verbs.Out = None,
    model: str = "builtin:distortion",
    keep: verbs.Keep = None,
    threshold: Annotated[float | None, verbs.Range(0, 1, hint="scores are probabilities")] = None,
    batch: Annotated[int | None, verbs.Range(1, 2**16)] = None,
    workers: verbs.Threads = None,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> RankResult:
    """Score pictures and write a Gallery of copies, best first.

    The score is the probability that a picture is undistorted, 0 to 1. Pictures that cannot be read are listed in the
    summary and in report.json. The sources are not changed.

    Args:
        pictures: Pictures, folders, .zip files, Datasets or Galleries; several sources are ranked together.
        model: The scorer: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        threshold: Keep only pictures that score at least this, 0 to 1.
        batch: Pictures per batch of the network. By default 64, on a GPU up to 256, as many as its memory allows.
    """
    command = verbs.command_line(rank, locals())
    if not pictures:
        raise ValueError("no pictures given; give pictures, a folder or a .zip")
    name = f"galleries/rank-{short_name(pictures[0])}"
    out = result_folder(out, name, TABLE, force=force, sources=[*pictures, model])
    dataset = open_pictures(*pictures)

    from kyara.curation.scoring import load_scorer, score_all
    from kyara.training.runtime import pick_device

    scorer = load_scorer(model, pick_device(device))
    result = RankResult(out, len(dataset), model, scorer.checkpoint.hash, dry_run=dry_run)
    if dry_run:
        return result
    failed: dict[int, Exception] = {}
    contents: dict[int, bytes] = {}
    threads = workers or processors()
    columns = [name for name in dataset.attributes if name not in NOT_KEPT]
    with GalleryWriter(out, [*columns, "score", "source"], sources=[*pictures, model], force=force) as written:
        scores = score_all(dataset, scorer, batch=batch, workers=threads, failed=failed, contents=contents)
        order = best(scores, keep=keep, threshold=threshold)
        digits = max(4, len(str(len(order))))
        for i, content in _pngs(dataset, order, contents, threads):
            if isinstance(content, Exception):
                failed[i] = content
                continue
            cells = {name: dataset.attributes[name][i] for name in columns}
            name = f"{len(written) + 1:0{digits}d}-{slug(Path(dataset.names[i]).stem)}.png"
            written.add(name, content, score=scores[i], source=dataset.location(i).as_posix(), **cells)
        first = written.finish(command=command, sheet=contact_sheet, about=f"best first by {model}")
    unreadable = [(dataset.names[i], dataset.reason(i, failed[i])) for i in sorted(failed)]
    left_out = [{"file_name": name, "reason": reason} for name, reason in (*dataset.ignored, *unreadable)]
    result = dataclasses.replace(result, kept=len(written), left_out=left_out, best=first[:1])
    report = {name: value for name, value in result.as_json().items() if name not in ("best", "dry_run")}
    text = json.dumps(report, indent=2) + "\n"
    write_atomic(out / REPORT, lambda temporary: temporary.write_text(text))
    return result


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
