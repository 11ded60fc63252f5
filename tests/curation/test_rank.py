"""Ranking: the order, what is kept, what is left out, and that nothing of the user is touched."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kyara import models
from kyara.curation import rank as ranking
from kyara.curation.rank import Gallery, best, default_out, rank
from kyara.files import checkpoint
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, encode_png, encode_webp, read_recipe
from kyara.models.base import Config, DataConfig


class Brightness(nn.Module):
    """Stands in for a recogniser: the brighter, the more whole. The scores of these tests are known."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config(DataConfig(12, 8))
        self.checkpoint = SimpleNamespace(hash="0" * 16)
        self.nothing = nn.Parameter(torch.zeros(1))
        self.batches: list[tuple[int, ...]] = []

    def scores(self, pictures: Tensor) -> Tensor:
        self.batches.append(tuple(pictures.shape))
        return (pictures.mean((1, 2, 3)) + 1) / 2


@pytest.fixture
def recogniser(monkeypatch: pytest.MonkeyPatch) -> Brightness:
    model = Brightness()
    monkeypatch.setattr(ranking, "load", lambda name, device: model)
    return model


def grey(level: int, size: tuple[int, int] = (8, 12)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def fill(folder: Path, levels: dict[str, int]) -> Path:
    for name, level in levels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_png(grey(level)))
    return folder


def digest(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_best_first_and_the_originals_untouched(tmp_path: Path, recogniser: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"a/dark.png": 51, "a/bright.png": 255, "b/middle.png": 102})
    before = digest(faces)
    out = rank(faces, batch=2, workers=2)
    assert out == tmp_path / "faces-ranked"
    rows = read_gallery(out)
    assert [row["file_name"] for row in rows] == ["0001-bright.png", "0002-middle.png", "0003-dark.png"]
    assert [row["score"] for row in rows] == ["1.0000", "0.4000", "0.2000"]
    assert [row["source"] for row in rows] == [
        (faces / name).as_posix() for name in ("a/bright.png", "b/middle.png", "a/dark.png")
    ]
    assert [row["class"] for row in rows] == ["a", "b", "a"]
    assert digest(faces) == before
    assert recogniser.batches == [(2, 3, 8, 12), (1, 3, 8, 12)]
    assert (out / "index.html").is_file()
    assert decode(out / "sheet.png").shape == (22, 30, 3)


def test_keep_and_threshold(tmp_path: Path, recogniser: Brightness) -> None:
    faces = fill(tmp_path / "faces", {f"{level}.png": level for level in (0, 51, 102, 153, 255)})
    assert len(read_gallery(rank(faces, keep=2, out=tmp_path / "two"))) == 2
    rows = read_gallery(rank(faces, threshold=0.4, out=tmp_path / "good"))
    assert [row["score"] for row in rows] == ["1.0000", "0.6000", "0.4000"]
    assert read_gallery(rank(faces, threshold=0.4, keep=1, out=tmp_path / "one")) == rows[:1]
    assert len(list((tmp_path / "one").glob("*.png"))) == 2  # with the sheet


def test_equal_scores_stay_in_their_order_and_no_score_is_left_out() -> None:
    assert best([0.5, float("nan"), 0.9, 0.5, 0.9]) == [2, 4, 0, 3]


def test_odd_files_are_named_and_stop_nothing(
    tmp_path: Path, recogniser: Brightness, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = fill(tmp_path / "faces", {"good.png": 200})
    (faces / "empty.png").write_bytes(b"")
    (faces / "cut.png").write_bytes(encode_png(grey(7, (200, 200)))[:90])
    (faces / "text\x1b[31m.jpg").write_text("no picture")
    (faces / "notes.txt").write_text("no picture either")
    out = rank(faces)
    report = json.loads((out / "report.json").read_text())
    assert [row["file_name"] for row in read_gallery(out)] == ["0001-good.png"]
    left_out = {entry["file_name"]: entry["reason"] for entry in report["left_out"]}
    assert set(left_out) == {"empty.png", "cut.png", "text\x1b[31m.jpg", "notes.txt"}
    assert left_out["empty.png"] == "empty file (0 bytes)"
    assert report["pictures"] == 4
    assert report["kept"] == 1
    shown = capsys.readouterr().out
    assert "empty.png: empty file" in shown
    assert "\x1b" not in shown


def test_nothing_readable_still_ends_with_a_report(tmp_path: Path, recogniser: Brightness) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.png").write_bytes(b"no")
    out = rank(tmp_path / "faces")
    assert read_gallery(out) == []
    assert len(json.loads((out / "report.json").read_text())["left_out"]) == 1


def test_a_gallery_brings_its_seeds_attributes_and_recipes(tmp_path: Path, recogniser: Brightness) -> None:
    made = tmp_path / "avatars"
    made.mkdir()
    for seed, level in enumerate((20, 220)):
        (made / f"seed{seed}.png").write_bytes(encode_png(grey(level), {"seed": seed}))
    (made / "sheet.png").write_bytes(encode_png(grey(255)))
    with (made / "gallery.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows(
            [["file_name", "seed", "hair", "score"], ["seed0.png", 0, "blue", 0.7], ["seed1.png", 1, "", 0.1]]
        )
        table.writerow(["gone.png", 2, "red", 0.5])
    out = rank(made)
    rows = read_gallery(out)
    assert [(row["seed"], row["hair"], row["score"]) for row in rows] == [
        ("1", "", "0.8627"),
        ("0", "blue", "0.0784"),
    ]
    assert [read_recipe(out / row["file_name"]) for row in rows] == [{"seed": 1}, {"seed": 0}]
    assert (out / rows[0]["file_name"]).read_bytes() == (made / "seed1.png").read_bytes()
    assert [e["file_name"] for e in json.loads((out / "report.json").read_text())["left_out"]] == ["gone.png"]
    assert Gallery.open(out).attributes["hair"] == ["", "blue"]


def test_a_zip_with_other_formats_and_sizes(tmp_path: Path, recogniser: Brightness) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("x/tall.webp", encode_webp(grey(255, (40, 10))))
        archive.writestr("x/<b>wide & co.png", encode_png(grey(0, (10, 40))))
    out = rank(tmp_path / "faces.zip")
    assert out == tmp_path / "faces-ranked"
    assert [row["file_name"] for row in read_gallery(out)] == ["0001-tall.png", "0002-b-wide-co.png"]
    np.testing.assert_array_equal(decode(out / "0001-tall.png"), grey(255, (40, 10)))
    assert "<b>wide" not in (out / "index.html").read_text()


def test_files_with_one_stem_all_get_a_place(tmp_path: Path, recogniser: Brightness) -> None:
    faces = fill(tmp_path / "faces", {f"{folder}/face.png": 10 for folder in ("aa", "bb", "cc")})
    assert len({row["file_name"] for row in read_gallery(rank(faces))}) == 3


def test_memory_does_not_grow_with_the_number(
    tmp_path: Path, recogniser: Brightness, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = fill(tmp_path / "faces", {f"{i:03}.png": i for i in range(120)})
    source, begun, ended = ranking.open_pictures(faces), 0, 0

    def picture(i: int, at_least: int | None = None) -> np.ndarray:
        nonlocal begun
        begun += 1
        return grey(i)

    def scores(pictures: Tensor) -> Tensor:
        nonlocal ended
        assert begun - ended <= 4 * 4 + 2, "more was decoded ahead than two batches and what the threads hold"
        ended += len(pictures)
        return torch.zeros(len(pictures))

    monkeypatch.setattr(source, "picture", picture)
    monkeypatch.setattr(recogniser, "scores", scores)
    values, unreadable = ranking.score_all(source, recogniser, batch=4, workers=2)  # type: ignore[arg-type]
    assert (len(values), unreadable, ended) == (120, {}, 120)


def test_nothing_is_overwritten(tmp_path: Path, recogniser: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 1})
    rank(faces)
    with pytest.raises(FileExistsError, match="--force"):
        rank(faces)
    rank(faces, force=True)
    ranked = tmp_path / "faces-ranked"
    with pytest.raises(FileExistsError, match="needed"):
        rank(ranked, out=ranked, force=True)
    with pytest.raises(FileExistsError, match="holds something else"):
        rank(ranked, out=faces, force=True)
    assert (ranked / "0001-a.png").exists()


def test_dry_run_writes_nothing(tmp_path: Path, recogniser: Brightness, capsys: pytest.CaptureFixture[str]) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 1})
    out = rank(faces, dry_run=True, json=True)
    assert json.loads(capsys.readouterr().out)["pictures"] == 1
    assert not out.exists()


def test_json_is_the_only_thing_on_the_screen(
    tmp_path: Path, recogniser: Brightness, capsys: pytest.CaptureFixture[str]
) -> None:
    rank(fill(tmp_path / "faces", {"a.png": 255}), json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["best"][0]["score"] == "1.0000"
    assert shown.err == ""


@pytest.mark.parametrize("options", [{"keep": 0}, {"batch": 0}, {"workers": 0}, {"threshold": 1.5}, {"threshold": -1}])
def test_options_that_make_no_sense_are_named(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"--{next(iter(options))}"):
        rank(tmp_path, **options)


def test_a_model_that_scores_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "load", lambda name, device: nn.Identity())
    with pytest.raises(ValueError, match="does not score"):
        rank(fill(tmp_path / "faces", {"a.png": 1}))


def test_where_the_gallery_goes_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_out(Path("faces")) == Path("faces-ranked")
    assert default_out(Path("art/v1.5")) == Path("art/v1.5-ranked")
    assert default_out(Path("art/faces.zip")) == Path("art/faces-ranked")
    monkeypatch.chdir(tmp_path)
    assert default_out(Path()) == tmp_path.with_name(f"{tmp_path.name}-ranked")


def test_a_score_does_not_depend_on_the_company(recogniser: Brightness) -> None:
    pictures = torch.rand(5, 3, 8, 12) * 2 - 1
    together = ranking.score(pictures, recogniser)  # type: ignore[arg-type]
    alone = torch.cat([ranking.score(p[None], recogniser) for p in pictures])  # type: ignore[arg-type]
    torch.testing.assert_close(together, alone)
    assert together.dtype == torch.float32


def test_with_a_real_recogniser(tmp_path: Path) -> None:
    torch.manual_seed(0)
    numbers = {"data": {"width": 32, "height": 32}, "network": {"depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32]}}
    fresh = models.build("distortion", numbers)
    folder = tmp_path / "model"
    checkpoint.write(folder, model="distortion", config=numbers, weights=models.stored(fresh), card="test", about={})
    random = np.random.RandomState(0)
    (tmp_path / "faces").mkdir()
    for i in range(5):
        noise = random.randint(0, 256, (32, 32, 3)).astype(np.uint8)
        (tmp_path / "faces" / f"{i}.png").write_bytes(encode_png(noise))
    rows = read_gallery(rank(tmp_path / "faces", model=str(folder), batch=2))
    model = models.load(folder)
    for row in rows:
        picture = torch.from_numpy(decode(Path(row["source"]))).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            assert float(row["score"]) == pytest.approx(float(model.scores(picture)), abs=0.01)  # type: ignore[operator]
    assert len(rows) == 5
