"""The verb, on small networks: rules are learned, add up, are scaled and undone, and nothing is touched before all is
checked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import MASK, edit, generator, pattern, projector_of
from PIL import Image

from kyara import generate, models, rewrite, train
from kyara.files import checkpoint
from kyara.files.dataset import open_dataset
from kyara.rewriting import teaching
from kyara.rewriting.differences import Rule, _card, read_rule, root_of, rules_of
from kyara.rewriting.edit import Picture
from kyara.rewriting.hosts import Hosts, shifted

FAST: dict[str, Any] = {"steps": 20, "spread": 16}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    torch.set_num_threads(1)  # before the fixture of each test does: sums shall be taken in one order
    folder = tmp_path_factory.mktemp("small")
    name = generator(folder / "g")
    return name, projector_of(folder / "p", name)


@pytest.fixture(scope="module")
def written(small: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small generator with a red disc and then a blue one elsewhere."""
    folder = tmp_path_factory.mktemp("rewritten")
    red, blue = edit("red"), edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])
    return rewrite(small[0], [red, blue], projector=small[1], out=folder / "both", preview=True, **FAST)


def weights(path: Path | str) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).weights()


def same(a: Path | str, b: Path | str) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def picture(path: Path | str) -> torch.Tensor:
    model = models.load(path).requires_grad_(False)
    made: torch.Tensor = Hosts(model, str(path)).like(Picture(seed=3), 0)()
    return made


def test_what_is_found_nowhere_is_not_said_to_be_shown(
    small: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "SURE", 2.0)
    out = rewrite(small[0], [edit("red")], projector=small[1], out=tmp_path / "a", **FAST)
    about = rules_of(checkpoint.read(out))[0].about
    assert "shown" not in about and about["elsewhere"] > 0 and about["found"] == 0


def test_a_source_that_is_hardly_there_asks_for_nothing(small: tuple[str, str], tmp_path: Path) -> None:
    faint = edit("faint")
    faint["examples"][0]["source"]["picture"] = np.full((8, 8, 4), (255, 0, 0, 6), np.uint8)
    out = rewrite(small[0], [faint], projector=small[1], out=tmp_path / "a", **FAST)
    assert not any(weight.any() for weight in rules_of(checkpoint.read(out))[0].weights.values())


def test_a_rule_is_learned_where_the_others_are(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    alone = rewrite(
        small[0], [edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])], projector=small[1], out=tmp_path / "b", **FAST
    )
    second, by_itself = rules_of(checkpoint.read(written))[1], rules_of(checkpoint.read(alone))[0]
    assert second.name == by_itself.name == "blue"
    assert second.about["beside"] == ["red"] and by_itself.about["beside"] == []
    assert any(not torch.equal(second.weights[name], by_itself.weights[name]) for name in second.weights)


def test_a_rule_of_no_strength_is_not_beside_another(small: tuple[str, str], tmp_path: Path) -> None:
    two = [edit("red"), edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])]
    out = rewrite(small[0], two, projector=small[1], out=tmp_path / "off", strength=0.0, **FAST)
    assert [rule.about["beside"] for rule in rules_of(checkpoint.read(out))] == [[], []]


def test_it_is_a_checkpoint_like_any_other(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    changed = {name for name, tensor in weights(written).items() if not torch.equal(tensor, weights(small[0])[name])}
    assert len(changed) == 3 and all(name.startswith("g_ema.synthesis") for name in changed)
    assert (picture(written) - picture(small[0])).abs().mean() > 1e-3
    generate(str(written), count=2, rank="none", out=tmp_path / "made")
    assert (
        "| blue | 1 | red |" in (written / "README.md").read_text() and "# small" in (written / "README.md").read_text()
    )
    page = (written / "preview.html").read_text()
    assert page.count("<img") == 3 * 16 and "http" not in page.replace("http-equiv", "")


def test_rules_are_scaled_and_undone_exactly(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    off = rewrite(str(written), out=tmp_path / "off", strength=0.0)
    assert same(off, small[0])
    assert same(rewrite(str(off), out=tmp_path / "on", strength=1.0), written)
    one = rewrite(str(written), out=tmp_path / "one", undo="blue")
    assert [rule.name for rule in rules_of(checkpoint.read(one))] == ["red"]
    assert same(rewrite(str(one), out=tmp_path / "none", undo="red"), small[0])
    half = rewrite(str(written), out=tmp_path / "half", strength=0.5)
    a, b, c = weights(small[0]), weights(half), weights(written)
    assert all(torch.allclose(b[name] - a[name], (c[name] - a[name]) / 2, atol=1e-5) for name in a)


def test_rules_add_up_wherever_they_come_from(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    files = [written / "edits" / f"{name}.safetensors" for name in ("red", "blue")]
    assert same(rewrite(small[0], files, out=tmp_path / "files"), written)
    assert same(rewrite(small[0], [written], out=tmp_path / "whole"), written)
    one = rewrite(small[0], files[:1], out=tmp_path / "one")
    assert same(rewrite(str(one), files[1:], out=tmp_path / "two"), written)
    assert same(rewrite(str(written), files, out=tmp_path / "again"), written), "a rule counts once"


def test_what_is_known_already_changes_nothing(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    again = rewrite(str(written), [edit("red")], projector=small[1], out=tmp_path / "again", **FAST)
    assert same(again, written)
    own = edit("own", source={"seed": 3, "box": MASK})
    assert same(rewrite(small[0], [own], projector=small[1], out=tmp_path / "own", **FAST), small[0])


def test_the_parent_is_never_changed_and_the_same_comes_out(
    small: tuple[str, str], written: Path, tmp_path: Path
) -> None:
    before = checkpoint.read(small[0]).hash
    red, blue = edit("red"), edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])
    again = rewrite(small[0], [red, blue], projector=small[1], out=tmp_path / "b", **FAST)
    assert same(again, written) and checkpoint.read(small[0]).hash == before


@pytest.mark.parametrize("memory", ["linear", "nonlinear"])
def test_either_memory_and_erasing(small: tuple[str, str], tmp_path: Path, memory: Any) -> None:
    gone = edit("gone", erase=True, source=None)
    fast = FAST if memory == "nonlinear" else {}
    out = rewrite(small[0], [gone], projector=small[1], out=tmp_path / "x", memory=memory, **fast)
    assert not same(out, small[0])
    (rule,) = rules_of(checkpoint.read(out))
    assert len(rule.weights) == (1 if memory == "linear" else 3) and rule.about["memory"] == memory


def test_from_files_with_a_picture_that_it_made(
    small: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(small[0], seeds="7", rank="none", out=tmp_path / "made")
    made = next((tmp_path / "made").glob("*0007.png"))
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    (tmp_path / "seven.png").write_bytes(made.read_bytes())
    example = {"picture": "seven.png", "mask": MASK, "source": {"picture": "disc.png"}}
    hash_ = checkpoint.read(small[0]).hash
    (tmp_path / "e.json").write_text(json.dumps({"name": "e", "checkpoint": hash_, "examples": [example]}))
    capsys.readouterr()
    out = rewrite(small[0], [tmp_path / "e.json"], projector=small[1], out=tmp_path / "x", json=True, **FAST)
    report = json.loads(capsys.readouterr().out)
    assert set(report["rules"]["e"]) == {"elsewhere", "shown", "found", "seconds"} and report["out"] == str(out)
    assert read_rule(out / "edits" / "e.safetensors").about["edit"]["examples"][0]["mask"] == MASK


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"edits": [edit(mask=[28, 2, 8, 8])]}, "reaches beyond the picture of 32x32"),
    ({"edits": [edit(source={"seed": 1, "box": [30, 2, 8, 8]})]}, "reaches beyond the picture"),
    ({"edits": [{**edit(), "checkpoint": "abc"}]}, "was made for checkpoint abc"),
    ({"edits": [edit()], "layers": 9}, "--layers 9"),
    ({"edits": [edit()], "steps": 0}, "--steps 0"),
    ({"edits": [edit()], "strength": 11.0}, "--strength 11"),
    ({"edits": [edit()], "undo": "hat"}, "there is no such rule"),
    ({"edits": [edit()], "projector": None}, "kyara train projector --of"),
    ({"edits": []}, "was not rewritten yet"),
    ({"edits": [edit("a b"), edit("a-b", mask=[1, 1, 9, 9])]}, "a-b: there is another rule of that name"),
    ({"edits": [edit()], "memory": "linear"}, "only go with nonlinear"),
    ({"edits": [edit()], "rank": 3}, "only goes with --memory linear"),
    ({"edits": [edit(picture=pattern(), seed=None)]}, "does not say how"),
]


@pytest.mark.parametrize(("change", "told"), WRONG, ids=[told for _, told in WRONG])
def test_errors_come_before_any_work(small: tuple[str, str], tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rewrite(small[0], out=tmp_path / "x", **{"projector": small[1], **FAST, **change})
    assert not (tmp_path / "x").exists()


def test_what_belongs_to_another_is_refused(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    other = generator(tmp_path / "other", seed=5)
    for given in (written, written / "edits" / "red.safetensors"):
        with pytest.raises(ValueError, match="belongs to checkpoint"):
            rewrite(other, [given], out=tmp_path / "x")
    with pytest.raises(ValueError, match="knows the features of"):
        rewrite(other, [edit()], projector=small[1], out=tmp_path / "x")
    with pytest.raises(ValueError, match="is none"):
        rewrite(small[0], [edit()], projector="builtin:tagger", out=tmp_path / "x")
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a rule"):
        rewrite(small[0], [tmp_path / "no.safetensors"], out=tmp_path / "x")
    with pytest.raises(ValueError, match="has no rules"):
        rewrite(small[0], [Path(small[0])], out=tmp_path / "x")


def test_nothing_is_overwritten_unasked(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is read from there"):
        rewrite(str(written), out=written, strength=0.5, force=True)
    with pytest.raises(ValueError, match="is read from there"):
        rewrite(small[0], [written / "edits" / "red.safetensors"], out=written, force=True)
    out = rewrite(str(written), out=tmp_path / "x", strength=0.5)
    with pytest.raises(FileExistsError):
        rewrite(str(written), out=out)
    rewrite(str(written), out=out, strength=0.25, force=True)
    assert rewrite(str(written), out=tmp_path / "dry", strength=0.5, dry_run=True) and not (tmp_path / "dry").exists()


@pytest.mark.parametrize("kind", ["munit", "inpainting"])
def test_translators_and_inpainters_are_rewritten_too(kind: str, faces: Path, photos: Path, tmp_path: Path) -> None:
    sets = {"photos": photos, "drawings": faces} if kind == "munit" else {"data": faces}
    run = train(kind, **sets, preset="tiny", kimg=0.016, snap=1, workers=0, augment="none", out=tmp_path / "run").out
    of = train("projector", faces, of=str(run), preset="tiny", kimg=0.016, snap=1, workers=0, out=tmp_path / "p").out
    shown = Image.fromarray(pattern().repeat(4, 0).repeat(4, 1)[:, :, :3])
    shown.save(tmp_path / "shown.png")
    Image.new("L", shown.size, 0).save(tmp_path / "hole.png")
    hole = Image.new("L", shown.size, 0)
    hole.paste(255, (10, 10, 40, 40))
    hole.save(tmp_path / "hole.png")
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    example = {"picture": "shown.png", "mask": [15, 18, 18, 12], "source": {"picture": "disc.png"}}
    example |= {"hole": "hole.png"} if kind == "inpainting" else {"style": 2}
    (tmp_path / "e.json").write_text(json.dumps({"examples": [example]}))
    with pytest.raises(ValueError, match="--data"):
        rewrite(str(run), [tmp_path / "e.json"], projector=str(of), out=tmp_path / "x", **FAST)
    out = rewrite(
        str(run), [tmp_path / "e.json"], projector=str(of), data=faces, out=tmp_path / "x", preview=True, **FAST
    )
    assert not same(out, run) and (out / "preview.html").is_file()
    assert same(rewrite(str(out), out=tmp_path / "off", strength=0.0), run)


def test_an_inpainter_learns_in_other_colours_and_where_the_edit_has_holes(faces: Path) -> None:
    preset = models.architecture("inpainting").presets["tiny"]
    network = models.build("inpainting", dataclasses.asdict(preset)).requires_grad_(False)
    hosts = Hosts(network, "inpainting", open_dataset(faces))
    width, height = hosts.size
    hole = np.zeros((height, width), bool)
    hole[8:12, 8:14] = True
    shown = np.random.RandomState(0).randint(0, 255, (height, width, 4), np.uint8)
    host = Picture(rgba=shown, hole=hole)
    first, *others = hosts.like(host, 5)()
    known = torch.from_numpy(~hole)
    assert len(others) == 5 and all(not torch.equal(one[:, known], first[:, known]) for one in others)
    assert all(torch.equal(one[:, known].sort(0)[0], first[:, known].sort(0)[0]) for one in others)
    found = hosts.holes([host])
    assert found is not None and torch.equal(found[0, 0], torch.from_numpy(hole))
    filled = hosts.others(8, 3, found).args[1]  # type: ignore[attr-defined]
    assert [int(one.sum()) for one in filled] == [int(hole.sum())] * 8 and len(
        {str(one.nonzero().tolist()) for one in filled}
    ) > 4


def test_a_hole_that_is_moved_over_the_rim_does_not_come_back_on_the_other_side() -> None:
    hole = torch.zeros(1, 12, 16, dtype=torch.bool)
    hole[:, 0:3, 14:] = True
    moved = shifted(hole, 2, 1)
    assert moved.shape == hole.shape and moved[0].nonzero().tolist() == [[y, 15] for y in (2, 3, 4)]
    assert torch.equal(shifted(hole, 0, 0), hole)


def test_a_card_takes_no_markup_from_the_names_of_rules(written: Path) -> None:
    found = checkpoint.read(written)
    strange = Rule("a | <b>\n# c", root_of(found), {}, about={"beside": ["<i>", "x"]})
    assert "\n| a b c | 1 | i, x |\n" in _card(found, "model", [strange])
