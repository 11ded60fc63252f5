"""The verb `kyara rank`: pictures of any source become a Gallery, best first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from kyara.curation.order import best
from kyara.curation.sources import open_pictures
from kyara.files.atomic import check_free, numbered_folder, write_atomic
from kyara.files.dataset import Dataset
from kyara.files.gallery import PAGE, TABLE, GalleryWriter, contact_sheet
from kyara.files.names import counted, printable, short_name, slug
from kyara.files.pictures import PNG_SIGNATURE, decode, encode_png
from kyara.files.workers import processors, thread_map
from kyara.verbs import Device, DryRun, Force, Keep, Out, Result, check_number, check_text, command_line

REPORT = "report.json"
SHOWN = 10
"""Maximum number of pictures left out that the summary names; the report names all of them."""
NOT_KEPT = ("file_name", "score", "source")
"""Columns of an earlier Gallery that ranking writes anew."""


@dataclasses.dataclass(frozen=True)
class RankResult(Result):
    """What was ranked."""

    pictures: int
    model: str
    checkpoint: str
    """Hash of the model's weights."""
    kept: int = 0
    """Pictures in the Gallery."""
    left_out: Sequence[Mapping[str, str]] = ()
    """file_name and reason of each picture that could not be used."""
    best: Sequence[Mapping[str, str]] = ()
    """The best picture's row of the Gallery's table; empty if there is none."""
    dry_run: bool = False

    def __str__(self) -> str:
        if self.dry_run:
            return f"would rank {counted(self.pictures, 'picture')} into {self.out}"
        of = f"{self.kept:,} of {counted(self.pictures, 'picture')}"
        lines = [f"{self.out}: {of}, best first by {self.model}"]
        if self.left_out:
            lines.append(f"left out, see {self.out}/{REPORT}: {len(self.left_out):,}")
            shown = [(entry["file_name"], entry["reason"]) for entry in self.left_out[:SHOWN]]
            lines += [f"  {printable(name)}: {printable(reason)}" for name, reason in shown]
            lines += ["  ..."] * (len(self.left_out) > SHOWN)
        return "\n".join([*lines, f"look at {self.out}/{PAGE}"])


def rank(
    *pictures: Annotated[Positional[Path], arg(metavar="PICTURES...")],
    out: Out = None,
    model: str = "builtin:distortion",
    keep: Keep = None,
    threshold: float | None = None,
    batch: int = 64,
    workers: int | None = None,
    device: Device = "auto",
    force: Force = False,
    dry_run: DryRun = False,
) -> RankResult:
    """Score pictures and write a Gallery of copies, best first.

    The score is the probability that a picture is whole and not distorted, 0 to 1. Pictures that cannot be read are
    listed in the summary and in report.json. The pictures themselves are not changed.

    Args:
        pictures: Pictures, folders, .zip files, Datasets or Galleries; several are ranked together.
        model: The scorer: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        threshold: Keep only pictures that score at least this, 0 to 1.
        batch: Pictures per batch of the network.
        workers: Threads that decode pictures. By default one per processor core.
    """
    sources = [Path(path) for path in pictures]  # from Python they may be str
    command = command_line(rank, locals())
    check_number("--keep", keep, least=1)
    check_number("--threshold", threshold, least=0, most=1, hint="scores are probabilities")
    check_number("--batch", batch, least=1, most=2**16)
    check_number("--workers", workers, least=1, most=2**10)
    check_text("--model", model)
    if not sources:
        raise ValueError("no pictures given; name pictures, a folder or a .zip")
    out = Path(out) if out else numbered_folder(Path("galleries"), f"rank-{short_name(sources[0])}")
    check_free(out, TABLE, force=force, sources=[*sources, model])
    dataset = open_pictures(*sources)

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
    with GalleryWriter(out, [*columns, "score", "source"], sources=[*sources, model], force=force) as written:
        scores = score_all(dataset, scorer, batch=batch, workers=threads, failed=failed, contents=contents)
        order = best(scores, keep=keep, threshold=threshold)
        _add_pictures(written, dataset, order, scores, contents, failed, threads)
        first = written.finish(command=command, sheet=contact_sheet, about=f"best first by {model}")
    left_out = [*dataset.ignored, *((dataset.names[i], dataset.reason(i, failed[i])) for i in sorted(failed))]
    result = dataclasses.replace(
        result,
        kept=len(written),
        left_out=[{"file_name": name, "reason": reason} for name, reason in left_out],
        best=first[:1],
    )
    report = {name: value for name, value in result.as_json().items() if name not in ("best", "dry_run")}
    text = json.dumps(report, indent=2) + "\n"
    write_atomic(out / REPORT, lambda temporary: temporary.write_text(text))
    return result


def _add_pictures(
    written: GalleryWriter,
    dataset: Dataset,
    order: Sequence[int],
    scores: Sequence[float],
    contents: dict[int, bytes],
    failed: dict[int, Exception],
    threads: int,
) -> None:
    """Writes the pictures in their order, from `contents` if their files are kept there. Those that cannot be decoded
    go to `failed`."""

    def png(i: int) -> bytes:
        """The picture as a PNG; one that is a PNG already stays as it is, with its recipe."""
        content = contents.pop(i, None) or dataset.read(i)
        return content if content.startswith(PNG_SIGNATURE) else encode_png(decode(content, f"{dataset.location(i)}"))

    digits = max(4, len(str(len(order))))
    for i, content in thread_map(png, order, threads, depth=4 * threads):
        if isinstance(content, Exception):
            failed[i] = content
            continue
        cells = {name: column[i] for name, column in dataset.attributes.items() if name not in NOT_KEPT}
        name = f"{len(written) + 1:0{digits}d}-{slug(Path(dataset.names[i]).stem)}.png"
        written.add(name, content, score=scores[i], source=dataset.location(i).as_posix(), **cells)
