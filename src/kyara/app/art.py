"""The room My art: from a dropped folder to a dataset, its labels, and a trained generator."""

from __future__ import annotations

import csv
import json
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kyara.app.project import Project, ProjectError, usable
from kyara.app.weeding import Weeding
from kyara.files.atomic import write_atomic
from kyara.files.dataset import Dataset, open_dataset, open_datasets
from kyara.files.gallery import thumbnail
from kyara.files.metadata import csv_text
from kyara.files.names import slug
from kyara.files.pictures import encode_webp
from kyara.preparation.report import encodable
from kyara.training.run import COMMAND, recorded_command

SIDE, LARGEST = 160, 768  # of a thumbnail and of the picture that is looked at, in pixels
OPENED = 4  # datasets kept open
POINTS = 400  # of a curve
Words = list[str]


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
            if is_source and not name.startswith(".") and name not in {*known, "art", "runs", "galleries", "edits"}:
                found.append(name)
        return [name for name in found if not name.endswith(".report.thumbnails")]

    def prepare(self, sources: Sequence[str], out: str, size: str, drop: Sequence[str]) -> tuple[Words, str]:
        """The command that prepares sources, leaving out the files in `drop`, and its output."""
        for source in sources:
            self.project.existing(source)
        if not sources:
            raise ProjectError("drop a folder with pictures first")
        target = out or self.project.free(".", Path(sources[0]).stem, ".zip").removeprefix("./")
        words = ["prepare", *sources, target, *(["--size", size] if size else [])]
        path = self.project.path(target)
        if path.exists():
            if self.weeding.path(target) is None:
                raise ProjectError(f"{target}: exists and is not a dataset that kyara prepare wrote")
            words.append("--force")
        if drop:
            table = path.with_name(f"{path.name}.drop.csv")
            text = csv_text([["file_name"], *([name] for name in drop)])
            write_atomic(table, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            words += ["--drop", self.project.relative(table)]
        return words, target

    def source_picture(self, data: str, i: int, side: int) -> bytes:
        """The i-th picture of a report, as a WebP of at most `side` pixels."""
        report = self.weeding.read(data)
        sources = [self.project.existing(self._inside(name)) for name in report["sources"]]
        dataset, places = self._open(f"{data}/sources", self.project.existing(data).stat().st_mtime, sources)
        file = report["pictures"][i]["file"]
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
        return ["tag", data, "--complete", attribute, *(["--values", values] if values else [])]

    def questions(self, path: str) -> list[str]:
        """The names of the pictures in a file of questions."""
        with self.project.existing(path).open(encoding="utf-8-sig", newline="") as file:
            return [row["file_name"] for row in csv.DictReader(file)]

    def answer(self, data: str, attribute: str, values: str, answers: Mapping[str, str]) -> Words:
        """The command that takes answers, name -> value or ?, and writes the next questions."""
        path = self.project.existing(data)
        table = self.project.state("answers", f"{slug(path.stem)}-{slug(attribute)}.csv")
        text = csv_text([("file_name", "value"), *answers.items()])
        write_atomic(table, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return [*self.ask(data, attribute, values), "--answers", self.project.relative(table)]

    def train(self, data: str, init: str, attributes: str, kimg: float | None) -> tuple[Words, str]:
        """The command that trains a generator, and the folder of its run."""
        self.project.existing(data)
        words = ["train", "stylegan2", data]
        words += ["--init", self.project.model(init)] if init else []
        words += ["--attributes", attributes] if attributes else []
        words += ["--kimg", f"{kimg:g}"] if kimg else []
        out = self.project.free("runs", f"stylegan2-{Path(data).stem}")
        return [*words, "--out", out], out

    def resume(self, run: str, kimg: float | None) -> Words:
        """The command that trained a run, with another length."""
        folder, words = recorded_command(self.project.existing(run))
        if not words:
            why = f"has no {COMMAND}, since an earlier version of Kyara began it"
            raise ProjectError(f"{run}: {why}; continue it from a terminal, with the command that began it")
        changed = {"--out": run, **({"--kimg": f"{kimg:g}"} if kimg else {})}
        kept = [word for before, word in pairwise(["", *words]) if not {before, word} & {*changed}]
        there = [self._found(word, folder) for word in kept]
        return [*there, *(word for pair in changed.items() for word in pair)]

    def _found(self, word: str, folder: Path) -> str:
        """A word of a command that was given in `folder`; a path that is there, but not in the project, is absolute."""
        elsewhere = not (self.project.folder / word).exists() and (folder / word).exists()
        return str(folder / word) if elsewhere else word

    def run(self, path: str) -> dict[str, Any]:
        """The curves and the sheets of a run."""
        folder, rows = self.project.path(path), list[dict[str, Any]]()  # which a run that begins has not made yet
        stats = folder / "stats.jsonl"
        for line in stats.read_text(encoding="utf-8").splitlines() if stats.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:  # the line that is being written
                continue
        step = max(len(rows) // POINTS, 1)
        names = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float))
        curves = {
            name: [[row["nimg"] / 1000, row[name]] for row in rows[::step] if isinstance(row.get(name), int | float)]
            for name in names
            if name != "nimg"
        }
        sheets = sorted(file.name for file in folder.glob("fakes*.png"))
        return {"path": path, "curves": curves, "sheets": [f"{path}/{name}" for name in sheets]}


def _small(dataset: Dataset, i: int, side: int) -> bytes:
    return encode_webp(thumbnail(dataset.picture(i, side), side))
