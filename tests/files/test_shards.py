"""Measurements shard by shard."""

from __future__ import annotations

import builtins
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyara.files import shards
from kyara.files.shards import ABANDONED, Rows, Runner, joined

COUNT = 25


@dataclasses.dataclass(frozen=True)
class Squares:
    """Indices and their squares; picture 7 cannot be read. Notes what it measured in a file."""

    notes: Path
    fails_at: int = -1

    def load(self) -> str:
        return "damaged"

    def measure(self, loaded: str, indices: range) -> Rows:
        if self.fails_at in indices:
            raise OSError("the power is gone")
        with self.notes.open("a") as file:
            file.write(f"{indices.start}\n")
        values = np.array([[i, i * i] for i in indices], np.float32)
        bad = [i for i in indices if i == 7]
        values[[i - indices.start for i in bad]] = np.nan
        return Rows(values, dict.fromkeys(bad, loaded))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rows]:
    monkeypatch.setattr(shards, "SHARD", 10)

    def run(task: Squares, count: int = COUNT, engine: shards.Engine = "local", **key: Any) -> Rows:
        return joined(Runner(tmp_path / "pieces", engine).run(task, count, name="squares", key=key))

    return run


def measured(task: Squares) -> list[int]:
    return [int(line) for line in task.notes.read_text().split()] if task.notes.exists() else []


def right(rows: Rows, count: int = COUNT) -> None:
    expected = np.array([[i, i * i] for i in range(count)], np.float32)
    expected[7] = np.nan
    np.testing.assert_array_equal(rows.values, expected)
    assert rows.failed == {7: "damaged"}


def test_rows_come_back() -> None:
    rows = Rows(np.array([[1.5, np.nan]], np.float32), {3: 'it is "so"'})
    again = Rows.decode(rows.encode())
    np.testing.assert_array_equal(again.values, rows.values)
    assert again.failed == rows.failed and again.values.dtype == np.float32


def test_few_pictures_leave_no_folder(run: Callable[..., Rows], tmp_path: Path) -> None:
    right(run(Squares(tmp_path / "notes"), count=9), count=9)
    assert not (tmp_path / "pieces").exists()


def test_an_interrupted_run_goes_on(run: Callable[..., Rows], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with pytest.raises(OSError, match="the power is gone"):
        run(Squares(notes, fails_at=12))
    assert measured(Squares(notes)) == [0]
    right(run(Squares(notes)))
    assert measured(Squares(notes)) == [0, 10, 20]
    right(run(Squares(notes)))
    assert measured(Squares(notes)) == [0, 10, 20]  # everything is there
    (folder,) = (tmp_path / "pieces").iterdir()
    (folder / "shard-000001.npz").write_bytes(b"PK damaged")
    right(run(Squares(notes)))
    assert measured(Squares(notes)) == [0, 10, 20, 10]
    right(run(Squares(notes), model="another"))
    assert measured(Squares(notes))[4:] == [0, 10, 20]
    right(run(Squares(notes)))
    assert len(measured(Squares(notes))) == 7  # those of the first one are still there


def test_only_its_own_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run may be using the same folder, and may just have done the same."""
    monkeypatch.setattr(shards, "SHARD", 10)
    folder, task = tmp_path / "pieces", Squares(tmp_path / "notes")
    first, second, third = (Runner(folder) for _ in range(3))
    for runner, key in ((first, "a"), (second, "b")):
        right(joined(runner.run(task, COUNT, name="squares", key={"model": key})))
    again = third.run(Squares(tmp_path / "others"), COUNT + 10, name="squares", key={"model": "a"})
    begun = next(again)
    (folder / "mine.txt").write_text("kept")
    mine = next(iter(first._own)) / "mine.txt"
    mine.write_text("kept")
    first.remove()
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]
    assert len([*next(iter(second._own)).glob("shard-*.npz")]) == 3
    mine.unlink()
    mine.parent.rmdir()
    right(joined([begun, *again]), COUNT + 10)
    (folder / "mine.txt").unlink()
    third.remove()
    second.remove()
    assert not folder.exists()


def test_abandoned_shards_are_removed(run: Callable[..., Rows], tmp_path: Path) -> None:
    for key in ("old", "new"):
        run(Squares(tmp_path / "notes"), model=key)
    (tmp_path / "pieces" / "mine").mkdir()
    first = min((tmp_path / "pieces").glob("squares-*"), key=lambda path: path.stat().st_mtime_ns)
    for path in (first, tmp_path / "pieces" / "mine"):
        os.utime(path, (time.time() - ABANDONED - 60,) * 2)
    Runner(tmp_path / "pieces").remove()
    left = sorted(path.name for path in (tmp_path / "pieces").iterdir())
    assert len(left) == 2 and left[0] == "mine" and left[1] != first.name


def test_without_a_folder_nothing_is_kept(run: Callable[..., Rows], tmp_path: Path) -> None:
    task = Squares(tmp_path / "notes")
    right(joined(Runner().run(task, COUNT, name="squares", key={})))
    Runner().remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_what_is_loaded_already_is_used(run: Callable[..., Rows], tmp_path: Path) -> None:
    shards = Runner().run(Squares(tmp_path / "notes"), COUNT, name="squares", key={}, loaded="bad")
    assert joined(shards).failed == {7: "bad"}


def test_a_shard_without_a_readable_picture() -> None:
    second = Rows(np.ones((1, 3), np.float32), {})
    first = Rows(np.full((2, 1), np.nan, np.float32), {0: "a", 1: "b"})
    rows = joined([(range(2, 3), second), (range(2), first)])
    assert rows.values.shape == (3, 3) and np.isnan(rows.values[:2]).all() and (rows.values[2] == 1).all()
    assert rows.failed == {0: "a", 1: "b"}


def test_processes_need_ray() -> None:
    with pytest.raises(ValueError, match="--processes 3: needs --engine ray"):
        Runner(processes=3)


def test_without_ray_it_says_what_to_install(
    run: Callable[..., Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "ray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"--engine ray: needs Ray; .*\[scale\]"):
        run(Squares(tmp_path / "notes"), engine="ray")


def test_ray_gives_the_same_rows(run: Callable[..., Rows], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its workers do not find this file
    task = Squares(tmp_path / "notes")
    with pytest.raises(OSError, match="the power is gone"):
        run(dataclasses.replace(task, fails_at=12))
    with pytest.raises(OSError, match=r"--engine ray: a worker failed .*the power is gone"):
        run(dataclasses.replace(task, fails_at=22), engine="ray")
    right(run(task, engine="ray"))
    assert measured(task).count(0) == 1 and {*measured(task)} == {0, 10, 20}
