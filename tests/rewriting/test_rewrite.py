"""The verb, on small networks: rules are learned, add up, are scaled and removed, and errors come before any work."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_pages import parsed
from networks import MASK, edit, generator, pattern, projector_of, untrained
from PIL import Image
from safetensors.torch import save_file

from kyara import generate, models, rewrite
from kyara.files import checkpoint, ownership
from kyara.files.dataset import open_dataset
from kyara.files.errors import CheckpointError
from kyara.files.masks import MARKED
from kyara.rewriting import lessons
from kyara.rewriting.edit import Picture, read_edit
from kyara.rewriting.rules import Rule, model_card, read_rule, root_of, rules_of
from kyara.rewriting.samples import Samples, shift_hole

FAST: dict[str, Any] = {"steps": 10, "extra_images": 16}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    torch.set_num_threads(1)  # the fixture that does this runs later
    folder = tmp_path_factory.mktemp("small")
    name = generator(folder / "g")
    return name, projector_of(folder / "p", name)


@pytest.fixture(scope="module")
def written(small: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small generator with a red disc and then a blue one elsewhere."""
    folder = tmp_path_factory.mktemp("rewritten")
    red, blue = edit("red"), edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])
    return rewrite(small[0], [red, blue], projector=small[1], out=folder / "both", preview=True, **FAST).out


def weights(path: Path | str) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).weights()


def same(a: Path | str, b: Path | str) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def picture(path: Path | str) -> torch.Tensor:
    model = models.load(path).requires_grad_(False)
    made: torch.Tensor = Samples(model, str(path)).variants(Picture(seed=3), 0)()
    return made


def new(model: Path | str, *edits: Any, **options: Any) -> Path:
    """The folder that a call writes."""
    out = rewrite(str(model), edits, **options).out
    assert out is not None
    return out


def test_an_inside_error_is_not_reported_if_the_place_is_found_nowhere(
    small: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "MIN_SIMILARITY", 2.0)
    (rule,) = rewrite(small[0], [edit("red")], projector=small[1], out=tmp_path / "a", **FAST).rules
    assert rule.inside_error is None and (rule.outside_error or 0) > 0 and rule.found == 0
    assert "inside_error" not in rules_of(checkpoint.read(tmp_path / "a"))[0].about


def test_a_nearly_transparent_source_changes_nothing(small: tuple[str, str], tmp_path: Path) -> None:
    faint = edit("faint")
    faint["examples"][0]["source"]["picture"] = np.full((8, 8, 4), (255, 0, 0, 6), np.uint8)
    out = new(small[0], faint, projector=small[1], out=tmp_path / "a", **FAST)
    assert not any(weight.any() for weight in rules_of(checkpoint.read(out))[0].weights.values())


def test_a_rule_is_learned_with_the_others_applied(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    blue = edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])
    alone = new(small[0], blue, projector=small[1], out=tmp_path / "b", **FAST)
    second, by_itself = rules_of(checkpoint.read(written))[1], rules_of(checkpoint.read(alone))[0]
    assert second.name == by_itself.name == "blue"
    assert second.about["learned_with"] == ["red"] and by_itself.about["learned_with"] == []
    assert any(not torch.equal(second.weights[name], by_itself.weights[name]) for name in second.weights)


def test_a_rule_of_strength_zero_is_not_listed_with_another(small: tuple[str, str], tmp_path: Path) -> None:
    two = [edit("red"), edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])]
    out = new(small[0], *two, projector=small[1], out=tmp_path / "off", strength=0.0, steps=1, extra_images=8)
    assert [rule.about["learned_with"] for rule in rules_of(checkpoint.read(out))] == [[], []]


def test_an_edit_made_for_another_generator_is_a_warning(small: tuple[str, str], tmp_path: Path) -> None:
    """As for one that was trained further."""
    own, anime = (checkpoint.read(name).hash for name in (small[0], "builtin:anime"))
    edits = [{**edit(name), "checkpoint": made_for} for name, made_for in (("a", own), ("b", anime), ("c", "abc"))]
    result = rewrite(small[0], edits, projector=small[1], out=tmp_path / "a", dry_run=True, **FAST)
    assert [warning.partition(",")[0] for warning in result.warnings] == [
        "b: was made for builtin:anime",
        "c: was made for abc",
    ]
    assert f"warning: {result.warnings[1]}" in str(result)


def test_the_result_is_a_checkpoint(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    changed = {name for name, tensor in weights(written).items() if not torch.equal(tensor, weights(small[0])[name])}
    assert len(changed) == 3 and all(name.startswith("g_ema.synthesis") for name in changed)
    assert (picture(written) - picture(small[0])).abs().mean() > 1e-3
    generate(str(written), count=2, rank="none", out=tmp_path / "made")
    card = (written / "README.md").read_text()
    assert "| blue | 1 | red |" in card and "# small" in card
    assert ownership.foreign(written, "config.json") is None  # --force can replace it
    page = (written / "preview.html").read_text()
    assert page.count("<img") == 3 * 16 and "http" not in page.replace("http-equiv", "")


def test_rules_are_scaled_and_removed_exactly(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    off = new(written, out=tmp_path / "off", strength=0.0)
    assert same(off, small[0])
    assert same(new(off, out=tmp_path / "on", strength=1.0), written)
    one = new(written, out=tmp_path / "one", undo="blue")
    assert [rule.name for rule in rules_of(checkpoint.read(one))] == ["red"]
    assert same(new(one, out=tmp_path / "none", undo="red"), small[0])
    half = new(written, out=tmp_path / "half", strength=0.5)
    a, b, c = weights(small[0]), weights(half), weights(written)
    assert all(torch.allclose(b[name] - a[name], (c[name] - a[name]) / 2, atol=1e-5) for name in a)


def test_rules_add_up_wherever_they_come_from(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    files = [written / "edits" / f"{name}.safetensors" for name in ("red", "blue")]
    assert same(new(small[0], *files, out=tmp_path / "files"), written)
    assert same(new(small[0], written, out=tmp_path / "whole"), written)
    one = new(small[0], files[0], out=tmp_path / "one")
    assert same(new(one, files[1], out=tmp_path / "two"), written)
    assert same(new(written, *files, out=tmp_path / "again"), written), "a rule counts once"


def test_a_known_edit_changes_nothing(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    again = rewrite(str(written), edit("red"), out=tmp_path / "again")
    assert again.out is not None and same(again.out, written) and again.skipped == ("red",)
    assert f"{written} already has the rule red: skipped" in str(again)
    own = edit("own", source={"seed": 3, "box": MASK})
    assert same(new(small[0], own, projector=small[1], out=tmp_path / "own", **FAST), small[0])


def test_results_are_deterministic_and_the_parent_is_not_changed(
    small: tuple[str, str], written: Path, tmp_path: Path
) -> None:
    before = checkpoint.read(small[0]).hash
    red, blue = edit("red"), edit("blue", (10, 10, 250), mask=[2, 20, 8, 8])
    again = new(small[0], red, blue, projector=small[1], out=tmp_path / "b", **FAST)
    assert same(again, written) and checkpoint.read(small[0]).hash == before


@pytest.mark.parametrize("memory", ["linear", "nonlinear"])
def test_erasing_with_either_memory(small: tuple[str, str], tmp_path: Path, memory: Any) -> None:
    gone = edit("gone", erase=True, source=None)
    fast = FAST if memory == "nonlinear" else {"extra_images": 16}
    out = new(small[0], gone, projector=small[1], out=tmp_path / "x", memory=memory, **fast)
    assert not same(out, small[0])
    (rule,) = rules_of(checkpoint.read(out))
    assert len(rule.weights) == (1 if memory == "linear" else 3) and rule.about["memory"] == memory


def test_an_edit_file_may_name_a_generated_picture(small: tuple[str, str], tmp_path: Path) -> None:
    generate(small[0], seeds="7", rank="none", out=tmp_path / "made")
    made = next((tmp_path / "made").glob("*0007.png"))
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    (tmp_path / "seven.png").write_bytes(made.read_bytes())
    example = {"picture": "seven.png", "mask": MASK, "source": {"picture": "disc.png"}}
    hash_ = checkpoint.read(small[0]).hash
    (tmp_path / "e.json").write_text(json.dumps({"name": "e", "checkpoint": hash_, "examples": [example]}))
    result = rewrite(small[0], tmp_path / "e.json", projector=small[1], out=tmp_path / "x", **FAST)
    (row,) = result.as_json()["rules"]
    assert row["name"] == "e" and row["learned"] and row["strength"] == 1
    assert all(row[name] is not None for name in ("inside_error", "outside_error", "found", "seconds"))
    assert result.checkpoint == hash_ and result.preview is None and not result.dry_run
    assert "e: inside error" in str(result) and f"kyara generate {tmp_path / 'x'}" in str(result)
    assert read_rule(tmp_path / "x" / "edits" / "e.safetensors").about["edit"]["examples"][0]["mask"] == MASK


@pytest.mark.parametrize(
    ("option", "cause"), [({"turn": 10}, "has a turned head"), ({"mirror": True}, "is mirrored; make its seed again")]
)
def test_a_picture_that_was_changed_after_it_was_made_is_refused(
    small: tuple[str, str], tmp_path: Path, option: dict[str, Any], cause: str
) -> None:
    generate(small[0], seeds="7", rank="none", out=tmp_path / "made", **option)
    (tmp_path / "seven.png").write_bytes((tmp_path / "made" / "seed0007.png").read_bytes())
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    example = {"picture": "seven.png", "mask": MASK, "source": {"picture": "disc.png"}}
    (tmp_path / "e.json").write_text(json.dumps({"name": "e", "examples": [example]}))
    with pytest.raises(ValueError, match=f"seven.png {cause}"):
        rewrite(small[0], tmp_path / "e.json", projector=small[1], out=tmp_path / "x", **FAST)


def test_an_enlarged_picture_is_painted_on_at_its_own_size(small: tuple[str, str], tmp_path: Path) -> None:
    samples, masks, styles = Samples(models.load(small[0]), small[0]), [], []
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    for upscale, scale in (("none", 1), ("builtin:upscaler", 2)):
        made = generate(small[0], seeds="7", rank="none", upscale=upscale, out=tmp_path / upscale[:4]).out
        mask = [scale * side for side in MASK]
        example = {"picture": f"{made.name}/seed0007.png", "mask": mask, "source": {"picture": "disc.png"}}
        (tmp_path / "e.json").write_text(json.dumps({"name": "e", "examples": [example]}))
        (found,) = read_edit(tmp_path / "e.json").examples
        masks.append(samples.mask(found.mask, found.target, found.label) >= MARKED)
        styles.append(samples.styles(found.target))
    assert masks[0].sum() == MASK[2] * MASK[3] and np.array_equal(*masks) and torch.equal(*styles)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"edits": [edit(mask=[28, 2, 8, 8])]}, "reaches beyond the picture of 32x32"),
    ({"edits": [edit(source={"seed": 1, "box": [30, 2, 8, 8]})]}, "reaches beyond the picture"),
    ({"edits": [edit()], "layers": 9}, "--layers 9"),
    ({"edits": [edit()], "steps": 0}, "--steps 0"),
    ({"edits": [edit()], "strength": 11.0}, "--strength 11"),
    ({"edits": [edit()], "undo": "hat"}, "there is no such rule"),
    ({"edits": [edit()], "projector": None}, "kyara train projector --of"),
    ({"edits": []}, "has no rules"),
    ({"edits": [edit("a b"), edit("a-b", mask=[1, 1, 9, 9])]}, "a-b: there is another rule of that name"),
    ({"edits": [edit()], "memory": "linear"}, "a linear memory has one layer"),
    ({"edits": [edit()], "rank": 3}, "only applies to --memory linear"),
    ({"edits": [edit(picture=pattern(), seed=None)]}, "does not say how"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
@pytest.mark.parametrize("dry_run", [False, True])
def test_errors_come_before_any_work(
    small: tuple[str, str], tmp_path: Path, change: dict[str, Any], message: str, dry_run: bool
) -> None:
    with pytest.raises(ValueError, match=message):
        rewrite(small[0], out=tmp_path / "x", dry_run=dry_run, **{"projector": small[1], **FAST, **change})
    assert not (tmp_path / "x").exists()


NONSENSE: list[dict[str, Any]] = [
    {"strength": -1.0}, {"strength": math.nan}, {"strength": 1e9}, {"layers": 0}, {"layers": 10**9}, {"p": -1.0},
    {"p": math.inf}, {"q": math.nan}, {"steps": -1}, {"steps": 10**12}, {"extra_images": -1},
    {"extra_images": 10**9}, {"rank": 0}, {"rank": 10**9}, {"memory": "round"}, {"undo": ""}, {"projector": ""},
    {"data": "nowhere"}, {"out": ""}, {"edits": ["nowhere.json"]}, {"model": ""}, {"out": __file__},
]  # fmt: skip


@pytest.mark.parametrize("option", NONSENSE, ids=str)
def test_nonsense_is_refused_in_one_sentence(small: tuple[str, str], tmp_path: Path, option: dict[str, Any]) -> None:
    options = {"model": small[0], "edits": [edit()], "out": tmp_path / "x", "projector": small[1], **option}
    (name,) = option
    positional = {"model": "MODEL", "edits": "EDITS"}
    with pytest.raises((ValueError, OSError), match=positional.get(name, "--" + name.replace("_", "-"))) as error:
        rewrite(**options)
    assert "\n" not in str(error.value) and not (tmp_path / "x").exists()


def test_options_are_checked_before_torch_is_imported() -> None:
    script = """
import sys
from kyara.rewriting.rewrite import rewrite
try:
    rewrite("builtin:anime", steps=0)
except ValueError as error:
    assert "--steps 0" in str(error) and "torch" not in sys.modules
else:
    sys.exit(1)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_command_of_the_page_can_be_parsed(written: Path) -> None:
    options = parsed(rewrite, written / "preview.html")
    assert options["steps"] == 10 and options["preview"] is True


def test_rules_of_another_checkpoint_are_refused(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    other = generator(tmp_path / "other", seed=5)
    for given in (written, written / "edits" / "red.safetensors"):
        with pytest.raises(ValueError, match="belongs to checkpoint"):
            rewrite(other, [given], out=tmp_path / "x")
    with pytest.raises(ValueError, match="was trained for"):
        rewrite(other, [edit()], projector=small[1], out=tmp_path / "x")
    with pytest.raises(ValueError, match="not a projector"):
        rewrite(small[0], [edit()], projector="builtin:tagger", out=tmp_path / "x")
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a rule"):
        rewrite(small[0], [tmp_path / "no.safetensors"], out=tmp_path / "x")
    with pytest.raises(ValueError, match="has no rules"):
        rewrite(small[0], [Path(small[0])], out=tmp_path / "x")


@pytest.mark.parametrize("ignored", [{"steps": 5}, {"p": 2.0}, {"memory": "linear"}, {"projector": "x"}, {"data": "."}])
def test_options_of_learning_need_a_new_edit(written: Path, tmp_path: Path, ignored: dict[str, Any]) -> None:
    rule = written / "edits" / "red.safetensors"
    parent = checkpoint.read(written).about["rewritten"]["parent"]
    for model, given, strength in ((written, [], 0.5), (parent, [rule], 0.5), (written, [edit("red")], 1.0)):
        for dry_run in (True, False):
            with pytest.raises(
                ValueError, match=f"--{next(iter(ignored))}: there is no new edit to learn; leave it out"
            ):
                rewrite(str(model), given, out=tmp_path / "x", strength=strength, dry_run=dry_run, **ignored)
    assert not (tmp_path / "x").exists()


def test_nothing_is_overwritten_without_force(small: tuple[str, str], written: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="contains the input"):
        rewrite(str(written), out=written, strength=0.5, force=True)
    with pytest.raises(FileExistsError, match="contains the input"):
        rewrite(small[0], [written / "edits" / "red.safetensors"], out=written, force=True)
    out = new(written, out=tmp_path / "x", strength=0.5)
    for dry_run in (False, True):
        with pytest.raises(FileExistsError):
            rewrite(str(written), out=out, dry_run=dry_run)
    rewrite(str(written), out=out, strength=0.25, force=True)


def test_a_dry_run_writes_nothing(small: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = rewrite(small[0], [edit("red")], projector=small[1], dry_run=True, **FAST)
    assert result.dry_run and [(rule.name, rule.learned) for rule in result.rules] == [("red", True)]
    assert "would write runs/00000-rewrite-g: " in str(result) and not list(tmp_path.iterdir())


def test_results_are_numbered(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outs = [rewrite(str(written), strength=strength).out for strength in (0.5, 0.2)]
    assert outs == [Path(f"runs/0000{i}-rewrite-both") for i in (0, 1)]
    assert rewrite("runs/00001-rewrite-both", strength=0.1).out == Path("runs/00002-rewrite-both")
    assert checkpoint.read(outs[1]).about["rewritten"]["rules"][0]["strength"] == 0.2  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [{"rules": 3}, {"rules": [{}]}, {"root": "x", "rules": [{"file": "../a"}]}, 3])
def test_a_damaged_list_of_rules_is_named(written: Path, tmp_path: Path, damage: Any) -> None:
    copy = shutil.copytree(written, tmp_path / "copy")
    table = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**table, "rewritten": damage}))
    with pytest.raises(CheckpointError, match="list of rules cannot be read"):
        rewrite(str(copy), out=tmp_path / "x", strength=0.5)


def test_foreign_weights_in_the_original_are_refused(written: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(written, tmp_path / "copy")
    save_file({"strange": torch.zeros(3)}, copy / "original.safetensors")
    with pytest.raises(CheckpointError, match="strange does not fit"):
        rewrite(str(copy), out=tmp_path / "x", strength=0.5)


@pytest.mark.parametrize("kind", ["munit", "inpainting"])
def test_translators_and_inpainters_can_be_rewritten(kind: str, faces: Path, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", kind)
    projector = projector_of(tmp_path / "p", run)
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
        rewrite(run, [tmp_path / "e.json"], projector=projector, out=tmp_path / "x", **FAST)
    fast = {"steps": 2, "extra_images": 8, "preview": True}
    out = new(run, tmp_path / "e.json", projector=projector, data=faces, out=tmp_path / "x", **fast)
    assert not same(out, run) and (out / "preview.html").is_file()
    off = rewrite(str(out), out=tmp_path / "off", strength=0.0, device="cpu")
    assert same(off.out, run) and str(off).endswith(f"make pictures with: kyara translate {off.out} PICTURES")


def test_variants_of_an_inpainter_have_other_colours_and_the_holes_of_the_edit(faces: Path) -> None:
    preset = models.architecture("inpainting").presets["tiny"]
    network = models.build("inpainting", dataclasses.asdict(preset)).requires_grad_(False)
    samples = Samples(network, "inpainting", open_dataset(faces))
    width, height = samples.size
    hole = np.zeros((height, width), bool)
    hole[8:12, 8:14] = True
    shown = np.random.RandomState(0).randint(0, 255, (height, width, 4), np.uint8)
    target = Picture(rgba=shown, hole=hole)
    first, *others = samples.variants(target, 5)()
    known = torch.from_numpy(~hole)
    assert len(others) == 5 and all(not torch.equal(one[:, known], first[:, known]) for one in others)
    assert all(torch.equal(one[:, known].sort(0)[0], first[:, known].sort(0)[0]) for one in others)
    found = samples.holes([target])
    assert found is not None and torch.equal(found[0, 0], torch.from_numpy(hole))
    filled = samples.random(8, 3, found).args[1]  # type: ignore[attr-defined]
    assert [int(one.sum()) for one in filled] == [int(hole.sum())] * 8
    assert len({str(one.nonzero().tolist()) for one in filled}) > 4


def test_a_shifted_hole_does_not_wrap_around() -> None:
    hole = torch.zeros(1, 12, 16, dtype=torch.bool)
    hole[:, 0:3, 14:] = True
    moved = shift_hole(hole, 2, 1)
    assert moved.shape == hole.shape and moved[0].nonzero().tolist() == [[y, 15] for y in (2, 3, 4)]
    assert torch.equal(shift_hole(hole, 0, 0), hole)


def test_names_of_rules_cannot_add_markup_to_a_card(written: Path) -> None:
    found = checkpoint.read(written)
    strange = Rule("a | <b>\n# c", root_of(found), {}, about={"learned_with": ["<i>", "x"]})
    assert "\n| a b c | 1 | i, x |\n" in model_card(found, "model", [strange])
