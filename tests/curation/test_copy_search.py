"""Copies: an exact search in blocks, an index that follows its dataset, and what `rank` says about them."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kyara.curation import copies
from kyara.curation.copies import NONE, DescribeTask, Index, Nearest, SearchTask, search, verified
from kyara.curation.placement import SIDE, SIZES, correlations, small_of
from kyara.curation.rank import rank
from kyara.curation.sources import open_pictures
from kyara.files import cache, ownership, shards
from kyara.files.archive import Folder
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.gallery import read_gallery
from kyara.files.pictures import center_crop, encode_jpeg, encode_png, resize

EXAMPLES = Path(__file__).parents[2] / "examples" / "characters.zip"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@functools.cache
def character(i: int) -> np.ndarray:
    """A drawn character of the examples, (96, 96, 3) uint8."""
    return center_crop(open_dataset(EXAMPLES).picture(i), 96, 96)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """30 characters, and a damaged picture."""
    (tmp_path / "data").mkdir()
    for i in range(30):
        (tmp_path / "data" / f"{i:02d}.png").write_bytes(encode_png(character(i)))
    (tmp_path / "data" / "99.png").write_bytes(encode_png(character(30))[:90])
    return tmp_path / "data"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three copies: mirrored, smaller, as JPEG; and two other characters."""
    (tmp_path / "pictures").mkdir()
    for name, made in {
        "mirrored.png": character(3)[:, ::-1],
        "small.png": resize(character(11), 60, 60),
        "new.png": character(40),
        "other.png": character(41),
    }.items():
        (tmp_path / "pictures" / name).write_bytes(encode_png(np.ascontiguousarray(made)))
    (tmp_path / "pictures" / "jpeg.jpg").write_bytes(encode_jpeg(character(25), 60))
    return tmp_path / "pictures"


@pytest.mark.parametrize("block", [7, 64, 5000])
def test_the_search_is_exact(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "BLOCK", block)
    random = np.random.RandomState(0)
    rows = random.randn(300, 16).astype(np.float16)
    rows[[5, 120]] = 0  # pictures that cannot be read
    queries = random.randn(9, 2, 16).astype(np.float32)
    found = search(queries, rows, 10)
    exact = (queries @ rows.astype(np.float32).T).max(1)
    exact[:, [5, 120]] = -np.inf
    order = np.argsort(-exact, 1)[:, :10]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(exact, order, 1), rtol=1e-5)
    assert (search(queries, np.zeros((4, 16), np.float16), 3).similarity == NONE).all()


def test_an_index_is_kept_until_its_dataset_changes(
    data: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Index(open_pictures(data), "cpu", workers=1).rows
    assert isinstance(first, np.memmap) and first.dtype == np.float16 and len(first) == 31
    norms = np.linalg.norm(first.astype(np.float32), axis=1)
    assert norms[30] == 0 and norms[:30] == pytest.approx(1, abs=1e-3)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was computed again")

    with monkeypatch.context() as patch:
        patch.setattr(copies, "measure_batches", never)
        np.testing.assert_array_equal(Index(open_pictures(data), "cpu", workers=1).rows, first)
    (data / "07.png").write_bytes(encode_png(character(50)))
    os.utime(data / "07.png", (1, 1))
    second = Index(open_pictures(data), "cpu", workers=1).rows
    assert [i for i in range(31) if not np.array_equal(first[i], second[i])] == [7]
    assert len(list(own_cache.iterdir())) == 2


def test_a_picture_that_a_gallery_has_lost_stops_nothing(data: Path) -> None:
    names = [f"{i:02d}.png" for i in range(30)]
    (data / "gallery.csv").write_text("\n".join(["file_name", *names, "lost.png"]))
    rows = Index(open_pictures(data), "cpu", workers=1).rows
    assert len(rows) == 31 and not rows[30].any() and rows[:30].any(1).all()


def test_an_original_that_can_be_read_again_is_searched(
    data: Path, pictures: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a network drive was away; the file has not changed."""
    read = Folder.read
    options: dict[str, Any] = {"by": "quality", "copies_of": data, "batch": 3, "workers": 1}

    def away(self: Folder, name: str) -> bytes:
        if self.root == data and name == "11.png":
            raise PictureError(f"{name}: the drive is away")
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", away)
        first = rank(pictures, out=tmp_path / "first", **options)
    reason = "no copies of it are found: the drive is away"
    assert first.copies == 2 and {"file_name": f"{data.as_posix()}/11.png", "reason": reason} in first.left_out
    second = rank(pictures, out=tmp_path / "second", **options)
    assert second.copies == 3 and [Path(entry["file_name"]).name for entry in second.left_out] == ["99.png"]
    (file,) = own_cache.iterdir()
    assert np.load(file)[:30].any(1).all()


def test_a_damaged_index_is_computed_again(data: Path, own_cache: Path) -> None:
    first = np.array(Index(open_pictures(data), "cpu", workers=1).rows)
    (file,) = own_cache.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(Index(open_pictures(data), "cpu", workers=1).rows, first)


def test_without_a_cache_the_index_is_in_memory(data: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_is_writable", lambda path: False)
    rows = Index(open_pictures(data), "cpu", workers=1).rows
    assert not isinstance(rows, np.memmap) and rows.any() and not own_cache.exists()


def test_a_dataset_without_a_readable_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="bad: no picture can be read"):
        _ = Index(open_pictures(tmp_path / "bad"), "cpu", workers=1).rows


def test_scores_rise_with_the_similarity(data: Path) -> None:
    """For the same correlation of pixels; an identical picture has a score of 1."""
    similarity = np.tile(np.linspace(-0.2, 1, 50, dtype=np.float32)[:, None], (1, 10))
    similarity[:, 1:] = 0.3
    near, originals = Nearest(np.tile(np.arange(10), (50, 1)), similarity), open_pictures(data)
    own = np.stack([small_of(originals, 0)] * 50)
    _, found = verified(near, own, originals)
    assert (np.diff(found) >= 0).all() and found.max() == pytest.approx(1, abs=0.01)
    _, other = verified(near, np.stack([small_of(originals, 20)] * 50), originals)
    assert (other < found).all() and other.max() < 0.5


def test_pixels_decide_between_similar_pictures(data: Path) -> None:
    """The second of equally similar pictures is the original; it comes first. Unreadable ones are no originals."""
    originals = open_pictures(data)
    near = Nearest(np.array([[4, 9, 2, 1, 0]]), np.full((1, 5), 0.8, np.float32))
    best, score = verified(near, small_of(originals, 9)[None], originals)
    assert best.indices.tolist() == [[9, 4, 2, 1, 0]] and score[0] > 0.5
    assert not small_of(originals, 30).any()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_part_is_found_in_its_original(mirrored: bool) -> None:
    """Enlarged, as a crop of a picture is, and perhaps mirrored."""
    whole = resize(character(3), SIDE, SIDE)
    part = whole[7 : 7 + 36, 3 : 3 + 36]
    enlarged = resize(np.ascontiguousarray(part[:, ::-1] if mirrored else part), SIDE, SIDE)
    others = np.stack([whole, whole[::-1]]).transpose(0, 3, 1, 2)
    picture = torch.from_numpy(enlarged.transpose(2, 0, 1)[None].copy())
    found = correlations(picture, torch.from_numpy(others[None].copy()))[0]
    assert found[0] > 0.97 > 0.85 > found[1]


def test_correlations_are_those_of_every_window() -> None:
    torch.manual_seed(0)
    picture, other = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)

    def centred(x: torch.Tensor) -> torch.Tensor:
        return (x.unflatten(-1, (3, -1)) - x.unflatten(-1, (3, -1)).mean(-1, keepdim=True)).flatten(-2)

    wanted = []
    for view in (picture, picture.flip(2)):
        for size in SIZES:
            made = F.interpolate(view[None].float(), (size, size), mode="bilinear", antialias=True).flatten()
            windows = centred(F.unfold(other[None].float(), size)[0].T)
            wanted.append(float(F.cosine_similarity(centred(made)[None], windows).max()))
    found = correlations(picture[None], other[None, None]).item()
    assert found == pytest.approx(max(wanted), abs=1e-4)


def test_rank_marks_copies_and_leaves_their_order(data: Path, pictures: Path, tmp_path: Path) -> None:
    plain = rank(pictures, by="quality", out=tmp_path / "plain")
    result = rank(pictures, by="quality", copies_of=data, out=tmp_path / "out")
    rows = {row["source"].rpartition("/")[2]: row for row in read_gallery(tmp_path / "out")}
    assert list(rows) == [row["source"].rpartition("/")[2] for row in read_gallery(plain.out or Path())]
    originals = {"mirrored.png": "03.png", "small.png": "11.png", "jpeg.jpg": "25.png"}
    assert {name: row["copy_of"] for name, row in rows.items() if float(row["copy"]) >= 0.5} == originals
    assert result.copies == 3 and "copies of" in str(result) and ": 3 pictures" in str(result)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["copies"] == 3

    assert ownership.foreign(tmp_path / "out", "gallery.csv") is None  # --force can replace it
    nearest = list(csv.DictReader((tmp_path / "out" / "nearest.csv").open()))
    mine = [row for row in nearest if row["file_name"] == rows["small.png"]["file_name"]]
    assert len(nearest) == 50 and len(mine) == 10 and mine[0]["nearest"] == "11.png"
    rest = [row["similarity"] for row in mine[1:]]
    assert rest == sorted(rest, reverse=True)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<p class=copy>copy of ") == 3 and page.count("<p>nearest ") == 2
    assert page.count('class="beside"') == page.count('class="strip"') == 5 and "<script" not in page
    assert "img-src 'self' file: data:" in page


def test_copies_are_left_out_if_asked(data: Path, pictures: Path, tmp_path: Path) -> None:
    result = rank(pictures, by="quality", copies_of=data, copy_threshold=0.5, keep=1, out=tmp_path / "out")
    (row,) = read_gallery(tmp_path / "out")
    assert row["source"].endswith(("new.png", "other.png")) and (result.copies, result.kept) == (3, 1)
    with pytest.raises(ValueError, match=r"--copy-threshold 0\.5: needs --copies-of DATA"):
        rank(pictures, copy_threshold=0.5, out=tmp_path / "no")


def test_a_gallery_with_copies_can_be_ranked_again(data: Path, pictures: Path, tmp_path: Path) -> None:
    rank(pictures, by="quality", copies_of=data, out=tmp_path / "one")
    again = rank(tmp_path / "one", by="quality", out=tmp_path / "two")
    (columns,) = {tuple(row) for row in read_gallery(tmp_path / "two")}
    assert again.kept == 5 and "copy" not in columns and not (tmp_path / "two" / "nearest.csv").exists()


# --- many pictures


def tables(folder: Path) -> tuple[str, str]:
    return (folder / "gallery.csv").read_text(), (folder / "nearest.csv").read_text()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_copies_are_found_in_shards(
    engine: str, data: Path, pictures: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    options: dict[str, Any] = {"by": "quality", "copies_of": data, "batch": 3, "workers": 1}
    rank(pictures, out=tmp_path / "whole", **options)
    (whole,) = (np.load(path) for path in own_cache.iterdir())
    shutil.rmtree(own_cache)
    monkeypatch.setattr(shards, "SHARD", 3)
    rank(pictures, out=tmp_path / "parts", engine=engine, **options)
    assert tables(tmp_path / "parts") == tables(tmp_path / "whole")
    (path,) = own_cache.iterdir()
    np.testing.assert_array_equal(np.load(path), whole)
    assert not (tmp_path / "shards-parts").exists()


def test_an_interrupted_search_goes_on(
    data: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index of which parts are there is completed, and pictures that were searched are not searched again."""
    monkeypatch.setattr(shards, "SHARD", 3)
    options: dict[str, Any] = {"by": "quality", "copies_of": data, "batch": 3, "workers": 1}
    rank(pictures, out=tmp_path / "whole", **options)
    shutil.rmtree(cache.folder())
    made: list[str] = []

    def until(kind: type[DescribeTask | SearchTask], count: int) -> None:
        measure = kind.measure

        def counted(self: Any, loaded: Any, indices: range) -> shards.Rows:
            if len(made) == count:
                raise KeyboardInterrupt
            made.append(kind.__name__)
            return measure(self, loaded, indices)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "measure", counted)
            if count < 100:
                with pytest.raises(KeyboardInterrupt):
                    rank(pictures, out=tmp_path / "out", **options)
            else:
                rank(pictures, out=tmp_path / "out", **options)

    until(DescribeTask, 7)
    assert len([*(tmp_path / "shards-out").glob("index-*/*.npz")]) == 7
    until(SearchTask, 8)  # after one shard of two
    assert len([*(tmp_path / "shards-out").glob("copies-*/*.npz")]) == 1
    until(SearchTask, 100)
    assert made == ["DescribeTask"] * 7 + ["SearchTask"] * 2
    assert tables(tmp_path / "out") == tables(tmp_path / "whole") and not (tmp_path / "shards-out").exists()
