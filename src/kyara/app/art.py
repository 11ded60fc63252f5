"""The room My art: from a dropped folder to a dataset, its labels, and a trained generator."""

from __future__ import annotations

import contextlib
import csv
import os
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from kyara.app.project import STATE, Project, ProjectError, usable, word
from kyara.app.results import EVALUATIONS
from kyara.app.weeding import Weeding
from kyara.evaluation.runs import read_stats
from kyara.files.atomic import write_atomic
from kyara.files.dataset import Dataset, open_dataset, open_datasets
from kyara.files.formats import SUFFIXES
from kyara.files.gallery import thumbnail
from kyara.files.metadata import csv_text
from kyara.files.names import slug
from kyara.files.pictures import encode_webp
from kyara.preparation.report import encodable
from kyara.training.log import STATS
from kyara.training.run import COMMAND, recorded_command

SIDE, LARGEST = 160, 768  # of a thumbnail and of the picture that is looked at, in pixels
OPENED = 4  # datasets kept open
POINTS = 400  # of a curve
LOOKED = 10_000  # files of a folder
NO_SOURCES = frozenset({"art", "runs", "galleries", "edits", "comparisons", EVALUATIONS})  # folders of the project
PATHS = frozenset({"--photos", "--drawings", "--of", "--init"})  # options of `kyara train`
Words = list[str]
Curve = list[tuple[float, float]]


class Art:
    """Sources, datasets and runs of the project."""

    def __init__(self, project: Project) -> None:
        self.project, self.weeding = project, Weeding(project)
        self._opened: OrderedDict[tuple[str, float], tuple[Dataset, dict[str, int]]] = OrderedDict()

    def sources(self) -> list[str]:
        """What may be prepared: folders and .zip files in art/, and others with pictures in the project."""
        contents, art = self.project.contents(), self.project.folder / "art"
        known = {one.path for one in contents if one.kind != "art"}
        found = [one.path for one in contents if one.kind == "art"]
        found += [self.project.relative(path) for path in sorted(art.glob("*.zip")) if usable(path.name)]
        for entry in sorted(self.project.folder.iterdir()):
            name = entry.name
            is_source = (entry.is_dir() or entry.suffix.lower() == ".zip") and usable(name)
            if is_source and not name.startswith(".") and name not in {*known, *NO_SOURCES} and _has_pictures(entry):
                found.append(name)
        return [name for name in found if not name.endswith(".report.thumbnails")]

    def prepare(self, sources: Sequence[str], out: str, size: str, drop: Sequence[str]) -> tuple[Words, str]:
        """The command that prepares sources, leaving out the files in `drop`, and its output."""
        for source in sources:
            self.project.existing(source)
        if not sources:
            raise ProjectError("drop a folder with pictures first")
        target = out or self.project.free(".", Path(sources[0]).stem, ".zip").removeprefix("./")
        words = ["prepare", *map(word, sources), word(target), *(["--size", size] if size else [])]
        path = self.project.path(target)
        if path.exists():
            if self.weeding.path(target) is None:
                raise ProjectError(f"{target}: exists and is not a dataset that kyara prepare wrote")
            words.append("--force")
        if drop:
            table = path.with_name(f"{path.name}.drop.csv")
            text = csv_text([["file_name"], *([name] for name in drop)])
            write_atomic(table, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            words += ["--drop", word(self.project.relative(table))]
        return words, target

    def source_picture(self, data: str, i: int, side: int) -> bytes:
        """The i-th picture of a report, as a WebP of at most `side` pixels."""
        report = self.weeding.read(data)
        try:
            names, file = report["sources"], report["pictures"][i]["file"]
        except (LookupError, TypeError) as error:
            raise ProjectError(f"{data}: its report has no picture {i}; prepare it again") from error
        sources = [self.project.existing(self._inside(name)) for name in names]
        dataset, places = self._open(f"{data}/sources", self.project.existing(data).stat().st_mtime, sources)
        prefix = len(sources) > 1
        names = [file] if not prefix else [str(self.project.folder / file), file]
        for name in names:
            if name in places:
                return _small(dataset, places[name], side)
        raise ProjectError(f"{file}: is no longer in the sources")

    def _inside(self, name: str) -> str:
        path = Path(name)
        return self.project.relative(path.resolve()) if path.is_absolute() else name

    def picture(self, data: str, name: str) -> bytes:
        """A picture of a dataset, as a WebP."""
        path = self.project.existing(data)
        dataset, places = self._open(data, path.stat().st_mtime, [path])
        if name not in places:
            raise ProjectError(f"{name}: is not in {data}")
        return _small(dataset, places[name], SIDE)

    def _open(self, key: str, stamp: float, paths: Sequence[Path]) -> tuple[Dataset, dict[str, int]]:
        found = self._opened.pop((key, stamp), None)
        if found is None:
            dataset = open_datasets(paths)
            found = dataset, {encodable(name): i for i, name in enumerate(dataset.names)}
        self._opened[key, stamp] = found
        while len(self._opened) > OPENED:
            self._opened.popitem(last=False)
        return found

    def labels(self, data: str) -> dict[str, Any]:
        """How often each value of each attribute occurs, "" for unknown."""
        dataset = open_dataset(self.project.existing(data))
        counts = {name: dict(Counter(values).most_common()) for name, values in dataset.attributes.items()}
        return {"path": data, "pictures": len(dataset), "attributes": counts}

    def ask(self, data: str, attribute: str, values: str) -> Words:
        """The command that writes the next questions about an attribute."""
        self.project.existing(data)
        return ["tag", word(data), "--complete", attribute, *(["--values", values] if values else [])]

    def questions(self, path: str) -> list[str]:
        """The names of the pictures in a file of questions."""
        with self.project.existing(path).open(encoding="utf-8-sig", newline="") as file:
            return [row["file_name"] for row in csv.DictReader(file)]

    def answer(self, data: str, attribute: str, values: str, answers: Mapping[str, str]) -> Words:
        """The command that takes answers, name -> value or ?, and writes the next questions."""
        words = self.ask(data, attribute, values)
        text = csv_text([("file_name", "value"), *answers.items()])
        name = f"{slug(Path(data).stem)}-{slug(attribute)}"  # new, as an earlier one may still be waited for
        return [*words, "--answers", self.project.save_new(f"{STATE}/answers", name, ".csv", text.encode())]

    def train(self, data: str, init: str, attributes: str, kimg: float | None) -> tuple[Words, str]:
        """The command that trains a generator, and the folder of its run."""
        self.project.existing(data)
        words = ["train", "stylegan2", word(data)]
        words += ["--init", word(self.project.model(init))] if init else []
        words += ["--attributes", attributes] if attributes else []
        words += ["--kimg", _plain(kimg)] if kimg else []
        out = self.project.free("runs", f"stylegan2-{Path(data).stem}")
        return [*words, "--out", out], out

    def resume(self, run: str, kimg: float | None) -> Words:
        """The command that trained a run, with another length unless `kimg` is None."""
        folder, words = recorded_command(self.project.existing(run))
        if not words:
            why = f"has no {COMMAND}, since an earlier version of Kyara began it"
            raise ProjectError(f"{run}: {why}; continue it from a terminal, with the command that began it")
        changed = {"--out": word(run), **({"--kimg": _plain(kimg)} if kimg else {})}
        there = [
            self._found(now, folder) if before in PATHS or (i == 2 and not now.startswith("-")) else now
            for i, (before, now) in enumerate(pairwise(["", *words]))
        ]
        kept = [word for before, word in pairwise(["", *there]) if not {before, word} & {*changed}]
        return [*kept, *(word for pair in changed.items() for word in pair)]

    def _found(self, word: str, folder: Path) -> str:
        """A path in a command that was given in `folder`: absolute if it is there, but not in the project."""
        elsewhere = not (self.project.folder / word).exists() and (folder / word).exists()
        return str(folder / word) if elsewhere else word

    def run(self, path: str) -> dict[str, Any]:
        """The curves, the sheets and the length of a run, in thousands of pictures, if its command names it."""
        folder, curves = self.project.path(path), dict[str, Curve]()  # which a run that begins has not made yet
        for row in read_stats(folder / STATS):
            for name in (name for name in row if name != "nimg"):
                curves.setdefault(name, []).append((row["nimg"] / 1000, row[name]))
        sheets = [f"{path}/{name}" for name in sorted(file.name for file in folder.glob("fakes*.png"))]
        return {
            "path": path,
            "curves": {name: _thinned(points) for name, points in curves.items()},
            "sheets": sheets,
            "kimg": _length(folder),
        }


def _plain(number: float) -> str:
    """A number as it was typed: 1234567, not 1.23457e+06."""
    return str(number).removesuffix(".0")


def _thinned(points: Curve) -> Curve:
    """At most about POINTS of a curve, the last one among them. Each has its own: scores are seldom."""
    step = max(len(points) // POINTS, 1)
    return points[(len(points) - 1) % step :: step]


def _length(run: Path) -> float | None:
    """The --kimg of the command that trained a run, if it has one."""
    found = [word for before, word in pairwise(recorded_command(run)[1]) if before == "--kimg"]
    with contextlib.suppress(ValueError):
        return float(found[-1]) if found else None
    return None


def _has_pictures(source: Path) -> bool:
    """Whether a file in a folder is a picture, by its ending. A .zip, and a folder with a great many other files, is
    not looked through."""
    files = (name for _, _, names in os.walk(source) for name in names)
    found = any(Path(name).suffix.lower() in SUFFIXES for name in islice(files, LOOKED))
    return found or source.is_file() or next(files, None) is not None


def _small(dataset: Dataset, i: int, side: int) -> bytes:
    return encode_webp(thumbnail(dataset.picture(i, side), side))
