"""The commands of README.md are run as they are; only searches and trainings are shortened."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kyara.files import pictures
from kyara.files.gallery import read_gallery

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def kyara(command: str, folder: Path) -> dict[str, Any]:
    """Runs a command in a folder; its result as JSON."""
    words = shlex.split(command, comments=True)
    assert words.pop(0) == "kyara"
    arguments = [sys.executable, "-m", "kyara", *words, "--json"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def commands(section: str, verbs: str) -> list[str]:
    """The commands of a section of README.md, of these verbs in this order."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^    (kyara .*)$", text, flags=re.MULTILINE)
    assert [command.split()[1] for command in found] == verbs.split()
    return found


FIRST = commands("First commands", "generate rewrite generate generate avatar translate")
OWN = commands("Your own art", "prepare train generate rank")


def test_no_command_is_left_out() -> None:
    assert re.findall(r"^    (kyara .*)$", README, flags=re.MULTILINE) == FIRST + OWN


def test_your_own_art(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    prepare, train, generate, rank = OWN
    assert kyara(prepare, tmp_path)["kept"] == 200
    kyara(f"{train.split('#')[0]} --kimg 0.01 --batch 8 --workers 0", tmp_path)
    assert (tmp_path / "runs/mine/model.safetensors").is_file()
    assert len(read_gallery(tmp_path / kyara(generate, tmp_path)["out"])) == 16
    assert len(read_gallery(tmp_path / kyara(rank, tmp_path)["out"])) == 200


def test_attributes(tmp_path: Path) -> None:
    rows = read_gallery(tmp_path / kyara(FIRST[0], tmp_path)["out"])
    assert len(rows) == 16
    assert {(row["gender"], row["hair"]) for row in rows} == {("male", "gray")}


def test_a_rule(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    kyara(f"{FIRST[1]} --steps 20 --extra-images 16", tmp_path)
    assert (tmp_path / "bearded/edits/beard.safetensors").is_file()
    kyara(FIRST[2].replace("0-15", "0-1"), tmp_path)
    assert [row["gender"] for row in read_gallery(tmp_path / "men")] == ["male", "male"]


def test_people_become_characters_and_drawings(tmp_path: Path) -> None:
    kyara(FIRST[3].replace("2,4,6,7,18,24,25,30,38,42,57,61", "6"), tmp_path)
    kyara(FIRST[4], tmp_path)
    assert len(read_gallery(tmp_path / "characters")) == 1
    kyara(FIRST[5], tmp_path)
    assert pictures.decode(tmp_path / "drawn" / "seed0006.png").shape == (512, 512, 3)


def test_the_demo(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"^demo:.*\n\t\$\(BIN\)/(kyara .*)$", makefile, flags=re.MULTILINE)
    assert command
    kyara(command[1], tmp_path)
    assert (tmp_path / "avatars/index.html").is_file()
    rows = read_gallery(tmp_path / "avatars")
    scores = [float(row["score"]) for row in rows]
    assert len(rows) == 16 and scores == sorted(scores, reverse=True)
    best = tmp_path / "avatars" / rows[0]["file_name"]
    assert kyara(f"kyara generate --like {best} --out again", tmp_path)["identical"] is True


@pytest.mark.parametrize("target", ["demo", "studio", "test", "lint", "format", "reference", "bench", "clean"])
def test_make_help_names_the_targets(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'@echo "make {target} ' in makefile and re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
