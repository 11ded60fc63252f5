"""The verb `kyara evaluate`: how good pictures, or a generator's pictures, are."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

import torch
from tyro.conf import Positional

from kyara import __version__
from kyara.curation.scoring import load_scorer as load_recogniser
from kyara.evaluation.features import DEFAULT, load_extractor
from kyara.evaluation.report import ENOUGH, Lenses, as_json, look, score_all, table
from kyara.evaluation.sources import Reference, open_source, spread
from kyara.files.atomic import write_atomic
from kyara.files.dataset import open_dataset
from kyara.files.names import printable
from kyara.files.pictures import parse_size
from kyara.labels.tagger import load_tagger
from kyara.training.runtime import pick_device

DISTORTION = "builtin:distortion"
REALS = 10_000


def evaluate(
    a: Positional[str],
    b: Positional[Path | None] = None,
    *,
    features: str = DEFAULT,
    tagger: str = DEFAULT,
    count: int | None = None,
    reals: int = REALS,
    truncation: float = 1.0,
    size: str | None = None,
    batch: int = 64,
    workers: int = 2,
    device: str = "auto",
    out: Path | None = None,
    force: bool = False,
    json: bool = False,
) -> dict[str, Any]:
    """Score pictures, or what a generator makes, against real ones.

    Without B only what needs no real pictures is told: diversity, wholeness and attributes. Features of real
    pictures are remembered in ~/.cache/kyara.

    Args:
        a: What is scored: a Gallery, a folder or .zip of pictures, or a generator (a Checkpoint's folder,
            builtin:NAME or hf-hub:OWNER/NAME).
        b: The real pictures: a Dataset of any form.
        features: What distances are measured in: builtin:tagger, builtin:distortion, vgg16:PATH, sscd:PATH,
            dinov2 or inception:PATH; PATH#SHA256 makes sure of the file.
        tagger: Who tells whether attributes are right, or none.
        count: How many pictures of A; by default all, and of a generator 2048, of seeds 0, 1, ...
        reals: How many pictures of B, at most.
        truncation: Of a generator: 1 draws from everything it knows.
        size: Both sides are brought to this size first, as 96 or 512x256 (height x width); by default A's.
        batch: Pictures the networks look at together.
        workers: Processes that decode the real pictures.
        device: auto, cpu, cuda or cuda:N.
        out: Also write the report, as JSON, to this file.
        force: Replace an older report at --out.
        json: Print the report as JSON.

    Returns:
        The report: what was compared, and a list of scores, each with its features, resizer and counts.
    """
    b, out = None if b is None else Path(b), None if out is None else Path(out)  # from Python, texts will do
    for option, given, least in (("--count", count, 4), ("--reals", reals, 4), ("--batch", batch, 1)):
        if given is not None and given < least:
            raise ValueError(f"{option} {given}: must be {least} or more")
    if out is not None:
        check_report(out, force)
    where = pick_device(device)
    source = open_source(str(a), where, count=count, truncation=truncation)
    lenses = load_lenses(features, tagger, where, attributes=source.attributes())
    common = parse_size(size) if size else source.size()
    reference = None
    if b is not None:
        dataset = open_dataset(b)
        chosen = dataset.subset(spread(len(dataset), reals)) if len(dataset) > reals else dataset
        reference = Reference(chosen, lenses.extractor, common, workers, batch)

    seen = look(source, lenses, common, batch=batch, name=str(a))
    found = as_json(score_all(seen, lenses, common, reference))
    n = len(seen.features)
    report: dict[str, Any] = {"kyara": __version__, "a": {**source.about(), "count": n}}
    report |= {"b": reference and reference.about(), "scores": found, "warnings": warnings(n, reference)}
    if out is not None:
        text = json_format.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_atomic(out, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    print(json_format.dumps(report) if json else summary(report, out))
    return report


def load_lenses(features: str, tagger: str, device: torch.device, *, attributes: list[str]) -> Lenses:
    """The networks that are needed: a tagger where attributes are known, or where its features are measured in."""
    lenses = Lenses(load_extractor(features, device))
    if tagger != "none" and (attributes or features == tagger):
        lenses.tagger, lenses.tagger_name = load_tagger(tagger, device), tagger
    lenses.recogniser, lenses.recogniser_name = load_recogniser(DISTORTION, device), DISTORTION
    return lenses


def warnings(n: int, reference: Reference | None) -> list[str]:
    """What to know before the numbers are believed."""
    found = []
    if reference is not None and min(n, len(reference.features)) < ENOUGH:
        few = min(n, len(reference.features))
        found.append(
            f"{few:,} pictures are fewer than {ENOUGH:,}: the Fréchet distance depends more on their number than on "
            "them; go by the kernel distance"
        )
    return found


def check_report(path: Path, force: bool) -> None:
    """FileExistsError unless a report may be written to `path`; only an older report is ever replaced."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}; make it first")
    if not path.exists():
        return
    try:
        ours = {"kyara", "a", "scores"} <= set(json_format.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(f"--out {path}: holds something else; choose another name")
    if not force:
        raise FileExistsError(f"--out {path}: exists already; add --force to replace it, or choose another name")


def summary(report: dict[str, Any], out: Path | None) -> str:
    """The report for people."""
    a, b, scores = report["a"], report["b"], report["scores"]
    against = f" against {printable(b['path'])} ({b['count']:,})" if b else ""
    left_out = a.get("left_out", [])
    lines = [f"{printable(a['path'])} ({a['count']:,} pictures){against}", *table(scores)]
    used = dict.fromkeys(f"{score['features']} at {score['resizer']}" for score in scores)
    lines.append("measured by " + "; ".join(used))
    lines += [f"warning: {text}" for text in report["warnings"]]
    if left_out:
        lines.append(f"left out, cannot be read: {len(left_out):,}")
        lines += [f"  {printable(name)}: {printable(reason)}" for name, reason in left_out[:5]]
    if out is not None:
        lines.append(f"written to {out}")
    return "\n".join(lines)
