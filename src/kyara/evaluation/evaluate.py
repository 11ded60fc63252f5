"""The verb `kyara evaluate`: how good pictures are, or the pictures of a generator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kyara import __version__
from kyara.evaluation import options
from kyara.files.atomic import write_atomic
from kyara.files.names import printable
from kyara.files.pictures import parse_size
from kyara.verbs import Device, Force, Result, Workers, check_number, check_text

if TYPE_CHECKING:
    from kyara.evaluation.scores import Score


@dataclass(frozen=True)
class EvaluateResult(Result):
    """The scores of a set of pictures."""

    kyara: str
    """The version of Kyara."""
    a: dict[str, Any]
    """The pictures: kind, path, count; of files what was left out; of a generator checkpoint, seeds and truncation."""
    b: dict[str, Any] | None
    """The real pictures: path, fingerprint, count."""
    scores: tuple[Score, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        from kyara.evaluation.scores import format_table

        against = f" against {printable(self.b['path'])} ({self.b['count']:,})" if self.b else ""
        lines = [f"{printable(self.a['path'])} ({self.a['count']:,} pictures){against}", *format_table(self.scores)]
        used = dict.fromkeys(f"{score.features} at {score.resizer}" for score in self.scores)
        lines.append("measured by " + "; ".join(used))
        lines += [f"warning: {text}" for text in self.warnings]
        if left_out := self.a.get("left_out", []):
            lines.append(f"left out, cannot be read: {len(left_out):,}")
            lines += [f"  {printable(name)}: {printable(reason)}" for name, reason in left_out[:5]]
        if self.out is not None:
            lines.append(f"written to {self.out}")
        return "\n".join(lines)


def evaluate(
    a: Positional[str],
    b: Positional[Path | None] = None,
    *,
    features: options.Features = options.FEATURES,
    tagger: options.Tagger = options.FEATURES,
    count: int | None = None,
    reals: options.Reals = options.REALS,
    truncation: options.Truncation = 1.0,
    size: options.Size = None,
    batch: options.Batch = 64,
    workers: Workers = 2,
    device: Device = "auto",
    out: Annotated[Path | None, arg(help="Also write the scores to this JSON file.")] = None,
    force: Force = False,
) -> EvaluateResult:
    """Score pictures, or the pictures of a generator, against real ones.

    Without B only the scores that need no real pictures are computed: diversity, distortion and attributes. Features
    of real pictures are cached in ~/.cache/kyara.

    Args:
        a: What is scored: a Gallery, a folder or .zip of pictures, or a generator (a Checkpoint's folder,
            builtin:NAME or hf-hub:OWNER/NAME).
        b: The real pictures: a Dataset of any form.
        count: Number of pictures of A; by default all, or seeds 0 to 2047 of a generator.
    """
    check_text("A", a)
    check_text("B", b)
    check_text("--out", out)
    a, b, out = str(a), None if b is None else Path(b), None if out is None else Path(out)
    check_number("--count", count, least=4, most=options.MOST_PICTURES)
    options.check(
        features=features,
        tagger=tagger,
        reals=reals,
        least_reals=4,
        truncation=truncation,
        batch=batch,
        workers=workers,
    )
    common = None if size is None else parse_size(size)
    if out is not None:
        check_report(out, force)

    from kyara.evaluation.scores import all_scores, load_networks, run_networks
    from kyara.evaluation.sets import RealSet, evenly_spaced, open_set
    from kyara.files.dataset import open_dataset
    from kyara.training.runtime import pick_device

    where = pick_device(device)
    dataset = None if b is None else open_dataset(b)
    pictures = open_set(a, where, count=count, truncation=truncation)
    networks = load_networks(features, tagger, where, attributes=pictures.attributes())
    common = common or pictures.size()
    real = None
    if dataset is not None:
        real = RealSet(dataset.subset(evenly_spaced(len(dataset), reals)), networks.extractor, common, workers, batch)
    outputs = run_networks(pictures, networks, common, batch=batch, name=a)
    scores = all_scores(outputs, networks, common, real)
    n = len(outputs.features)
    about = {**pictures.about(), "count": n}
    warnings = few_pictures(n, None if real is None else len(real.features))
    result = EvaluateResult(out, __version__, about, None if real is None else real.about(), tuple(scores), warnings)
    if out is not None:
        report = {key: value for key, value in result.as_json().items() if key != "out"}
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_atomic(out, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    return result


def few_pictures(count: int, reals: int | None) -> tuple[str, ...]:
    """A warning if there are too few pictures for the Fréchet distance."""
    from kyara.evaluation.scores import FRECHET_COUNT

    if reals is None or (few := min(count, reals)) >= FRECHET_COUNT:
        return ()
    return (
        f"{few:,} pictures are fewer than {FRECHET_COUNT:,}: the Fréchet distance then depends mostly on their number; "
        "rely on KID",
    )


def check_report(path: Path, force: bool) -> None:
    """FileExistsError unless a report may be written to `path`; only an older report is replaced, with `force`."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise FileExistsError(f"--out {path}: is a folder; give the name of a file")
    if not path.exists():
        return
    try:
        ours = {"kyara", "a", "scores"} <= set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(f"--out {path}: holds something else; choose another name")
    if not force:
        raise FileExistsError(f"--out {path}: exists already; add --force to replace it, or choose another name")
