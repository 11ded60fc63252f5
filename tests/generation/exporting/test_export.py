"""Exported ONNX files: the same as PyTorch, of any batch size, with their licence, and never half written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from needs import need
from small import ATTRIBUTES, Exported, export_once, need_exporter, small, written
from torch import Tensor, nn

from kyara import export
from kyara.generation.exporting.card import read_card
from kyara.generation.exporting.convert import write_onnx
from kyara.generation.exporting.export import output_file
from kyara.generation.exporting.graphs import Graph, graph
from kyara.labels.onnx import open_session

CPU = torch.device("cpu")


@pytest.fixture
def exported() -> Exported:
    need_exporter()
    return export_once()


@pytest.mark.parametrize("truncation", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("batch", [1, 4, 7])
def test_a_generator_gives_the_pictures_of_sample(exported: Exported, batch: int, truncation: float) -> None:
    session = open_session(exported.result.out, CPU)
    z, labels = torch.randn(batch, exported.generator.z_dim), torch.arange(2 * batch).reshape(batch, 2) % 3 - 1
    inputs = {"z": z.numpy(), "truncation": np.array(truncation, np.float32), "labels": labels.numpy()}
    given = dict(zip(ATTRIBUTES, labels.unbind(1), strict=True))
    expected = exported.generator.sample(z, truncation=truncation, labels=given)
    assert expected.std() > 0.1
    assert np.abs(session.run(None, inputs)[0] - expected.numpy()).max() < 1e-4


def test_the_file_says_what_it_is(exported: Exported) -> None:
    about = open_session(exported.result.out, CPU).get_modelmeta().custom_metadata_map
    assert json.loads(about["attributes"]) == {name: list(values) for name, values in ATTRIBUTES.items()}
    assert json.loads(about["pictures"]) == {"width": 8, "height": 8, "channels": "RGB", "range": [-1, 1]}
    assert (about["kind"], about["model"], about["license"]) == ("generator", "faces", "cc-by-4.0")
    assert about["rights"].splitlines() == [
        "artwork: by Someone. Please credit Someone", "Not for sale: ask the artist.",
    ]  # fmt: skip
    assert "3 kimg" in about["card"] and about["made_by"].startswith("kyara export faces")


def test_the_file_has_no_path_of_this_machine(exported: Exported) -> None:
    content = exported.result.out.read_bytes()
    assert b".py" not in content and str(exported.folder.parent).encode() not in content


def test_convolutions_do_not_depend_on_the_batch(exported: Exported) -> None:
    onnx = need("onnx", "onnx")
    nodes = [node for node in onnx.load(exported.result.out).graph.node if node.op_type in ("Conv", "ConvTranspose")]
    groups = {a.i for node in nodes for a in node.attribute if a.name == "group"}
    assert nodes and groups <= {1, 3, 16}  # the filters: one group for each of the channels


def test_result(exported: Exported) -> None:
    result = exported.result
    assert result.inputs == {"z": ["batch", 16], "truncation": [], "labels": ["batch", 2]}
    assert result.difference is not None and result.difference < 1e-3 and result.size == result.out.stat().st_size
    assert "(batch, 16)" in str(result) and "cc-by-4.0" in str(result)
    assert result.out == exported.folder.parent / "faces.onnx"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cartoongan", "translator"), ("copy", "descriptor"), ("dcgan", "generator"),
        ("detector", "face detector"), ("distortion", "ranker"),
        ("gansnroses", "translator"), ("landmarks", "landmark detector"), ("munit", "translator"),
        ("swapping", "translator"), ("tagger", "tagger"), ("upscaler", "translator"),
    ],
)  # fmt: skip
def test_other_kinds(name: str, kind: str, tmp_path: Path) -> None:
    """`write_onnx` compares them with PyTorch. The model in memory stays as it was."""
    need_exporter()
    model = small(name, side=32 if kind != "generator" else 8)
    found = graph(model)
    assert found is not None and found.kind == kind
    inputs = found.example(2)
    before = [output.clone() for output in found.network(*inputs.values())]
    assert write_onnx(tmp_path / "it.onnx", found, {"kyara": "1"}) < 1e-3
    for old, new in zip(before, found.network(*inputs.values()), strict=True):
        assert torch.equal(old, new)
    session = open_session(tmp_path / "it.onnx", CPU)
    assert [entry.name for entry in session.get_inputs()] == [*inputs]
    assert [entry.name for entry in session.get_outputs()] == [*found.outputs]


class Counts(nn.Module):
    """Adds how often it ran, which a graph cannot."""

    runs = 0

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.runs += 1
        return (x + self.runs,)


class FixesBatch(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x.expand(len(x), 2),)


def test_a_graph_that_differs_is_not_written(tmp_path: Path) -> None:
    need_exporter()
    (tmp_path / "it.onnx").write_text("old")
    wrong = Graph("generator", Counts(), lambda batch: {"x": torch.randn(batch, 2)}, ("y",))
    with pytest.raises(ValueError, match=r"differs from PyTorch by .* in y with a batch of 1.*nothing was written"):
        write_onnx(tmp_path / "it.onnx", wrong, {"kyara": "1"})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_graph_that_fixes_the_batch_is_refused(tmp_path: Path) -> None:
    need_exporter()
    wrong = Graph("generator", FixesBatch(), lambda batch: {"x": torch.randn(batch, 2)}, ("y",))
    with pytest.raises(ValueError, match=r"the generator cannot be converted to ONNX"):
        write_onnx(tmp_path / "it.onnx", wrong, {"kyara": "1"})
    assert not [*tmp_path.iterdir()]


def test_mean_styles_in_a_graph() -> None:
    """Traced without `unique`: as exact as rounding allows, for every row of labels."""
    network = small().g_ema
    labels = torch.tensor([[-1, 0], [2, 1], [2, 1], [0, -1]])
    program = torch.export.export(Mean(network), (labels,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for rows in (labels, labels[:1], labels.repeat(3, 1)):
        found, expected = program.module()(rows), network.mean_w(rows)
        assert torch.allclose(found, expected, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.01


class Mean(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, labels: Tensor) -> Tensor:
        return self.network.mean_w(labels)  # type: ignore[no-any-return]


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").write_text("old")
    (tmp_path / "b.onnx").mkdir()
    for out, match in (("a.onnx", "already exists; add --force"), ("b.onnx", "is a folder")):
        with pytest.raises(FileExistsError, match=match):
            export("builtin:anime", out=tmp_path / out)
    with pytest.raises(NotADirectoryError, match=r"a\.onnx is a file"):
        export("builtin:anime", out=tmp_path / "a.onnx" / "faces")
    with pytest.raises(ValueError, match=r"--out .*page\.html: --to onnx writes a \.onnx file"):
        export("builtin:anime", out=Path("page.html"))
    with pytest.raises(FileExistsError, match=r"a\.onnx: was not written by kyara export"):
        export("builtin:anime", out=tmp_path / "a.onnx", force=True)
    (tmp_path / "notes.html").write_text("my diary: kyara export made a page\n<code>kyara export x</code>")
    with pytest.raises(FileExistsError, match=r"notes\.html: was not written by kyara export"):
        output_file(tmp_path / "notes.html", "anime", "page", True)
    assert (tmp_path / "a.onnx").read_text() == "old"


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_exporter()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"inpainting models cannot be exported; generators, translators"):
        export("builtin:inpainting")
    with pytest.raises(ValueError, match=r"--runtime x\.tgz: only applies to --to page"):
        export("builtin:anime", runtime=Path("x.tgz"))
    with pytest.raises(ValueError, match=r"--runtime onnxruntime-web-1\.30\.0\.tgz: no such file; run: npm pack"):
        export("builtin:anime", to="page")
    with pytest.raises(ValueError, match="no such built-in"):
        export("builtin:nothing")
    assert not [*tmp_path.iterdir()]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ValueError, match=r"kyara export: needs onnxscript; .*pip install .*\[onnx\]"):
        export("builtin:anime")


def test_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_exporter()
    monkeypatch.chdir(tmp_path)
    folder = written(small("distortion", 32), tmp_path / "scorer", "distortion")
    before = sorted(tmp_path.rglob("*"))
    result = export(str(folder), dry_run=True)
    assert result.out == Path("exports/00000-scorer/scorer.onnx") and result.kind == "ranker"
    assert str(result).startswith("would write exports/00000-scorer/scorer.onnx")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_without_a_card(tmp_path: Path) -> None:
    from kyara.files import checkpoint

    (written(small("distortion", 32), tmp_path / "scorer", "distortion") / "README.md").unlink()
    card = read_card(checkpoint.read(tmp_path / "scorer"))
    assert card.license == "unknown" and "no card" in card.rights[0]


def test_every_built_in_generator_states_its_licence() -> None:
    from kyara.files import checkpoint

    for name in ("anime", "character", "photo"):
        found = checkpoint.read(f"builtin:{name}")
        assert any("licence" in part for part in read_card(found).rights), name


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    need_exporter()
    first = export("builtin:landmarks", out=tmp_path / "a.onnx")
    assert export("builtin:landmarks", out=tmp_path / "a.onnx", force=True).size == first.size
