"""The verb `kyara evaluate`: scores pictures, or the pictures of a generator."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kyara import __version__, verbs
from kyara.evaluation import shared
from kyara.evaluation.shared import FRECHET_COUNT, format_interval, format_number
from kyara.files.atomic import write_text
from kyara.files.names import counted, printable
from kyara.files.pictures import parse_size

if TYPE_CHECKING:
    from kyara.evaluation.scores import Networks, Score
    from kyara.evaluation.sets import PictureSet

WORKERS = 2
UNFAMILIAR = "unfamiliar style: the score of kyara rank is too low; compare with 40 real pictures or more"


@dataclasses.dataclass(frozen=True)
class EvaluateResult(verbs.Result):
    """The scores of a set of pictures."""

    kyara: str  # The version of Kyara
    a: dict[str, Any]
    """The pictures: kind, path, count; for files also left_out; for a generator checkpoint, seeds and truncation."""
    b: dict[str, Any] | None  # The real pictures: path, fingerprint, count
    scores: tuple[Score, ...] = ()
    warnings: tuple[str, ...] = ()
    dry_run: bool = False

    def __str__(self) -> str:
        against = f" against {printable(self.b['path'])} ({self.b['count']:,})" if self.b else ""
        what = f"{printable(self.a['path'])} ({counted(self.a['count'], 'picture')}){against}"
        warnings = [f"warning: {text}" for text in self.warnings]
        if self.dry_run:
            return "\n".join([f"would score {what}" + (f" into {self.out}" if self.out else ""), *warnings])
        used = dict.fromkeys(f"{score.features} at {score.resizer}" for score in self.scores)
        lines = [what, *map(_line, self.scores), "measured by " + "; ".join(used), *warnings]
        if left_out := self.a.get("left_out", []):
            lines.append(f"left out, cannot be read: {len(left_out):,}")
            lines += [f"  {printable(name)}: {printable(reason)}" for name, reason in left_out[:5]]
        if self.out is not None:
            lines.append(f"written to {self.out}")
        return "\n".join(lines)


def _line(score: Score) -> str:
    better = {"near 1": "1 is best", "neither": ""}.get(score.better, f"{score.better} is better")
    interval = format_interval(score.low, score.high)
    return f"  {score.what:<52} {format_number(score.value):>9}  {interval:<22} {better}".rstrip()


@verbs.checked
def evaluate(
    a: Positional[str],
    b: Positional[Path | None] = None,
    *,
    features: shared.Features = shared.FEATURES,
    tagger: shared.Tagger = None,
    count: Annotated[int | None, shared.Count] = None,
    reals: shared.Reals = shared.REALS,
    truncation: shared.Truncation = 1.0,
    size: shared.Size = None,
    batch: shared.Batch = None,
    workers: verbs.Workers = WORKERS,
    device: verbs.Device = "auto",
    out: Annotated[Path | None, arg(help="Also write the scores to this JSON file.")] = None,
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> EvaluateResult:
    """Score pictures, or the pictures of a generator, against real ones.

    Without B, only scores that need no real pictures are computed: diversity, distortion and attributes. Features
    of real pictures are cached in ~/.cache/kyara.

    Args:
        a: The pictures to score: a Gallery, a folder or .zip of pictures, or a generator (a Checkpoint's folder,
            builtin:NAME or hf-hub:OWNER/NAME).
        b: The real pictures: a Dataset in any form.
        count: Number of pictures of A; by default all, or seeds 0 to 2047 for a generator.
    """
    common = None if size is None else parse_size(size)
    if b is None and reals != shared.REALS:
        raise ValueError(f"--reals {reals}: needs real pictures; give them as B")
    if b is None and workers != WORKERS:
        raise ValueError(f"--workers {workers}: they decode real pictures; give them as B")
    if out is not None:
        check_report(out, force)
    elif force:
        raise ValueError("--force: needs --out, the report that it replaces; leave it out")

    from kyara.evaluation.scores import FEWEST, all_scores, load_networks, run_networks
    from kyara.evaluation.sets import FileSet, RealSet, first_size, open_reals, open_set
    from kyara.training.runtime import pick_device

    where = pick_device(device)
    dataset = None if b is None else open_reals(b, reals, FEWEST)
    pictures = open_set(a, where, count=count, truncation=truncation)
    if truncation != 1.0 and isinstance(pictures, FileSet):
        raise ValueError(f"--truncation {truncation:g}: is for generators, but {a} has pictures; leave it out")
    common = common or pictures.size()
    networks = load_networks(features, tagger, where, size=common, attributes=pictures.attributes(), reals=dataset)
    batch = batch or networks.extractor.batch_size(common)
    real = None if dataset is None else RealSet(dataset, networks.extractor, common, workers, batch)

    smaller = None if dataset is None else enlarged(first_size(dataset), common)

    circular = own_labels(pictures, networks)

    def result(n: int, m: int, scores: tuple[Score, ...] = (), *, unfamiliar: bool = False) -> EvaluateResult:
        about, compared = {**pictures.about(), "count": n}, None if real is None else {**real.about(), "count": m}
        few = f"{counted(min(n, m), 'picture')} are fewer than {FRECHET_COUNT:,}"
        warning = f"{few}: the Fréchet distance is strongly biased for so few; use KID"
        warnings: tuple[str, ...] = (warning,) if real is not None and min(n, m) < FRECHET_COUNT else ()
        warnings += (UNFAMILIAR,) if unfamiliar else ()
        warnings += (smaller,) if smaller else ()
        warnings += (circular,) if circular else ()
        return EvaluateResult(out, __version__, about, compared, scores, warnings, dry_run)

    if dry_run:
        return result(pictures.total(), 0 if dataset is None else len(dataset))
    outputs = run_networks(pictures, networks, common, batch=batch, name=a)
    scores = tuple(all_scores(outputs, networks, common, real))
    compared = 0 if real is None else len(real.features)
    found = result(len(outputs.features), compared, scores, unfamiliar=outputs.unfamiliar)
    if out is not None:
        try:
            write_text(out, shared.to_json(found))
        except OSError as error:  # the scores may have taken hours
            raise OSError(f"{error}\n{dataclasses.replace(found, out=None)}") from error
    return found


def own_labels(pictures: PictureSet, networks: Networks) -> str | None:
    """A warning if the tagger is to judge labels that it wrote itself: it would agree with all of them."""
    from kyara.evaluation.sets import FileSet

    if networks.tagger is None or not isinstance(pictures, FileSet):
        return None
    written = pictures.labelled_by(networks.tagger_name)
    judged = [name for name in networks.tagger.attributes if written[name]]
    if not judged:
        return None
    counts = ", ".join(f"{written[name]:,} of {name}" for name in judged)
    accuracies = ", ".join(f'"shows its {name}"' for name in judged)
    name = networks.tagger_name
    return f"labels that {name} wrote itself ({counts}): {accuracies} says nothing about them; give another --tagger"


def enlarged(real: tuple[int, int], common: tuple[int, int]) -> str | None:
    """A warning if real pictures of this width and height are smaller than the size at which sets are compared."""
    if min(real) >= min(common):
        return None
    (width, height), (wide, high) = real, common
    size = f"{height}" if width == height else f"{height}x{width}"
    return f"the real pictures ({width}x{height}) are enlarged to {wide}x{high}, which blurs them; give --size {size}"


def check_report(path: Path, force: bool) -> None:
    """Raises OSError if `path` cannot be written, or exists, unless it is an earlier report and `force` is set."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise FileExistsError(f"--out {path}: is a folder; give the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"--out {path}: {path.parent} is not writable; choose another folder")
    if not path.exists():
        return
    try:
        ours = {"kyara", "a", "scores"} <= set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise FileExistsError(f"--out {path}: contains other data; choose another name")
    if not force:
        raise FileExistsError(f"--out {path}: already exists; add --force to replace it, or choose another name")
