"""Labels of an earlier result, which prepare --force takes over."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import drawn_picture

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError
from kyara.labels.attributes import Label, read_labels, write_labels
from kyara.preparation import prepare as prepare_module
from kyara.preparation.carry import Cut
from kyara.preparation.prepare import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "art").mkdir()
    for i in range(5):
        random = np.random.RandomState(i).randint(0, 256, (6, 6, 3), dtype=np.uint8)
        (tmp_path / "art" / f"{i}.png").write_bytes(pictures.encode_png(pictures.resize(random, 64, 64)))
    (tmp_path / "art" / "metadata.csv").write_text("file_name,hair\n0.png,red\n1.png,red\n")
    return tmp_path / "art"


def by_source(path: Path) -> dict[str, str]:
    """Name in the sources -> name in the Dataset."""
    dataset = open_dataset(path)
    rows = csv.DictReader(io.StringIO(dataset.text("metadata.csv"), newline=""))
    return {row["source"]: row["file_name"] for row in rows}


def labels(path: Path) -> dict[tuple[str, str], tuple[str, float | None, str]]:
    """(Name in the sources, attribute) -> value, probability and origin."""
    sources = {name: source for source, name in by_source(path).items()}
    found = read_labels(open_dataset(path))
    return {(sources[one.file_name], one.attribute): (one.value, one.probability, one.by) for one in found}


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_labels_survive_another_preparation(folder: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    assert prepare(folder, out, size="64", detect="none").carried == 0
    names = by_source(out)
    answers = [
        Label(names["1.png"], "hair", "blue", None, "person"),
        Label(names["2.png"], "hair", "", None, "person"),
        Label(names["2.png"], "eyes", "green", 0.75, "tagger:x"),
        Label(names["3.png"], "hair", "pink", None, "person"),
        Label(names["4.png"], "hair", "black", 0.5, "committee"),
    ]
    write_labels(open_dataset(out), answers)
    (folder / "metadata.csv").write_text("file_name,hair\n0.png,white\n1.png,red\n4.png,gray\n")
    drop = tmp_path / "drop.csv"
    drop.write_text("file_name\n3.png\n")
    result = prepare(folder, out, size="32", detect="none", drop=drop, force=True)
    assert result.carried == 3 and "\n3 labels taken over from the earlier" in str(result)
    assert labels(out) == {
        ("0.png", "hair"): ("white", None, "source"),  # newer than the one that was copied
        ("1.png", "hair"): ("blue", None, "person"),
        ("2.png", "hair"): ("", None, "person"),
        ("2.png", "eyes"): ("green", 0.75, "tagger:x"),
        ("4.png", "hair"): ("gray", None, "source"),
    }
    assert prepare(folder, out, size="32", detect="none", force=True, dry_run=True).carried == 3


def test_another_picture_of_the_same_name_has_none_of_them(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="32", detect="none")
    name = by_source(tmp_path / "out")["2.png"]
    write_labels(open_dataset(tmp_path / "out"), [Label(name, "hair", "blue", None, "person")])
    random = np.random.RandomState(9).randint(0, 256, (80, 64, 3), dtype=np.uint8)
    (folder / "2.png").write_bytes(pictures.encode_png(random))
    assert prepare(folder, tmp_path / "out", size="32", detect="none", force=True).carried == 0


def test_faces_are_known_by_their_places() -> None:
    face = Cut("a.png", (96, 96), (10, 20, 30, 40), False)
    moved, other = (dataclasses.replace(face, box=box) for box in ((12, 22, 30, 40), (60, 20, 30, 40)))
    assert face.same(moved) and not face.same(other)
    whole = dataclasses.replace(face, box=None)
    assert whole.same(whole) and not whole.same(face)
    assert dataclasses.replace(whole, alone=True).same(dataclasses.replace(face, alone=True))
    assert not face.same(dataclasses.replace(face, source="b.png"))


def test_labels_that_cannot_be_read_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="32", detect="none")
    (tmp_path / "out" / "labels.csv").write_text("file_name\na,b\n")
    with pytest.raises(DatasetError, match=r"labels\.csv, line 2.*; correct that file, or delete the result"):
        prepare(folder, tmp_path / "out", size="32", detect="none", force=True)
    assert (tmp_path / "out" / "labels.csv").is_file()


def test_labels_are_found_in_a_moved_source(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="32", detect="none")
    name = by_source(tmp_path / "out")["2.png"]
    write_labels(open_dataset(tmp_path / "out"), [Label(name, "hair", "blue", None, "person")])
    (tmp_path / "moved").mkdir()
    folder = folder.rename(tmp_path / "moved" / "pictures")
    assert prepare(folder, tmp_path / "out", size="32", detect="none", force=True).carried == 1
    assert labels(tmp_path / "out")["2.png", "hair"] == ("blue", None, "person")
    assert prepare(folder, tmp_path / "out", size="48", detect="none", force=True).carried == 1


def test_another_folder_with_the_same_names_gets_no_labels(folder: Path, tmp_path: Path) -> None:
    """Nor is its result put in their place. The same if a folder was moved and the options are others."""
    prepare(folder, tmp_path / "out", size="32", detect="none")
    before = labels(tmp_path / "out")
    (tmp_path / "other").mkdir()
    for i in range(5):
        (tmp_path / "other" / f"{i}.png").write_bytes(pictures.encode_png(drawn_picture(i, 64)))
    moved = folder.rename(tmp_path / "moved")
    for source, size in ((tmp_path / "other", "32"), (moved, "48")):
        with pytest.raises(DatasetError, match=r"out: none of the pictures that have labels .*; give the source and"):
            prepare(source, tmp_path / "out", size=size, detect="none", duplicates="keep", force=True)
        assert labels(tmp_path / "out") == before and before


def test_other_sources_do_not_replace_labels(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "9.png").write_bytes((folder / "0.png").read_bytes())
    prepare(folder, tmp_path / "out", size="32", detect="none")
    for sources in ([other], [other, other / "9.png"]):
        with pytest.raises(DatasetError, match=r"out: the sources have none of .*0\.png; give the sources"):
            prepare(*sources, tmp_path / "out", size="32", detect="none", force=True)
    assert len(labels(tmp_path / "out")) == 2


def test_labels_of_pictures_that_are_gone_are_counted(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="32", detect="none")
    name = by_source(tmp_path / "out")["2.png"]
    write_labels(open_dataset(tmp_path / "out"), [Label(name, "hair", "", None, "person")])
    (folder / "1.png").unlink()
    (folder / "2.png").unlink()
    result = prepare(folder, tmp_path / "out", size="32", detect="none", force=True)
    assert result.lost == 2 and "\n2 labels not taken over, as their pictures are not in the new one\n" in str(result)


def test_places_are_taken_over_to_the_same_pixels_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(folder, out, size="32", detect="none")
    name = by_source(out)["2.png"]
    table = (out / "metadata.csv").read_text().replace("file_name,hair,source", "file_name,hair,source,points,boxes")
    lines = [line + (',0.1 0.2,"[[1, 2, 3, 4]]"' if name in line else ",,") for line in table.splitlines()[1:]]
    (out / "metadata.csv").write_text("\n".join([table.splitlines()[0], *lines, ""]))
    before = (out / "metadata.csv").read_bytes()
    with monkeypatch.context() as changed:
        changed.delattr("kyara.preparation.prepare._cut")  # it is refused before any picture is cut
        for size in ("48", None):
            with pytest.raises(DatasetError, match=r"out: its column `points` has places in .*; give the options of"):
                prepare(folder, out, size=size, detect="none", force=True)
        changed.delattr("kyara.preparation.prepare._common_size")  # and before the faces are searched
        with pytest.raises(DatasetError, match="out: its column `points` has places in"):
            prepare(folder, out, size="32x48", detect="none", force=True)
    assert (out / "metadata.csv").read_bytes() == before
    (folder / "0.png").unlink()
    prepare(folder, out, size="32", detect="none", force=True)
    dataset = open_dataset(out)
    i = dataset.names.index(name)
    assert (dataset.point_cells[i], dataset.box_cells[i]) == ("0.1 0.2", "[[1, 2, 3, 4]]")


def during(monkeypatch: pytest.MonkeyPatch, function: str, act: Callable[[], object]) -> None:
    """Calls `act` while `kyara prepare` runs, before this function of it."""
    original = getattr(prepare_module, function)

    def patched(*args: Any) -> Any:
        act()
        return original(*args)

    monkeypatch.setattr(prepare_module, function, patched)


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_labels_that_are_written_meanwhile_are_kept(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    prepare(folder, out, size="32", detect="none")
    label = Label(by_source(out)["3.png"], "hair", "pink", None, "person")
    during(monkeypatch, "_select", lambda: write_labels(open_dataset(out), [label]))
    assert prepare(folder, out, size="48", detect="none", force=True).carried == 1
    assert labels(out)["3.png", "hair"] == ("pink", None, "person")


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_labels_that_are_written_at_the_last_moment_stop_it(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    prepare(folder, out, size="32", detect="none")
    label = Label(by_source(out)["3.png"], "hair", "pink", None, "person")
    with monkeypatch.context() as patched:
        during(patched, "page", lambda: write_labels(open_dataset(out), [label]))
        with pytest.raises(FileExistsError, match=r"labels were written .* the same command goes on"):
            prepare(folder, out, size="48", detect="none", force=True)
    assert open_dataset(out).picture(0).shape == (32, 32, 3) and labels(out)["3.png", "hair"][0] == "pink"
    assert prepare(folder, out, size="48", detect="none", force=True).carried == 1
