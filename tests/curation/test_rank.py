"""Ranking: the order, what is kept, what is left out, and that nothing of the user is touched."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from torch import Tensor, nn

from kyara import models
from kyara.curation import rank as verb
from kyara.curation import scoring
from kyara.curation.rank import BUILTIN, RankResult, best
from kyara.curation.sources import open_pictures
from kyara.curation.task import JudgeTask, Loaded, judged_in_shards
from kyara.files import checkpoint, shards
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError, GalleryError
from kyara.files.gallery import GalleryWriter, read_gallery
from kyara.files.pictures import decode, encode_png, encode_webp, read_recipe
from kyara.labels.attributes import Label, write_labels
from kyara.models.base import Config, DataConfig, Scorer


def rank(*pictures: Any, **options: Any) -> RankResult:
    """Ranks by the scorer alone."""
    return verb.rank(*pictures, **{"by": "quality", "model": "brightness"} | options)


class Brightness(Scorer):
    """A scorer whose scores are known: the brighter, the higher."""

    def __init__(self) -> None:
        super().__init__(Config(DataConfig(12, 8)))
        self.checkpoint = SimpleNamespace(hash="0" * 16)  # type: ignore[assignment]
        self.nothing = nn.Parameter(torch.zeros(1))
        self.batches: list[tuple[int, ...]] = []

    def scores(self, pictures: Tensor) -> Tensor:
        self.batches.append(tuple(pictures.shape))
        return (pictures.mean((1, 2, 3)) + 1) / 2


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Brightness:
    model = Brightness()
    monkeypatch.setattr(scoring, "load", lambda name, device: model)
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


def test_best_first_and_the_originals_untouched(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"a/dark.png": 51, "a/bright.png": 255, "b/middle.png": 102})
    before = digest(faces)
    out = tmp_path / "out"
    result = rank(faces, batch=2, workers=2, out=out)
    rows = read_gallery(out)
    assert (result.out, result.pictures, result.kept, result.left_out, result.best) == (out, 3, 3, [], rows[:1])
    assert [row["file_name"] for row in rows] == ["0001-bright.png", "0002-middle.png", "0003-dark.png"]
    assert [row["score"] for row in rows] == ["1.0000", "0.4000", "0.2000"]
    assert [row["source"] for row in rows] == [
        (faces / name).as_posix() for name in ("a/bright.png", "b/middle.png", "a/dark.png")
    ]
    assert [row["class"] for row in rows] == ["a", "b", "a"]
    assert digest(faces) == before
    assert scorer.batches == [(2, 3, 8, 12), (1, 3, 8, 12)]
    assert (out / "index.html").is_file()
    assert decode(out / "sheet.png").shape == (22, 30, 3)


def test_keep_and_threshold(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {f"{level}.png": level for level in (0, 51, 102, 153, 255)})
    assert rank(faces, keep=2, out=tmp_path / "two").kept == len(read_gallery(tmp_path / "two")) == 2
    rank(faces, threshold=0.4, out=tmp_path / "good")
    rows = read_gallery(tmp_path / "good")
    assert [row["score"] for row in rows] == ["1.0000", "0.6000", "0.4000"]
    assert rank(faces, threshold=0.4, keep=1, out=tmp_path / "one").best == read_gallery(tmp_path / "one") == rows[:1]
    assert len(list((tmp_path / "one").glob("*.png"))) == 2  # with the sheet


def test_equal_scores_stay_in_their_order_and_no_score_is_left_out() -> None:
    assert best([0.5, float("nan"), 0.9, 0.5, 0.9]) == [2, 4, 0, 3]


def test_a_ranking_has_the_order_of_a_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyara.curation.rank.best_first", lambda scores, indices: list(indices))
    assert best([0.1, 0.9, 0.5], threshold=0.2) == [1, 2] and best([0.1, 0.9]) == [0, 1]


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Faces")
    with pytest.raises(DatasetError, match=r"README.md: contains no pictures .*not a picture") as caught:
        rank(tmp_path / "README.md", out=tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_picture_without_a_suffix_is_one(tmp_path: Path, scorer: Brightness) -> None:
    (tmp_path / "download").write_bytes(encode_png(grey(9)))
    assert rank(tmp_path / "download", out=tmp_path / "out").kept == 1


def test_odd_files_are_named_and_stop_nothing(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"good.png": 200})
    (faces / "empty.png").write_bytes(b"")
    (faces / "cut.png").write_bytes(encode_png(grey(7, (200, 200)))[:90])
    (faces / "text\x1b[31m.jpg").write_text("no picture")
    (faces / "notes.txt").write_text("no picture either")
    out = tmp_path / "out"
    result = rank(faces, out=out)
    report = json.loads((out / "report.json").read_text())
    columns = [
        "out",
        "pictures",
        "model",
        "checkpoint",
        "by",
        "kept",
        "unfamiliar",
        "like",
        "copies_of",
        "copies",
        "left_out",
    ]
    assert list(report) == columns
    assert report == {key: result.as_json()[key] for key in report}
    assert [row["file_name"] for row in read_gallery(out)] == ["0001-good.png"]
    left_out = {entry["file_name"]: entry["reason"] for entry in report["left_out"]}
    assert set(left_out) == {"empty.png", "cut.png", "text\x1b[31m.jpg", "notes.txt"}
    assert left_out["empty.png"] == "empty file (0 bytes)"
    assert "<li>empty.png: empty file (0 bytes)</li>" in (out / "index.html").read_text()
    assert report["pictures"] == 4
    assert report["kept"] == 1
    assert "1 of 4 pictures" in str(result) and "empty.png: empty file" in str(result)
    assert "\x1b" not in str(result)


def test_nothing_readable_still_ends_with_a_report(tmp_path: Path, scorer: Brightness) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.png").write_bytes(b"no")
    result = rank(tmp_path / "faces", out=tmp_path / "out")
    assert read_gallery(tmp_path / "out") == result.best == []
    assert len(result.left_out) == 1 and "0 of 1 picture," in str(result)


def test_a_gallery_brings_its_seeds_attributes_and_recipes(tmp_path: Path, scorer: Brightness) -> None:
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
    out = tmp_path / "out"
    result = rank(made, out=out)
    rows = read_gallery(out)
    assert [(row["seed"], row["hair"], row["score"]) for row in rows] == [
        ("1", "", "0.8627"),
        ("0", "blue", "0.0784"),
    ]
    assert [read_recipe(out / row["file_name"]) for row in rows] == [{"seed": 1}, {"seed": 0}]
    assert (out / rows[0]["file_name"]).read_bytes() == (made / "seed1.png").read_bytes()
    assert result.left_out == [{"file_name": "gone.png", "reason": "cannot be read (No such file or directory)"}]
    assert open_pictures(out).attributes["hair"] == ["", "blue"]


def test_attributes_named_like_columns_of_a_gallery_are_kept(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 51, "b.png": 102})
    (faces / "metadata.csv").write_text("file_name,hair,style,score,copy\na.png,red,bold,7,x\nb.png,blue,soft,9,y\n")
    rank(faces, out=tmp_path / "g")
    kept = {"hair": ["blue", "red"], "given_style": ["soft", "bold"], "given_score": ["9", "7"]}
    kept["given_copy"] = ["y", "x"]
    assert open_dataset(tmp_path / "g").attributes == kept
    assert open_pictures(tmp_path / "g").attributes["score"] == ["0.4000", "0.2000"]
    rank(tmp_path / "g", out=tmp_path / "again")
    assert open_dataset(tmp_path / "again").attributes == kept
    (faces / "metadata.csv").write_text("file_name,style,given_style\na.png,bold,soft\n")
    with pytest.raises(DatasetError, match="faces: in a gallery, the column style becomes given_style, which is there"):
        rank(faces, out=tmp_path / "h")
    assert not (tmp_path / "h").exists()


def test_labels_given_to_a_gallery_are_seen(tmp_path: Path, scorer: Brightness) -> None:
    """`kyara tag` writes metadata.csv beside the gallery's own table."""
    rank(fill(tmp_path / "faces", {"a.png": 51, "b.png": 102}), out=tmp_path / "g")
    dataset = open_dataset(tmp_path / "g")
    write_labels(dataset, [Label("0002-a.png", "hair", "red", None, "person")])
    found = open_pictures(tmp_path / "g")
    assert found.names == ["0001-b.png", "0002-a.png"] and found.attributes["score"] == ["0.4000", "0.2000"]
    assert found.attributes["hair"] == ["", "red"]
    (tmp_path / "g" / "metadata.csv").write_text("file_name,hair,score\n0001-b.png,blue,9\nlost.png,green,9\n")
    found = open_pictures(tmp_path / "g")
    assert found.attributes["hair"] == ["blue", ""] and found.attributes["score"] == ["0.4000", "0.2000"]


def test_an_empty_cell_hides_the_value_of_a_gallery_only_if_nobody_can_tell(tmp_path: Path) -> None:
    with GalleryWriter(tmp_path / "g", ["seed", "hair", "eyes"]) as made:
        for seed in range(3):
            made.add(f"{seed}.png", np.zeros((8, 8, 3), np.uint8), seed=seed, hair="red", eyes="blue")
        made.finish(command="kyara generate")
    (tmp_path / "g" / "metadata.csv").write_text("file_name,hair,eyes\n0.png,silver,\n1.png,,green\n2.png,,\n")
    (tmp_path / "g" / "labels.csv").write_text("file_name,attribute,value,probability,by\n2.png,hair,,,person\n")
    found = open_pictures(tmp_path / "g")
    assert found.attributes["hair"] == ["silver", "red", ""] and found.attributes["eyes"] == ["blue", "green", "blue"]


@pytest.mark.parametrize("table", ["", "file_name,seed\n"])
def test_an_empty_gallery_is_named(tmp_path: Path, scorer: Brightness, table: str) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "gallery.csv").write_text(table)
    with pytest.raises((DatasetError, GalleryError), match=r"g: has no pictures|gallery\.csv: has no column file_name"):
        rank(tmp_path / "g", out=tmp_path / "out")


def test_a_zip_with_other_formats_and_sizes(tmp_path: Path, scorer: Brightness) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("x/tall.webp", encode_webp(grey(255, (40, 10))))
        archive.writestr("x/<b>wide & co.png", encode_png(grey(0, (10, 40))))
    out = tmp_path / "out"
    rank(tmp_path / "faces.zip", out=out)
    assert [row["file_name"] for row in read_gallery(out)] == ["0001-tall.png", "0002-b-wide-co.png"]
    np.testing.assert_array_equal(decode(out / "0001-tall.png"), grey(255, (40, 10)))
    assert "<b>wide" not in (out / "index.html").read_text()


def test_files_with_one_stem_all_get_a_place(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {f"{folder}/face.png": 10 for folder in ("aa", "bb", "cc")})
    rank(faces, out=tmp_path / "out")
    assert len({row["file_name"] for row in read_gallery(tmp_path / "out")}) == 3


def test_memory_does_not_grow_with_the_number(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = fill(tmp_path / "faces", {f"{i:03}.png": i for i in range(120)})
    source, begun, ended = open_pictures(faces), 0, 0
    read = source.read

    def counted(i: int) -> bytes:
        nonlocal begun
        begun += 1
        return read(i)

    def scores(pictures: Tensor) -> Tensor:
        nonlocal ended
        assert begun - ended <= 4 * 4 + 2, "more was decoded ahead than two batches and what the threads hold"
        ended += len(pictures)
        return torch.zeros(len(pictures))

    monkeypatch.setattr(source, "read", counted)
    monkeypatch.setattr(scorer, "scores", scores)
    monkeypatch.setattr(scoring, "MEMORY", 300)
    failed: dict[int, Exception] = {}
    contents: dict[int, bytes] = {}
    options: dict[str, Any] = {"batch": 4, "workers": 2, "failed": failed, "contents": contents}
    values = scoring.measure_all(source, scorer, lambda x: scores(x)[:, None], **options)
    assert (len(values), failed, ended) == (120, {}, 120)
    assert 0 < sum(map(len, contents.values())) <= 300
    contents.clear()
    for shard in (range(60), range(60, 120)):
        scoring.measure_all(source, scorer, lambda x: scores(x)[:, None], **options, indices=shard)
    assert 0 < sum(map(len, contents.values())) <= 300, "each shard took as much as is allowed for all"


@pytest.mark.parametrize(("memory", "reads"), [(2**30, 1), (0, 2)])
def test_every_file_is_read_once_if_memory_suffices(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch, memory: int, reads: int
) -> None:
    faces = fill(tmp_path / "faces", {f"{i}.png": 20 * i + 1 for i in range(6)})
    (faces / "jpeg.jpg").write_bytes(encode_webp(grey(9)))
    opened: list[str] = []
    open_ = Path.open

    def counted(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.parent == faces:
            opened.append(self.name)
        return open_(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counted)
    monkeypatch.setattr(scoring, "MEMORY", memory)
    rank(faces, out=tmp_path / "out")
    assert sorted(opened) == sorted([path.name for path in faces.iterdir()] * reads)


def test_single_pictures(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 51, "b.png": 255, "c.png": 102})
    one = rank(faces / "a.png", out=tmp_path / "one")
    assert (one.pictures, one.kept) == (1, 1) and "1 of 1 picture," in str(one)
    assert (tmp_path / "one" / "0001-a.png").read_bytes() == (faces / "a.png").read_bytes()
    (faces / "notes.txt").write_text("not a picture")
    result = rank(*sorted(faces.iterdir()), out=tmp_path / "all")
    assert [row["source"] for row in read_gallery(tmp_path / "all")] == [
        (faces / name).as_posix() for name in ("b.png", "c.png", "a.png")
    ]
    assert [entry["file_name"] for entry in result.left_out] == [(faces / "notes.txt").as_posix()]
    assert result.left_out[0]["reason"].startswith("not a picture")


def test_several_sources(tmp_path: Path, scorer: Brightness) -> None:
    fill(tmp_path / "classes", {"x/a.png": 51, "y/a.png": 153})
    fill(tmp_path / "made", {"0001.png": 102})
    (tmp_path / "made" / "gallery.csv").write_text("file_name,seed,score\n0001.png,7,0.9\n")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("b.png", encode_png(grey(204)))
    rank(tmp_path / "classes", str(tmp_path / "made"), tmp_path / "faces.zip", out=tmp_path / "out")  # type: ignore[arg-type]
    found = [(row["file_name"], row["class"], row["seed"]) for row in read_gallery(tmp_path / "out")]
    assert found == [
        ("0001-b.png", "", ""),
        ("0002-a.png", "y", ""),
        ("0003-0001.png", "", "7"),
        ("0004-a.png", "x", ""),
    ]
    assert f"{tmp_path}/classes {tmp_path}/made {tmp_path}/faces.zip" in (tmp_path / "out/index.html").read_text()


def test_nothing_is_overwritten(tmp_path: Path, scorer: Brightness) -> None:
    faces, ranked = fill(tmp_path / "faces", {"a.png": 1}), tmp_path / "ranked"
    rank(faces, out=ranked)
    with pytest.raises(FileExistsError, match="--force"):
        rank(faces, out=ranked)
    rank(faces, out=ranked, force=True)
    with pytest.raises(FileExistsError, match="contains the input"):
        rank(ranked, out=ranked, force=True)
    with pytest.raises(FileExistsError, match=r"contains the input|contains other files"):
        rank(ranked, out=faces, force=True)
    assert (ranked / "0001-a.png").exists()


def test_into_the_folder_where_one_is(tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 1})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for force in (False, True):
        assert rank(faces, out=Path(), force=force).kept == 1
    assert (tmp_path / "here" / "gallery.csv").is_file()


def test_by_default_a_numbered_gallery(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "faces", {"a.png": 1})
    assert rank(Path("faces"), dry_run=True).out == Path("galleries/00000-rank-faces")
    assert not Path("galleries").exists()
    assert [rank(Path("faces")).out for _ in range(2)] == [Path(f"galleries/0000{i}-rank-faces") for i in range(2)]
    assert capsys.readouterr().out == ""


def test_a_dry_run_writes_nothing(tmp_path: Path, scorer: Brightness) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 1})
    result = rank(faces, out=tmp_path / "out", dry_run=True)
    assert result.pictures == 1 and str(result) == f"would rank 1 picture into {tmp_path / 'out'}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("keep", 0), ("keep", -1), ("keep", 2**70), ("batch", 0), ("batch", 2**40), ("workers", 0), ("workers", 10**6),
     ("threshold", 1.5), ("threshold", -1), ("threshold", float("nan")), ("threshold", float("inf")), ("model", ""),
     ("device", "cuda:77"), ("device", "")],
)  # fmt: skip
def test_invalid_options_are_named(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"--{option}"):
        rank(fill(tmp_path / "faces", {"a.png": 1}), out=tmp_path / "out", **{option: value})
    assert not (tmp_path / "out").exists()


def test_invalid_places_are_named(tmp_path: Path) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 1})
    with pytest.raises(ValueError, match="no pictures given"):
        rank()
    with pytest.raises(ValueError, match="gone: does not exist"):
        rank(faces, tmp_path / "gone", out=tmp_path / "out")
    with pytest.raises(OSError, match="a file of that name"):
        rank(faces, out=faces / "a.png")
    with pytest.raises(ValueError, match="--any-style: only applies to --threshold"):
        rank(faces, out=tmp_path / "out", any_style=True)
    with pytest.raises(ValueError, match="builtin:tagger: a tagger, but a scorer is needed"):
        rank(faces, model="builtin:tagger", out=tmp_path / "out")


def test_mistakes_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, kyara\n"
        "try: kyara.rank('.', keep=-1)\n"
        "except ValueError as error: print(error, 'torch' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert shown.stdout.startswith("--keep -1: ") and shown.stdout.endswith(" False\n"), shown.stderr


def test_on_the_command_line(tmp_path: Path) -> None:
    faces = fill(tmp_path / "faces", {"a.png": 1, "日本.png": 2})
    (faces / "日本語.png").write_bytes(b"not a picture")
    command = [sys.executable, "-m", "kyara", "rank", *map(str, sorted(faces.iterdir())), "--out", "out", "--json"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    shown = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["kept"], len(found["left_out"]), found["out"]) == (2, 1, "out")


def test_a_score_does_not_depend_on_the_company(scorer: Brightness) -> None:
    pictures = torch.rand(5, 3, 8, 12) * 2 - 1
    together = scoring.score(pictures, scorer)  # type: ignore[arg-type]
    alone = torch.cat([scoring.score(p[None], scorer) for p in pictures])  # type: ignore[arg-type]
    torch.testing.assert_close(together, alone)
    assert together.dtype == torch.float32


def test_with_a_real_scorer(tmp_path: Path) -> None:
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
    rank(tmp_path / "faces", model=str(folder), batch=2, out=tmp_path / "out")
    rows = read_gallery(tmp_path / "out")
    model = models.load(folder)
    for row in rows:
        picture = torch.from_numpy(decode(Path(row["source"]))).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            assert float(row["score"]) == pytest.approx(float(model.scores(picture)), abs=0.01)  # type: ignore[operator]
    assert len(rows) == 5


def drawings(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:02d}.png").write_bytes(encode_png(drawn_picture(i, 64)))
    return folder


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Pictures that are no drawn faces at all."""
    folder = tmp_path / "stripes"
    folder.mkdir()
    for i in range(6):
        rows = np.random.RandomState(i).randint(0, 255, (16, 1, 3)).astype(np.uint8)
        (folder / f"{i}.png").write_bytes(encode_png(rows.repeat(4, 0).repeat(64, 1)))
    return folder


def test_parts_of_the_score_and_an_unfamiliar_style(tmp_path: Path, stripes: Path) -> None:
    result = rank(stripes, out=tmp_path / "out", by="both", model=BUILTIN)
    rows = read_gallery(tmp_path / "out")
    assert result.unfamiliar == 6 and "unfamiliar style: 6 pictures" in str(result) and "see --like" in str(result)
    compared = str(dataclasses.replace(result, like=Path("art")))
    assert "They are unlike those of art" in compared and "see --like" not in compared
    assert all(row["unfamiliar"] == "yes" and row["score_eyes"] and row["score_mouth"] for row in rows)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "unfamiliar style" in page and "%</b>" not in page
    again = rank(tmp_path / "out", out=tmp_path / "again", by="content", model=BUILTIN)
    assert list(read_gallery(tmp_path / "again")[0]) == list(rows[0]) and again.kept == 6


def test_the_quality_alone_knows_an_unfamiliar_style_too(tmp_path: Path, stripes: Path) -> None:
    assert rank(stripes, out=tmp_path / "out", model=BUILTIN).unfamiliar == 6
    row = read_gallery(tmp_path / "out")[0]
    assert row["unfamiliar"] == "yes" and "score_eyes" not in row


def test_a_threshold_is_refused_in_an_unfamiliar_style(tmp_path: Path, stripes: Path) -> None:
    with pytest.raises(ValueError, match=r"^--threshold 0\.1: 100% of the pictures are in an unfamiliar style; give"):
        rank(stripes, out=tmp_path / "out", by="both", model=BUILTIN, threshold=0.1)
    assert not (tmp_path / "out").exists()
    assert rank(stripes, out=tmp_path / "out", by="both", model=BUILTIN, threshold=0, any_style=True).kept == 6


def test_the_style_of_the_owner(tmp_path: Path) -> None:
    art, few = drawings(tmp_path / "art", 40), drawings(tmp_path / "few", 19)
    with pytest.raises(ValueError, match=f"^--like {few}: 19 different readable pictures; give 20 or more"):
        rank(art, out=tmp_path / "out", model=BUILTIN, like=few)
    for name in ("a.png", "b.png"):  # copies are not more pictures: they are at no distance from each other
        shutil.copy(next(few.iterdir()), few / name)
    with pytest.raises(ValueError, match=f"^--like {few}: 19 different readable pictures; give 20 or more"):
        rank(art, out=tmp_path / "out", model=BUILTIN, like=few)
    result = rank(art, out=tmp_path / "out", by="both", model=BUILTIN, like=art)
    scores = [float(row["score"]) for row in read_gallery(tmp_path / "out")]
    assert not result.unfamiliar and np.median(scores) > 0.8 and sum(score < 0.5 for score in scores) <= 6
    page = (tmp_path / "out" / "index.html").read_text()
    assert "%</b>" in page and "eyes 0." in page


# --- many pictures


def test_an_interrupted_ranking_goes_on(tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch) -> None:
    """With several shards nothing is scored twice, and the result is that of a run that was not interrupted."""
    monkeypatch.setattr(shards, "SHARD", 4)
    levels = np.random.default_rng(0).permutation(200)[:10]
    folder = fill(tmp_path / "many", {f"{i}.png": int(level) for i, level in enumerate(levels)})
    options: dict[str, Any] = {"batch": 2, "workers": 1}
    whole = rank(folder, out=tmp_path / "whole", **options)
    seen, scorer.batches[:] = sum(shape[0] for shape in scorer.batches), []
    kept, calls = scorer.scores, iter(range(100))

    def dies(pictures: Tensor) -> Tensor:
        if next(calls) == 3:  # in the second shard
            raise KeyboardInterrupt
        return kept(pictures)

    monkeypatch.setattr(scorer, "scores", dies)
    monkeypatch.chdir(tmp_path)  # without --out the folder is numbered
    with pytest.raises(KeyboardInterrupt):
        rank(folder, **options)
    assert [*tmp_path.glob("galleries/shards-00000-rank-many/scores-*/shard-000000.npz")]
    monkeypatch.setattr(scorer, "scores", kept)
    scorer.batches.clear()
    parts = rank(folder, **options)
    assert sum(shape[0] for shape in scorer.batches) < seen  # the first shard was not scored again
    assert [path.name for path in (tmp_path / "galleries").iterdir()] == ["00000-rank-many"]
    assert (parts.out / "gallery.csv").read_text() == (whole.out / "gallery.csv").read_text()


def test_shards_without_the_style_are_not_mixed_with_others(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The style is checked for the built-in scorer by its name, not for the same weights by path."""
    monkeypatch.setattr(shards, "SHARD", 4)
    source = open_pictures(fill(tmp_path / "many", {f"{i}.png": 20 * i for i in range(6)}))

    def judged(check_style: bool, folder: Path) -> list[bool]:
        task = JudgeTask(source, BUILTIN, "quality", None, check_style, "cpu", 2, 1)
        return judged_in_shards(task, shards.Runner(folder), Loaded(scorer, None))[0].unfamiliar

    assert judged(False, tmp_path / "shards") == [False] * 6
    assert judged(True, tmp_path / "shards") == judged(True, tmp_path / "others") == [True] * 6


def test_two_rankings_at_once_write_two_galleries(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --out both begin with the same number; nothing is scored in vain."""
    folder = fill(tmp_path / "many", {f"{i}.png": 20 * i for i in range(3)})
    monkeypatch.chdir(tmp_path)
    kept, nested = scorer.scores, list[Path]()

    def other_first(pictures: Tensor) -> Tensor:
        if not nested:
            nested.append(Path())
            nested[0] = rank(folder).out
        return kept(pictures)

    monkeypatch.setattr(scorer, "scores", other_first)
    second = rank(folder)
    assert [nested[0].name, second.out.name] == ["00000-rank-many", "00001-rank-many"]
    assert [len(read_gallery(out)) for out in (nested[0], second.out)] == [3, 3]
    assert str(second.out) in json.loads((second.out / "report.json").read_text())["out"]


@pytest.mark.parametrize("several", [False, True])
def test_a_changed_picture_is_scored_again(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    """One of the same size, after an interruption."""
    monkeypatch.setattr(shards, "SHARD", 2)
    folder = fill(tmp_path / "many", {f"{i}.png": 20 * i for i in range(6)})
    (folder / "0.png").write_bytes(encode_png(grey(9)).ljust(200, b"\0"))
    sources = [folder, fill(tmp_path / "more", {"a.png": 3})] if several else [folder]
    kept, calls = scorer.scores, iter(range(100))

    def dies(pictures: Tensor) -> Tensor:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return kept(pictures)

    monkeypatch.setattr(scorer, "scores", dies)
    with pytest.raises(KeyboardInterrupt):
        rank(*sources, out=tmp_path / "out", batch=2)
    monkeypatch.setattr(scorer, "scores", kept)
    (folder / "0.png").write_bytes(encode_png(grey(204)).ljust(200, b"\0"))
    rank(*sources, out=tmp_path / "out", batch=2)
    assert read_gallery(tmp_path / "out")[0]["score"] == "0.8000"


def test_ray_writes_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(shards, "SHARD", 4)
    folder = tmp_path / "drawn"
    folder.mkdir()
    for i in range(10):
        (folder / f"{i}.png").write_bytes(encode_png(drawn_picture(i)))
    (folder / "broken.png").write_bytes(b"\x89PNG no")
    tables = {}
    for engine in ("local", "ray"):
        out = verb.rank(folder, out=tmp_path / engine, engine=engine, batch=2, workers=1).out
        tables[engine] = (out / "gallery.csv").read_text(), json.loads((out / "report.json").read_text())["left_out"]
    assert tables["local"] == tables["ray"]


def test_a_result_inside_a_source_is_refused(
    tmp_path: Path, scorer: Brightness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run would rank its copies."""
    faces = fill(tmp_path / "faces", {"a.png": 1})
    monkeypatch.chdir(faces)
    for options in ({"out": Path("best")}, {"out": faces / "a" / "best", "dry_run": True}):
        with pytest.raises(ValueError, match=r"^--out .*: is inside \., which is ranked; choose a folder elsewhere"):
            rank(Path(), **options)
    with pytest.raises(ValueError, match=r"^\.: the result would be inside of it; give --out with a folder elsewhere"):
        rank(Path())
    assert [path.name for path in faces.iterdir()] == ["a.png"]


def test_few_large_pictures_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, held, most = open_dataset(fill(tmp_path, {f"{i:02d}.png": i for i in range(40)})), 0, 0

    def encode(picture: np.ndarray) -> bytes:
        nonlocal held, most
        held += 1
        most = max(most, held)
        return b""

    monkeypatch.setattr(verb, "PNG_SIGNATURE", b"none")
    monkeypatch.setattr(verb, "encode_png", encode)
    for _ in verb._pngs(dataset, range(40), {}, 2):
        held -= 1
        time.sleep(0.002)
    assert most <= 2 * 2 + 2
