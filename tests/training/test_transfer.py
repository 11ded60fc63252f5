"""Starting from a parent: its architecture, its pictures, and only what shall learn changes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import with_metadata

from kyara import models
from kyara.models.base import Batch, latents
from kyara.training.options import Tuning
from kyara.training.train import train
from kyara.training.transfer import SEEN, build, groups, tune

TINY: dict[str, Any] = {"batch": 8, "snap": 10, "workers": 0, "precision": "32"}


@pytest.fixture(scope="module")
def parent(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network that no preset describes."""
    out = tmp_path_factory.mktemp("parent") / "run"
    changes = "network.mapping_layers=3,network.channel_base=300,network.w_dim=20"
    return str(train("stylegan2", faces, out=out, preset="tiny", set=changes, kimg=0.2, **TINY).out)


def changed(parent: str, child: Path) -> set[str]:
    """The tensors that differ, of what the last snapshot of the child holds."""
    a, b = (models.stored(models.load(name)) for name in (parent, sorted((child / "snapshots").iterdir())[-1]))
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_a_child_has_its_parent_s_architecture_and_repeats_its_pictures(
    faces: Path, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = "optimizer.lr=0.0025"  # few pictures have a lower default
    child = train("stylegan2", faces, out=tmp_path / "child", init=parent, set=kept, kimg=0.0, **TINY).out
    assert f"initialised from {parent}; newly initialised: none\n" in capsys.readouterr().err
    assert f"| initialised from | {parent} |" in (child / "README.md").read_text()
    a, b = models.load(parent), models.load(child)
    assert a.config.replace(optimizer={"ema_start_kimg": SEEN}) == b.config
    assert a.config.network.w_dim == 20  # type: ignore[attr-defined]
    z = latents(range(4), 16)
    with torch.inference_mode():
        assert torch.equal(a.sample(z), b.sample(z))  # type: ignore[operator]


def test_what_a_smaller_child_cannot_take_is_said(
    faces: Path, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("stylegan2", faces, out=tmp_path / "child", init=parent, set="network.mapping_layers=2", kimg=0.0, **TINY)
    assert "unused: g.mapping.layers.2\n" in capsys.readouterr().err


def test_only_the_chosen_layers_change(faces: Path, parent: str, tmp_path: Path) -> None:
    child = train("stylegan2", faces, out=tmp_path / "fine", init=parent, tune_layers=3, kimg=0.1, **TINY).out
    of_g = {name for name in changed(parent, child) if name.startswith("g_ema.")}
    blocks = "g_ema.synthesis.blocks."
    allowed = (f"{blocks}3.", f"{blocks}2.conv1.", f"{blocks}2.to_rgb.")  # 32 px: 4 levels, 7 layers
    assert of_g and all(name.startswith(allowed) for name in of_g)
    assert {name.rsplit(".conv.weight")[0] for name in of_g if name.endswith("conv.weight")} == {
        f"{blocks}{part}" for part in ("3.conv0", "3.conv1", "3.to_rgb", "2.conv1", "2.to_rgb")
    }
    assert json.loads((child / "config.json").read_text())["tuning"]["layers"] == 3
    coarse = train(
        "stylegan2", faces, out=tmp_path / "coarse", init=parent, tune_layers=1, tune_end="coarse", kimg=0.1, **TINY
    ).out
    allowed = ("g_ema.synthesis.constant", f"{blocks}0.")
    of_g = {name for name in changed(parent, coarse) if name.startswith("g_ema.")}
    assert of_g and all(name.startswith(allowed) for name in of_g)


def test_what_is_frozen_stays(faces: Path, parent: str, tmp_path: Path) -> None:
    child = train("stylegan2", faces, out=tmp_path / "run", init=parent, freeze="mapping,g=2,d=4", kimg=0.1, **TINY).out
    found = changed(parent, child)
    coarse, near = "g_ema.synthesis.blocks.0.", ("d.from_rgb.", "d.blocks.2.")  # the last block is nearest to pictures
    held = ("g_ema.mapping.", "g_ema.synthesis.constant", coarse, "g_ema.synthesis.blocks.1.conv0.", *near)
    assert found and not any(name.startswith(held) for name in found)
    assert any(name.startswith("g_ema.synthesis.blocks.1.conv1.") for name in found)
    assert any(name.startswith("d.blocks.1.") for name in found)


def test_a_tuned_run_resumes_exactly(faces: Path, parent: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {**TINY, "init": parent, "tune_layers": 2, "layer_lr_multiplier": 0.5}
    whole = train("stylegan2", faces, out=tmp_path / "whole", kimg=0.16, **how).out
    parts = train("stylegan2", faces, out=tmp_path / "parts", kimg=0.08, **how).out
    train("stylegan2", faces, out=tmp_path / "parts", kimg=0.16, **how)
    a, b = (torch.load(run / "training.pt", weights_only=True)["model"] for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(FileExistsError, match="tuning"):
        train("stylegan2", faces, out=tmp_path / "parts", kimg=0.16, **{**how, "tune_layers": 3})


def test_coarser_layers_learn_slower(parent: str) -> None:
    model = models.load(parent)
    tune(model, Tuning(lr_multiplier=0.5))
    optimizer = model.optimizer(groups([*model.g.parameters()]))  # type: ignore[union-attr,arg-type]
    assert sorted(group["lr_multiplier"] for group in optimizer.param_groups) == [0.5**i for i in range(6, -1, -1)]
    by_multiplier = {group["lr_multiplier"]: group["params"] for group in optimizer.param_groups}
    assert any(p is model.g.synthesis.blocks[3].conv1.bias for p in by_multiplier[1.0])  # type: ignore[union-attr,index]
    assert any(p is model.g.mapping.layers[0].weight for p in by_multiplier[0.5**6])  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tune_layers": 9}, "--tune-layers 9: the generator has 1 to 7"),
        ({"tune_layers": 0}, "--tune-layers 0"),
        ({"freeze": "d=99"}, "--freeze d=99: .* d=1 to d=10"),
        ({"freeze": "everything"}, "'everything' is not one of mapping"),
        ({"layer_lr_multiplier": 2.0}, "--layer-lr-multiplier 2"),
        ({"tune_end": "coarse"}, "--tune-end coarse: needs --tune-layers"),
        ({"freeze": "mapping,g=7"}, "--freeze mapping,g=7: leaves nothing"),
        ({"freeze": "d=1", "size": "64"}, "would freeze newly initialised modules: d.from_rgb"),
        ({"init": None, "tune_layers": 1}, "need --init"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    faces: Path, parent: str, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    for dry_run in (True, False):
        with pytest.raises(ValueError, match=told):
            train("stylegan2", faces, out=tmp_path / "run", dry_run=dry_run, **{"init": parent, **TINY, **options})
    with pytest.raises(ValueError, match=rf"not of dcgan|need --init|{told}"):
        train("dcgan", faces, out=tmp_path / "run", **{"init": parent, **TINY, **options})


def test_layers_with_another_noise_alone_are_those_of_the_parent(parent: str) -> None:
    """With another aspect ratio, the first and the last layers are new. Others can be frozen."""
    config = models.read_config(parent).replace(data={"width": 64})
    _, fresh, unused = build("stylegan2", config, 0, Tuning(3, "coarse"), parent)
    assert fresh == unused == ("d.hidden.weight", "g.synthesis.constant")
    with pytest.raises(ValueError, match=r"newly initialised modules: g\.synthesis\.constant$"):
        build("stylegan2", config, 0, Tuning(3), parent)


def test_freezing_layers_of_a_model_that_has_none_is_refused_before_anything_is_done(
    faces: Path, tmp_path: Path
) -> None:
    parent = train("dcgan", faces, out=tmp_path / "parent", preset="tiny", kimg=0, **TINY).out
    with pytest.raises(ValueError, match="not supported by this model"):
        train("dcgan", faces, out=tmp_path / "run", init=str(parent), tune_layers=2, dry_run=True, **TINY)


def test_a_parent_that_does_not_fit_is_said(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With twice the channels nothing but a few biases is the parent's."""
    parent = train("dcgan", faces, out=tmp_path / "parent", preset="tiny", kimg=0, **TINY).out
    how: dict[str, Any] = {"init": str(parent), "set": "network.channels=8", **TINY, "snap": None}
    capsys.readouterr()
    planned = train("dcgan", faces, dry_run=True, **how)
    told = capsys.readouterr().err
    assert "100% of the weights do not fit and start at random, as without --init: network.channels is 8, not 4" in told
    assert "few_pictures" not in planned.settings and planned.settings["training"]["augment"] == "ada"
    made = train("dcgan", faces, out=tmp_path / "run", kimg=0, **how)
    told = capsys.readouterr().err
    assert "64 pictures are too few to train a generator from scratch" in told and "options chosen" not in told
    assert "g.project.weight (512x16 instead of 256x16)" in told
    assert all(len(re.findall(rf"[ ,]{re.escape(name)}[ ,\n]", told)) == 1 for name in made.fresh)


def test_labels_that_the_parent_never_learned_are_not_held(tagged_faces: Path, parent: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"newly initialised modules: g.mapping.labels"):
        train("stylegan2", tagged_faces, out=tmp_path / "a", init=parent, attributes="hair", tune_layers=2, **TINY)
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def tagged_parent(tagged_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("tagged") / "run"
    options: dict[str, Any] = {**TINY, "preset": "tiny", "kimg": 0.1, "set": "losses.label_weight=0.3"}
    return str(train("stylegan2", tagged_faces, out=out, attributes="hair,eyes", **options).out)


@pytest.mark.parametrize("attributes", ["hair,eyes", "eyes,hair"])
def test_attributes_of_the_parent_are_kept_without_labels(
    attributes: str, tagged_parent: str, faces: Path, tmp_path: Path
) -> None:
    child = train("stylegan2", faces, out=tmp_path / "b", attributes=attributes, init=tagged_parent, kimg=0.0, **TINY)
    data, parent = (models.read_config(name).data for name in (str(child.out), tagged_parent))
    assert child.fresh == () and data.unlabelled == ("hair", "eyes") and data.label_counts == parent.label_counts
    assert list(data.attributes.items()) == list(parent.attributes.items())  # rows of the embedding are in this order


def test_some_attributes_of_the_parent_are_learned_anew(tagged_parent: str, faces: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {**TINY, "init": tagged_parent, "kimg": 0.0}
    hair = models.read_config(str(train("stylegan2", faces, out=tmp_path / "hair", attributes="hair", **how).out)).data
    assert not hair.unlabelled and hair.label_counts == ((-1, 64),)
    with pytest.raises(ValueError, match="--attributes glasses"):
        train("stylegan2", faces, out=tmp_path / "c", attributes="hair,glasses", **how)


def test_rows_of_labels_that_the_child_has_too_are_kept(tagged_parent: str, faces: Path, tmp_path: Path) -> None:
    """A new attribute, and other values of one, leave the rows of the labels that the parent learned."""
    rows = [f"images/{i:04d}.png,{('open', 'shut')[i % 2]},{('red', 'gray')[i % 2]}" for i in range(64)]
    data = with_metadata(faces, tmp_path / "mouths.zip", ["file_name,mouth,eyes", *rows])
    how: dict[str, Any] = {**TINY, "init": tagged_parent, "attributes": "mouth,eyes", "kimg": 0.0}
    child = train("stylegan2", data, out=tmp_path / "child", **how)
    rows = ("d.heads.bias", "d.heads.weight", "d.labels.rows", "g.mapping.labels.rows")
    assert child.fresh == tuple(f"{name} (new labels)" for name in rows) and not child.unused
    a, b = models.load(tagged_parent), models.load(child.out)
    assert dict(b.config.data.attributes) == {"mouth": ("open", "shut"), "eyes": ("gray", "red")}
    for part in ("g.mapping.labels.rows", "g_ema.mapping.labels.rows", "d.labels.rows"):
        theirs, ours = a.state_dict()[part], b.state_dict()[part]
        assert theirs.abs().sum() > 0
        assert torch.equal(ours[[3, 5]], theirs[[4, 6]])  # unknown and red, after three rows of mouth or four of hair
        assert not ours[[0, 1, 2, 4]].any()
    assert torch.equal(b.state_dict()["d.heads.weight"][3], a.state_dict()["d.heads.weight"][4])
    with pytest.raises(ValueError, match=r"newly initialised modules: g.mapping.labels"):
        train("stylegan2", data, out=tmp_path / "b", **{**how, "freeze": "mapping"})
    other = train("stylegan2", data, out=tmp_path / "c", **{**how, "attributes": "mouth"})
    assert other.unused == other.fresh == rows  # no label is in both


def test_only_the_generator_sees_labels_that_the_data_lack(tagged_parent: str) -> None:
    config = models.read_config(tagged_parent)
    torch.manual_seed(0)
    model = models.architecture("stylegan2")(config.replace(data={"unlabelled": ("eyes",)}))
    labels = torch.tensor([[1, -1]] * 4000)
    shown, whole = model._fake_labels(labels)  # type: ignore[operator]
    assert torch.equal(shown, labels) and torch.equal(whole[:, 0], labels[:, 0])
    table = torch.tensor(config.data.label_counts)
    expected = torch.zeros(len(config.data.attributes["eyes"])).index_add(0, table[:, 1], table[:, 2].float())
    assert torch.allclose(whole[:, 1].bincount() / 4000, expected / expected.sum(), atol=0.04)
    seen: list[torch.Tensor] = []
    judge = model.d.judge
    model.d.judge = lambda pictures, given: (seen.append(given), judge(pictures, given))[1]  # type: ignore[assignment]
    hair = {"hair": torch.ones(8, dtype=torch.int64)}
    batch = Batch(torch.zeros(8, 3, config.data.height, config.data.width), labels=hair)
    losses = {name for phase in ("d", "g") for name in model.losses(phase, batch)}
    assert {"d_labels", "d_drawn_labels", "g_labels"} <= losses and len(seen) == 3
    assert all((given[:, 1] == -1).all() for given in seen) and all((given[:, 0] == 1).any() for given in seen)


def test_a_generator_without_labels_is_measured_with_drawn_ones(tagged_parent: str) -> None:
    config = models.read_config(tagged_parent)
    model = models.architecture("stylegan2")(config.replace(data={"unlabelled": ("eyes",)}))
    seen: list[dict[str, list[int]]] = []
    model.sample = lambda z, labels: (  # type: ignore[assignment]
        seen.append({name: given.tolist() for name, given in labels.items()}),
        z.new_zeros(len(z), 3, 8, 8),
    )[1]
    labels = {"hair": torch.ones(8, dtype=torch.int64), "eyes": torch.full((8,), -1)}
    model.measure(Batch(torch.zeros(8, 3, 8, 8), labels=labels), lambda made, real: 0.0)
    assert seen[0]["hair"] == [1] * 8 and seen[0]["eyes"] == model.draw(range(8))["eyes"].tolist() != [-1] * 8
