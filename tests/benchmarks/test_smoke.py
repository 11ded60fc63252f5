"""Every benchmark runs at a tiny size, with random weights of VGG16 and stand-ins for what is not installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from scripts import NAMES, load

from kyara import models
from kyara.files import checkpoint, pictures

LIBRARIES = {"common", "judging", "patterns", "project"}
"""Modules that only other benchmarks import."""
CASES: dict[str, Callable[[Path, Any], list[list[str]]]] = {}
"""Benchmark -> (folder, request) -> argument lists, one for each call of its main function."""
Case = Callable[[Path, Any], list[list[str]]]


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@pytest.fixture(autouse=True)
def vgg16_weights(vgg16: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    common = load("common")
    monkeypatch.setattr(common, "vgg16_archive", lambda: Path("weights"))
    monkeypatch.setattr(common, "load_vgg16", lambda weights=None: vgg16)
    for name in NAMES:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "load_vgg16"):
            monkeypatch.setattr(module, "load_vgg16", lambda weights=None: vgg16)


def untrained(folder: Path, name: str, **changes: Any) -> str:
    """A checkpoint of the first weights of an architecture."""
    torch.manual_seed(0)
    presets = models.architecture(name).presets
    config = {**vars(presets["tiny"] if "tiny" in presets else next(iter(presets.values()))), **changes}
    path = folder / name
    about = {"kimg": 0, "data": {"name": "faces"}}
    weights = models.stored(models.build(name, config))
    checkpoint.write(path, model=name, config=config, weights=weights, card="", about=about)
    return str(path)


def folder_of(path: Path, seeds: range, size: int = 48) -> str:
    path.mkdir()
    for seed in seeds:
        pictures.write_png(path / f"{seed:04d}.png", drawn_picture(seed, size))
    return str(path)


@case
def frechet(folder: Path, request: Any) -> list[list[str]]:
    faces = str(request.getfixturevalue("faces"))
    made = [faces, "--checkpoint", untrained(folder, "dcgan", width=16, height=16), "--count", "6", "--limit", "6"]
    return [[faces, faces, "--limit", "8", "--size", "16", "--input-size", "16"], [*made, "--size", "16", "--json"]]


@case
def nearest(folder: Path, request: Any) -> list[list[str]]:
    generator = untrained(folder, "dcgan", width=16, height=16)
    faces = str(request.getfixturevalue("faces"))
    options = ["--out", str(folder / "a.png"), "--size", "16", "--input-size", "16", "--limit", "20"]
    return [[generator, faces, *options, "--prefix-from", "0050"]]


@case
def attributes(folder: Path, request: Any) -> list[list[str]]:
    return [["builtin:anime", "--tagger", "builtin:tagger", "--count", "3", "--changed", "1"]]


@case
def completion(folder: Path, request: Any) -> list[list[str]]:
    tagged = str(request.getfixturevalue("tagged_faces"))
    return [[tagged, "--kept", "20", "--ask", "4", "--batch", "2", "--repeats", "2"]]


@case
def tagger(folder: Path, request: Any) -> list[list[str]]:
    (folder / "readings.csv").write_text("file_name,hair,eyes\n0060.png,black/blue?,red\n0061.png,blue,green\n")
    options = ["--prefix-from", "0048", "--json", str(folder / "a.json"), "--readings", str(folder / "readings.csv")]
    return [[str(request.getfixturevalue("tagged_faces")), *options]]


@case
def distortion(folder: Path, request: Any) -> list[list[str]]:
    made = folder_of(folder / "made", range(200, 206))
    return [[str(request.getfixturevalue("faces")), "--prefix-from", "0048", "--generated", made]]


@case
def inpainting(folder: Path, request: Any) -> list[list[str]]:
    model = untrained(folder, "inpainting")
    options = ["--prefix-from", "0060", "--count", "2", "--out", str(folder / "a.png")]
    return [[str(request.getfixturevalue("faces")), "--checkpoint", model, *options]]


@case
def munit(folder: Path, request: Any) -> list[list[str]]:
    options = ["--count", "3", "--styles", "2", "--sheet", str(folder / "a.png")]
    photos, faces = (str(request.getfixturevalue(name)) for name in ("photos", "faces"))
    return [[untrained(folder, "munit"), "--photos", photos, "--drawings", faces, *options]]


@case
def side_by_side(folder: Path, request: Any) -> list[list[str]]:
    generator = untrained(folder, "dcgan", width=64, height=64)
    translator = untrained(folder, "cartoongan")
    options = ["--drawings", str(request.getfixturevalue("faces")), "--count", "4", "--out", str(folder / "a.png")]
    return [[generator, translator, *options, "--people", generator]]


@case
def invert(folder: Path, request: Any) -> list[list[str]]:
    photos = folder_of(folder / "photos", range(2))
    options = ["--peer", "1", "--count", "1", "--steps", "10", "--model", "builtin:anime"]
    return [["made", *options], ["given", photos, *options]]


@case
def projectors(folder: Path, request: Any) -> list[list[str]]:
    faces = str(request.getfixturevalue("faces"))
    return [[faces, "built-in=builtin:projector", "--count", "2", "--sheet-out", str(folder / "a.png")]]


@case
def rewriting(folder: Path, request: Any) -> list[list[str]]:
    module, monkeypatch = load("rewriting"), request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(module, "JUDGED", module.JUDGED[:1])
    edits = ["--repeats", "1", "--only", "flower", "--methods", "nonlinear,plain fine-tuning", "--steps", "1"]
    return [
        ["edits", *edits, "--sheets", str(folder), "--json-out", str(folder / "a.json")],
        ["sweep", "--p", "1", "--q", "1", "--steps", "1"],
        ["together", "--one", "flower", "--others", "glasses", "--steps", "1"],
        ["files", str(folder / "edits")],
    ]


@case
def distort(folder: Path, request: Any) -> list[list[str]]:
    return [["--sizes", "32", "--rounds", "1", "--count", "2"]]


@case
def ranking(folder: Path, request: Any) -> list[list[str]]:
    return [["--count", "4", "--rounds", "1", "--busy"]]


@case
def drawn_faces(folder: Path, request: Any) -> list[list[str]]:
    def box(x: int, y: int) -> SimpleNamespace:
        return SimpleNamespace(pos=SimpleNamespace(x=x, y=y, width=8, height=8))

    face = SimpleNamespace(
        likelihood=1, left_eye=box(90, 100), right_eye=box(140, 100), mouth=box(115, 150), nose=box(115, 120),
        chin=box(115, 180), hair=SimpleNamespace(color=SimpleNamespace(r=1, g=2, b=3)),
    )  # fmt: skip
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setitem(sys.modules, "animeface", SimpleNamespace(detect=lambda picture: [face]))
    return [[folder_of(folder / "made", range(2)), "--out", str(folder / "points.json")]]


@case
def cartoon(folder: Path, request: Any) -> list[list[str]]:
    without_mediapipe(request.getfixturevalue("monkeypatch"))
    photos, faces = (str(request.getfixturevalue(name)) for name in ("photos", "faces"))
    options = ["--limit", "2", "--drawn-limit", "4", "--side", "64", "--input", "16", "--shown", "1"]
    return [[photos, faces, untrained(folder, "cartoongan"), *options, "--sheet", str(folder / "a.png")]]


def without_mediapipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant landmarks and no filters, for cartoon.py."""
    module = load("cartoon")
    points = np.random.RandomState(0).rand(468, 2)
    monkeypatch.setattr(module, "landmarks", lambda picture: points)
    monkeypatch.setattr(module, "filters", lambda picture: 255 - picture)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_runs(name: str, tmp_path: Path, request: Any, capsys: pytest.CaptureFixture[str]) -> None:
    calls = CASES[name](tmp_path, request)
    for arguments in calls:
        load(name).main(arguments)
        assert arguments[0] == "files" or capsys.readouterr().out.strip()


def test_every_benchmark_has_a_case() -> None:
    assert {*CASES, *LIBRARIES} == {*NAMES}
