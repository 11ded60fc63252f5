"""Generating: a seed is a picture for good, and every picture says how it was made."""

from __future__ import annotations

import re
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kyara import __version__, models
from kyara.curation import scoring
from kyara.curation.rank import rank
from kyara.files import checkpoint, ownership
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, encode_png, quantise, read_recipe
from kyara.generation import confirm, pipeline, sampler
from kyara.generation.generate import generate
from kyara.generation.translate import translate
from kyara.models.base import Config, DataConfig, Scorer


class Brightness(Scorer):
    """A scorer whose scores are known: the brighter, the higher."""

    def __init__(self) -> None:
        super().__init__(Config(DataConfig(16, 24)))
        self.checkpoint = SimpleNamespace(hash="0" * 16)  # type: ignore[assignment]
        self.nothing = nn.Parameter(torch.zeros(1))

    def scores(self, pictures: Tensor) -> Tensor:
        return (pictures.mean((1, 2, 3)) + 1) / 2


@pytest.fixture(autouse=True)
def recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "load", lambda name, device: Brightness())


SIZES: dict[str, dict[str, Any]] = {
    "dcgan": {"data": {"width": 16, "height": 24}, "network": {"z_dim": 8, "channels": 12}},
    "stylegan2": {
        "data": {"width": 16, "height": 24},
        "network": {"z_dim": 8, "w_dim": 8, "mapping_layers": 1, "channel_base": 128, "channel_max": 16},
    },
    "distortion": {
        "data": {"width": 32, "height": 32}, "network": {"depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32]},
    },
    "upscaler": {"data": {"width": 32, "height": 32}, "network": {"widths": [4, 8]}, "losses": {"crop": 8}},
}  # fmt: skip


def make(path: Path, name: str = "dcgan", seed: int = 0) -> str:
    """A Checkpoint with random weights; strong ones, so that its pictures differ and small errors show."""
    torch.manual_seed(seed)
    model = models.build(name, SIZES[name])
    weights = {k: t * 3 if t.is_floating_point() and t.ndim > 1 else t for k, t in models.stored(model).items()}
    checkpoint.write(path, model=name, config=SIZES[name], weights=weights, card="test", about={})
    return str(path)


def gallery(*arguments: Any, **options: Any) -> Path:
    return generate(*arguments, **options).out


@pytest.fixture
def model(tmp_path: Path) -> str:
    return make(tmp_path / "model")


def pictures(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.png") if p.name != "sheet.png"}


def test_the_gallery_is_ranked_and_every_picture_carries_its_recipe(model: str, tmp_path: Path) -> None:
    out = gallery(model, count=5, truncation=0.9, out=tmp_path / "out")
    rows = read_gallery(out)
    assert sorted(row["file_name"] for row in rows) == [f"seed000{i}.png" for i in range(5)]
    assert sorted(row["seed"] for row in rows) == list("01234")
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    for row in rows:
        picture = decode(out / row["file_name"])
        assert picture.shape == (24, 16, 3)
        assert float(row["score"]) == pytest.approx(picture.mean() / 255, abs=1e-4)
        assert read_recipe(out / row["file_name"]) == {
            "kyara": __version__,
            "model": model,
            "checkpoint": checkpoint.read(model).hash,
            "truncation": 0.9,
            "mirror": False,
            "labels": {},
            "computed": {"device": "cpu", "precision": "float32", "batch": 8, "torch": str(torch.__version__)},
            "seed": int(row["seed"]),
        }
    assert "--count 5 --truncation 0.9" in (out / "index.html").read_text()


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_a_seed_is_the_same_file_whatever_is_made_beside_it(name: str, tmp_path: Path) -> None:
    model = make(tmp_path / "model", name)
    whole = pictures(gallery(model, count=13, out=tmp_path / "whole", rank="none"))
    assert len(set(whole.values())) == 13
    for i, options in enumerate(
        [
            {"count": 13, "batch": 5},
            {"seeds": "12"},
            {"seed": 9, "count": 2, "batch": 1},
            {"seeds": "11,3-5", "batch": 64},
        ]
    ):
        again = pictures(gallery(model, out=tmp_path / str(i), rank="none", **options))  # type: ignore[arg-type]
        assert again == {name: whole[name] for name in again}


def test_mirror_flips(model: str, tmp_path: Path) -> None:
    plain = gallery(model, seeds="3", out=tmp_path / "a", rank="none")
    flipped = gallery(model, seeds="3", mirror=True, out=tmp_path / "b", rank="none")
    np.testing.assert_array_equal(decode(plain / "seed0003.png")[:, ::-1], decode(flipped / "seed0003.png"))


@pytest.mark.parametrize("options", [{"seeds": "7"}, {"seeds": "7", "mirror": True, "truncation": 1}])
def test_like_makes_the_very_same_picture(model: str, tmp_path: Path, options: dict[str, Any]) -> None:
    old = gallery(model, out=tmp_path / "old", **options) / "seed0007.png"
    result = generate(like=old, out=tmp_path / "new")
    assert (result.out / "seed0007.png").read_bytes() == old.read_bytes()
    assert result.identical and "pixel for pixel" in str(result)
    new = gallery(model, like=old, out=tmp_path / "newer") / "seed0007.png"
    assert new.read_bytes() == old.read_bytes()


def test_like_repeats_a_frame(model: str, tmp_path: Path) -> None:
    film = gallery(model, interpolate="3-8-1", frames=4, out=tmp_path / "film")
    out = gallery(like=film / "frame0002.png", out=tmp_path / "new")
    assert (out / "frame0000.png").read_bytes() == (film / "frame0002.png").read_bytes()


def test_a_turned_head_is_part_of_the_recipe_but_not_of_the_score(model: str, tmp_path: Path) -> None:
    straight, turned = (gallery(model, seeds="7,8", turn=turn, out=tmp_path / f"{turn}") for turn in (None, 20))
    assert [row["score"] for row in read_gallery(turned)] == [row["score"] for row in read_gallery(straight)]
    old = turned / "seed0007.png"
    assert (read_recipe(old) or {})["turn"] == 20 and "turn" not in (read_recipe(straight / "seed0007.png") or {})
    assert not np.array_equal(decode(old), decode(straight / "seed0007.png"))
    assert generate(like=old, out=tmp_path / "same").identical
    back = generate(like=old, turn=0, out=tmp_path / "back")
    assert back.identical is None and np.array_equal(decode(back.out / "seed0007.png"), decode(straight / old.name))
    film = gallery(model, interpolate="7-8", frames=3, turn=20, out=tmp_path / "film")
    assert np.array_equal(decode(film / "frame0000.png"), decode(old))


def test_upscaled_pictures_are_those_of_translate_and_can_be_repeated(model: str, tmp_path: Path) -> None:
    enlarger, other = (make(tmp_path / f"up{seed}", "upscaler", seed) for seed in (0, 1))
    small = gallery(model, seeds="7,8", out=tmp_path / "small")
    large = gallery(model, seeds="7,8", turn=20, upscale=enlarger, out=tmp_path / "large")
    assert [row["score"] for row in read_gallery(large)] == [row["score"] for row in read_gallery(small)]
    old = large / "seed0007.png"
    assert decode(old).shape == (48, 32, 3)
    assert (read_recipe(old) or {})["upscaled_by"] == {"model": enlarger, "checkpoint": checkpoint.read(enlarger).hash}
    assert generate(like=old, out=tmp_path / "same").identical
    back = generate(like=old, turn=0, out=tmp_path / "back")  # keeps the upscaler
    translated = translate(enlarger, small / "seed0007.png", out=tmp_path / "translated").out
    assert np.array_equal(decode(back.out / "seed0007.png"), decode(translated / "seed0007.png"))
    plain = generate(like=old, turn=0, upscale="none", out=tmp_path / "plain")
    assert np.array_equal(decode(plain.out / "seed0007.png"), decode(small / "seed0007.png"))
    assert "upscaled_by" not in (read_recipe(plain.out / "seed0007.png") or {})
    changed = generate(like=old, upscale=other, out=tmp_path / "changed")
    assert changed.identical is None and not np.array_equal(decode(changed.out / "seed0007.png"), decode(old))
    make(tmp_path / "up0", "upscaler", 2)
    with pytest.raises(ValueError, match=r"--like .*seed0007\.png: generated by checkpoint.*--upscale none"):
        generate(like=old, out=tmp_path / "gone")


def test_films_and_chosen_pictures_are_upscaled_too(model: str, tmp_path: Path) -> None:
    enlarger = make(tmp_path / "up", "upscaler")
    film = gallery(model, interpolate="3-8", frames=3, upscale=enlarger, out=tmp_path / "film")
    kept = gallery(model, count=6, keep=2, upscale=enlarger, batch=2, out=tmp_path / "kept")
    names = [*film.glob("frame*.png"), *kept.glob("seed*.png")]
    assert len(names) == 5 and {decode(name).shape for name in names} == {(48, 32, 3)}
    with Image.open(film / "interpolation.webp") as animation:
        assert animation.size == (32, 48)


def test_upscaling_needs_a_model_that_enlarges(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--upscale .*: dcgan does not enlarge pictures; builtin:upscaler does"):
        generate(model, upscale=model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_like_refuses_another_model(model: str, tmp_path: Path) -> None:
    old = gallery(model, seeds="1", out=tmp_path / "old") / "seed0001.png"
    other = make(tmp_path / "other", seed=1)
    with pytest.raises(
        ValueError,
        match=f"checkpoint {checkpoint.read(model).hash}.*checkpoint {checkpoint.read(other).hash}",
    ):
        gallery(other, like=old, out=tmp_path / "new")
    with pytest.raises(ValueError, match="generated by checkpoint"):
        gallery("builtin:character", like=old, out=tmp_path / "new")  # also if the default is given
    Path(model).rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"cannot be opened.*give the model"):
        gallery(like=old, out=tmp_path / "new")
    gallery(str(tmp_path / "moved"), like=old, out=tmp_path / "new")
    make(tmp_path / "model", seed=2)  # trained on since
    with pytest.raises(ValueError, match=r"but .* is checkpoint"):
        gallery(like=old, out=tmp_path / "newer")


def test_like_says_if_the_picture_was_edited(model: str, tmp_path: Path) -> None:
    old = gallery(model, seeds="1", out=tmp_path / "old") / "seed0001.png"
    picture = decode(old)
    picture[:4] = 0
    (tmp_path / "edited.png").write_bytes(encode_png(picture, read_recipe(old)))
    assert "not identical" in str(generate(like=tmp_path / "edited.png", out=tmp_path / "new"))


def test_like_names_the_device_that_made_the_picture(model: str, tmp_path: Path) -> None:
    old = gallery(model, seeds="1", out=tmp_path / "old") / "seed0001.png"
    picture, recipe = decode(old), read_recipe(old) or {}
    assert (recipe["computed"]["device"], recipe["computed"]["batch"]) == ("cpu", 8)
    picture[3, 4, 0] ^= 1
    recipe["computed"] |= {"device": "NVIDIA \x1bX", "batch": 64}
    (tmp_path / "gpu.png").write_bytes(encode_png(picture, recipe))
    result = generate(like=tmp_path / "gpu.png", out=tmp_path / "new")
    assert (result.identical, result.difference, result.like_device) == (False, 1, "NVIDIA \x1bX")
    assert "up to 1 of 255 levels apart: it was generated on NVIDIA \ufffdX" in str(result)
    assert np.array_equal(decode(result.out / "seed0001.png"), decode(old))
    del recipe["computed"]  # as earlier versions wrote it
    (tmp_path / "earlier.png").write_bytes(encode_png(decode(old), recipe))
    assert generate(like=tmp_path / "earlier.png", out=tmp_path / "newer").identical


def test_a_device_that_computes_ahead_makes_the_same(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = gallery(model, count=9, batch=4, out=tmp_path / "once")
    monkeypatch.setattr(pipeline, "batches_ahead", lambda device: 1)
    ahead = gallery(model, count=9, batch=4, out=tmp_path / "ahead")
    assert read_gallery(ahead) == read_gallery(once) and pictures(ahead) == pictures(once)


GOOD = {"model": "m", "checkpoint": "0" * 16, "truncation": 0.7, "mirror": False, "labels": {}, "seed": 1}


@pytest.mark.parametrize(
    "recipe",
    [
        None,
        {},
        {**GOOD, "seed": -1},
        {**GOOD, "seed": "1"},
        {**GOOD, "seed": 2**32},
        {**GOOD, "truncation": float("nan")},
        {**GOOD, "truncation": "0.7"},
        {**GOOD, "labels": {"hair": "blue"}},
        {**GOOD, "turn": 26},
        {**GOOD, "turn": float("nan")},
        {**GOOD, "turn": "10"},
        {**GOOD, "model": ["m"]},
        {**GOOD, "upscaled_by": "m"},
        {**GOOD, "computed": {"device": 3, "batch": 8}},
        {**GOOD, "computed": {"device": "cpu", "batch": 10**9}},
        {**GOOD, "computed": "cpu"},
        {k: v for k, v in GOOD.items() if k != "seed"} | {"seeds": [1], "position": 0.5},
        {k: v for k, v in GOOD.items() if k != "seed"} | {"seeds": [1, 2], "position": 1.5},
        {**GOOD, "model": "hf-hub:someone/something"},
        {**GOOD, "model": "//server/share"},
        {**GOOD, "model": "nul\0byte"},
    ],
)
def test_like_refuses_recipes_that_make_no_sense(tmp_path: Path, recipe: dict[str, Any] | None) -> None:
    (tmp_path / "x.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8), recipe))
    with pytest.raises(ValueError, match=r"--like .*x\.png: "):
        gallery(like=tmp_path / "x.png", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_keep_leaves_the_best(model: str, tmp_path: Path) -> None:
    every = read_gallery(gallery(model, count=9, out=tmp_path / "all"))
    out = gallery(model, count=9, keep=3, batch=4, out=tmp_path / "best")
    assert read_gallery(out) == every[:3]
    assert set(pictures(out)) == {row["file_name"] for row in every[:3]}


def test_without_ranking_the_seeds_stay_in_order(model: str, tmp_path: Path) -> None:
    rows = read_gallery(gallery(model, seeds="8-9,2,5", rank="none", out=tmp_path / "out"))
    assert [row["seed"] for row in rows] == ["8", "9", "2", "5"]
    assert "score" not in rows[0]


def test_a_ranked_gallery_scores_the_same(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "load", models.load)
    judge = make(tmp_path / "judge", "distortion")
    rows = read_gallery(gallery(model, count=6, rank=judge, out=tmp_path / "out"))
    rank(tmp_path / "out", model=judge, by="quality", batch=4, out=tmp_path / "again")
    again = read_gallery(tmp_path / "again")
    assert [(row["seed"], row["score"]) for row in again] == [(row["seed"], row["score"]) for row in rows]


def test_an_interpolation_runs_from_seed_to_seed(model: str, tmp_path: Path) -> None:
    out = gallery(model, interpolate="3-8", frames=5, out=tmp_path / "film")
    rows = read_gallery(out)
    assert [row["file_name"] for row in rows] == [f"frame000{i}.png" for i in range(5)]
    assert [(row["seed"], row["position"]) for row in rows][1] == ("3-8", "0.2500")
    gallery(model, seeds="3,8", out=tmp_path / "ends")
    for frame, seed in ((0, 3), (4, 8)):
        end = decode(tmp_path / "ends" / f"seed000{seed}.png")
        np.testing.assert_array_equal(decode(out / f"frame000{frame}.png"), end)
    assert ownership.foreign(out, "gallery.csv") is None  # --force can replace it
    with Image.open(out / "interpolation.webp") as film:
        assert 1 < film.n_frames <= 5  # type: ignore[attr-defined]  # equal ones are one
    assert "interpolation.webp" in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 0}, "--count"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**32 - 1, "count": 2}, "--seed"),
        ({"seeds": "0-3", "count": 5}, "--count 5"),
        ({"seeds": "0-3", "seed": 5}, "--seed"),
        ({"seeds": "0-3", "interpolate": "1-2"}, "--interpolate"),
        ({"like": Path(__file__), "interpolate": "1-2"}, "--like"),
        ({"like": Path(__file__), "count": 2}, "--count"),
        ({"like": Path("nowhere.png")}, "no such file"),
        ({"keep": 3, "rank": "none"}, "--keep"),
        ({"keep": 3, "interpolate": "1-2"}, "--keep"),
        ({"keep": 0}, "--keep"),
        ({"batch": 0}, "--batch"),
        ({"frames": 1, "interpolate": "1-2"}, "--frames"),
        ({"truncation": float("nan")}, "--truncation"),
        ({"truncation": float("inf")}, "--truncation"),
        ({"truncation": -3}, "--truncation"),
        ({"batch": 10**12}, "--batch"),
        ({"frames": 10**12, "interpolate": "1-2"}, "--frames"),
        ({"count": 10**12}, "--count"),
        ({"count": -1}, "--count"),
        ({"keep": -1}, "--keep"),
        ({"seeds": ""}, "--seeds"),
        ({"interpolate": ""}, "--interpolate"),
        ({"confirm": "", "where": "hair=red"}, "--confirm"),
        ({"rank": ""}, "--rank"),
        ({"device": ""}, "--device"),
        ({"device": "nowhere"}, "--device"),
        ({"like": Path()}, "--like"),
    ],
)
def test_options_that_make_no_sense_are_named(model: str, tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        gallery(model, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_count_may_agree_with_seeds(model: str, tmp_path: Path) -> None:
    assert len(read_gallery(gallery(model, seeds="0-1,7", count=3, out=tmp_path / "out"))) == 3


def test_pictures_are_streamed(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[weakref.ref[Tensor]] = []
    monkeypatch.setattr("kyara.files.gallery.processors", lambda: 1)

    def watched(pictures: Tensor) -> Tensor:
        assert all(made() is None for made in before[:-3]), "only batches that are being written may be in memory"
        made = quantise(pictures)
        before.append(weakref.ref(made))
        return made

    monkeypatch.setattr(pipeline, "quantise", watched)
    gallery(model, count=60, batch=4, out=tmp_path / "out")
    assert len(before) == 15


def test_nothing_is_overwritten(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "drawing.txt").write_text("mine")
    out = gallery(model, count=1, out=tmp_path / "out")
    with pytest.raises(FileExistsError, match="--force"):
        gallery(model, count=1, out=out)
    with pytest.raises(FileExistsError, match="contains the input"):
        gallery(like=out / "seed0000.png", out=out, force=True)
    with pytest.raises(FileExistsError, match="contains the input"):
        gallery(model, out=Path(model), force=True)
    with pytest.raises(FileExistsError, match="contains other files"):
        gallery(model, out=tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "drawing.txt").exists()
    gallery(model, seeds="5", out=out, force=True)
    assert set(pictures(out)) == {"seed0005.png"}


def test_dry_run(model: str, tmp_path: Path) -> None:
    result = generate(model, seeds="0-99999", out=tmp_path / "out", dry_run=True)
    assert (result.pictures, result.dry_run) == (100_000, True)
    assert str(result) == f"would generate 100,000 pictures with {model} in {tmp_path / 'out'}"
    assert not result.out.exists()


def test_the_result(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = generate(model, count=3, keep=1, out=tmp_path / "out")
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    assert result.as_json() | {"best": []} == {
        "out": str(tmp_path / "out"), "model": model, "checkpoint": checkpoint.read(model).hash, "pictures": 3,
        "kept": 1, "truncation": 0.7, "mirror": False, "labels": {}, "confirm": None, "confirmed": None, "tried": None,
        "like": None, "identical": None, "difference": None, "like_device": None, "best": [], "notes": [],
        "dry_run": False,
    }  # fmt: skip
    assert result.best == read_gallery(result.out)
    assert str(result).startswith(f"{result.out}: 1 of 3 pictures by {model}\nlook at")


def test_without_out_galleries_are_numbered(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [generate(model, count=1).out for _ in range(2)]
    assert made == [Path("galleries/00000-generate-model"), Path("galleries/00001-generate-model")]
    assert "1 picture" in (made[0] / "index.html").read_text()


def test_a_wrong_option_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "drawing.txt").write_text("mine")
    wrong = [["--count", "0"], ["--out", "mine"], ["--where", "hair"], ["--like", "."], ["--truncation", "nan"]]
    script = f"""
import sys, kyara.__main__ as main
for options in {wrong}:
    try:
        main.run("generate", options)
    except SystemExit as error:
        print(error)
assert "torch" not in sys.modules
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[2] for line in shown.stdout.splitlines()] == [option for option, _ in wrong]


def test_a_recogniser_is_no_generator(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "load", lambda name, device: nn.Identity())
    with pytest.raises(ValueError, match="does not generate pictures"):
        gallery(model, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"like": Path("x.png"), "mirror": True}, "--mirror: is taken from the recipe of --like x.png"),
        ({"like": Path("x.png"), "truncation": 0.3}, "--truncation: is taken from the recipe"),
        ({"frames": 99}, "--frames 99: needs --interpolate"),
        ({"interpolate": "1-2", "rank": "other"}, "--rank other: an interpolation keeps its own order"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(
    model: str, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    if "like" in options:
        options = options | {"like": gallery(model, seeds="7", out=tmp_path / "old").joinpath("seed0007.png")}
        message = message.replace("x.png", str(options["like"]))
    with pytest.raises(ValueError, match=re.escape(message)):
        generate(model, out=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_upscaler_is_the_default_for_the_generators_that_it_was_made_for(model: str, tmp_path: Path) -> None:
    from kyara.generation.character import UPSCALER, enlarger
    from kyara.rewriting import rules

    rules.write(tmp_path / "ruled", checkpoint.read("builtin:character"), [], "builtin:character")
    assert enlarger(None, "builtin:character") == enlarger(None, str(tmp_path / "ruled")) == UPSCALER
    assert enlarger(None, model) is enlarger(None, "builtin:anime") is enlarger("none", "builtin:character") is None
    large, small = (generate(count=1, rank="none", upscale=one, out=tmp_path / f"{one}").out for one in (None, "none"))
    assert decode(large / "seed0000.png").shape == (256, 256, 3)
    assert decode(small / "seed0000.png").shape == (128, 128, 3)
    assert (read_recipe(large / "seed0000.png") or {})["upscaled_by"]["model"] == UPSCALER


def test_only_confirmed_pictures_are_enlarged(model: str, monkeypatch: pytest.MonkeyPatch) -> None:

    asked: list[int] = []

    class Doubled:
        def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
            asked.append(len(pictures))
            return pictures.repeat_interleave(2, 1).repeat_interleave(2, 2)

    generator = sampler.load_generator(model, torch.device("cpu"))
    shots: list[Any] = [{"seed": seed, "labels": {}} for seed in range(4)]
    for confirmed, enlarged in (([True, False, False, True], [2]), ([True] * 4, [4]), ([False] * 4, [])):
        asked.clear()
        made = [
            *pipeline.Pipeline(
                generator,
                0.7,
                False,
                judge=lambda _, c=confirmed: torch.tensor(c),
                upscaling=Doubled(),  # type: ignore[arg-type]
            ).run(shots)
        ]
        plain = [*pipeline.Pipeline(generator, 0.7, False).run(shots)]
        assert asked == enlarged
        for one, small in zip(made, plain, strict=True):
            if one.confirmed:
                assert np.array_equal(one.picture[::2, ::2], small.picture)


def test_a_batch_is_started_without_waiting_for_the_tagger(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise no batch could be computed ahead on a GPU."""
    generator = sampler.load_generator(model, torch.device("cpu"))
    unread = torch.empty(2, 2, device="meta")  # to read it is an error
    tagger = SimpleNamespace(attributes={"tone": ("dark", "light")}, probabilities=lambda pictures: {"tone": unread})
    monkeypatch.setattr(confirm, "load_tagger", lambda *_: tagger)
    monkeypatch.setattr(pipeline, "start_copy", lambda *tensors: lambda: tensors)
    judge = confirm.load_judge("a tagger", {"tone": "dark"}, torch.device("cpu"))
    finish = pipeline.Pipeline(generator, 0.7, False, judge=judge)._start([{"seed": 0, "labels": {}}] * 2)
    with pytest.raises((NotImplementedError, RuntimeError)):
        finish()
