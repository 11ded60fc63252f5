"""Every benchmark runs at a tiny size, with random weights of VGG16 and stand-ins for what is not installed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from needs import need
from scripts import NAMES, load

import kyara
from kyara import models
from kyara.files import checkpoint, pictures
from kyara.inversion import latents
from kyara.models import projector
from kyara.perception import lpips, vgg16
from kyara.perception.vgg16 import VGG16

LIBRARIES = {"common", "judging", "patterns", "project"}
"""Modules that only other benchmarks import."""
CASES: dict[str, Callable[[Path, Any], list[list[str]]]] = {}
"""Benchmark -> (folder, request) -> argument lists, one for each call of its main function."""
Case = Callable[[Path, Any], list[list[str]]]


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def thin_vgg16() -> VGG16:
    """VGG16 with a sixteenth of the channels and random weights."""
    blocks = [tuple(channels if channels == 3 else channels // 16 for channels in block) for block in vgg16.BLOCKS]
    random = np.random.RandomState(0)
    weights: dict[str, Any] = {"VGG16_0": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "BLOCKS", blocks)
        for b, block in enumerate(blocks):
            for i, o in itertools.pairwise(block):
                kernel = (random.rand(3, 3, i, o) * 0.3 / i).astype(np.float32)
                name = f"Conv_{len(weights['VGG16_0'])}"
                weights["VGG16_0"][name] = {"kernel": kernel, "bias": np.zeros(o, np.float32)}
            weights[f"NetLinLayer_{b}"] = {"Conv_0": {"kernel": random.rand(1, 1, block[-1], 1).astype(np.float32)}}
        return VGG16(weights)


@pytest.fixture(autouse=True)
def weights_of_vgg16(thin_vgg16: VGG16, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "SAMPLES", 64)  # latents whose statistics inversion begins with
    monkeypatch.setattr(load("project"), "SAMPLES", 64)
    monkeypatch.setattr(load("common"), "vgg16_archive", lambda: Path("weights"))
    monkeypatch.setattr(lpips, "read_weights", lambda path: {})
    monkeypatch.setattr(lpips, "VGG16", lambda weights: thin_vgg16)
    for module in ("common", "judging"):
        monkeypatch.setattr(load(module), "load_vgg16", lambda weights=None: thin_vgg16)


def untrained(folder: Path, name: str, size: int = 32, **data: Any) -> str:
    """A checkpoint of an architecture's preset `tiny` with its first weights."""
    torch.manual_seed(0)
    config = models.architecture(name).presets["tiny"].replace(data={"width": size, "height": size, **data})
    weights = models.stored(models.architecture(name)(config))
    about = {"kimg": 0, "data": {"name": "faces"}}
    config_ = dataclasses.asdict(config)
    checkpoint.write(folder / name, model=name, config=config_, weights=weights, card="", about=about)
    return str(folder / name)


def projector_of(folder: Path, generator: str) -> str:
    """A checkpoint of a projector for this generator."""
    torch.manual_seed(0)
    config = projector.PRESETS["tiny"].replace(**projector.Model.describe_source(generator, "auto"))
    weights, config_ = models.stored(projector.Model(config)), dataclasses.asdict(config)
    checkpoint.write(folder / "projector", model="projector", config=config_, weights=weights, card="", about={})
    return str(folder / "projector")


def folder_of(path: Path, seeds: range, size: int = 48) -> str:
    path.mkdir()
    for seed in seeds:
        pictures.write_png(path / f"{seed:04d}.png", drawn_picture(seed, size))
    return str(path)


@case
def frechet(folder: Path, request: Any) -> list[list[str]]:
    faces = str(request.getfixturevalue("faces"))
    made = [faces, "--checkpoint", untrained(folder, "dcgan", 16), "--count", "6", "--limit", "6"]
    return [[faces, faces, "--limit", "8", "--size", "16", "--input-size", "16"], [*made, "--size", "16", "--json"]]


@case
def battery(folder: Path, request: Any) -> list[list[str]]:
    faces, few = str(request.getfixturevalue("faces")), ["--count", "8", "--features", "builtin:distortion"]
    measured = ["measure", faces, *few, "--size", "16", "--ladders", "noise", "modes"]
    return [measured, ["order", faces, generator := untrained(folder, "dcgan", 16), f"{generator}~0.5", *few]]


@case
def spectrum(folder: Path, request: Any) -> list[list[str]]:
    return [[untrained(folder, "dcgan", 16), str(request.getfixturevalue("faces")), "--count", "6"]]


@case
def nearest(folder: Path, request: Any) -> list[list[str]]:
    generator = untrained(folder, "dcgan", 16)
    faces = str(request.getfixturevalue("faces"))
    options = ["--out", str(folder / "a.png"), "--size", "16", "--input-size", "16", "--limit", "20"]
    return [[generator, faces, *options, "--prefix-from", "0050"]]


@case
def attributes(folder: Path, request: Any) -> list[list[str]]:
    attributes = {"hair": ("black", "blonde"), "eyes": ("red", "blue")}
    generator = untrained(folder, "acgan", attributes=attributes, label_counts=((0, 0, 3), (1, 1, 2)))
    return [[generator, "--tagger", "builtin:tagger", "--count", "6", "--changed", "2"]]


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
    return [
        [
            str(request.getfixturevalue("faces")),
            "--prefix-from",
            "0048",
            "--generated",
            made,
            "--of",
            "builtin:anime",
            "--limit",
            "8",
        ]
    ]


@case
def copies(folder: Path, request: Any) -> list[list[str]]:
    faces = str(request.getfixturevalue("faces"))
    found = ["found", faces, "--prefix-from", "0040", "--count", "4", "--reference", "8", "--fresh", "6"]
    return [found, ["search", "--rows", "200", "--queries", "5"]]


@case
def content(folder: Path, request: Any) -> list[list[str]]:
    faces = str(request.getfixturevalue("faces"))
    made, labels = folder_of(folder / "made", range(200, 240)), folder / "labels.csv"
    labels.write_text("file_name,score\n" + "".join(f"{seed:04d}.png,{seed % 5 + 1}\n" for seed in range(200, 240)))
    rated = ["--labels", str(labels)]
    fitted = ["--count", "64", "--pairs-of", "6", "--out", str(folder / "content.safetensors")]
    agreed = ["agree", made, *rated, "--rounds", "20"]
    return [["fit", faces, "--labelled", made, *rated, *fitted], agreed, ["styles", faces, "--count", "30"]]


@case
def table2(folder: Path, request: Any) -> list[list[str]]:
    faces, each = str(request.getfixturevalue("faces")), ["--each", "4"]
    made, out = folder_of(folder / "made", range(200, 224)), str(folder / "out")
    return [
        [faces, "--generated", made, *each],
        [faces, "--checkpoint", untrained(folder, "dcgan", 16), *each, "--out", out],
    ]


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
    generator = untrained(folder, "dcgan", 64)
    translator = untrained(folder, "cartoongan")
    options = ["--drawings", str(request.getfixturevalue("faces")), "--count", "4", "--out", str(folder / "a.png")]
    return [[generator, translator, *options, "--people", generator]]


@case
def translators(folder: Path, request: Any) -> list[list[str]]:
    people = folder_of(folder / "people", range(4))
    drawn = kyara.translate(untrained(folder, "gansnroses"), people, out=folder / "drawn", device="cpu").out
    names = [path.name for path in sorted(Path(people).glob("*.png"))]
    rows = [f"{name},{gender},black" for name, gender in zip(names, ("man", "woman", "", "man"), strict=True)]
    (folder / "labels.csv").write_text("\n".join(["file_name,gender,hair", *rows]))
    photos, faces = (str(request.getfixturevalue(name)) for name in ("photos", "faces"))
    options = ["--labels", str(folder / "labels.csv"), "--photos", photos, "--drawings", faces, "--count", "8"]
    return [["measure", people, str(drawn), *options], ["show", people, str(drawn), "--out", str(folder / "a.jpg")]]


@case
def invert(folder: Path, request: Any) -> list[list[str]]:
    photos = folder_of(folder / "photos", range(2))
    options = ["--peer", "1", "--count", "1", "--steps", "10", "--model", untrained(folder, "stylegan2")]
    return [["made", *options], ["given", photos, *options]]


@case
def projectors(folder: Path, request: Any) -> list[list[str]]:
    faces = str(request.getfixturevalue("faces"))
    tiny = projector_of(folder, untrained(folder, "stylegan2"))
    return [[faces, f"tiny={tiny}", "--count", "2", "--sheet-out", str(folder / "a.png")]]


@case
def rewriting(folder: Path, request: Any) -> list[list[str]]:
    module, monkeypatch = load("rewriting"), request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(module, "JUDGED", module.JUDGED[:2])
    generator = untrained(folder, "stylegan2")
    networks = ["--of", generator, "--projector", projector_of(folder, generator)]
    edits = ["--repeats", "1", "--only", "flower", "--methods", "nonlinear,plain fine-tuning", "--steps", "1"]
    return [
        ["edits", *networks, *edits, "--sheets", str(folder), "--json-out", str(folder / "a.json")],
        ["sweep", *networks, "--p", "1", "--q", "1", "--steps", "1"],
        ["together", *networks, "--one", "flower", "--others", "glasses", "--steps", "1"],
        ["files", str(folder / "edits"), "--of", generator],
    ]


@case
def rewriting_photos(folder: Path, request: Any) -> list[list[str]]:
    module, monkeypatch = load("rewriting_photos"), request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(module, "JUDGED", 2)
    faces, model = str(request.getfixturevalue("faces")), untrained(folder, "inpainting")
    options = ["--patterns", "glasses", "--steps", "1", "--sheet", str(folder / "a.jpg")]
    return [[model, faces, faces, "--projector", projector_of(folder, model), *options]]


@case
def distort(folder: Path, request: Any) -> list[list[str]]:
    return [["--sizes", "32", "--rounds", "1", "--count", "2"]]


@case
def stylegan2(folder: Path, request: Any) -> list[list[str]]:
    return [["--preset", "tiny", "--rounds", "1", "--batch", "4", "--busy"]]


@case
def wavelets(folder: Path, request: Any) -> list[list[str]]:
    return [["--batch", "4", "--rounds", "1", "--channel-max", "8", "--busy"]]


@case
def gpu(folder: Path, request: Any) -> list[list[str]]:
    return [["--device", "cpu", "--seconds", "0.01", "--only", "training,operations,filters,peers"]]


@case
def run(folder: Path, request: Any) -> list[list[str]]:
    module, monkeypatch = load("run"), request.getfixturevalue("monkeypatch")
    (folder / "a.py").write_text("print('measured')")
    monkeypatch.setattr(module, "BENCHMARKS", {"a.py": []})
    monkeypatch.setattr(module, "__file__", str(folder / "run.py"))
    return [["--quick"]]


@case
def ranking(folder: Path, request: Any) -> list[list[str]]:
    return [["--model", untrained(folder, "distortion", 96), "--count", "4", "--rounds", "1", "--busy"]]


@case
def figure3(folder: Path, request: Any) -> list[list[str]]:
    from kyara.curation.rank import rank

    faces = str(request.getfixturevalue("faces"))
    ranked = rank(Path(folder_of(folder / "made", range(6))), copies_of=Path(faces), out=folder / "ranked").out
    return [[str(ranked), faces, "--out", str(folder / "figure3.png"), "--columns", "2", "--side", "32"]]


@case
def scale(folder: Path, request: Any) -> list[list[str]]:
    return [["--pictures", folder_of(folder / "faces", range(3)), "--counts", "2", "4"]]


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
def face_detector(folder: Path, request: Any) -> list[list[str]]:
    pictures = folder_of(folder / "pictures", range(3))
    rows = ["file_name,x,y,width,height,view,ignore", "0000.png,5,5,30,30,front,0", "0001.png,9,9,20,20,profile,1"]
    (folder / "boxes.csv").write_text("\n".join([*rows, "0001.png,2,2,40,40,profile,0"]) + "\n")
    model = untrained(folder, "detector", 64)
    return [[pictures, str(folder / "boxes.csv"), "--model", model, "--save", str(folder / "found.json")]]


@case
def cartoon(folder: Path, request: Any) -> list[list[str]]:
    without_mediapipe(request.getfixturevalue("monkeypatch"))
    photos, faces = (str(request.getfixturevalue(name)) for name in ("photos", "faces"))
    options = ["--limit", "2", "--drawn-limit", "4", "--side", "64", "--input", "16", "--shown", "1"]
    return [[photos, faces, untrained(folder, "cartoongan"), *options, "--sheet", str(folder / "a.png")]]


@case
def film(folder: Path, request: Any) -> list[list[str]]:
    options = ["--count", "1", "--seconds", "0.2", "--side", "64", "--sheet", str(folder / "a.png")]
    return [[str(request.getfixturevalue("photos")), untrained(folder, "cartoongan"), *options]]


@case
def ablation(folder: Path, request: Any) -> list[list[str]]:
    without_mediapipe(request.getfixturevalue("monkeypatch"))
    pictures.write_png(
        (folder / "out" / "people").mkdir(parents=True) or folder / "out/people/seed2.png", drawn_picture(2)
    )
    photos, faces = (str(request.getfixturevalue(name)) for name in ("photos", "faces"))
    options = ["--preset", "tiny", "--size", "32", "--kimg", "0.016", "--limit", "8", "--seeds", "1"]
    return [[photos, faces, photos, "--out", str(folder / "out"), *options, "--only", "chrominance"]]


@case
def avatar(folder: Path, request: Any) -> list[list[str]]:
    module, monkeypatch = load("avatar"), request.getfixturevalue("monkeypatch")
    shapes = np.random.RandomState(0).rand(99, 4)
    monkeypatch.setattr(module, "avatar", partial(module.avatar, steps=1, sweep=False, pose=False))
    monkeypatch.setattr(module, "_photo_shape", lambda picture: shapes[int(picture[0, 0, 0]) % 99])
    points = {name: list(np.random.RandomState(1).rand(2)) for name in ("nose", "mouth", "chin")}
    points |= {"eyes": [0.3, 0.5, 0.7, 0.5], "hair": [1, 2, 3]}
    methods = (*module.METHODS, "photos")
    (folder / "out").mkdir()
    named = {f"out/{method}/{seed:04d}.png": points for method in methods for seed in range(3)}
    (folder / "out" / "points.json").write_text(json.dumps(named))
    photos, faces = folder_of(folder / "photos", range(3)), str(request.getfixturevalue("faces"))
    attributes = {"hair": ("black", "blonde"), "eyes": ("red", "blue")}
    generator = untrained(folder, "stylegan2", attributes=attributes, label_counts=((0, 0, 3), (1, 1, 2)))
    both = [photos, faces, "--out", str(folder / "out"), "--child", generator]
    return [
        ["make", *both, "--parent", generator, "--paper-child", generator, "--count", "3", "--steps", "1"],
        ["measure", *both, "--prefix-from", "0048"],
    ]


@case
def kept(folder: Path, request: Any) -> list[list[str]]:
    module = load("avatar")
    people, table = folder / "people", folder / "labels.csv"
    request.getfixturevalue("monkeypatch").setattr("kyara.inversion.proposals.CANDIDATES", 32)
    module.avatar(folder_of(folder / "photos", range(2)), out=people, aligned=True)
    names = [Path(row["source"]).name for row in module.read_gallery(people)]
    values = "woman,black,short,none,closed,light,left"
    lines = "".join(f"{name},{values},{source}\n" for name, source in zip(names, ("a", "b"), strict=True))
    table.write_text(f"file_name,gender,hair,hair_length,glasses,mouth,skin,turn,source\n{lines}")
    return [[str(people), str(table)], [str(people), str(table), "--tagger", "builtin:tagger"]]


@case
def studio(folder: Path, request: Any) -> list[list[str]]:
    need("fastapi", "studio")
    browser = request.getfixturevalue("browser")  # a process has one
    request.getfixturevalue("monkeypatch").setattr(load("studio"), "chromium", lambda: nullcontext(browser))
    return [["--clicks", "2", "--seconds", "1"]]


def without_mediapipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant landmarks and no filters, for cartoon.py."""
    module = load("cartoon")
    points = np.random.RandomState(0).rand(468, 2)
    monkeypatch.setattr(module, "landmarks", lambda picture: points)
    monkeypatch.setattr(module, "filters", lambda picture: 255 - picture)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_runs(name: str, tmp_path: Path, request: Any, capsys: pytest.CaptureFixture[str]) -> None:
    calls, benchmark = CASES[name](tmp_path, request), load(name)
    if hasattr(benchmark, "load_vgg16"):
        request.getfixturevalue("monkeypatch").setattr(benchmark, "load_vgg16", load("common").load_vgg16)
    for arguments in calls:
        benchmark.main(arguments)
        assert capsys.readouterr().out.strip() or arguments[0] == "files"


def test_every_benchmark_has_a_case() -> None:
    assert {*CASES, *LIBRARIES} == {*NAMES}
