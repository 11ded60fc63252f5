"""Completion from pictures to labels on disk: asked on a terminal, through files, interrupted, taken up again."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
import signal
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.labels import complete as module
from kyara.labels import pending
from kyara.labels.ask import StopAsking, in_files, read_answers
from kyara.labels.attributes import Label, read_labels, write_labels
from kyara.labels.colours import colours, lab
from kyara.labels.committee import Committee
from kyara.labels.complete import START, committee_members, complete
from kyara.labels.tagger import load_tagger

SHADES = {"red": (200, 40, 30), "green": (40, 180, 60), "blue": (30, 60, 200)}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """72 pictures of three shades, with noise; nobody has labelled them. The name ends in the truth."""
    random = np.random.RandomState(0)
    folder = tmp_path / "shades"
    folder.mkdir()
    for i, (name, colour) in enumerate(itertools.islice(itertools.cycle(SHADES.items()), 72)):
        noisy = np.clip(np.array(colour) + random.randint(-25, 26, (16, 16, 3)) + random.randint(-15, 16), 0, 255)
        pictures.write_png(folder / f"{i:02}-{name}.png", noisy.astype(np.uint8))
    return open_dataset(folder)


def truth(dataset: Dataset, i: int) -> str:
    return Path(dataset.names[i]).stem.partition("-")[2]


class Knows:
    """Answers truly; after `patience` answers it raises `end`."""

    def __init__(self, patience: int = 1000, end: type[BaseException] = StopAsking) -> None:
        self.patience, self.end, self.asked = patience, end, list[int]()

    def __call__(
        self, dataset: Dataset, attribute: str, numbers: Sequence[int], values: Sequence[str]
    ) -> Iterator[tuple[int, str]]:
        for i in numbers:
            if len(self.asked) == self.patience:
                raise self.end
            self.asked.append(i)
            yield i, truth(dataset, i)


def run(dataset: Dataset, **options) -> module.CompletionResult:
    options = {"tagger": "none", "workers": 1, "target": 0.9} | options
    return complete(dataset, "shade", **options)


def by(dataset: Dataset) -> dict[str, list[Label]]:
    found: dict[str, list[Label]] = {}
    for label in read_labels(open_dataset(dataset.path)):
        found.setdefault(label.by, []).append(label)
    return found


def test_twenty_answers_complete_an_attribute_nobody_labelled(dataset: Dataset) -> None:
    knows = Knows()
    report = run(dataset, ask=knows)
    assert len(knows.asked) == report.asked == START  # then it is sure enough to end
    assert report.unknown == 0 and sum(report.filled.values()) == len(dataset) - START
    written = open_dataset(dataset.path)
    assert written.attributes["shade"] == [truth(written, i) for i in range(len(written))]
    origins = by(dataset)
    assert {who: len(labels) for who, labels in origins.items()} == {"person": START, "committee": 72 - START}
    probabilities = [label.probability for label in origins["committee"]]
    assert report.precision == pytest.approx(np.mean(probabilities), abs=1e-3)
    assert "20 answers" in str(report) and "%" in str(report)


def test_features_are_computed_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the answers have changed the tables, and with a picture that cannot be read."""
    (dataset.path / "broken.png").write_bytes(b"no picture")
    first = run(open_dataset(dataset.path), ask=Knows(7))
    monkeypatch.delattr(module, "colours")
    report = run(open_dataset(dataset.path), ask=Knows(13))
    assert first.answers == 7 and report.answers == 20 and report.unknown == 0
    assert report.left_out == first.left_out and [*report.left_out] == ["broken.png"]


def test_a_picture_that_can_be_read_again_is_not_left_out(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a network drive was away; the file has not changed."""
    picture, name = Dataset.picture, dataset.names[3]

    def away(self: Dataset, i: int, at_least: int | None = None) -> np.ndarray:
        if self.names[i] == name:
            raise OSError("the drive is away")
        return picture(self, i, at_least)

    with monkeypatch.context() as changed:
        changed.setattr(Dataset, "picture", away)
        assert [*run(open_dataset(dataset.path), ask=Knows(3)).left_out] == [name]
    assert not run(open_dataset(dataset.path), ask=Knows(3)).left_out


def test_interrupting_loses_no_answer_and_it_goes_on(dataset: Dataset) -> None:
    first = Knows(7, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, ask=first)
    assert {label.file_name for label in by(dataset)["person"]} == {dataset.names[i] for i in first.asked}
    again = Knows(13)
    report = run(open_dataset(dataset.path), ask=again)
    assert not set(first.asked) & set(again.asked)
    assert report.answers == 20 and report.unknown == 0


def test_nobody_waits_while_the_dataset_is_written(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rewrite a large .zip takes seconds: once for all answers of a batch."""
    calls: list[int] = []
    monkeypatch.setattr(pending, "write_labels", lambda d, labels: (calls.append(len(labels)), write_labels(d, labels)))
    run(dataset, ask=Knows())
    assert calls == [START]
    assert {path.name for path in dataset.path.parent.iterdir()} == {"cache", "shades"}  # no other file is left


def test_a_killed_run_loses_no_answer(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    first = Knows(7, Killed)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(pending, "write_labels", killed)
        run(dataset, ask=first)
    (left,) = dataset.path.with_name("shades-shade-questions").glob("unwritten-*.csv")
    assert "person" not in by(dataset) and left.read_text().count("\n") == 7
    with left.open("a") as file:
        file.write(f"{dataset.names[first.asked[0]]},\ngone.png,red\n{dataset.names[first.asked[1]]},?\n99-r")
    report = run(open_dataset(dataset.path), ask=Knows(0))  # one is undone, of one it cannot be said
    assert {label.file_name: label.value for label in by(dataset)["person"]} == {
        dataset.names[i]: truth(dataset, i) if place else "" for place, i in enumerate(first.asked[1:])
    }
    assert report.answers == 5 and left.read_text() == "gone.png,red\n"  # that picture may come back
    assert report.recovered == 6 and "  6 answers of an interrupted run were written\n" in str(report)


def test_answers_about_pictures_that_come_back_are_written(dataset: Dataset, tmp_path: Path) -> None:
    given = pending.Pending(dataset, "shade")
    for i, value in enumerate(("red", "green", "")):
        given.add(i, value)
    names, away = dataset.names[1:3], tmp_path / "away"
    away.mkdir()
    for name in names:
        (dataset.path / name).rename(away / name)
    part = pending.Pending(open_dataset(dataset.path), "shade")
    part.add(5, "blue")
    assert part.write() == 2 and given.path.exists()
    for name in names:
        (away / name).rename(dataset.path / name)
    again = open_dataset(dataset.path)
    assert pending.Pending(again, "shade").write() == 2 and not given.path.parent.exists()
    assert again.attributes["shade"][:3] == ["red", "green", ""]
    assert len(by(dataset)["person"]) == 4


@pytest.mark.parametrize("kept", [0, 2])
def test_a_torn_line_is_no_answer(dataset: Dataset, kept: int) -> None:
    """The end of the process or a full disk may leave a part of the last line."""
    given = pending.Pending(dataset, "shade")
    for i in range(kept + 1):
        given.add(i, "green")
    given.path.write_bytes(given.path.read_bytes()[:-3])  # "gre"
    pending.Pending(dataset, "shade").add(kept + 1, "blue")
    pending.Pending(dataset, "shade").add(kept + 2, "red")
    given = pending.Pending(open_dataset(dataset.path), "shade")
    given.path.write_bytes(given.path.read_bytes()[:-2])  # "re"
    assert pending.Pending(given.dataset, "shade").write() == kept + 1 and not given.path.exists()
    expected = {**dict.fromkeys(dataset.names[:kept], "green"), dataset.names[kept + 1]: "blue"}
    assert {label.file_name: label.value for label in by(dataset)["person"]} == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_while_asking_loses_no_answer(dataset: Dataset, name: str) -> None:
    number, asked = getattr(signal, name), list[int]()

    def asks(_: Dataset, attribute: str, numbers: Sequence[int], values: Sequence[str]) -> Iterator[tuple[int, str]]:
        for i in numbers[:3]:
            asked.append(i)
            yield i, "red"
        signal.raise_signal(number)

    before = signal.signal(number, signal.SIG_DFL)  # under nohup, SIGHUP is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            run(dataset, ask=asks)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert {label.file_name for label in by(dataset)["person"]} == {dataset.names[i] for i in asked}
    assert {path.name for path in dataset.path.parent.iterdir()} == {"cache", "shades"}


def test_answers_of_a_killed_run_go_to_no_other_dataset_or_attribute(dataset: Dataset) -> None:
    """faces/ and faces.zip share a folder of questions, as do attributes that differ in signs only."""
    zipped = dataset.path.with_name("shades.zip")
    with zipfile.ZipFile(zipped, "w") as archive:
        for name in dataset.names:
            archive.write(dataset.path / name, name)
    of = [(dataset, "hair colour"), (dataset, "hair-colour"), (dataset, "♥"), (dataset, "★"),
          (open_dataset(zipped), "hair colour")]  # fmt: skip
    for i, (data, attribute) in enumerate(of):
        pending.Pending(data, attribute).add(i, f"value {i}")
    for i, (data, attribute) in reversed([*enumerate(of)]):
        again = pending.Pending(open_dataset(data.path), attribute)
        again.write()
        column = again.dataset.attributes[attribute]
        assert {n: value for n, value in enumerate(column) if value} == {i: f"value {i}"}
    assert {path.name for path in dataset.path.parent.iterdir()} == {"shades", "shades.zip"}


def test_too_few_answers_fill_nothing(dataset: Dataset) -> None:
    report = run(dataset, ask=Knows(5))
    assert report.accuracy is None and not report.filled and report.unknown == 67
    assert "20 answers" in str(report)


def test_few_pictures_are_only_answered(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said before the first question, and when all are answered."""
    for name in dataset.names[4:]:
        (dataset.path / name).unlink()
    few = open_dataset(dataset.path)
    lines = io.StringIO("red\ngreen\nq\n")
    monkeypatch.setattr(lines, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", lines)
    result = run(few, values=("red", "green", "blue"))
    said = "fewer than 20 pictures can be answered"
    shown = capsys.readouterr().err
    assert said in shown and shown.index(said) < shown.index("look at") and said in str(result)
    result = run(open_dataset(dataset.path), ask=Knows())
    assert "all 4 pictures are answered; nothing left to fill in" in str(result) and "20" not in str(result)
    (dataset.path / "broken.png").write_bytes(b"no picture")
    result = run(open_dataset(dataset.path), ask=Knows())
    assert "all 4 pictures already have a value" in str(result) and "20" not in str(result)


def test_no_more_questions_than_allowed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    knows = Knows()
    run(dataset, ask=knows, questions=9)
    assert len(knows.asked) == 9


def test_source_stays_tagger_gives_way_nobody_can_tell_stays_unknown(dataset: Dataset) -> None:
    wrong, guess, puzzle = dataset.names[:3]
    write_labels(dataset, [Label(wrong, "shade", "blue", None, "source")])
    write_labels(
        dataset, [Label(guess, "shade", "red", 0.6, "tagger:some"), Label(puzzle, "shade", "", None, "person")]
    )
    report = run(dataset, ask=Knows())
    assert report.unknown == 0
    written = dict(zip(dataset.names, open_dataset(dataset.path).attributes["shade"], strict=True))
    assert (written[wrong], written[guess], written[puzzle]) == ("blue", "green", "")


def test_files_to_fill_in_and_back(dataset: Dataset) -> None:
    report = run(dataset, ask=in_files)
    assert report.questions is not None
    sheet, table = report.questions
    assert sheet.parent == dataset.path.with_name("shades-shade-questions")
    moved = dataclasses.replace(report, questions=(sheet, Path("my faces/0001.csv")))
    assert "--answers 'my faces/0001.csv'" in str(moved)
    assert pictures.decode(sheet).shape[1] > 5 * 100
    rows = list(csv.DictReader(table.open(newline="")))
    assert len(rows) == START and {row["value"] for row in rows} == {""}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["number", "file_name", "value"])
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"value": Path(row["file_name"]).stem.partition("-")[2]})
    filled_in = table.read_bytes()
    report = run(open_dataset(dataset.path), answers=table, ask=in_files)
    assert report.asked == START and report.unknown == 0 and report.questions is None
    assert table.read_bytes() == filled_in


@pytest.mark.parametrize("place", ["read-only", "root"])
def test_questions_that_can_be_written_nowhere_are_refused_early(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    parent, access = dataset.path.parent, os.access
    if place == "read-only":
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != parent and access(path, mode))
    else:
        monkeypatch.setattr(Path, "resolve", lambda path: Path(path.absolute().anchor))  # a whole disk
    with pytest.raises(DatasetError, match=r": the questions about it go to a folder beside it, .*; copy the dataset"):
        pending.Pending(dataset, "shade")


def test_files_are_never_written_over(dataset: Dataset) -> None:
    first, second = (run(dataset, ask=in_files).questions for _ in range(2))
    assert first and second and first != second
    assert all(path.is_file() for path in (*first, *second))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file_name,shade\na.png,red\n", "no column value"),
        ("file_name,value\nnowhere.png,red\n", "line 2: .* no picture nowhere.png"),
        ("file_name,value\n00-red.png,rde\n", "rde is not one of --values red, green"),
        ("file_name,value\n00-red.png,red\n00-red.png,green\n", "a different value above"),
        ("name,value\n", "file_name"),
    ],
)
def test_answers_that_cannot_be_meant_change_nothing(dataset: Dataset, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=why):
        run(dataset, answers=path, values=("red", "green"), ask=Knows())
    assert not by(dataset)


def test_answers_empty_and_question_mark(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("file_name,value\n00-red.png,?\n01-green.png,\n02-blue.png,blue\n")
    assert read_answers(path, dataset, ("red", "blue")) == [(0, ""), (2, "blue")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": ("red",)},
        {"values": ("red", " red")},
        {"values": ("a", "?")},
    ],
)
def test_options_that_make_no_sense(dataset: Dataset, wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"--{next(iter(wrong))}"):
        run(dataset, ask=Knows(), **wrong)
    with pytest.raises(ValueError, match="--complete"):
        complete(dataset, "file_name", tagger="none", ask=Knows())


def test_damaged_pictures_are_named_and_left_out(dataset: Dataset) -> None:
    (dataset.path / "03-red.png").write_bytes(b"no picture")
    report = run(open_dataset(dataset.path), ask=Knows())
    assert list(report.left_out) == ["03-red.png"] and "03-red.png" in str(report)
    assert sum(report.filled.values()) == 72 - START - 1


class Mean:
    """A tagger that embeds a picture as its mean colour."""

    size, device, hash = (8, 8), torch.device("cpu"), "0" * 16
    attributes: ClassVar = {"dark": ("no", "yes")}

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return pictures.center_crop(picture, *self.size)

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean((2, 3))


def test_the_committee_uses_the_embeddings_of_a_tagger(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_tagger", lambda name, device: Mean())
    report = run(dataset, tagger="mine", ask=Knows(40))
    assert report.accuracy is not None and report.accuracy > 0.9


class Regrets(Knows):
    """Answers every picture wrongly first, undoes that, and gives up on the last two of a batch."""

    def __call__(self, dataset: Dataset, attribute: str, numbers: Sequence[int], values: Sequence[str]):
        for place, i in enumerate(numbers):
            yield i, "purple"
            yield i, None
            if place < len(numbers) - 2:
                self.asked.append(i)
                yield i, truth(dataset, i)


def test_answers_that_were_undone_do_not_count(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    write_labels(dataset, [Label(name, "shade", "red", 0.6, "tagger:some") for name in dataset.names])
    regrets = Regrets()
    result = run(dataset, ask=regrets, questions=8)
    assert result.asked == result.answers == len(regrets.asked) > 0
    assert f"{result.asked} answers, {result.asked} of them new" in str(result)
    found = {label.file_name: label for label in read_labels(open_dataset(dataset.path))}
    answered = {dataset.names[i] for i in regrets.asked}
    assert {name for name, label in found.items() if label.by == "person"} == answered
    assert all(found[name].by == "tagger:some" and found[name].value == "red" for name in {*dataset.names} - answered)


def test_an_answer_that_was_undone_leaves_the_picture_unknown(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.StringIO("red\n-\nq\n")
    monkeypatch.setattr(lines, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", lines)
    result = run(dataset, values=("red", "green"))
    assert (result.asked, result.answers, result.unknown) == (0, 0, 72)
    assert not by(dataset) and "shade" not in open_dataset(dataset.path).attributes


def test_colours_see_shade_and_place() -> None:
    half = np.zeros((40, 40, 3), dtype=np.uint8)
    half[:20] = 255
    one, other = colours(half), colours(half[::-1])
    assert one.shape == (500,) and np.allclose((one**2).reshape(5, -1).sum(1), 1, atol=1e-5)
    assert np.allclose(one[:100], other[:100], atol=0.05)  # the whole has the same colours,
    assert np.abs(one - other).max() > 0.5  # elsewhere
    found = lab(np.array([[[1.0, 0, 0], [1, 1, 1], [0, 0, 0]]]))
    assert np.allclose(found, [[[53.24, 80.09, 67.20], [100, 0, 0], [0, 0, 0]]], atol=0.05)  # published values


def test_what_is_no_longer_sure_enough_is_taken_back(dataset: Dataset) -> None:
    first = run(dataset, ask=Knows(), target=0.5)
    assert sum(first.filled.values()) == len(dataset) - START
    report = run(open_dataset(dataset.path), ask=Knows(0), target=0.999999)
    origins, written = by(dataset), open_dataset(dataset.path)
    filled = len(origins.get("committee", ()))
    assert filled == sum(report.filled.values()) < len(dataset) - START
    assert report.unknown == written.attributes["shade"].count("") == len(dataset) - START - filled


def test_shapes_that_no_tagger_knows_are_learned_from_eighty_answers() -> None:
    """`builtin:tagger` knows colours only; gender is read from eyes, mouth and face."""
    dataset = open_dataset(Path(__file__).parents[2] / "examples/characters.zip")
    y = dataset.labels("gender", ["female", "male"])
    answered, hidden = np.arange(80), np.arange(80, len(dataset))
    right = []
    for tagger in (None, load_tagger("builtin:tagger")):
        members = committee_members(dataset, tagger, {}, workers=1)
        found = Committee(members, answered, y[answered], 2)
        right.append(float((found.chosen == y)[hidden].mean()))
    assert right[1] > 0.85 and right[1] > right[0] + 0.1


@pytest.mark.parametrize("value", ["?", "-", "q", "", "red"])
def test_values_that_are_commands_of_the_terminal_are_refused(
    dataset: Dataset, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(ValueError, match=r"^--values red,.*: give two .*, none of them \?, -, q$"):
        run(dataset, values=("red", value))
