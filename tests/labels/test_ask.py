"""Asking on a terminal and through files."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.labels.ask import StopAsking, in_files, on_terminal, read_answers
from kyara.labels.attributes import Label, write_labels


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A .zip whose pictures are all in one sub-folder."""
    path = tmp_path / "shades.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(9):
            archive.writestr(f"images/{i}.png", pictures.encode_png(np.full((8, 8, 3), 20 * i, np.uint8)))
    return open_dataset(path)


@pytest.fixture
def answers(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    def typed(words: str, values: Sequence[str], *, fixed: bool = False) -> list[tuple[int, str | None]]:
        """What `on_terminal` yields for words that are typed one per line."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{word}\n" for word in words.split(" "))))
        found: list[tuple[int, str | None]] = []
        try:
            for answer in on_terminal(dataset, "shade", range(9), values, fixed=fixed):
                found.append(answer)
        except StopAsking:
            found.append((-1, "stopped"))
        return found

    return typed


def test_terminal(answers, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers("1 gr  ? - green rde no teal teal 3 q", ["red", "green"])
    assert found == [
        (0, "red"),
        (1, "green"),
        (3, ""),
        (3, None),
        (3, "green"),
        (4, "teal"),
        (5, "teal"),
        (-1, "stopped"),
    ]
    out, shown = capsys.readouterr()
    assert "shade of picture 1?  [1 red  2 green] " in shown and "look at" in shown and out == ""


def test_going_back_undoes_only_what_was_answered(answers) -> None:
    assert answers("-  - - red - - red q", ["red"]) == [(0, "red"), (0, None), (0, "red"), (-1, "stopped")]


def test_terminal_with_fixed_values_takes_no_other(answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert answers("teal 7 r red", ["red", "rose"], fixed=True) == [(0, "red"), (-1, "stopped")]
    shown = capsys.readouterr().err
    assert "'teal' is not a known value" in shown and "'r' is ambiguous: red or rose" in shown


def test_values_that_are_numbers_have_no_places(answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert answers("1 2 3 q", ["2", "1"], fixed=True) == [(0, "1"), (1, "2"), (-1, "stopped")]
    assert "shade of picture 1?  [2  1] " in capsys.readouterr().err


def test_a_csv_stays_valid_after_the_tables_have_gone_to_the_root(dataset: Dataset) -> None:
    with pytest.raises(StopAsking) as stop:
        next(in_files(dataset, "shade", [2, 5], ["red"]))
    assert stop.value.questions is not None
    _, table = stop.value.questions
    table.write_text(table.read_text().replace(",\n", ",red\n"))
    assert read_answers(table, dataset) == [(2, "red"), (5, "red")]
    assert dataset.base == "images/"
    write_labels(dataset, [Label(dataset.names[0], "shade", "red", None, "person")])
    assert dataset.base == ""
    assert read_answers(table, dataset) == [(2, "red"), (5, "red")]
