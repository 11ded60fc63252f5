"""kyara evaluate, on galleries, datasets and generators."""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from standins import small_networks  # noqa: F401

from kyara import models
from kyara.evaluation.evaluate import EvaluateResult, evaluate
from kyara.evaluation.metrics import Estimate
from kyara.evaluation.scores import FRECHET, KID, RANK, load_networks, run_networks
from kyara.evaluation.sets import FileSet, GeneratedSet
from kyara.files import checkpoint, pictures
from kyara.files.dataset import open_dataset
from kyara.files.pictures import encode_png, to_uint8
from kyara.labels.attributes import Label, write_labels
from kyara.models.base import Config, DataConfig, Generator, latents

pytestmark = pytest.mark.usefixtures("small_networks")
CONFIG = {"data": {"width": 16, "height": 24}, "network": {"z_dim": 8, "channels": 4}}


@pytest.fixture
def generator(tmp_path: Path) -> str:
    torch.manual_seed(0)
    weights = models.stored(models.build("dcgan", CONFIG))
    checkpoint.write(tmp_path / "g", model="dcgan", config=CONFIG, weights=weights, card="", about={})
    return str(tmp_path / "g")


def scores(result: EvaluateResult) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in result.as_json()["scores"]}


def write(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        pictures.write_png(folder / f"{i:03d}.png", image)
    return folder


def test_the_other_half_scores_better_than_noise(faces: Path, tmp_path: Path) -> None:
    half = write(tmp_path / "half", [drawn_picture(seed) for seed in range(100, 160)])
    noise = write(tmp_path / "noise", [np.random.RandomState(i).randint(0, 256, (48, 48, 3), "u1") for i in range(60)])
    results = [evaluate(str(folder), faces, workers=0) for folder in (half, noise)]
    good, bad = map(scores, results)
    text = str(results[0])
    for name in ("kid", "frechet", "nearest_mse"):
        assert good[name]["value"] < bad[name]["value"]
    for name in ("precision", "recall"):
        assert good[name]["value"] > bad[name]["value"]
    assert good["copies"]["value"] < 0.4  # such simple drawings are alike
    assert good["kid"]["low"] < good["kid"]["value"] < good["kid"]["high"]
    for score in good.values():  # every number says what it depends on
        assert score["features"] and score["resizer"] and score["pictures"] and score["what"]
    assert good["kid"]["reals"] == 64
    assert "60 pictures are fewer than 2,048" in text
    assert text.index("KID") < text.index("Fréchet distance")


def test_a_set_of_copies_is_found_out(faces: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(faces) as archive:
        archive.extractall(tmp_path / "same")
    found = scores(evaluate(str(tmp_path / "same"), faces, workers=0))
    assert found["copies"]["value"] == 1 and found["uniqueness"]["value"] == pytest.approx(0, abs=1e-4)
    assert found["nearest_mse"]["value"] == 0 and found["entropy_similarity"]["value"] == 1
    assert found["frechet"]["value"] == pytest.approx(0, abs=1e-6) and found["precision"]["value"] >= 0.5


def test_attributes_of_a_gallery_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    folder.mkdir()
    rows = ["file_name,seed,tone,score"]
    for i, (level, tone) in enumerate(
        [(20, "dark"), (30, "dark"), (220, "bright"), (40, "bright"), (90, ""), (9, "x")]
    ):
        (folder / f"{i}.png").write_bytes(encode_png(np.full((20, 20, 3), level, np.uint8)))
        rows.append(f"{i}.png,{i},{tone},0.5")
    (folder / "gallery.csv").write_text("\n".join(rows))
    found = scores(evaluate(str(folder)))
    assert found["accuracy/tone"]["value"] == 0.75 and found["accuracy/tone"]["pictures"] == 4
    assert found["accuracy/tone=dark"]["value"] == 1 and found["accuracy/tone=bright"]["value"] == 0.5
    assert 1 < found["inception/tone"]["value"] < 2
    assert "frechet" not in found  # nothing to compare with
    assert "accuracy/tone" not in scores(evaluate(str(folder), features="other", tagger="none"))


def test_labels_that_the_tagger_wrote_itself_are_no_proof(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [np.full((20, 20, 3), level, np.uint8) for level in (20, 30, 220, 40, 90)])
    dataset, by = open_dataset(folder), "tagger:builtin:tagger"
    labels = [Label(name, "tone", "dark", 0.9, by) for name in dataset.names[:2]]
    write_labels(dataset, [*labels, Label(dataset.names[2], "tone", "bright", None, "person")])

    def warned(**options: Any) -> list[str]:
        result = evaluate(str(folder), **options)
        found = [warning for warning in result.as_json()["warnings"] if "wrote itself" in warning]
        assert all(f"warning: {warning}" in str(result) for warning in found)
        return found

    (warning,) = warned()
    assert warning.startswith("labels that builtin:tagger wrote itself (2 of tone): ")
    assert warned(dry_run=True) == [warning] and not warned(features="other", tagger="none")
    write_labels(dataset, [Label(name, "tone", "dark", None, "person") for name in dataset.names[:2]])
    assert not warned()


def test_a_generator_makes_its_own_pictures(generator: str, faces: Path) -> None:
    report = evaluate(generator, faces, count=21, reals=40, workers=0, batch=5)
    a = report.a
    assert (a["kind"], a["count"], a["seeds"]) == ("checkpoint", 21, "0-20")
    assert a["checkpoint"] == checkpoint.read(generator).hash and report.b is not None and report.b["count"] == 40
    assert scores(report)["kid"]["resizer"].startswith("16x24")
    assert scores(evaluate(generator, faces, count=21, reals=40, workers=0)) == scores(report)


def test_seeds_make_the_pictures_of_generate(generator: str) -> None:
    model: Any = models.load(generator)
    made = [picture for picture, _ in GeneratedSet(generator, model, 11, first=3)]
    expected = to_uint8(model.sample(latents(range(3, 14), 8)))
    assert len(made) == 11
    assert np.abs(np.stack(made).astype(int) - expected).max() <= 1


class Conditional(Generator):
    """Draws its label: dark or bright."""

    z_dim = 4

    def sample(self, z: torch.Tensor, *, truncation: float = 1.0, labels: Any = None) -> torch.Tensor:
        return (labels["tone"] * 1.6 - 0.8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def test_labels_of_a_conditional_generator_are_drawn_as_in_its_data() -> None:
    config = Config(DataConfig(8, 8, {"tone": ("dark", "bright")}, ((0, 30), (1, 10))))
    model = Conditional(config)
    model.anchor = torch.nn.Parameter(torch.zeros(1))
    drawn = model.draw(range(400))["tone"].numpy()
    assert drawn.mean() == pytest.approx(0.25, abs=0.07)
    np.testing.assert_array_equal(model.draw(range(7, 9))["tone"], drawn[7:9])
    shown = list(GeneratedSet("conditional", model, 10))
    assert all((picture.mean() > 128) == (said["tone"] == "bright") for picture, said in shown)
    assert {said["tone"] for _, said in shown} == {"dark", "bright"}


def test_the_report_is_written_whole_and_only_over_a_report(generator: str, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    report = evaluate(generator, count=4, out=out)
    expected = {key: value for key, value in report.as_json().items() if key not in ("out", "dry_run")}
    assert json.loads(out.read_text()) == expected and report.out == out
    with pytest.raises(FileExistsError, match="add --force"):
        evaluate(generator, count=4, out=out)
    evaluate(generator, count=5, out=out, force=True)
    assert json.loads(out.read_text())["a"]["count"] == 5
    with pytest.raises(ValueError, match="--force: needs --out"):
        evaluate(generator, count=4, force=True)
    (tmp_path / "nested.json").write_text("[" * 100_000)
    with pytest.raises(FileExistsError, match="contains other data"):
        evaluate(generator, count=4, out=tmp_path / "nested.json", force=True)
    (tmp_path / "thesis.json").write_text('{"chapter": 1}')
    with pytest.raises(FileExistsError, match="contains other data"):
        evaluate(generator, count=4, out=tmp_path / "thesis.json", force=True)
    assert json.loads((tmp_path / "thesis.json").read_text()) == {"chapter": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3}, "--count 3: must be from 4 to 1,000,000"),
        ({"count": 10**12}, "--count 1000000000000: must be from 4"),
        ({"reals": 1}, "--reals 1: must be from 4"),
        ({"batch": 0}, "--batch 0"),
        ({"workers": -1}, "--workers -1"),
        ({"truncation": math.nan}, "--truncation .*: must be a finite number"),
        ({"truncation": -0.5}, "--truncation -0.5"),
        ({"features": " "}, "--features: is empty"),
        ({"b": ""}, "B: is empty"),
        ({"size": "big"}, "--size big: not a size"),
        ({"out": Path("/nowhere/at/all.json")}, "there is no folder"),
        ({"out": Path("/")}, "is a folder; give the name of a file"),
    ],
)
def test_mistakes_are_named(generator: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        evaluate(generator, **options)


def test_a_dry_run_checks_everything_and_writes_nothing(generator: str, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = evaluate(generator, faces, count=12, reals=40, out=out, dry_run=True)
    assert not out.exists() and result.dry_run and result.scores == ()
    assert result.b is not None and (result.a["count"], result.b["count"]) == (12, 40)
    assert f"would score {generator} (12 pictures) against {faces} (40) into {out}" in str(result)
    for options in ({"a": str(tmp_path / "none")}, {"b": tmp_path / "none"}):
        with pytest.raises((ValueError, OSError)):
            evaluate(**{"a": generator, "dry_run": True, **options})  # type: ignore[arg-type]


def test_scores_that_cannot_be_written_are_shown(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(f"{tmp_path}: cannot be written")

    out = tmp_path / "report.json"
    with monkeypatch.context() as patch, pytest.raises(PermissionError, match=r"--out .*not writable"):
        patch.setattr(os, "access", lambda path, mode: False)
        evaluate(str(faces), out=out, dry_run=True)
    monkeypatch.setattr("kyara.evaluation.evaluate.write_text", full)
    with pytest.raises(OSError, match=r"(?s)cannot be written\n.*diversity"):
        evaluate(str(faces), out=out)


def test_too_few_pictures(tmp_path: Path, faces: Path) -> None:
    few = write(tmp_path / "few", [drawn_picture(seed) for seed in range(3)])
    with pytest.raises(ValueError, match="3 pictures can be read, too few"):
        evaluate(str(few), faces)


@pytest.mark.parametrize("dry_run", [True, False])
def test_too_few_real_pictures_are_reported_before_any_work(tmp_path: Path, faces: Path, dry_run: bool) -> None:
    few = write(tmp_path / "few", [drawn_picture(seed) for seed in range(3)])
    with pytest.raises(ValueError, match="few: has 3 real pictures; give 4 or more"):
        evaluate(str(faces), few, dry_run=dry_run)


def test_pixels_are_compared_of_evenly_spaced_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones by name would be those of one class, or the best ones of a ranking."""
    monkeypatch.setattr("kyara.evaluation.scores.PIXEL_COUNT", 4)
    folder = write(tmp_path / "faces", [np.full((16, 16, 3), 20 * i, np.uint8) for i in range(12)])
    networks = load_networks("builtin", None, torch.device("cpu"), size=(16, 16), attributes=[])
    outputs = run_networks(FileSet(folder), networks, (16, 16), batch=5, name="faces")
    assert outputs.small[:, 0, 0, 0].tolist() == [0, 60, 120, 180]
    (folder / "003.png").write_bytes(b"no picture")
    outputs = run_networks(FileSet(folder), networks, (16, 16), batch=5, name="faces")
    assert outputs.small[:, 0, 0, 0].tolist() == [0, 80, 140, 200]


def test_intervals_stay_in_the_range_of_the_score() -> None:
    note = "pixels", "8x8", 10
    rank = RANK.score(Estimate(0.98, 0.93, 1.03), *note)
    assert (rank.value, rank.low, rank.high, rank.range) == (0.98, 0.93, 1, (0, 1))
    assert FRECHET.score(Estimate(1, -2, 4), *note).low == 0 and FRECHET.score(3.0, *note).low is None
    assert KID.score(Estimate(0.1, -0.2, 0.4), *note).low == -0.2  # the estimator may be negative


def test_options_without_an_effect_are_refused(faces: Path) -> None:
    with pytest.raises(ValueError, match=r"--truncation 0\.2: is for generators"):
        evaluate(str(faces), faces, truncation=0.2)
    with pytest.raises(ValueError, match="--reals 50: needs real pictures"):
        evaluate(str(faces), reals=50)
    with pytest.raises(ValueError, match="--workers 8: they decode real pictures"):
        evaluate(str(faces), workers=8)


@pytest.mark.parametrize("name", ["my-tagger", "builtin:tagger"])
def test_a_tagger_that_is_named_is_used(faces: Path, name: str) -> None:
    """Also if there are no attributes to check, and if it is the default one."""
    assert scores(evaluate(str(faces), features="other", tagger=name))["inception/tone"]["features"] == name
    assert "inception/tone" not in scores(evaluate(str(faces), features="other"))


def test_real_pictures_of_a_gallery_are_those_of_its_table(faces: Path, tmp_path: Path) -> None:
    """`kyara avatar` keeps other pictures in sub-folders of its gallery."""
    from kyara.evaluation.sets import open_reals

    (tmp_path / "steps").mkdir()
    for name in ("a.png", "b.png", "steps/c.png"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "gallery.csv").write_text("file_name,seed\na.png,1\nb.png,2\n")
    assert open_reals(tmp_path, 10, 2).names == ["a.png", "b.png"]


def test_each_score_says_what_its_network_saw(faces: Path) -> None:
    found = scores(evaluate(str(faces), faces, size="40", workers=0))
    assert found["rank_score"]["resizer"] == "40x40 -> 16x16, cropped, Lanczos"  # that of the stand-ins
    assert found["inception/tone"]["resizer"] == "40x40 -> 16x16, cropped, Lanczos"


def test_smaller_real_pictures_are_said(faces: Path, tmp_path: Path) -> None:
    """Enlarged, they look blurred beside those that are scored."""
    large = write(tmp_path / "large", [drawn_picture(seed, 96) for seed in range(8)])
    warning = "the real pictures (48x48) are enlarged to 96x96, which blurs them; give --size 48"
    assert warning in evaluate(str(large), faces, workers=0).warnings
    assert warning not in evaluate(str(large), faces, size="48", workers=0).warnings
