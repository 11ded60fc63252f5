"""Which rules a call of `rewrite` keeps and adds, at what strengths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import edit, generator

from kyara import rewrite
from kyara.files import checkpoint
from kyara.rewriting.edit import read_edit
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


def test_another_rule_of_the_same_name_is_refused(small: str, tmp_path: Path) -> None:
    """Among the given ones, and of the model. `--undo` makes room for it."""
    a = ruled(tmp_path / "a", small, random_rule(small, "glasses"))
    b = ruled(tmp_path / "b", small, random_rule(small, "glasses", seed=1))
    for model, given in ((small, [a, b]), (str(a), [b / "edits" / "glasses.safetensors"])):
        with pytest.raises(ValueError, match=r"rule glasses: there is another rule of that name .* --undo"):
            rewrite(model, given, out=tmp_path / "x")
    rewrite(str(a), b, undo="glasses", out=tmp_path / "x")
    assert checkpoint.read(tmp_path / "x").hash == checkpoint.read(b).hash


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


def test_strength_is_a_factor_on_the_rules_of_a_given_checkpoint(small: str, tmp_path: Path) -> None:
    given = ruled(tmp_path / "given", small, random_rule(small, "glasses", 0.5), random_rule(small, "cat", 4.0))
    assert strengths(rewrite(small, given, out=tmp_path / "same").out) == [("glasses", 0.5), ("cat", 4.0)]
    half = rewrite(small, given, strength=0.5, out=tmp_path / "half")
    assert strengths(half.out) == [("glasses", 0.25), ("cat", 2.0)]
    with pytest.raises(ValueError, match="--strength 3: rule cat would have strength 12"):
        rewrite(small, given, strength=3.0, out=tmp_path / "x")
