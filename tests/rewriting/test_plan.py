"""Which rules a call of `rewrite` keeps and adds, at what strengths, and what it must not replace."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import edit, generator, projector_of
from safetensors.torch import save_file

from kyara import rewrite
from kyara.files import checkpoint, ownership
from kyara.files.errors import CheckpointError
from kyara.rewriting import plan
from kyara.rewriting.edit import HASH, read_edit
from kyara.rewriting.rules import Rule, root_of, rules_of, write

CHANGED = "g_ema.synthesis.constant"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)  # the fixture that does this runs later
    return generator(tmp_path_factory.mktemp("small") / "g")


def random_rule(small: str, name: str, strength: float = 1.0, *, seed: int = 0) -> Rule:
    """A rule as if it were learned from the edit of that name."""
    found = checkpoint.read(small)
    change = torch.randn(found.weights()[CHANGED].shape, generator=torch.Generator().manual_seed(seed))
    return Rule(name, root_of(found), {CHANGED: change}, strength, {"edit": read_edit(edit(name)).description})


def ruled(path: Path, small: str, *rules: Rule) -> Path:
    write(path, checkpoint.read(small), rules, "small")
    return path


def strengths(path: Path | None) -> list[tuple[str, float]]:
    assert path is not None
    return [(rule.name, rule.strength) for rule in rules_of(checkpoint.read(path))]


def test_a_rule_that_two_checkpoints_share_counts_once(small: str, tmp_path: Path) -> None:
    glasses, cat = random_rule(small, "glasses"), random_rule(small, "cat", seed=1)
    a, b = ruled(tmp_path / "a", small, glasses), ruled(tmp_path / "b", small, glasses, cat)
    both = rewrite(small, [a, b, a / "edits" / "glasses.safetensors"], out=tmp_path / "both")
    assert [rule.name for rule in both.rules] == ["glasses", "cat"]
    assert checkpoint.read(tmp_path / "both").hash == checkpoint.read(b).hash


def test_an_edit_that_names_its_generator_since_is_the_same(small: str, tmp_path: Path) -> None:
    model = ruled(tmp_path / "model", small, random_rule(small, "hat"))
    named = {**edit("hat"), "checkpoint": root_of(checkpoint.read(small))}
    assert rewrite(str(model), named, out=tmp_path / "x", dry_run=True).skipped == ("hat",)


def test_another_rule_of_the_same_name_is_refused(small: str, tmp_path: Path) -> None:
    """Among the given ones, and of the model. `--undo` makes room for it."""
    a = ruled(tmp_path / "a", small, random_rule(small, "glasses"))
    b = ruled(tmp_path / "b", small, random_rule(small, "glasses", seed=1))
    for model, given in ((small, [a, b]), (str(a), [b / "edits" / "glasses.safetensors"])):
        with pytest.raises(ValueError, match=r"rule glasses: there is another rule of that name .* --undo"):
            rewrite(model, given, out=tmp_path / "x")
    rewrite(str(a), b, undo="glasses", out=tmp_path / "x")
    assert checkpoint.read(tmp_path / "x").hash == checkpoint.read(b).hash


def test_a_corrected_edit_is_not_taken_for_the_known_one(small: str, tmp_path: Path) -> None:
    """Edits as dicts have the same name; only their pixels differ."""
    model = ruled(tmp_path / "model", small, random_rule(small, "disc"))
    green = edit(colour=(10, 250, 10))
    for given, name in (([green], str(model)), ([edit(), green], small)):
        with pytest.raises(ValueError, match=r"disc: there is another rule of that name; rename it, or --undo"):
            plan.make_plan(name, given, None, 1.0)


def test_rules_from_before_edits_had_a_hash_are_known(small: str, tmp_path: Path) -> None:
    description = {name: value for name, value in read_edit(edit()).description.items() if name != HASH}
    rule = dataclasses.replace(random_rule(small, "disc"), about={"edit": description})
    model = ruled(tmp_path / "model", small, rule)
    assert plan.make_plan(str(model), [edit()], None, 1.0).skipped == ("disc",)


def test_what_the_model_has_is_skipped_and_keeps_its_strength(small: str, tmp_path: Path) -> None:
    rules = random_rule(small, "glasses", 0.5), random_rule(small, "cat", 0.25, seed=1)
    model = ruled(tmp_path / "model", small, *rules)
    for i, given in enumerate(([edit("glasses")], [model / "edits" / "glasses.safetensors"], [edit("cat"), model])):
        assert strengths(rewrite(str(model), given, out=tmp_path / f"{i}").out) == [("glasses", 0.5), ("cat", 0.25)]
        with pytest.raises(ValueError, match=r"--strength 0.7: .* has these rules .* --undo"):
            rewrite(str(model), given, strength=0.7, out=tmp_path / "x")
    hat = ruled(tmp_path / "hat", small, random_rule(small, "hat", seed=2))
    more = rewrite(str(model), [edit("glasses"), hat], strength=0.7, out=tmp_path / "more")
    assert strengths(more.out) == [("glasses", 0.5), ("cat", 0.25), ("hat", 0.7)]


def test_rules_keep_their_strengths_if_none_is_given(small: str, tmp_path: Path) -> None:
    """As when a preview is all that is wanted."""
    model = str(ruled(tmp_path / "model", small, random_rule(small, "glasses", 0.5), random_rule(small, "cat", 0.25)))
    assert strengths(rewrite(model, out=tmp_path / "a").out) == [("glasses", 0.5), ("cat", 0.25)]
    assert strengths(rewrite(model, strength=1, out=tmp_path / "b").out) == [("glasses", 1.0), ("cat", 1.0)]
    assert strengths(rewrite(model, strength=1, undo="cat", out=tmp_path / "c").out) == [("glasses", 1.0)]


def test_strengths_of_single_rules_are_set(small: str, tmp_path: Path) -> None:
    rules = [random_rule(small, name, 0.25, seed=i) for i, name in enumerate(("glasses", "cat", "my hat"))]
    model = str(ruled(tmp_path / "model", small, *rules))
    found = rewrite(model, strengths="my hat=2, glasses = 0", out=tmp_path / "a")
    assert strengths(found.out) == [("glasses", 0.0), ("cat", 0.25), ("my hat", 2.0)]
    found = rewrite(model, undo="glasses", strengths="cat=1", out=tmp_path / "b")
    assert strengths(found.out) == [("cat", 1.0), ("my hat", 0.25)]
    for wrong, why in {
        "hair=1": "--strengths hair: there is no such rule; there is cat, my hat",
        "glasses=1": "--strengths glasses: there is no such rule",  # it is removed
        "cat": "--strengths cat: write NAME=NUMBER",
        "cat=x": "--strengths cat=x: write NAME=NUMBER",
        "cat=nan": "--strengths cat nan: must be a finite number",
        "cat=11": "--strengths cat 11.0: must be from 0 to 10",
    }.items():
        with pytest.raises(ValueError, match=why):
            rewrite(model, undo="glasses", strengths=wrong, out=tmp_path / "x")
    with pytest.raises(ValueError, match=r"--strength 0\.5: there are no EDITS, and --strengths sets"):
        rewrite(model, strength=0.5, strengths="cat=1", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_strength_is_a_factor_on_the_rules_of_a_given_checkpoint(small: str, tmp_path: Path) -> None:
    given = ruled(tmp_path / "given", small, random_rule(small, "glasses", 0.5), random_rule(small, "cat", 4.0))
    assert strengths(rewrite(small, given, out=tmp_path / "same").out) == [("glasses", 0.5), ("cat", 4.0)]
    half = rewrite(small, given, strength=0.5, out=tmp_path / "half")
    assert strengths(half.out) == [("glasses", 0.25), ("cat", 2.0)]
    with pytest.raises(ValueError, match="--strength 3: rule cat would have strength 12"):
        rewrite(small, given, strength=3.0, out=tmp_path / "x")


@pytest.mark.parametrize("trace", ["training.pt", "snapshots/000000/config.json", ".lock"])
def test_a_training_run_is_never_replaced(small: str, tmp_path: Path, trace: str) -> None:
    run = Path(generator(tmp_path / "run"))
    (run / trace).parent.mkdir(parents=True, exist_ok=True)
    (run / trace).write_bytes(b"hours of work")
    given = ruled(tmp_path / "given", small, random_rule(small, "glasses"))
    for dry_run in (True, False):
        with pytest.raises(FileExistsError, match="contains a training run, which --force does not replace"):
            rewrite(small, given, out=run, force=True, dry_run=dry_run)
    assert (run / trace).read_bytes() == b"hours of work"


def test_an_earlier_result_is_kept_until_the_new_one_is_complete(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning may be stopped, and a rule may not fit."""
    projector, earlier = projector_of(tmp_path / "p", small), ruled(tmp_path / "out", small, random_rule(small, "cat"))
    before, misfit = checkpoint.read(earlier).hash, tmp_path / "misfit.safetensors"
    header = {"name": "misfit", "root": root_of(checkpoint.read(small)), "about": {}}
    save_file({"strange": torch.zeros(3)}, misfit, {"kyara": json.dumps(header)})

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "learn_rule", stopped)
    with pytest.raises(KeyboardInterrupt):
        rewrite(small, edit("hat"), projector=projector, out=earlier, force=True)
    assert checkpoint.read(earlier).hash == before
    with pytest.raises(KeyboardInterrupt):
        rewrite(small, edit("hat"), projector=projector, out=tmp_path / "runs" / "new")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="strange does not fit"):
        rewrite(small, misfit, out=earlier, force=True)
    assert checkpoint.read(earlier).hash == before


@pytest.mark.parametrize("strength", [math.nan, math.inf, 1e30, -1.0])
def test_a_rule_of_an_impossible_strength_is_refused(small: str, tmp_path: Path, strength: float) -> None:
    """A Checkpoint may come from anybody."""
    model = ruled(tmp_path / "model", small, random_rule(small, "cat"))
    table = json.loads((model / "config.json").read_text())
    table["rewritten"]["rules"][0]["strength"] = strength
    (model / "config.json").write_text(json.dumps(table))
    given = ruled(tmp_path / "hat", small, random_rule(small, "hat"))
    with pytest.raises(CheckpointError, match=r"strength .* is not from 0 to 10"):
        rewrite(str(model), given, out=tmp_path / "x")


def test_strange_files_of_rules(small: str, tmp_path: Path) -> None:
    found, path = checkpoint.read(small), tmp_path / "strange.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"kyara": "[" * 100_000})
    with pytest.raises(ValueError, match="not a rule that kyara rewrite wrote"):
        rewrite(small, path, out=tmp_path / "x")
    header = {"kyara": json.dumps({"name": "large", "root": root_of(found), "about": {}})}
    save_file({CHANGED: torch.full_like(found.weights()[CHANGED], 3e38)}, path, header)
    with pytest.raises(ValueError, match="does not fit this network"):
        rewrite(small, path, out=tmp_path / "x", strength=10)  # to infinity
    noise = next(name for name in found.weights() if name.endswith("noise"))
    save_file({noise: torch.ones_like(found.weights()[noise])}, path, header)
    assert rewrite(small, path, out=tmp_path / "noise", preview=True).preview  # not only parameters have weights


def test_a_full_disk_leaves_the_earlier_result(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, given = (ruled(tmp_path / name, small, random_rule(small, name)) for name in ("cat", "hat"))
    before = checkpoint.read(earlier).hash

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("new", "cat"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="free some space"):
            patch.setattr(checkpoint, "write", full)
            rewrite(small, given, out=tmp_path / name, force=True)
        assert checkpoint.read(earlier).hash == before and strengths(earlier) == [("cat", 1.0)]
        assert strengths(rewrite(small, given, out=tmp_path / name, force=True).out) == [("hat", 1.0)]
        assert ownership.foreign(tmp_path / name, "config.json") is None


def test_a_folder_that_was_taken_meanwhile_is_kept(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, given = tmp_path / "00004-hat", ruled(tmp_path / "hat", small, random_rule(small, "hat"))
    apply = plan.make_plan

    def taken(*args: Any) -> plan.Plan:
        ruled(out, small, random_rule(small, "cat"))
        return apply(*args)

    monkeypatch.setattr(plan, "make_plan", taken)
    assert strengths(rewrite(small, given, out=out).out) == [("hat", 1.0)]
    assert strengths(out) == [("cat", 1.0)] and (tmp_path / "00005-hat" / "config.json").is_file()


@pytest.mark.parametrize("option", ["projector", "data"])
def test_inputs_are_not_replaced(small: str, tmp_path: Path, option: str) -> None:
    out = ruled(tmp_path / "out", small, random_rule(small, "cat"))
    given = Path(projector_of(out / "input", small))
    options: dict[str, Any] = {"projector": str(given)} if option == "projector" else {"data": given}
    with pytest.raises(FileExistsError, match="contains the input"):
        rewrite(small, edit("hat"), out=out, force=True, **options)
    assert (given / "config.json").is_file()
