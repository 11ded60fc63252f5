"""Importing: the same pictures and logits as the networks in the file, and nothing of the file is skipped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import paper
import pytest
import torch

import kyara
from kyara import __main__
from kyara.files import checkpoint
from kyara.models import load
from kyara.models.base import Batch, latents
from kyara.models.stylegan2 import Model
from kyara.training.settings import configure
from kyara.training.transfer import inherited, initialise


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    paper.pretend(monkeypatch)


def assert_same(out: Path, *, truncation: float = 1.0, critic: bool = True) -> None:
    """The Checkpoint makes the pictures of the paper's networks and judges them as they do."""
    model, (g, d), z = load(out), paper.networks(), latents(range(8), paper.Z)
    with torch.no_grad():
        for t in (1.0, truncation):
            assert torch.allclose(model.sample(z, truncation=t), g(z, t), atol=1e-4)
        pictures = g(z)
        if critic:
            assert torch.allclose(model.d(pictures), d(pictures), atol=1e-3)


def rosinality_file(path: Path, *, legacy: bool = False, **changes: Any) -> Path:
    generator, critic = paper.networks()
    g, d = paper.rosinality_tables(generator, critic)
    content = {"g": g, "d": d, "g_ema": g, "latent_avg": generator.mapping.w_avg}
    content |= {"args": argparse.Namespace(size=16, lr=0.002), "d_optim": {"state": {0: {"step": torch.ones(3)}}}}
    content = {key: value for key, value in (content | changes).items() if value is not None}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_nvidia(tmp_path: Path, protocol: int) -> None:
    file = paper.nvidia_file(tmp_path / "network-snapshot.pkl", *paper.networks(), protocol)
    out = kyara.import_(file, tmp_path / "out", license="cc0-1.0").out
    assert_same(out, truncation=0.6)
    found = checkpoint.read(out)
    network = found.config["network"]
    assert (found.config["data"]["width"], network["channel_base"], network["channel_max"]) == (16, 128, 16)
    assert (network["w_avg_beta"], network["mbstd_group_size"]) == (0.998, 4)
    assert found.about["source"]["notes"] == ["left out: training_set_kwargs, G, augment_pipe"]
    card = (out / "README.md").read_text()
    assert found.about["source"]["sha256"] in card and 'license: "cc0-1.0"' in card


@pytest.mark.parametrize("legacy", [False, True])
def test_rosinality(tmp_path: Path, legacy: bool) -> None:
    out = kyara.import_(rosinality_file(tmp_path / "a.pt", legacy=legacy), tmp_path / "out").out
    assert_same(out, truncation=0.6)
    assert checkpoint.read(out).about["source"]["notes"] == ["left out: g, args, d_optim"]


def test_a_missing_mean_style_is_taken_anew(tmp_path: Path) -> None:
    out = kyara.import_(rosinality_file(tmp_path / "a.pt", latent_avg=None), tmp_path / "out").out
    assert_same(out)
    mapping = paper.networks()[0].mapping
    expected = mapping(torch.randn(20000, paper.Z)).mean(0)
    assert torch.allclose(load(out).g_ema.mapping.w_average, expected, atol=0.1)
    assert "mean style" in checkpoint.read(out).about["source"]["notes"][0]


def test_a_missing_discriminator_is_a_fresh_one(tmp_path: Path) -> None:
    for i, file in enumerate(
        (
            rosinality_file(tmp_path / "a.pt", d=None),
            paper.nvidia_file(tmp_path / "a.pkl", paper.networks()[0], None),
        )
    ):
        out = kyara.import_(file, tmp_path / f"out{i}").out
        assert_same(out, critic=False)
        assert "the discriminator is newly initialised" in checkpoint.read(out).about["source"]["notes"]


@pytest.mark.parametrize("place", ["G_ema", "D"])
def test_every_tensor_counts(tmp_path: Path, place: str) -> None:
    """None may be missing, of another shape, not finite or one too many."""
    networks = dict(zip(("G_ema", "D"), paper.networks(), strict=True))
    modules = [m for m in networks[place].modules() if isinstance(m, paper.Part)]
    for module in modules[:: max(len(modules) // 6, 1)]:
        for table in (module._parameters, module._buffers):
            for name in list(table):
                tensor = table[name]
                bad = [torch.cat([tensor.detach()[None]] * 2), tensor.detach().clone().fill_(float("nan")), None]
                if tensor is None:
                    continue
                for wrong in bad[name == "resample_filter" : 3 - (name in ("w_avg", "resample_filter"))]:
                    table[name] = wrong
                    file = paper.nvidia_file(tmp_path / "a.pkl", networks["G_ema"], networks["D"])
                    with pytest.raises(ValueError, match=r"a\.pkl: .*(missing|expected|finite|supported|dimensions)"):
                        kyara.import_(file, tmp_path / "out", dry_run=True)
                table[name] = tensor
        module._buffers["more"] = torch.ones(3)
        file = paper.nvidia_file(tmp_path / "a.pkl", networks["G_ema"], networks["D"])
        with pytest.raises(ValueError, match="more is unexpected"):
            kyara.import_(file, tmp_path / "out", dry_run=True)
        del module._buffers["more"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("where", "attribute", "value"),
    [
        ("G_ema", "c_dim", 7),
        ("G_ema", "img_channels", 4),
        ("G_ema.synthesis.b8", "architecture", "resnet"),
        ("G_ema.synthesis.b8.conv0", "up", 1),
        ("G_ema.synthesis.b8.conv1", "activation", "relu"),
        ("G_ema.synthesis.b8.conv1", "act_gain", 1.0),
        ("G_ema.synthesis.b8.conv1", "use_noise", False),
        ("G_ema.synthesis.b8.conv1", "conv_clamp", 2),
        ("G_ema.mapping.fc1", "bias_gain", 1),
        ("G_ema.mapping.fc1", "weight_gain", 10**400),
        ("D", "c_dim", 7),
        ("D.b8", "architecture", "orig"),
        ("D.b8.conv1", "down", 1),
        ("D.b4.mbstd", "num_channels", 2),
        ("D.b4.mbstd", "group_size", None),
        ("D.b4.mbstd", "resample_filter", torch.ones(4, 4)),
        ("D.b4", "cmap_dim", 3),
    ],
)
def test_other_networks_are_refused_by_name(tmp_path: Path, where: str, attribute: str, value: Any) -> None:
    networks = dict(zip(("G_ema", "D"), paper.networks(), strict=True))
    root, _, rest = where.partition(".")
    module = networks[root].get_submodule(rest)
    if isinstance(value, torch.Tensor):
        module.register_buffer(attribute, value)
    else:
        setattr(module, attribute, value)
    file = paper.nvidia_file(tmp_path / "a.pkl", networks["G_ema"], networks["D"])
    with pytest.raises(
        ValueError, match=rf"a\.pkl: {where}[. ].*{attribute if value is not None else 'group'}"
    ) as told:
        kyara.import_(file, tmp_path / "out")
    assert ("--generator-only" in str(told.value)) == (root == "D")
    if root == "D":
        assert_same(kyara.import_(file, tmp_path / "out", generator_only=True).out, critic=False)


def test_a_limit_that_is_reached_is_told(tmp_path: Path) -> None:
    generator, critic = paper.networks()
    generator.synthesis.b8.conv1.noise_strength.fill_(300.0)
    out = kyara.import_(paper.nvidia_file(tmp_path / "a.pkl", generator, critic), tmp_path / "out").out
    assert "are not clamped to 256" in checkpoint.read(out).about["source"]["notes"][0]


def test_other_classes_are_refused(tmp_path: Path) -> None:
    class SynthesisInput(paper.Part):
        pass

    generator, critic = paper.networks()
    generator.synthesis.input = SynthesisInput()
    with pytest.raises(ValueError, match=r"SynthesisInput.*StyleGAN3 is not supported"):
        kyara.import_(paper.nvidia_file(tmp_path / "a.pkl", generator, critic), tmp_path / "out")


def test_other_channels_are_refused(tmp_path: Path) -> None:
    g, _ = paper.rosinality_tables(*paper.networks())
    g["convs.1.conv.weight"] = torch.randn(1, 12, 16, 3, 3)
    with pytest.raises(ValueError, match="16, 12, 8 channels"):
        kyara.import_(rosinality_file(tmp_path / "a.pt", g_ema=g), tmp_path / "out")


def test_tensors_cannot_be_more_than_the_file(tmp_path: Path) -> None:
    """Tensors that share numbers would be as many times larger in memory."""
    _, d = paper.rosinality_tables(*paper.networks())
    shared = torch.randn(20_000)
    d = {name: shared[: tensor.numel()].view(tensor.shape) for name, tensor in d.items()}
    with pytest.raises(ValueError, match="more data than the file contains"):
        kyara.import_(rosinality_file(tmp_path / "a.pt", d=d), tmp_path / "out")


@pytest.mark.parametrize("content", [[1, 2], {"weights": 3}, {"g_ema": 3}, {"g_ema": {}}, {"g_ema": {"a": 1}}])
def test_other_files_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt: "):
        kyara.import_(tmp_path / "a.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("the disk is full")

    file, out = rosinality_file(tmp_path / "a.pt"), tmp_path / "out"
    result = kyara.import_(file, out, dry_run=True)
    assert (
        result.config["network"]["z_dim"] == paper.Z
        and result.dry_run
        and str(result).startswith(f"would write {out}: ")
    )
    assert not out.exists()
    kyara.import_(file, out)
    with pytest.raises(FileExistsError, match="--force"):
        kyara.import_(file, out)
    before = [(path.name, path.read_bytes()) for path in sorted(out.iterdir())]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr("kyara.files.checkpoint.write", full)
        kyara.import_(file, out, force=True)
    assert before == [(path.name, path.read_bytes()) for path in sorted(out.iterdir())]
    kyara.import_(file, out, force=True)
    with pytest.raises(ValueError, match="contains the input"):
        kyara.import_(file, tmp_path, force=True)
    with pytest.raises(ValueError, match="no such file"):
        kyara.import_(tmp_path / "b.pt", out)
    with pytest.raises(ValueError, match="--license"):
        kyara.import_(file, out, license="a\nb")
    assert file.is_file()


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod.", "generator."])
def test_prefixes_of_all_names(tmp_path: Path, prefix: str) -> None:
    generator, critic = paper.networks()
    g, d = ({f"{prefix}{k}": v for k, v in table.items()} for table in paper.rosinality_tables(generator, critic))
    torch.save({"g_ema": g, "d": d, "latent_avg": generator.mapping.w_avg}, tmp_path / "a.pt")
    assert_same(kyara.import_(tmp_path / "a.pt", tmp_path / "out").out)


def test_noise_maps_that_are_not_in_the_file_are_drawn(tmp_path: Path) -> None:
    """Files of early versions have none; a file with some of them is damaged."""
    generator, critic = paper.networks()
    g, d = paper.rosinality_tables(generator, critic)
    without = {name: tensor for name, tensor in g.items() if not name.startswith("noises.")}
    one_missing = {name: tensor for name, tensor in g.items() if name != "noises.noise_1"}
    torch.save({"g_ema": without, "d": d, "latent_avg": generator.mapping.w_avg}, tmp_path / "a.pt")
    torch.save({"g_ema": one_missing, "d": d}, tmp_path / "b.pt")
    result = kyara.import_(tmp_path / "a.pt", tmp_path / "out")
    assert "noise maps are not in the file" in str(result)
    network = load(result.out)
    assert all(noise.std() > 0.5 for noise in network.noise_maps())
    with pytest.raises(ValueError, match=r"noises\.noise_1 is missing"):
        kyara.import_(tmp_path / "b.pt", tmp_path / "other")


def test_training_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that the verb prints builds this very network, and all of it is taken over."""
    file = paper.nvidia_file(tmp_path / "a.pkl", *paper.networks())
    monkeypatch.setattr(sys, "argv", ["kyara", "import", str(file), str(tmp_path / "out")])
    __main__.main()
    assert f"fine-tune with: kyara train stylegan2 DATA --init {tmp_path / 'out'}\n" in capsys.readouterr().out
    parent = inherited("stylegan2", str(tmp_path / "out"))
    model = Model(configure("stylegan2", preset=None, size=None, batch=4, changes="", parent=parent))  # type: ignore[arg-type]
    assert initialise(model, load(tmp_path / "out")) == ([], [])
    batch = Batch(torch.randn(4, 3, 16, 16))
    for phase in model.phases:
        sum(model.losses(phase, batch).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.d.parameters())


def test_a_folder_of_another_program_is_never_replaced(tmp_path: Path) -> None:
    """Many programs have a config.json."""
    file, app = paper.nvidia_file(tmp_path / "a.pkl", *paper.networks()), tmp_path / "app"
    app.mkdir()
    (app / "config.json").write_text('{"model": "BertModel", "hidden_size": 768}')
    (app / "novel.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"its config\.json is not of an earlier result"):
        kyara.import_(file, app, force=True)
    assert (app / "novel.txt").read_text() == "mine"
    out = kyara.import_(file, tmp_path / "out").out
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"contains notes\.txt, no part"):
        kyara.import_(file, out, force=True)
    assert (out / "model.safetensors").is_file() and (out / "notes.txt").read_text() == "mine"


def test_a_training_run_is_never_replaced(tmp_path: Path) -> None:
    file = paper.nvidia_file(tmp_path / "a.pkl", *paper.networks())
    out = kyara.import_(file, tmp_path / "out").out
    (out / "training.pt").write_bytes(b"hours of work")
    with pytest.raises(FileExistsError, match="contains a training run"):
        kyara.import_(file, out, force=True)
    assert (out / "training.pt").read_bytes() == b"hours of work"
