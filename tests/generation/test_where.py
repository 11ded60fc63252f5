"""Asking for attributes: what is asked for is made, named, recorded and repeated; and a tagger may confirm it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.files import checkpoint
from kyara.files.errors import CheckpointError
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, encode_png, read_recipe, to_float
from kyara.generation import confirm, pipeline
from kyara.generation.character import TAGGER, confirmer
from kyara.generation.generate import TRIES, generate
from kyara.labels.tagger import load_tagger
from kyara.nn.label_table import count_labels
from kyara.rewriting import rules

ATTRIBUTES = {"hair": ["black", "blonde", "silver"], "eyes": ["green", "red"]}
COUNTS = [[0, 0, 6], [1, 0, 3], [2, 1, 1]]


def make(path: Path, name: str = "dcgan", **told: Any) -> str:
    """A Checkpoint with random weights, in which labels matter."""
    torch.manual_seed(0)
    sizes = {"dcgan": {"channels": 12}, "stylegan2": {"w_dim": 8, "mapping_layers": 1, "channel_base": 128}}
    config = {"data": {"width": 16, "height": 24, **told}, "network": {"z_dim": 8, **sizes[name]}}
    model = models.build(name, config)
    weights = {k: t + torch.randn_like(t) if t.is_floating_point() and t.ndim > 1 else t for k, t in
               models.stored(model).items()}  # fmt: skip
    checkpoint.write(path, model=name, config=config, weights=weights, card="test", about={})
    return str(path)


def gallery(*arguments: Any, **options: Any) -> Path:
    return generate(*arguments, **options).out


@pytest.fixture
def model(tmp_path: Path) -> str:
    return make(tmp_path / "model", attributes=ATTRIBUTES, label_counts=COUNTS)


def test_what_is_asked_for_stands_in_the_table_and_in_every_picture(model: str, tmp_path: Path) -> None:
    out = gallery(model, count=40, where="eyes=red", rank="none", out=tmp_path / "out")
    rows = read_gallery(out)
    assert list(rows[0]) == ["file_name", "seed", "hair", "eyes"]
    assert {(row["hair"], row["eyes"]) for row in rows} == {("silver", "red")}  # red comes with nothing else
    assert read_recipe(out / rows[0]["file_name"])["labels"] == {"hair": "silver", "eyes": "red"}  # type: ignore[index]
    other = gallery(model, count=1, where={"eyes": "green", "hair": "silver"}, rank="none", out=tmp_path / "other")
    assert (decode(other / "seed0000.png") != decode(out / "seed0000.png")).any()
    assert "--where eyes=red" in (out / "index.html").read_text()


def test_what_is_not_asked_for_comes_as_often_as_in_the_data(model: str, tmp_path: Path) -> None:
    rows = read_gallery(gallery(model, count=200, rank="none", out=tmp_path / "out"))
    share = {hair: sum(row["hair"] == hair for row in rows) / 200 for hair in ATTRIBUTES["hair"]}
    assert share == pytest.approx({"black": 0.6, "blonde": 0.3, "silver": 0.1}, abs=0.1)
    again = read_gallery(gallery(model, seeds="150-160", rank="none", out=tmp_path / "again"))
    assert again == rows[150:161]  # a seed's labels depend on nothing beside it


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_like_repeats_labels(name: str, tmp_path: Path) -> None:
    model = make(tmp_path / "m", name, attributes=ATTRIBUTES, label_counts=COUNTS)
    old = gallery(model, seeds="3-9", where="hair=blonde", rank="none", out=tmp_path / "old")
    new = gallery(like=old / "seed0007.png", rank="none", out=tmp_path / "new")
    assert (new / "seed0007.png").read_bytes() == (old / "seed0007.png").read_bytes()
    assert read_gallery(new)[0]["hair"] == "blonde"


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_like_with_where_changes_that_attribute_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path / "m", name, attributes=ATTRIBUTES, label_counts=COUNTS)
    old = gallery(model, seeds="7", where="hair=blonde", truncation=0.9, mirror=True, rank="none", out=tmp_path / "old")
    seen: list[tuple[Tensor, dict[str, Tensor]]] = []
    sampled = pipeline.sample

    def watched(generator: Any, z: Tensor, labels: dict[str, Tensor], **options: Any) -> Tensor:
        seen.append((z, labels))
        return sampled(generator, z, labels, **options)

    monkeypatch.setattr(pipeline, "sample", watched)
    gallery(like=old / "seed0007.png", rank="none", out=tmp_path / "again")
    result = generate(like=old / "seed0007.png", where="hair=silver", rank="none", out=tmp_path / "new")
    changed = result.out / "seed0007.png"
    (z, before), (z_changed, after) = seen
    assert torch.equal(z, z_changed)
    assert before["hair"].tolist() == [1] and after["hair"].tolist() == [2]
    assert torch.equal(before["eyes"], after["eyes"])
    recipes = [read_recipe(path) or {} for path in (old / "seed0007.png", changed)]
    assert recipes[1] == recipes[0] | {"labels": recipes[0]["labels"] | {"hair": "silver"}}
    assert (decode(changed) != decode(old / "seed0007.png")).any() and result.identical is None
    again = generate(like=changed, rank="none", out=tmp_path / "changed")
    assert again.identical and (again.out / "seed0007.png").read_bytes() == changed.read_bytes()
    with pytest.raises(ValueError, match="black, blonde, silver"):
        generate(like=changed, where="hair=pink", out=tmp_path / "pink")


def test_like_with_where_changes_a_frame(model: str, tmp_path: Path) -> None:
    film = gallery(model, interpolate="3-8", frames=4, out=tmp_path / "film")
    old = read_recipe(film / "frame0001.png") or {}
    new = read_recipe(gallery(like=film / "frame0001.png", where="eyes=red", out=tmp_path / "new") / "frame0000.png")
    assert new == old | {"labels": old["labels"] | {"eyes": "red"}}


CHARACTERS = {
    "gender": ["female", "male"],
    "hair": ["black", "blonde", "red"],
    "eyes": ["blue", "green"],
    "hair_length": ["long", "short"],
    "glasses": ["none", "round"],
    "expression": ["closed", "smile"],
    "skin": ["dark", "light"],
}


@pytest.fixture
def characters(tmp_path: Path) -> str:
    """A model whose training data have no eye colour where eyes are closed or glasses are round."""
    labels = np.random.RandomState(0).randint(0, 2, (400, 7))
    labels[(labels[:, 4] == 1) | (labels[:, 5] == 0), 2] = -1
    return make(tmp_path / "characters", "stylegan2", attributes=CHARACTERS, label_counts=count_labels(labels))


def test_values_that_exclude_another_attribute(characters: str, tmp_path: Path) -> None:
    result = generate(characters, count=20, where="glasses=round", rank="none", out=tmp_path / "round")
    rows = read_gallery(result.out)
    assert {(row["glasses"], row["eyes"]) for row in rows} == {("round", "")} and not result.notes
    assert "eyes" not in (read_recipe(result.out / "seed0000.png") or {})["labels"]
    both = generate(characters, count=2, where="glasses=round,eyes=blue", rank="none", out=tmp_path / "both")
    note = "eyes is never known where glasses=round in the training data, so eyes=blue may not show"
    assert both.notes == (note,) and f"note: {note}" in str(both)
    assert {(row["glasses"], row["eyes"]) for row in read_gallery(both.out)} == {("round", "blue")}
    rare = generate(characters, where="hair=red,skin=dark", rank="none", out=tmp_path / "rare", dry_run=True)
    assert "hair=red, skin=dark never occur together" in str(rare)


def test_like_with_where_changes_one_of_seven_attributes(characters: str, tmp_path: Path) -> None:
    where = "glasses=none,expression=smile,eyes=green"
    old = gallery(characters, seeds="7", where=where, rank="none", out=tmp_path / "old") / "seed0007.png"
    labels = (read_recipe(old) or {})["labels"]
    assert list(labels) == list(CHARACTERS)
    for name, values in CHARACTERS.items():
        value = values[not values.index(labels[name])]
        new = generate(like=old, where={name: value}, rank="none", out=tmp_path / name)
        hides = value in ("round", "closed")
        expected = {key: kept for key, kept in labels.items() if key != "eyes" or not hides} | {name: value}
        recipe = read_recipe(new.out / "seed0007.png") or {}
        assert recipe == (read_recipe(old) or {}) | {"labels": expected}  # seed and truncation too
        assert new.notes == ((f"eyes is now unknown: it is never known where {name}={value} in the training data",)
                             if hides else ())  # fmt: skip


def test_like_draws_the_colour_of_eyes_that_open(characters: str, tmp_path: Path) -> None:
    where = "expression=closed,glasses=none"
    old = gallery(characters, seeds="7", where=where, rank="none", out=tmp_path / "old") / "seed0007.png"
    before = (read_recipe(old) or {})["labels"]
    results = [generate(like=old, where="expression=smile", rank="none", out=tmp_path / name) for name in "ab"]
    after = (read_recipe(results[0].out / "seed0007.png") or {})["labels"]
    assert "eyes" not in before and after == before | {"expression": "smile", "eyes": after["eyes"]}
    because = "eyes was unknown because of expression=closed"
    assert results[0].notes == results[1].notes == (f"eyes={after['eyes']} was chosen by the seed: {because}",)
    assert (results[0].out / "seed0007.png").read_bytes() == (results[1].out / "seed0007.png").read_bytes()
    blind = generate(like=old, where="eyes=blue", rank="none", out=tmp_path / "blind")
    assert "so eyes=blue may not show" in blind.notes[0]


def test_like_refuses_labels_that_the_model_does_not_know(model: str, tmp_path: Path) -> None:
    made_by = {"model": model, "checkpoint": checkpoint.read(model).hash, "truncation": 1, "mirror": False, "seed": 1}
    for labels, told in (({"hair": "green"}, "silver"), ({"mood": "sad"}, "hair, eyes"), ({"hair": 3}, "no|not one")):
        png = encode_png(np.zeros((4, 4, 3), np.uint8), {**made_by, "labels": labels})
        (tmp_path / "x.png").write_bytes(png)
        with pytest.raises(ValueError, match=rf"--like .*x\.png: .*({told})"):
            gallery(like=tmp_path / "x.png", out=tmp_path / "out")


def test_a_film_does_not_flicker(model: str, tmp_path: Path) -> None:
    rows = read_gallery(gallery(model, interpolate="3-8-1", frames=7, out=tmp_path / "film"))
    assert len({(row["hair"], row["eyes"]) for row in rows}) == 1
    like = gallery(like=tmp_path / "film" / "frame0003.png", out=tmp_path / "again")
    assert (like / "frame0000.png").read_bytes() == (tmp_path / "film" / "frame0003.png").read_bytes()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("mood=sad", "hair, eyes"),
        ("hair=pink", "black, blonde, silver"),
        ("hair", "write hair=silver"),
        ("hair=,eyes=red", "write hair=silver"),
        ("hair=black,hair=blonde", "twice"),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    model: str, tmp_path: Path, where: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pipeline, "load_generator")  # refused before any network is loaded
    with pytest.raises(ValueError, match=f"--where.*{told}"):
        gallery(model, where=where, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_malformed_where_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys, kyara\n"
        "try: kyara.generate(where='bad')\n"
        "except ValueError as error: print(error, 'torch' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "--where bad: 'bad' is not ATTRIBUTE=VALUE; write hair=silver,eyes=red False\n"


def test_a_model_that_learned_no_attributes_says_so(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"^--where hair=.*is not conditioned on attributes"):
        gallery(plain, where="hair=black", out=tmp_path / "out")


@pytest.mark.parametrize(
    "told",
    [
        {"attributes": {"seed": ["a"]}},
        {"attributes": {"hair": []}},
        {"attributes": {"hair": ["a", "a"]}},
        {"attributes": {"hair": "abc"}},
        {"attributes": ["hair"]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[2, 1]]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[0, 0]]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[-2, 1]]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[0, 0, 1]]},
    ],
)
def test_a_checkpoint_with_impossible_attributes_is_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    folder = make(tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    described["config"]["data"] |= told
    (tmp_path / "model" / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"attribute|label_counts"):
        models.load(folder)


class Redness:
    """Stands in for a tagger: hair is silver where a picture is redder than `threshold`."""

    attributes = {"hair": ("black", "silver"), "mood": ("sad",)}  # noqa: RUF012
    size = (8, 8)
    threshold = 0.0

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        silver = (pictures[:, 0].mean((1, 2)) > self.threshold).float()
        return {"hair": torch.stack([1 - silver, silver], 1)}


@pytest.fixture
def tagger(monkeypatch: pytest.MonkeyPatch) -> Redness:
    found = Redness()
    monkeypatch.setattr(confirm, "load_tagger", lambda name, device: found)
    return found


def test_a_tagger_confirms_what_was_made(model: str, tagger: Redness, tmp_path: Path) -> None:
    every = gallery(model, count=60, where="hair=silver", rank="none", out=tmp_path / "all")
    redness = [decode(every / f"seed{i:04d}.png")[..., 0].mean() / 127.5 - 1 for i in range(60)]
    tagger.threshold = float(np.median(redness))
    red = [i for i in range(60) if redness[i] > tagger.threshold]
    assert len(red) == 30
    result = generate(model, count=6, where="hair=silver", confirm="builtin:tagger", rank="none", out=tmp_path / "out")
    out, rows = result.out, read_gallery(result.out)
    assert [int(row["seed"]) for row in rows] == red[:6]
    assert f"6 of {red[5] + 1} pictures made" in str(result)
    assert (out / rows[0]["file_name"]).read_bytes() == (every / rows[0]["file_name"]).read_bytes()


def test_a_tagger_that_is_never_satisfied_is_not_asked_for_ever(
    model: str, tagger: Redness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagger, "probabilities", lambda pictures: {"hair": torch.eye(2)[0].expand(len(pictures), -1)})
    options: dict[str, Any] = {"count": 2, "where": "hair=silver", "confirm": "builtin:tagger", "rank": "none"}
    result = generate(model, out=tmp_path / "out", **options)
    assert (result.kept, result.confirmed, result.tried) == (0, 0, 2 * TRIES)
    assert read_gallery(result.out) == []
    assert "0 of 20 pictures made, fewer than the 2 wanted" in str(result)


def test_a_tagger_understands_other_names_of_values(tagger: Redness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagger, "attributes", {"hair": ("black", "gray")})
    judge = confirm.load_judge("builtin:tagger", {"hair": "silver"}, torch.device("cpu"))
    pictures = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    pictures[1, ..., 0] = 255
    assert judge(pictures).tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"where": "eyes=red"}, "eyes=red: builtin:tagger has the attributes hair, mood"),
        ({"where": "hair=blonde"}, "hair=blonde: the values of hair are black, silver"),
        ({}, "needs --where"),
        ({"where": "hair=silver", "seeds": "1-3"}, "cannot be combined with --seeds"),
        ({"where": "hair=silver", "interpolate": "1-3"}, "cannot be combined with --seeds"),
        ({"where": "hair=silver", "like": Path(__file__)}, "cannot be combined with --seeds, --interpolate or --like"),
    ],
)
def test_what_cannot_be_confirmed_is_told(
    model: str, tagger: Redness, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=f"--confirm.*{told}"):
        gallery(model, confirm="builtin:tagger", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_built_in_tagger_confirms_by_default_where_it_knows_the_pictures(model: str, tmp_path: Path) -> None:
    rules.write(tmp_path / "ruled", checkpoint.read("builtin:character"), [], "builtin:character")
    for generator in ("builtin:character", str(tmp_path / "ruled")):
        assert confirmer(None, generator, ["gender"]) == TAGGER
        assert confirmer(None, generator, ["gender", "mood"]) is confirmer("none", generator, ["gender"]) is None
    assert confirmer(None, "builtin:anime", ["hair"]) is confirmer(None, model, ["hair"]) is None
    assert confirmer("builtin:tagger", "builtin:anime", ["hair"]) == "builtin:tagger"
    options: dict[str, Any] = {"where": "gender=male", "rank": "none", "upscale": "none", "dry_run": True}
    expected = (TAGGER, {"count": 1}), (None, {"seeds": "3"}), (None, {"count": 1, "confirm": "none"})
    for name, given in expected:
        assert generate(out=tmp_path / "out", **options, **given).confirm == name


def test_the_built_in_generator_and_tagger_agree(tmp_path: Path) -> None:
    where = "gender=male,glasses=black,mouth=smile"
    result = generate(count=2, where=where, rank="none", upscale="none", out=tmp_path / "out")
    assert (result.kept, result.confirm) == (2, TAGGER)
    read = load_tagger(TAGGER).probabilities(to_float(np.stack([decode(p) for p in result.out.glob("seed*.png")])))
    for name, value in (one.split("=") for one in where.split(",")):
        values = models.read_config(TAGGER).data.attributes[name]
        assert read[name].argmax(1).tolist() == [values.index(value)] * 2
