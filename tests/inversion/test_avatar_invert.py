"""`kyara invert` and `kyara avatar`, from files to a Gallery."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pair
import pytest
from command_pages import parsed
from pair import few_samples  # noqa: F401
from PIL import Image

from kyara import avatar, generate, invert, models
from kyara.files import checkpoint, ownership
from kyara.files.errors import PictureError
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, read_recipe, write_png
from kyara.inversion import photos as photos_module
from kyara.inversion import sheet_rows
from kyara.inversion.avatar import AvatarResult
from kyara.inversion.chain import Chain
from kyara.inversion.invert import InvertResult
from kyara.preparation import detect
from kyara.preparation.faces import DetectorError
from kyara.preparation.photo import FaceError


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pair.write(tmp_path_factory.mktemp("parent") / "parent")


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory, parent: str) -> str:
    return pair.write(tmp_path_factory.mktemp("child") / "child", labels=True, near=parent, seed=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, parent: str) -> Path:
    """Three pictures that the parent made and a text file; two of the pictures have the same name."""
    folder = tmp_path_factory.mktemp("photos")
    made = generate(parent, count=3, rank="none", out=folder / "made", truncation=1.0).out
    (folder / "in" / "b").mkdir(parents=True)
    for i, row in enumerate(read_gallery(made)):
        where = folder / "in" / ("b/" if i == 2 else "") / f"{min(i, 1)}.png"
        where.write_bytes((made / row["file_name"]).read_bytes())
    (folder / "in" / "broken.png").write_text("no picture")
    return folder / "in"


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory, parent: str, photos: Path) -> InvertResult:
    return invert(parent, photos, out=tmp_path_factory.mktemp("inverted") / "found", steps=40)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, parent: str, child: str, photos: Path) -> AvatarResult:
    out = tmp_path_factory.mktemp("drawn") / "characters"
    options: dict[str, Any] = {"method": "reverse", "parent": parent, "child": child, "sweep": True}
    return avatar(photos, out=out, aligned=True, steps=3, batch=2, colours="labels", **options)


def fast(parent: str, child: str, **more: Any) -> dict[str, Any]:
    options = {"method": "reverse", "parent": parent, "child": child, "aligned": True, "steps": 2, "pose": False}
    return options | more


def remade(picture: Path, out: Path, **options: Any) -> np.ndarray:
    """The picture that `kyara generate --like` makes."""
    return decode(generate(like=picture, rank="none", out=out, **options).out / "latent.png")


def test_invert_finds_pictures_and_generate_makes_them_again(inverted: InvertResult, tmp_path: Path) -> None:
    out = inverted.out
    assert out is not None and (inverted.pictures, inverted.found) == (4, 3) and 0 < (inverted.distance or 0) < 1
    assert "3 of 4 pictures inverted" in str(inverted) and "broken.png: not a picture" in str(inverted)
    assert inverted.as_json()["left_out"][0][0] == "broken.png" and inverted.steps == 40
    assert "<li>broken.png: not a picture" in (out / "index.html").read_text()
    rows = read_gallery(out)
    assert [row["shows"] for row in rows] == ["given", "found"] * 3
    assert len({row["file_name"] for row in rows}) == 6
    for given, found in zip(rows[::2], rows[1::2], strict=True):
        a, b = (decode(out / row["file_name"]).astype(float) for row in (given, found))
        assert np.abs(a - b).mean() < 0.5 * a.std()
        assert float(found["distance"]) < 1
    result = generate(like=out / rows[1]["file_name"], rank="none", out=tmp_path / "again")
    assert result.identical


def test_file_names_are_unique(parent: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("sheet.png", "x.png", "X.png", "b/x.png", "x-2.png"):
        (tmp_path / "in" / name).write_bytes((photos / "0.png").read_bytes())
    out = invert(parent, tmp_path / "in", out=tmp_path / "found", steps=1).out
    assert out is not None
    rows = read_gallery(out)
    found = [row["file_name"] for row in rows if row["shows"] == "found"]
    assert len({name.lower() for name in found}) == 5 and "sheet.png" not in found
    assert all((out / row["file_name"]).is_file() for row in rows)
    assert decode(out / "sheet.png").shape[0] > 32


def test_several_sources(parent: str, photos: Path, tmp_path: Path) -> None:
    """Files, folders and archives in one call, as a shell gives them; names say which."""
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(photos / "1.png", "inside.png")
    sources = [photos / "0.png", photos / "b", tmp_path / "more.zip"]
    result = invert(parent, sources, out=tmp_path / "found", steps=1)
    assert result.found == 3 and result.out is not None
    named = [row["source"] for row in read_gallery(result.out) if row["shows"] == "found"]
    assert named == [str(photos / "0.png"), f"{photos}/b/1.png", f"{tmp_path}/more.zip/inside.png"]


def test_a_latent_can_be_edited(child: str, photos: Path, tmp_path: Path) -> None:
    invert(child, photos / "0.png", out=tmp_path / "found", steps=5)
    found = tmp_path / "found" / "0.png"
    black, pink = (remade(found, tmp_path / value, where={"hair": value}) for value in ("black", "pink"))
    assert not np.array_equal(black, pink)
    assert np.array_equal(remade(tmp_path / "pink" / "latent.png", tmp_path / "again"), pink)
    with pytest.raises(ValueError, match=r"--where hair=green: the values of hair are black, brown, pink"):
        generate(like=found, where={"hair": "green"}, rank="none", out=tmp_path / "green")


def test_a_latent_of_another_shape_is_refused(photos: Path, tmp_path: Path) -> None:
    picture = photos / "0.png"
    recipe: dict[str, Any] = {**(read_recipe(picture) or {}), "latent": "AAAA"}
    del recipe["seed"]
    write_png(tmp_path / "odd.png", decode(picture), recipe)
    with pytest.raises(ValueError, match=r"--like .*odd.png: the latent in the recipe"):
        generate(like=tmp_path / "odd.png", rank="none", out=tmp_path / "out")


def test_tuning_writes_a_checkpoint_that_makes_the_picture(parent: str, tmp_path: Path) -> None:
    unusual = np.random.RandomState(0).randint(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(unusual).resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "unusual.png")
    results = [
        invert(parent, tmp_path / "unusual.png", out=tmp_path / f"{steps}", steps=5, tune_steps=steps)
        for steps in (0, 30)
    ]
    assert (results[1].distance or 1) < (results[0].distance or 0)
    again = generate(like=tmp_path / "30" / "unusual.png", rank="none", out=tmp_path / "again")
    assert again.identical and again.model == str(tmp_path / "30" / "tuned")
    assert ownership.foreign(tmp_path / "30", "gallery.csv") is None  # --force can replace it
    (tmp_path / "30").rename(tmp_path / "moved")
    again = generate(like=tmp_path / "moved" / "unusual.png", rank="none", out=tmp_path / "third")
    assert again.identical and again.model == str(tmp_path / "moved" / "tuned")
    shutil.copytree(parent, tmp_path / "moved" / "tuned", dirs_exist_ok=True)  # another checkpoint
    with pytest.raises(ValueError, match="its model cannot be opened"):
        generate(like=tmp_path / "moved" / "unusual.png", rank="none", out=tmp_path / "fourth")


def test_avatar_draws_every_photo(drawn: AvatarResult, tmp_path: Path) -> None:
    out = drawn.out
    assert out is not None and (drawn.photos, drawn.drawn) == (4, 3)
    assert ownership.foreign(out, "gallery.csv") is None  # --force can replace it
    assert "3 of 4 photos drawn" in str(drawn) and "broken.png" in str(drawn)
    rows = read_gallery(out)
    assert len(rows) == 3 and {row["source"] for row in rows} == {"0.png", "1.png", "b/1.png"}
    page = (out / "index.html").read_text()
    assert "--where" not in page  # none was given
    assert "<li>broken.png: " in page
    for row in rows:
        assert row["hair"] in ("black", "brown") and row["eyes"] == "brown"
        assert 0 <= float(row["score"]) <= 1 and 0 <= float(row["kept"]) <= 1
        assert row["file_name"] in page
        stem = Path(row["file_name"]).stem
        for kind in ("photo", "found", "other1", "blend4"):
            assert f"steps/{stem}-{kind}.png" in page and (out / f"steps/{stem}-{kind}.png").is_file()
    report = json.loads((out / "report.json").read_text())
    assert report == drawn.as_json() and report["drawn"] == 3 and report["left_out"][0][0] == "broken.png"


def test_characters_are_made_again_to_the_bit(drawn: AvatarResult, tmp_path: Path) -> None:
    out = drawn.out or Path()
    for row in read_gallery(out):
        again = remade(out / row["file_name"], tmp_path / Path(row["file_name"]).stem)
        assert np.array_equal(again, decode(out / row["file_name"]))
    pink = remade(out / "0.png", tmp_path / "pink", where={"hair": "pink"})
    assert np.array_equal(remade(tmp_path / "pink" / "latent.png", tmp_path / "twice"), pink)


def test_the_sheet_of_an_avatar_gallery_is_not_a_photo(
    drawn: AvatarResult, parent: str, child: str, tmp_path: Path
) -> None:
    assert not avatar(drawn.out or Path(), out=tmp_path / "x", **fast(parent, child, steps=1)).left_out


def test_the_contact_sheet_has_the_pictures_as_written(drawn: AvatarResult) -> None:
    out = drawn.out or Path()
    best = Path(read_gallery(out)[0]["file_name"])
    sheet = decode(out / "sheet.png")
    files = [out / "steps" / f"{best.stem}-photo.png", out / "steps" / f"{best.stem}-found.png", out / best]
    for i, file in enumerate(files):
        picture = decode(file)
        assert np.array_equal(sheet[2:34, 2 + 34 * i : 34 + 34 * i], picture)


def test_only_the_best_rows_of_a_sheet_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_rows, "SHEET_ROWS", 2)
    rows = sheet_rows.SheetRows()
    for i, score in enumerate((0.5, 0.9, 0.5, 0.7)):
        rows.add(f"{i}.png", score, [np.full((4, 4, 3), i, np.uint8)])
    assert rows.png([Path("1.png"), Path("3.png"), Path("0.png")])
    assert sorted(rows._rows) == ["1.png", "3.png"]


def test_a_blend_that_has_changed_is_not_repeated(parent: str, child: str, photos: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(parent, tmp_path / "copy")
    avatar(photos / "0.png", out=tmp_path / "x", **fast(str(copy), child, blend=1))
    pair.write(copy, seed=5)
    made = tmp_path / "x" / "0.png"
    changed = r"--like .*0\.png: generated by checkpoint .*copy.* but .*copy.* is checkpoint"
    with pytest.raises(ValueError, match=changed):
        generate(like=made, rank="none", out=tmp_path / "again")
    for odd in ({"parent": "hf-hub:some/one"}, {"position": -1}, {"width": "wide"}):
        recipe = read_recipe(made) or {}
        recipe["blend"] = {**recipe["blend"], **odd}
        write_png(tmp_path / "odd.png", decode(made), recipe)
        with pytest.raises(ValueError, match=r"--like .*odd\.png: "):
            generate(like=tmp_path / "odd.png", rank="none", out=tmp_path / "again")


def test_each_option_changes_the_character(
    drawn: AvatarResult, parent: str, child: str, photos: Path, tmp_path: Path
) -> None:
    for name, more in {
        "wanted": {"where": "hair=pink"}, "mean": {"colours": "mean"}, "labels": {"colours": "labels"},
        "start": {"start": "encoder"}, "space": {"space": "w+"},
        "blend": {"blend": 3, "blend_width": 1}, "pose": {"pose": True}, "plain": {"keep_photos": False},
    }.items():  # fmt: skip
        avatar(photos / "0.png", out=tmp_path / name, **fast(parent, child, **more))
    made = [decode(path / "0.png") for path in sorted(tmp_path.iterdir()) if path.is_dir() and path.name != "cache"]
    assert len(made) == 8 and all(not np.array_equal(a, b) for i, a in enumerate(made) for b in made[:i])
    assert read_gallery(tmp_path / "wanted")[0]["hair"] == "pink"
    assert not list((tmp_path / "wanted" / "steps").glob("*blend*"))
    assert list((tmp_path / "wanted" / "steps").glob("*photo*"))
    assert not list((tmp_path / "plain" / "steps").glob("*photo*"))
    assert "photo.png" not in (tmp_path / "plain" / "index.html").read_text()


def test_the_commands_on_pages_can_be_parsed(
    inverted: InvertResult, parent: str, child: str, photos: Path, tmp_path: Path
) -> None:
    """One with --pose False was once refused."""
    for label, more in {"a": {"where": {"hair": "pink"}}, "b": {"keep_photos": False, "blend": 2.5}}.items():
        options = fast(parent, child, **more)
        given = [photos / "0.png", photos / "1.png"]
        out = avatar(given, out=tmp_path / label, **options).out or Path()
        found = parsed(avatar, out / "index.html")
        assert [str(path) for one in (found["arguments"] or (found["photos"],)) for path in one] == list(
            map(str, given)
        )
        options |= {"where": "hair=pink"} if "where" in more else {}
        assert {name: found[name] for name in options} == options
    found = parsed(invert, (inverted.out or Path()) / "index.html")
    assert found["steps"] == 40 and found["out"] == inverted.out


def test_a_dry_run_reads_the_photos_and_writes_nothing(
    parent: str, child: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = avatar(photos, dry_run=True, **fast(parent, child))
    assert result.dry_run and (result.photos, result.drawn) == (4, 3) and result.left_out[0][0] == "broken.png"
    assert "would draw 3 of 4 photos" in str(result) and "galleries/00000-avatar-in" in str(result)
    found = invert(parent, photos, dry_run=True)
    assert found.dry_run and found.found == 3 and "would invert 3 of 4 pictures" in str(found)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["cache"])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"photos": "broken.png"}, "broken"),
    ({"photos": ["nowhere.png"]}, "PHOTO .*nowhere.png: no such file"),
    ({"photos": []}, "PHOTO: name one or more"),
    ({"rank": "builtin:anime"}, "builtin:anime"),
    ({"features": "vgg16:nowhere"}, "nowhere"),
    ({"features": "inception"}, "--features inception"),
    ({"parent": "builtin:distortion"}, "builtin:distortion"),
    ({"out": "."}, "--out"),
    ({"out": __file__}, "--out"),
    ({"aligned": False, "detect": "cats"}, "--detect cats"),
    ({"steps": 0}, "--steps 0"),
    ({"steps": 10**12}, "--steps"),
    ({"batch": 0}, "--batch 0"),
    ({"batch": 10**9}, "--batch"),
    ({"blend_width": -1.0}, "--blend-width"),
    ({"blend": 1000.0}, "--blend 1000"),
    ({"blend": math.nan}, "--blend nan"),
    ({"face": 0}, "--face 0"),
    ({"face": 2}, "--face 2: --aligned"),
    ({"where": "hair=green"}, "the values of hair are"),
    ({"where": "hair"}, "--where hair"),
    ({"where": "hair=pink", "colours": "photo"}, "--where hair=pink: needs --colours labels, not photo"),
    ({"colours": "round"}, "--colours round"),
    ({"detect": "ffhq"}, "--detect ffhq: --aligned"),
    ({"child": ""}, "--child"),
    ({"device": "abacus"}, "--device abacus"),
]


@pytest.mark.parametrize(("options", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_a_dry_run_refuses_what_the_run_refuses(
    parent: str, child: str, photos: Path, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    (tmp_path / "out").mkdir()
    given: Any = {"photos": photos, "out": tmp_path / "out" / "x"} | fast(parent, child) | options
    if options.get("photos") == "broken.png":
        given["photos"] = photos / "broken.png"
    for dry_run in (True, False):
        with pytest.raises((ValueError, OSError), match=problem) as error:
            avatar(**given, dry_run=dry_run)
        assert "\n" not in str(error.value)
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"steps": 5}, "--steps 5: needs --method reverse"),
        ({"start": "encoder"}, "--start encoder: needs --method reverse"),
        ({"space": "w+"}, r"--space w\+: needs --method reverse"),
        ({"pose": True}, "--pose: needs --method reverse"),
        ({"sweep": True}, "--sweep: needs --method reverse"),
        ({"parent": "builtin:photo"}, "--parent builtin:photo: needs --method reverse"),
        ({"method": "reverse", "reader": "x"}, "--reader x: needs --method labels"),
        ({"method": "other"}, "--method"),
        ({"where": "beard=long"}, "beard"),
        ({"where": "glasses=square"}, "the values of glasses are"),
        ({"child": "builtin:photo"}, "--child builtin:photo: is not conditioned on attributes"),
        ({"reader": "builtin:distortion"}, "a tagger is needed"),
    ],
)
def test_labels_refuse_what_they_do_not_use(
    photos: Path, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    for dry_run in (True, False):
        with pytest.raises(ValueError, match=problem):
            avatar(photos, out=tmp_path / "x", aligned=True, dry_run=dry_run, **options)
    assert not (tmp_path / "x").exists()


def upscaler_at(path: Path) -> str:
    """A Checkpoint of a small upscaler with random weights."""
    config = {"data": {"width": 32, "height": 32}, "network": {"widths": [4, 8]}, "losses": {"crop": 8}}
    model = models.build("upscaler", config)
    checkpoint.write(path, model="upscaler", config=config, weights=models.stored(model), card="test", about={})
    return str(path)


def test_avatar_by_labels(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kyara.inversion import proposals

    monkeypatch.setattr(proposals, "CANDIDATES", 32)
    result = avatar(photos, out=tmp_path / "out", aligned=True, where="glasses=round,hair=silver")
    out = result.out
    assert (result.photos, result.drawn) == (4, 3) and result.left_out[0][0] == "broken.png"
    assert "<li>broken.png: " in (out / "index.html").read_text()
    assert "glasses round (chosen)" in str(result) and "age" in str(result)
    rows = read_gallery(out)
    assert {(row["hair"], row["glasses"]) for row in rows} == {("gray", "round")} and len(rows) == 3
    report = json.loads((out / "report.json").read_text())
    assert report == result.as_json() and {*report["people"]} == {row["file_name"] for row in rows}
    assert ownership.foreign(out, "gallery.csv") is None  # --force can replace it
    page = (out / "index.html").read_text()
    for row in rows:
        stem = Path(row["file_name"]).stem
        assert all(f"steps/{stem}-{kind}.png" in page for kind in ("photo", "other1", "other7"))
        assert len([*out.glob(f"steps/{stem}-other?.png")]) == 7
        assert decode(out / f"steps/{stem}-photo.png").shape == (128, 128, 3)
        assert decode(out / row["file_name"]).shape == (256, 256, 3)  # enlarged
    labels = (read_recipe(out / rows[0]["file_name"]) or {})["labels"]  # for those who change one of them
    assert labels == {name: rows[0][name] for name in labels} and labels["hair"] == "gray"  # silver is its synonym
    other = out / "steps" / f"{Path(rows[0]['file_name']).stem}-other3.png"
    assert generate(like=other, rank="none", out=tmp_path / "again").identical
    assert decode(out / "sheet.png").shape[0] > 128
    enlarger = upscaler_at(tmp_path / "enlarger")
    changes = {"where": "glasses=round,hair=blue", "turn": -15, "upscale": enlarger}
    side = avatar(photos / "0.png", out=tmp_path / "side", aligned=True, **changes).out
    recipe = read_recipe(side / "0.png") or {}
    assert decode(side / "0.png").shape == decode(side / "steps/0-other7.png").shape == (256, 256, 3)
    assert recipe["upscaled_by"]["model"] == enlarger
    row = decode(side / "sheet.png")  # the photo is as large as the drawings
    assert row.shape[0] >= 256 and (row[-100:-50, 50:200] < 250).any()
    assert recipe["turn"] == -15 and "-15°" in (side / "index.html").read_text()
    assert generate(like=side / "0.png", rank="none", out=tmp_path / "side-again").identical
    plain = avatar(photos / "0.png", out=tmp_path / "plain", aligned=True, keep_photos=False, upscale="none").out
    made = read_recipe(plain / "0.png")
    assert made is not None and "upscaled_by" not in made
    assert not [*(plain / "steps").glob("*photo*")] and "photo.png" not in (plain / "index.html").read_text()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"steps": -1}, "--steps -1"),
        ({"tune_steps": -1}, "--tune-steps -1"),
        ({"tune_steps": 1, "batch": 2}, "--tune-steps"),
        ({"batch": 0}, "--batch 0"),
        ({"face": 1}, "--face 1: needs --detect"),
        ({"space": "z"}, "--space z"),
        ({"start": "end"}, "--start end"),
        ({"model": ""}, "MODEL"),
        ({"pictures": "nowhere"}, "PICTURES nowhere"),
        ({"out": ""}, "--out"),
        ({"model": "builtin:distortion"}, "not a style-based generator"),
    ],
)
def test_invert_refuses_nonsense(
    parent: str, photos: Path, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    given: Any = {"model": parent, "pictures": photos, "out": tmp_path / "x"} | options
    for dry_run in (True, False):
        with pytest.raises((ValueError, OSError), match=problem):
            invert(**given, dry_run=dry_run)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("verb", ["avatar", "invert"])
def test_options_are_checked_before_torch_is_imported(verb: str) -> None:
    arguments = {"avatar": "__file__", "invert": "'builtin:anime', __file__"}[verb]
    script = f"""
import sys
__file__ = sys.executable
from kyara import {verb}
try:
    {verb}({arguments}, steps=0)
except ValueError as error:
    assert "--steps 0" in str(error) and "torch" not in sys.modules
else:
    sys.exit(1)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_searched_picture_is_saved_beside_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    hint = photos_module._save_seen(FaceError("no face", np.zeros((8, 8, 3), np.uint8)), Path())
    assert (tmp_path / "here-seen.png").is_file() and "here-seen.png" in hint


def test_faces_are_detected_unless_aligned(
    parent: str, child: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(detect.DETECTORS, "photo", lambda: lambda picture: [])
    options = fast(parent, child, aligned=False)
    for dry_run in (True, False):
        seen = tmp_path / "new" / "chars-seen.png"
        with pytest.raises(FaceError, match=r"0\.png: no face found .*--aligned" + ".*chars-seen.png" * (not dry_run)):
            avatar(photos / "0.png", out=tmp_path / "new" / "chars", dry_run=dry_run, **options)
        assert seen.is_file() is not dry_run and not (tmp_path / "new" / "chars").exists()
    with pytest.raises(ValueError, match="no picture can be used"):
        avatar(photos, out=tmp_path / "all", **options)


def test_a_missing_detector_is_reported_before_any_work(
    parent: str, child: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise DetectorError("--detect photo: needs an extra")

    monkeypatch.setitem(detect.DETECTORS, "photo", missing)
    with pytest.raises(DetectorError, match="needs an extra"):
        avatar(photos, out=tmp_path / "x", dry_run=True, **fast(parent, child, aligned=False))


def test_a_child_without_attributes(parent: str, photos: Path, tmp_path: Path) -> None:
    options = fast(parent, parent)
    with pytest.raises(ValueError, match=r"--colours labels: .* has no attributes"):
        avatar(photos / "0.png", out=tmp_path / "x", **options, colours="labels")
    out = avatar(photos / "0.png", out=tmp_path / "x", **options).out or Path()
    assert "hair" not in read_gallery(out)[0]


def test_pairs_must_fit_and_have_styles(parent: str, photos: Path, tmp_path: Path) -> None:
    other = pair.write(tmp_path / "other", w_dim=8)
    with pytest.raises(ValueError, match="of different shapes"):
        avatar(photos, out=tmp_path / "x", method="reverse", parent=parent, child=other, aligned=True)
    wide = pair.write(tmp_path / "wide", width=64)
    with pytest.raises(ValueError, match="aligned faces are square"):
        invert(wide, photos, out=tmp_path / "x")
    with pytest.raises(PictureError, match="broken"):
        invert(parent, photos / "broken.png", out=tmp_path / "x", steps=1)


def test_names_on_the_page_are_escaped(tmp_path: Path) -> None:
    from kyara.inversion.chain import write_page

    chain = Chain("a", "<b>", None, "f.png", "c.png", ["o.png"], [], ["<i>blurred</i>"])
    write_page(tmp_path, [chain], [("<u>.png", "broken")], command="kyara avatar '<x>'", about="1 photo")
    page = (tmp_path / "index.html").read_text()
    assert "<b>" not in page and "<i>blurred" not in page and "&lt;x&gt;" in page


def test_proposals_need_a_scorer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--rank none: proposals are chosen by their scores"):
        avatar([tmp_path], rank="none", out=tmp_path / "out")
