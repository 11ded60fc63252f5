"""The commands of the guide's pages about data are run as they are, on examples/characters.zip; trainings shortened."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from conftest import drawn_picture

from kyara.__main__ import run
from kyara.files import pictures
from kyara.files.dataset import open_dataset

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "characters.zip"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works: a link to the examples, and some art of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "my-art").mkdir()
    with zipfile.ZipFile("more-art.zip", "w") as archive:
        for seed in range(20):
            pictures.write_png(tmp_path / "my-art" / f"{seed}.png", drawn_picture(seed, 96))
            archive.writestr(f"{seed}.png", pictures.encode_png(drawn_picture(100 + seed, 96)))
    return tmp_path


def follow(page: str, *, without: str = "$^") -> int:
    """Runs the commands of a page in their order, but those that match `without`; how many. Trainings take a step, of
    the smallest network where the command does not choose another."""
    text = (ROOT / "docs/guide" / page).read_text(encoding="utf-8")
    commands = [c for c in re.findall(r"^    (kyara .*)$", text, flags=re.MULTILINE) if not re.search(without, c)]
    for command in commands:
        _, verb, *words = shlex.split(command, comments=True)
        if verb == "train":
            while "--kimg" in words:
                del words[(i := words.index("--kimg")) : i + 2]
            words += ["--kimg", "0.008", "--batch", "8", "--workers", "0"]
            words += [] if "--init" in words else ["--preset", "tiny"]
        run(verb, words)
    return len(commands)


def test_prepare(folder: Path) -> None:
    (folder / "drop.csv").write_text("file_name\nimages/d9/d9973590b835.webp\n")  # as the page of the report saves it
    assert follow("prepare.md", without="--detect|film") == 4
    assert len(open_dataset("faces.zip")) == 199 and "expression" in open_dataset("faces.zip").attributes
    assert len(open_dataset("all.zip")) == 40


def test_small_sets(folder: Path) -> None:
    assert follow("small-sets.md") == 3
    described = json.loads((folder / "runs/00000-stylegan2-faces/config.json").read_text())
    assert described["few_pictures"]["patience"] == 5


def test_train(folder: Path) -> None:
    with zipfile.ZipFile(EXAMPLES) as source, zipfile.ZipFile("faces.zip", "w") as few:
        for name in ["metadata.csv", *(name for name in source.namelist() if name.startswith("images/"))][:60]:
            few.writestr(name, source.read(name))  # scores take time
    assert follow("train.md") == 12
    assert {path.name for path in (folder / "runs").iterdir()} >= {"small", "large", "labelled"}


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
