"""`kyara invert` and `kyara avatar`, from files to a Gallery."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pair
import pytest
from PIL import Image

from kyara.files.errors import PictureError
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, read_recipe, write_png
from kyara.generation import generate as verb
from kyara.inversion.avatar import avatar
from kyara.inversion.invert import invert
from kyara.preparation import detect
from kyara.preparation.photo import FaceError


def generate(**options: Any) -> Path:
    print(result := verb.generate(**options))
    return result.out


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pair.write(tmp_path_factory.mktemp("parent") / "parent")


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory, parent: str) -> str:
    return pair.write(tmp_path_factory.mktemp("child") / "child", told=True, near=parent, seed=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, parent: str) -> Path:
    """Three pictures that the parent made, a text that is none, and two names that differ in nothing but the folder."""
    folder = tmp_path_factory.mktemp("photos")
    made = generate(model=parent, count=3, rank="none", out=folder / "made", truncation=1.0)
    (folder / "in" / "b").mkdir(parents=True)
    for i, row in enumerate(read_gallery(made)):
        where = folder / "in" / ("b/" if i == 2 else "") / f"{min(i, 1)}.png"
        where.write_bytes((made / row["file_name"]).read_bytes())
    (folder / "in" / "broken.png").write_text("no picture")
    return folder / "in"


def test_invert_finds_and_generate_makes_it_again(
    parent: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = invert(parent, photos, out=tmp_path / "found", steps=60)
    told = capsys.readouterr().out
    assert "3 of 4 pictures found" in told and "broken.png: not a picture" in told
    rows = read_gallery(out)
    assert [row["shows"] for row in rows] == ["given", "found"] * 3
    assert len({row["file_name"] for row in rows}) == 6
    for given, found in zip(rows[::2], rows[1::2], strict=True):
        a, b = (decode(out / row["file_name"]).astype(float) for row in (given, found))
        assert np.abs(a - b).mean() < 0.4 * a.std()
        assert float(found["distance"]) < 1
    again = generate(like=out / rows[1]["file_name"], rank="none", out=tmp_path / "again")
    assert "identical" in capsys.readouterr().out
    assert np.array_equal(decode(again / "latent.png"), decode(out / rows[1]["file_name"]))


def test_no_name_takes_the_place_of_another(parent: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("sheet.png", "x.png", "X.png", "b/x.png", "x-2.png"):
        (tmp_path / "in" / name).write_bytes((photos / "0.png").read_bytes())
    rows = read_gallery(invert(parent, tmp_path / "in", out=tmp_path / "found", steps=1))
    found = [row["file_name"] for row in rows if row["shows"] == "found"]
    assert len({name.lower() for name in found}) == 5 and "sheet.png" not in found
    assert all((tmp_path / "found" / row["file_name"]).is_file() for row in rows)
    assert decode(tmp_path / "found" / "sheet.png").shape[0] > 32


def test_a_latent_can_be_edited(child: str, photos: Path, tmp_path: Path) -> None:
    found = invert(child, photos / "0.png", out=tmp_path / "found", steps=20) / "0.png"
    for value in ("black", "pink"):
        generate(like=found, where={"hair": value}, rank="none", out=tmp_path / value)
    black, pink = (decode(tmp_path / value / "latent.png") for value in ("black", "pink"))
    assert not np.array_equal(black, pink)
    repeated = generate(like=tmp_path / "pink" / "latent.png", rank="none", out=tmp_path / "again")
    assert np.array_equal(decode(repeated / "latent.png"), pink)
    with pytest.raises(ValueError, match=r"--where: hair=green, .*knows hair as black, brown, pink"):
        generate(like=found, where={"hair": "green"}, rank="none", out=tmp_path / "green")


def test_a_latent_of_another_shape_is_refused(parent: str, photos: Path, tmp_path: Path) -> None:
    picture = photos / "0.png"
    recipe: dict[str, Any] = {**(read_recipe(picture) or {}), "latent": "AAAA"}
    del recipe["seed"]
    write_png(tmp_path / "odd.png", decode(picture), recipe)
    with pytest.raises(ValueError, match=r"--like .*odd.png: the latent in the recipe"):
        generate(like=tmp_path / "odd.png", rank="none", out=tmp_path / "out")


def test_tuning_writes_a_checkpoint_that_makes_the_picture(
    parent: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = np.random.RandomState(0).randint(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(strange).resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "strange.png")
    plain = invert(parent, tmp_path / "strange.png", out=tmp_path / "plain", steps=20)
    bent = invert(parent, tmp_path / "strange.png", out=tmp_path / "bent", steps=20, tune_steps=60)
    distance = [float(read_gallery(out)[1]["distance"]) for out in (plain, bent)]
    assert distance[1] < distance[0]
    capsys.readouterr()
    generate(like=bent / "strange.png", rank="none", out=tmp_path / "again")
    assert "identical" in capsys.readouterr().out


def test_avatar_draws_every_photo(
    parent: str, child: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = avatar(photos, out=tmp_path / "chars", parent=parent, child=child, aligned=True, steps=10, batch=2)
    told = capsys.readouterr().out
    assert "3 of 4 photos drawn" in told and "broken.png" in told
    again = avatar(out, out=tmp_path / "of a gallery", parent=parent, child=child, aligned=True, steps=1, sweep=False)
    assert not json.loads((again / "report.json").read_text())["left_out"]  # its sheet is no photo
    rows = read_gallery(out)
    assert len(rows) == 3 and {row["source"] for row in rows} == {"0.png", "1.png", "b/1.png"}
    for row in rows:
        assert row["hair"] in ("black", "brown") and row["eyes"] == "brown"
        assert 0 <= float(row["score"]) <= 1 and 0 <= float(row["kept"]) <= 1
        page = (out / "index.html").read_text()
        assert row["file_name"] in page
        stem = Path(row["file_name"]).stem
        for kind in ("photo", "found", "other1", "blend4"):
            assert f"steps/{stem}-{kind}.png" in page and (out / f"steps/{stem}-{kind}.png").is_file()
    report = json.loads((out / "report.json").read_text())
    assert report["drawn"] == 3 and report["left_out"][0][0] == "broken.png"
    again = generate(like=out / rows[0]["file_name"], rank="none", out=tmp_path / "again")
    assert np.array_equal(decode(again / "latent.png"), decode(out / rows[0]["file_name"]))
    pink = generate(like=out / rows[0]["file_name"], where={"hair": "pink"}, rank="none", out=tmp_path / "pink")
    twice = generate(like=pink / "latent.png", rank="none", out=tmp_path / "twice")
    assert np.array_equal(decode(twice / "latent.png"), decode(pink / "latent.png"))


def test_a_blend_that_has_changed_is_not_repeated(parent: str, child: str, photos: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(parent, tmp_path / "copy")
    out = avatar(
        photos / "0.png", out=tmp_path / "x", parent=str(copy), child=child, aligned=True, steps=2, sweep=False, blend=1
    )
    pair.write(copy, seed=5)
    with pytest.raises(
        ValueError, match=r"--like .*0\.png: was made by checkpoint .*copy.* but .*copy.* is checkpoint"
    ):
        generate(like=out / "0.png", rank="none", out=tmp_path / "again")
    for odd in ({"parent": "hf-hub:some/one"}, {"position": -1}, {"width": "wide"}):
        recipe = read_recipe(out / "0.png") or {}
        recipe["blend"] = {**recipe["blend"], **odd}
        write_png(tmp_path / "odd.png", decode(out / "0.png"), recipe)
        with pytest.raises(ValueError, match=r"--like .*odd\.png: "):
            generate(like=tmp_path / "odd.png", rank="none", out=tmp_path / "again")


def test_avatar_does_what_it_is_asked(parent: str, child: str, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"parent": parent, "child": child, "aligned": True, "steps": 5, "sweep": False}
    for name, more in {
        "asked": {"where": "hair=pink"}, "mean": {"colours": "mean"}, "photo": {"colours": "photo"},
        "blend": {"blend": 3, "blend_width": 1}, "child": {}, "still": {"pose": False},
    }.items():  # fmt: skip
        avatar(photos / "0.png", out=tmp_path / name, **options, **more)
    made = [decode(tmp_path / name / "0.png") for name in ("asked", "mean", "photo", "blend", "child", "still")]
    assert all(not np.array_equal(a, b) for i, a in enumerate(made) for b in made[:i])
    assert read_gallery(tmp_path / "asked")[0]["hair"] == "pink"
    assert not list((tmp_path / "asked" / "steps").glob("*blend*"))
    assert list((tmp_path / "asked" / "steps").glob("*photo*"))
    avatar(photos / "0.png", out=tmp_path / "without", **options, photos=False)
    assert not list((tmp_path / "without" / "steps").glob("*photo*"))
    assert "photo.png" not in (tmp_path / "without" / "index.html").read_text()


def test_faces_are_looked_for_unless_aligned(
    parent: str, child: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(detect.DETECTORS, "photo", lambda: lambda picture: [])
    with pytest.raises(FaceError, match=r"0\.png: no face found .*--aligned.*chars-seen\.png"):
        avatar(photos / "0.png", out=tmp_path / "chars", parent=parent, child=child)
    assert (tmp_path / "chars-seen.png").is_file() and not (tmp_path / "chars").exists()
    with pytest.raises(ValueError, match="no picture could be used"):
        avatar(photos, out=tmp_path / "all", parent=parent, child=child)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"batch": 0}, "--batch 0"),
        ({"blend_width": -1.0}, "--blend-width"),
        ({"blend": 1000.0}, "--blend 1000"),
        ({"where": "hair=green"}, "knows hair as"),
        ({"face": 2}, "--face"),
        ({"where": "hair=pink", "colours": "photo"}, "--where: asks for what --colours photo"),
        ({"detect": "ffhq"}, "--detect ffhq: nothing is looked for"),
    ],
)
def test_avatar_refuses_what_cannot_be(
    parent: str, child: str, photos: Path, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        avatar(photos, out=tmp_path / "x", parent=parent, child=child, aligned=True, **options)
    assert not (tmp_path / "x").exists()


def test_a_child_without_labels_is_not_asked_for_any(parent: str, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"parent": parent, "child": parent, "aligned": True, "steps": 2, "sweep": False}
    with pytest.raises(ValueError, match=r"--colours labels: .* learned no attributes"):
        avatar(photos / "0.png", out=tmp_path / "x", **options, colours="labels")
    assert "hair" not in read_gallery(avatar(photos / "0.png", out=tmp_path / "x", **options))[0]


def test_many_at_once_are_made_again_to_the_bit(parent: str, child: str, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").rename(tmp_path / "broken.png")
    out = avatar(photos, out=tmp_path / "chars", parent=parent, child=child, aligned=True, steps=5, sweep=False)
    (tmp_path / "broken.png").rename(photos / "broken.png")
    for row in read_gallery(out):
        again = generate(like=out / row["file_name"], rank="none", out=tmp_path / Path(row["file_name"]).stem)
        assert np.array_equal(decode(again / "latent.png"), decode(out / row["file_name"]))


def test_pairs_must_fit_and_have_styles(parent: str, photos: Path, tmp_path: Path) -> None:
    other = pair.write(tmp_path / "other", w_dim=8)
    with pytest.raises(ValueError, match="of different shapes"):
        avatar(photos, out=tmp_path / "x", parent=parent, child=other, aligned=True)
    with pytest.raises(ValueError, match="generator with styles"):
        invert("builtin:distortion", photos, out=tmp_path / "x")
    wide = pair.write(tmp_path / "wide", width=64)
    with pytest.raises(ValueError, match="faces are cut square"):
        invert(wide, photos, out=tmp_path / "x")
    with pytest.raises(PictureError, match="broken"):
        invert(parent, photos / "broken.png", out=tmp_path / "x", steps=1)
