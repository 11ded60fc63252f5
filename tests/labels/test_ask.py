"""Asking on a terminal and through files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.labels.ask import InFiles, OnTerminal, StopAsking, read_answers
from kyara.labels.attributes import Label, write_labels


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A .zip whose pictures are all in one sub-folder."""
    path = tmp_path / "shades.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(9):
            archive.writestr(f"images/{i}.png", pictures.encode_png(np.full((8, 8, 3), 20 * i, np.uint8)))
    return open_dataset(path)


def answers(dataset: Dataset, typed: str, values: Sequence[str], *, fixed: bool = False):
    """What `OnTerminal` yields for words that are typed one per line, and what it shows."""
    shown = io.StringIO()
    lines = io.StringIO("".join(f"{word}\n" for word in typed.split(" ")))
    found: list[tuple[int, str | None]] = []
    try:
        for answer in OnTerminal(fixed=fixed, answers=lines, questions=shown)(dataset, "shade", range(9), values):
            found.append(answer)
    except StopAsking:
        found.append((-1, "stopped"))
    return found, shown.getvalue()


def test_terminal(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    found, shown = answers(dataset, "1 gr  ? - green rde no teal teal 3 q", ["red", "green"])
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
    assert "shade of picture 1?  [1 red  2 green] " in shown and "look at" in shown
    assert capsys.readouterr() == ("", "")


def test_going_back_undoes_only_what_was_answered(dataset: Dataset) -> None:
    assert answers(dataset, "-  - - red - - red q", ["red"])[0] == [(0, "red"), (0, None), (0, "red"), (-1, "stopped")]


def test_terminal_with_fixed_values_takes_no_other(dataset: Dataset) -> None:
    found, shown = answers(dataset, "teal 7 r red", ["red", "rose"], fixed=True)
    assert found == [(0, "red"), (-1, "stopped")]
    assert "'teal' is none of them" in shown and "'r' may be red or rose" in shown


def test_a_csv_stays_valid_after_the_tables_have_gone_to_the_root(dataset: Dataset) -> None:
    ask = InFiles()
    with pytest.raises(StopAsking):
        next(ask(dataset, "shade", [2, 5], ["red"]))
    assert ask.written is not None
    table = ask.written[1]
    table.write_text(table.read_text().replace(",\n", ",red\n"))
    assert read_answers(table, dataset) == [(2, "red"), (5, "red")]
    assert dataset.base == "images/"
    write_labels(dataset, [Label(dataset.names[0], "shade", "red", None, "person")])
    assert dataset.base == ""
    assert read_answers(table, dataset) == [(2, "red"), (5, "red")]
