"""The commands that Make shows: they make the same pictures."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import kyara
from kyara.__main__ import dispatch
from kyara.app.context import Context
from kyara.files.pictures import decode

Repeat = Callable[[str], list[np.ndarray]]


def post(client: TestClient, path: str, /, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/make/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def numbers(made: dict[str, Any]) -> list[int]:
    return [row[0] for row in made["rows"]]


def shown(client: TestClient, which: list[int]) -> list[np.ndarray]:
    return [decode(client.get(f"/api/make/picture/{number}.png").content) for number in which]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))


@pytest.fixture
def repeat(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repeat:
    """Runs a command in the project: the pictures that it makes, at the generator's size and in their own order."""
    monkeypatch.chdir(context.project.folder)

    def run(command: str) -> list[np.ndarray]:
        out = tmp_path / str(len([*tmp_path.iterdir()]))
        words = shlex.split(command)[1:]
        if "--out" in words:
            del words[words.index("--out") : words.index("--out") + 2]
        words += ["--rank", "none"] * ("--interpolate" not in words) + ["--out", str(out), "--device", "cpu"]
        dispatch(words + ["--upscale", "none"] * ("--upscale" not in words))
        return [decode(file) for file in sorted(out.glob("*0*.png")) or [out / "latent.png"]]

    return run


def load(client: TestClient, tmp_path: Path, **options: Any) -> int:
    """Adds a picture that `kyara generate` wrote."""
    out = tmp_path / f"loaded-{options['seeds']}"
    kyara.generate("builtin:anime", rank="none", device="cpu", out=out, **options)
    (file,) = out.glob("seed*.png")
    answer = client.post("/api/make/drop", params={"name": file.name}, content=file.read_bytes())
    return numbers(answer.json())[0]


def test_new_pictures_with_attributes_are_those_of_their_command(client: TestClient, repeat: Repeat) -> None:
    """With --seed, `generate` would keep only those that show the attributes."""
    made = post(client, "new", model="builtin:character", count=3, where={"hair": "silver"})
    assert made["command"].startswith("kyara generate --seeds 0-2 ")
    assert equal(repeat(made["command"]), shown(client, numbers(made)))


def test_the_command_of_an_export_makes_its_pictures(client: TestClient, repeat: Repeat, tmp_path: Path) -> None:
    (first,) = numbers(post(client, "new", model="builtin:anime", seeds="5"))
    others = numbers(post(client, "new", model="builtin:anime", seeds="6-8", where={"hair": "blue", "eyes": "red"}))
    changed = numbers(post(client, "change", number=first, where={"hair": "blue"}))[0]
    again = numbers(post(client, "change", number=changed, where={"eyes": "green"}))[0]
    turned = numbers(post(client, "turn", number=again, degrees=9))[0]
    loaded = load(client, tmp_path, seeds="11", where="hair=green", truncation=0.5)
    flipped = load(client, tmp_path, seeds="12", mirror=True)
    for chosen in (others, *([one] for one in (changed, turned, loaded, flipped))):
        command = post(client, "export", numbers=chosen, name="repeated")["command"]
        assert "--seeds" in command and equal(repeat(command), shown(client, chosen)), command
    unlike = post(client, "export", numbers=[first, again], name="unlike")
    assert "--like galleries/unlike/" in unlike["command"]  # their seed is the same
    unlike = post(client, "export", numbers=[loaded, flipped], name="unlike")
    assert equal(repeat(unlike["command"]), shown(client, [loaded]))


def test_labels_that_no_seed_draws_need_the_recipe(client: TestClient, context: Context, repeat: Repeat) -> None:
    (number,) = numbers(post(client, "new", model="builtin:anime", seeds="20"))
    item = context.collection.item(number)
    item.shot["labels"].pop("hair")  # as a recipe of other software might
    command = client.get(f"/api/make/details/{number}").json()["command"]
    assert "--like .studio/pictures/" in command and equal(repeat(command), shown(client, [number]))
    assert "--like" in post(client, "export", numbers=[number], name="rare")["command"]


def test_the_command_of_a_walk_makes_its_pictures(client: TestClient, repeat: Repeat, tmp_path: Path) -> None:
    pairs = [
        numbers(post(client, "new", model="builtin:anime", seeds="1,2", where={"hair": "red", "eyes": "red"})),
        [load(client, tmp_path, seeds=seed, mirror=True, where="hair=red,eyes=red") for seed in ("3", "4")],
    ]
    for pair in pairs:
        walk = post(client, "walk", numbers=pair, frames=3)
        assert "--interpolate" in walk["command"], walk
        assert equal(repeat(walk["command"]), shown(client, numbers(walk))), walk["command"]
