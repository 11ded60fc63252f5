"""The commands of README.md are run as they stand; only training is shortened."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from conftest import drawn_picture

from kyara.files import pictures
from kyara.files.gallery import read_gallery

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def kyara(command: str, folder: Path) -> str:
    words = shlex.split(command, comments=True)
    assert words.pop(0) == "kyara"
    done = subprocess.run([sys.executable, "-m", "kyara", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_with_your_own_art(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    for seed in range(40):
        pictures.write_png(tmp_path / "art" / f"{seed}.png", drawn_picture(seed, 80))
    section = README.split("## With your own art")[1].split("##")[0]
    commands = re.findall(r"^    (kyara .*)$", section, flags=re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["prepare", "train", "generate", "rank"]
    (tmp_path / "folder").symlink_to(tmp_path / "art")
    for command in commands:
        if " train " in command:
            command = command.replace("--kimg 1000", "--kimg 0.02 --preset tiny --workers 0")
        kyara(command, tmp_path)
    assert (tmp_path / "runs/00000-stylegan2-faces/model.safetensors").is_file()
    assert len(read_gallery(tmp_path / "avatars")) == 16
    assert len(read_gallery(tmp_path / "folder-ranked")) == 40


def test_a_photo_becomes_a_character(tmp_path: Path) -> None:
    section = README.split("## A photo becomes a character")[1].split("##")[0]
    commands = re.findall(r"^    (kyara .*)$", section, flags=re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["generate", "avatar", "generate", "translate"]
    kyara(commands[0].replace("2,4,6,7,18,24,25,30,38,42,57,61", "2,6"), tmp_path)
    told = kyara(f"{commands[1]} --steps 20 --no-sweep", tmp_path)
    assert "2 of 2 photos drawn" in told
    kyara(commands[2], tmp_path)
    characters = {row["file_name"]: row for row in read_gallery(tmp_path / "characters")}
    assert characters["seed0006.png"]["hair"] in ("black", "brown")
    assert (tmp_path / "blue" / "latent.png").is_file()
    kyara(commands[3], tmp_path)
    assert pictures.decode(tmp_path / "drawn" / "seed0006.png").shape == (256, 256, 3)


def test_change_what_it_knows(tmp_path: Path) -> None:
    section = README.split("## Change what it knows")[1].split("##")[0]
    commands = re.findall(r"^    (kyara .*)$", section, flags=re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["rewrite", "generate"]
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    assert "glasses" in kyara(f"{commands[0]} --steps 20 --extra-images 16", tmp_path)
    kyara(commands[1].replace("0-15", "0-1"), tmp_path)
    assert len(read_gallery(tmp_path / "glasses")) == 2


def test_the_demo(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"^demo:.*\n\t\$\(BIN\)/(kyara .*)$", makefile, flags=re.MULTILINE)
    assert command
    told = kyara(command[1], tmp_path)
    assert "avatars/index.html" in told
    rows = read_gallery(tmp_path / "avatars")
    scores = [float(row["score"]) for row in rows]
    assert len(rows) == 16 and scores == sorted(scores, reverse=True)
    best = tmp_path / "avatars" / rows[0]["file_name"]
    assert "identical" in kyara(f"kyara generate --like {best} --out again", tmp_path)


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
