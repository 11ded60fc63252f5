"""The verb `kyara compare`: trained models side by side, on one page."""

from __future__ import annotations

import json as json_format
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

from kyara import __version__
from kyara.evaluation import metrics
from kyara.evaluation.evaluate import REALS, load_lenses
from kyara.evaluation.features import DEFAULT, Size
from kyara.evaluation.page import page
from kyara.evaluation.report import ENOUGH, Lenses, Score, against, look, number, score_all
from kyara.evaluation.sources import COUNT, Made, Part, Reference, spread
from kyara.files import checkpoint
from kyara.files.atomic import free_folder, write_atomic
from kyara.files.dataset import open_dataset
from kyara.files.names import printable
from kyara.files.pictures import parse_size
from kyara.generation.sampler import load_generator
from kyara.models.base import Generator
from kyara.training.log import STATS
from kyara.training.runtime import pick_device
from kyara.verbs import command_line

TABLE, PAGE = "comparison.json", "index.html"
SHEET, EXTREMES = 36, 8
"""Pictures of a model on the page: of seeds 0 to 35, and of the best and of the worst."""

Runs = Annotated[Positional[tuple[str, ...]], arg(metavar="RUNS ...")]
Pictures = Mapping[int, np.ndarray]
"""Seed -> picture (H, W, 3) uint8."""


@dataclass
class Entry:
    """What is known of one model; `broken` says why there is no more."""

    name: str
    path: str
    broken: str | None = None
    model: str = ""
    checkpoint: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    """Of what makes the pictures."""
    training: dict[str, float] = field(default_factory=dict)
    """kimg, seconds and images per second, as far as stats.jsonl tells."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Name -> (kimg, value)."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> a Score with `draws`, its value for each."""
    best: list[tuple[int, float]] = field(default_factory=list)
    worst: list[tuple[int, float]] = field(default_factory=list)
    """(seed, how whole the recogniser finds it)."""


def compare(
    runs: Runs,
    *,
    data: Path,
    out: Path = Path("comparison"),
    features: str = DEFAULT,
    tagger: str = DEFAULT,
    count: int = COUNT,
    draws: int = 3,
    reals: int = REALS,
    truncation: float = 1.0,
    size: str | None = None,
    batch: int = 64,
    workers: int = 2,
    device: str = "auto",
    force: bool = False,
    json: bool = False,
) -> Path:
    """Write one page that shows trained models side by side and says which serves best.

    The page needs nothing but itself, and comparison.json beside it says the same in numbers. A model that
    cannot be measured does not stop the others: the page says what is wrong with it.

    Args:
        runs: Run folders, or any generators: Checkpoints' folders, builtin:NAME or hf-hub:OWNER/NAME.
        data: The real pictures: a Dataset of any form.
        out: Folder of the comparison.
        features: What distances are measured in, as in `kyara evaluate`.
        tagger: Who tells whether attributes are right, or none.
        count: How many pictures of each model are scored in one draw.
        draws: How often that is done, with other seeds each time: the intervals come from it.
        reals: How many real pictures, at most.
        truncation: 1 draws from everything a model knows.
        size: All pictures are brought to this size first, as 96 or 512x256 (height x width); by default that of
            the model with the largest.
        batch: Pictures the networks look at together.
        workers: Processes that decode the real pictures.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older comparison at --out.
        json: Print the comparison as JSON.

    Returns:
        The folder of the comparison.
    """
    runs, data, out = tuple(map(str, runs)), Path(data), Path(out)  # from Python, texts will do
    command = command_line(compare, {**locals(), "runs": "RUNS"}).replace("RUNS", shlex.join(runs), 1)
    for option, given, least in (("--count", count, 4), ("--draws", draws, 1), ("--reals", reals, 8)):
        if given < least:
            raise ValueError(f"{option} {given}: must be {least} or more")
    if not runs:
        raise ValueError("name at least one run: kyara compare runs/* --data faces.zip")
    check_out(out, [*runs, str(data)], force)

    # What is compared: descriptions first, they decide the size.
    where, dataset = pick_device(device), open_dataset(data)
    entries = [Entry(name, run) for name, run in zip(names(runs), runs, strict=True)]
    for entry in entries:
        attempt(entry, describe)
    common = parse_size(size) if size else largest(entries)
    asked = [name for entry in entries if not entry.broken for name in entry.config["data"].get("attributes", ())]
    lenses = load_lenses(features, tagger, where, attributes=asked)
    chosen = dataset.subset(spread(len(dataset), reals))
    reference = Reference(chosen, lenses.extractor, common, workers, batch)
    real = real_scores(reference, count)

    # Each model: its pictures and their scores.
    sheets: dict[str, Pictures] = {}
    for entry in tqdm([e for e in entries if not e.broken], desc="models", unit="model", disable=None):

        def measure(entry: Entry) -> None:
            made = Made(entry.path, load_generator(entry.path, where), count, truncation=truncation)
            entry.parameters = weights(made.generator)
            score_draws(entry, made, lenses, reference, draws=draws, batch=batch)
            sheets[entry.name] = show(entry, made)

        attempt(entry, measure)

    # The page, and the same as numbers.
    by = "frechet" if min(count, len(reference.features)) >= ENOUGH else "kernel"
    ranked = sorted((e for e in entries if not e.broken), key=lambda e: e.scores[by]["value"])
    table = {
        "kyara": __version__,
        "command": command,
        "data": reference.about(),
        "features": {"name": lenses.extractor.name, "hash": lenses.extractor.hash},
        "resizer": lenses.extractor.resizer(common),
        "count": count,
        "draws": draws,
        "truncation": truncation,
        "ranked_by": by,
        "verdict": verdict(ranked, by, entries),
        "real": real,
        "models": [vars(entry) for entry in [*ranked, *(e for e in entries if e.broken)]],
    }
    html = page(out.resolve().name, table, sheets)
    free_folder(out, TABLE, force=True)  # checked above; nothing older is lost before there is something new
    write_atomic(out / PAGE, lambda temporary: temporary.write_text(html, encoding="utf-8", errors="replace"))
    text = json_format.dumps(table, indent=2, ensure_ascii=False) + "\n"
    write_atomic(out / TABLE, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    print(json_format.dumps(table) if json else summary(table, out))
    return out


def check_out(out: Path, sources: Sequence[str], force: bool) -> None:
    """FileExistsError unless a comparison may be written to `out`; nothing is deleted yet."""
    for source in sources:
        if Path(source).exists() and Path(source).resolve().is_relative_to(out.resolve()):
            raise FileExistsError(f"--out {out}: holds {source}, which is needed; choose another folder")
    if not (force and (out / TABLE).is_file()):
        free_folder(out, TABLE)


def names(runs: Sequence[str]) -> list[str]:
    """A short name for each run: its folder's, with the run's for a snapshot, or all of the path where two are the
    same. ValueError if a run is named twice."""
    if len(set(runs)) < len(runs):
        raise ValueError("a run is named twice; name each once")
    parts = [Path(run).parts for run in runs]
    short = ["/".join([*p[-3:-2], p[-1]]) if p[-2:-1] == ("snapshots",) else p[-1] if p else "." for p in parts]
    return [run if short.count(name) > 1 else name for run, name in zip(runs, short, strict=True)]


def attempt(entry: Entry, step: Any) -> None:
    """Does one step for a model; whatever goes wrong is its own misfortune, and kept for the page."""
    try:
        step(entry)
    except Exception as error:
        entry.broken = f"{error}" or type(error).__name__
        tqdm.write(f"warning: {entry.path}: {printable(entry.broken)}", file=sys.stderr)


def describe(entry: Entry) -> None:
    """Fills in what the run folder says, as far as it goes."""
    folder = checkpoint.find(entry.path)
    rows = read_stats(folder / STATS)
    for row in rows:
        for name in row:
            if name != "nimg":
                entry.curves.setdefault(name, []).append((row["nimg"] / 1000, row[name]))
    entry.training = pace(rows)
    found = checkpoint.read(entry.path)
    entry.model, entry.config, entry.about = found.model, dict(found.config), dict(found.about)
    entry.checkpoint = found.hash
    data = entry.config.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("attributes", {}), Mapping):
        raise ValueError(f"{entry.path}: its config.json says no attributes that Kyara understands")
    size_of(entry)
    if isinstance(kimg := found.about.get("kimg"), int | float):
        entry.training |= {"kimg": kimg, "trained_kimg": max(kimg, entry.training.get("trained_kimg", 0))}


def read_stats(path: Path) -> list[dict[str, float]]:
    """The lines of a run's stats.jsonl, their finite numbers only; what is cut off or garbled is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json_format.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("nimg"), int):
            rows.append({k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)})
    return rows


def pace(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How long a run took, its snapshots included: every line with a speed says how long its pictures did."""
    seconds = images = last = 0.0
    for row in rows:
        if (speed := row.get("img/s", 0)) > 0:
            seconds, images, last = seconds + (row["nimg"] - last) / speed, images + row["nimg"] - last, row["nimg"]
    return {"seconds": seconds, "images_per_second": images / seconds, "trained_kimg": last / 1000} if seconds else {}


def largest(entries: Sequence[Entry]) -> Size:
    """The size of the model that makes the largest pictures."""
    sizes = [size_of(entry) for entry in entries if not entry.broken]
    if not sizes:
        raise ValueError("no run could be read: " + "; ".join(f"{e.path}: {e.broken}" for e in entries))
    return max(sizes, key=lambda size: size[0] * size[1])


def size_of(entry: Entry) -> Size:
    """The size of a model's pictures."""
    try:
        return int(entry.config["data"]["width"]), int(entry.config["data"]["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{entry.path}: its config.json says no size of pictures ({error!r})") from error


def weights(generator: Generator) -> int:
    """How many numbers make the pictures: those of the averaged network, if there is one."""
    parts = [getattr(generator, name) for name in generator.averages.values()] or [generator]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def score_draws(entry: Entry, made: Made, lenses: Lenses, reference: Reference, *, draws: int, batch: int) -> None:
    """Scores `draws` sets of pictures of one model, and finds its best and worst."""
    found: list[list[Score]] = []
    judged: list[tuple[int, float]] = []
    for draw in range(draws):
        made.first = draw * made.count
        seen = look(made, lenses, reference.common, batch=batch, name=f"{entry.name}, draw {draw + 1} of {draws}")
        found.append(score_all(seen, lenses, reference.common, reference))
        judged += [(made.first + i, float(value)) for i, value in enumerate(seen.whole)]
    for score in found[0]:
        values = [s.value for draw in found for s in draw if s.name == score.name]
        entry.scores[score.name] = {**vars(score), "draws": values}
        if draws > 1:
            entry.scores[score.name] |= metrics.over_draws(values)._asdict()
    judged.sort(key=lambda pair: -pair[1])
    entry.best, entry.worst = judged[:EXTREMES], judged[: -EXTREMES - 1 : -1]


def show(entry: Entry, made: Made) -> dict[int, np.ndarray]:
    """The pictures that the page shows of a model."""
    wanted = dict.fromkeys([*range(SHEET), *(seed for seed, _ in entry.best + entry.worst)])
    pictures: dict[int, np.ndarray] = {}
    for seed in wanted:
        if seed not in pictures:
            made.first, made.count = seed, SHEET if seed == 0 else 1
            pictures |= {seed + i: picture for i, (picture, _) in enumerate(made)}
    return pictures


def real_scores(reference: Reference, count: int) -> dict[str, dict[str, Any]]:
    """What real pictures score against the other real ones: as good as a model can hope to be."""
    values = reference.features
    order = np.random.RandomState(0).permutation(len(values))
    n = min(count, len(values) // 2)
    rest = Part(reference.extractor, reference.common, values[order[n:]])
    return {score.name: vars(score) for score in against(values[order[:n]], rest)}


def verdict(ranked: Sequence[Entry], by: str, entries: Sequence[Entry]) -> str:
    """Which model serves best, in a sentence or two."""
    if not ranked:
        return "None of the models could be measured."
    best, what = ranked[0], "Fréchet" if by == "frechet" else "kernel"
    said = f"{title(best)} serves these pictures best: {what} distance {interval(best.scores[by])}"
    if len(ranked) > 1:
        second = ranked[1]
        said += f", then {title(second)} with {interval(second.scores[by])}"
        (low, high) = second.scores[by]["low"], best.scores[by]["high"]
        if low is None or high is None:
            said += ". With one draw nobody knows whether that is chance; use --draws 3"
        elif low <= high:
            said += ". The intervals overlap: the order of these two may be chance"
        else:
            said += ". The intervals do not overlap"
    said += "."
    lengths = {round(e.training["trained_kimg"], 1) for e in ranked if "trained_kimg" in e.training}
    sets = {str(e.about["data"].get("fingerprint")) for e in ranked if isinstance(e.about.get("data"), dict)}
    if len(lengths) > 1:
        said += f" They were not trained equally long: {min(lengths):g} to {max(lengths):g} thousand pictures."
    if len(sets) > 1:
        said += " They were not all trained on the same data."
    if broken := sum(bool(e.broken) for e in entries):
        said += f" {broken} of {len(entries)} could not be measured."
    return said


def title(entry: Entry) -> str:
    return entry.name if entry.model in entry.name else f"{entry.model} ({entry.name})"


def interval(score: Mapping[str, Any]) -> str:
    between = "" if score["low"] is None else f" ({number(score['low'])} to {number(score['high'])})"
    return number(score["value"]) + between


def summary(table: Mapping[str, Any], out: Path) -> str:
    """The ranking for people."""
    by = table["ranked_by"]
    lines = [printable(table["verdict"])]
    for i, model in enumerate(table["models"], 1):
        if model["broken"]:
            lines.append(f"  -  {printable(model['name'])}: {printable(model['broken'])}")
        else:
            lines.append(f"  {i}. {printable(model['name'])}: {interval(model['scores'][by])}")
    return "\n".join([*lines, f"look at {out / PAGE}"])
