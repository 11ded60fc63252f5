"""What every architecture must do; a new one is taken up by itself."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from every_model import ATTRIBUTES, COUNTS, Variant, batch_of, tiny, variants

from kyara import models
from kyara.files import checkpoint
from kyara.files.errors import CheckpointError
from kyara.models.base import (
    Descriptor,
    Detector,
    Generator,
    Inpainter,
    LandmarkDetector,
    Projector,
    Scorer,
    Tagger,
    Translator,
    latents,
)
from kyara.training import batches, loop
from kyara.training.augment import NoAugment
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer


@pytest.fixture(params=models.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=variants(), ids=lambda v: v.name + "-told" * v.told)
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.param
    return found


def test_a_generator_knows_what_it_samples_with(variant: Variant) -> None:
    """Those parameters on which its pictures depend."""
    changes = [{}, {"encoder": 1}] if variant.name == "stylegan2" else [{}]
    if not issubclass(models.architecture(variant.name), Generator):
        pytest.skip("no generator")
    for network in changes:
        model = models.architecture(variant.name)(tiny(variant).config.replace(network=network))
        assert isinstance(model, Generator)
        model.requires_grad_(True)
        labels = {attribute: torch.tensor([0, 1]) for attribute in model.config.data.attributes}
        model.sample(latents(range(2), model.z_dim), labels=labels).sum().backward()
        used = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        sampled = {id(parameter) for parameter in model.sampled()}
        assert used == {name for name, parameter in model.named_parameters() if id(parameter) in sampled}


def test_dcgans_paper_has_the_optimiser_of_the_paper() -> None:
    presets = models.architecture("dcgan").presets
    optimizer = presets["paper"].optimizer
    assert (optimizer.batch, optimizer.lr, optimizer.betas) == (128, 2e-4, (0.5, 0.999))
    assert presets["two-core"].optimizer.betas == (0.0, 0.99)


def test_every_number_is_explained(name: str) -> None:
    config = models.architecture(name).default_config()
    for part in dataclasses.fields(config):
        values = getattr(config, part.name)
        source = "".join(map(inspect.getsource, type(values).__mro__[:-1]))
        for field in dataclasses.fields(values):
            places = (place.split("\n")[:2] for place in source.split(f"    {field.name}: ")[1:])
            assert any("  # " in line or after.strip().startswith('"""') for line, after in places), field.name


KINDS = (Generator, Translator, Inpainter, Scorer, Descriptor, Tagger, LandmarkDetector, Detector, Projector)


def test_an_architecture_is_of_one_kind_and_names_its_source(name: str) -> None:
    cls = models.architecture(name)
    assert sum(issubclass(cls, kind) for kind in KINDS) == 1
    (kind,) = (kind for kind in KINDS if issubclass(cls, kind))
    todo = [method for method, value in vars(kind).items() if inspect.isfunction(value) and _abstract(value)]
    assert todo and all(not _abstract(getattr(cls, method)) for method in todo)
    module = inspect.getmodule(cls)
    assert module is not None and module.__doc__ and cls.__doc__
    assert re.search(r"\b(19|20)\d\d\b|et al\.", cls.__doc__), "the docstring of Model names no paper"
    for part in inspect.getmembers(module, lambda x: inspect.isclass(x) and issubclass(x, torch.nn.Module)):
        assert part[1].__doc__, part[0]


def _abstract(function: Any) -> bool:
    return "raise NotImplementedError" in inspect.getsource(function)


def test_two_steps_of_training(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every player moves, what is stored is finite, and what a discriminator sees is augmented if the model says so."""
    model = tiny(variant)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    batch, trainer = batch_of(model), Trainer(model, Options(batch=8, micro_batch=8, augment="none"))
    augmented = list[torch.Tensor]()
    monkeypatch.setattr(NoAugment, "__call__", lambda self, pictures: augmented.append(pictures) or pictures)
    for _ in range(2):
        trainer.step(batch)
    assert bool(augmented) == model.augments
    after = model.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values() if tensor.is_floating_point())
    for player in {*model.players().values()}:
        (prefix,) = (key for key, module in model.named_children() if module is player)
        assert any(not torch.equal(after[key], before[key]) for key in after if key.startswith(f"{prefix}."))


def test_unknown_numbers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown part width"):
        models.build(name, {"width": 8})
    with pytest.raises(ValueError, match=r"unknown data\.depth; data has attributes"):
        models.build(name, {"data": {"depth": 8}})
    with pytest.raises(ValueError, match="data must be a table"):
        models.build(name, {"data": 8})


def test_presets_build_from_their_own_description(name: str) -> None:
    for config in models.architecture(name).presets.values():
        with torch.device("meta"):
            if models.architecture(name).data_spec.attributes == "must":
                config = config.replace(data={"attributes": ATTRIBUTES, "label_counts": COUNTS})
            assert models.build(name, dataclasses.asdict(config)).config == config


def test_a_translator_keeps_or_enlarges_every_shape(variant: Variant) -> None:
    model = tiny(variant).eval()
    if not isinstance(model, Translator | Inpainter):
        pytest.skip(f"{variant.name} is not a translator or inpainter")
    scale = model.scale if isinstance(model, Translator) else 1
    for height, width in [(48, 32), (37, 51), (1, 1), (5, 200)]:
        pictures = torch.rand(3, 3, height, width) * 2 - 1
        holes = torch.rand(3, 1, height, width) < 0.4

        def made(p: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            return model.fill(p, h) if isinstance(model, Inpainter) else model.translate(p)

        with torch.inference_mode():
            batch = made(pictures, holes)
            assert batch.shape == (3, 3, height * scale, width * scale) and torch.isfinite(batch).all()
            assert torch.equal(made(pictures, holes), batch)
            assert torch.allclose(made(pictures[1:2], holes[1:2]), batch[1:2], atol=1e-5)
            if isinstance(model, Inpainter):
                assert torch.equal(batch[~holes.expand_as(batch)], pictures[~holes.expand_as(batch)])
                assert torch.equal(made(torch.where(holes, 0.5, pictures), holes), batch)
                assert torch.equal(made(pictures, holes & False), pictures)


@pytest.mark.parametrize("shape", [(32, 32), (48, 32), (37, 50)])
def test_any_shape_and_every_phase_learns(variant: Variant, shape: tuple[int, int]) -> None:
    height, width = shape
    size = {} if models.architecture(variant.name).data_spec.of_model == "must" else {"height": height, "width": width}
    model = tiny(variant, **size).train()
    for phase in model.phases:
        player = model.players()[phase]
        losses = model.losses(phase, batch_of(model))
        assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
        sum(losses.values()).backward()
        gradients = [p.grad for p in player.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients)
        assert any(g.abs().max() > 0 for g in gradients), phase
        model.zero_grad()


def test_bfloat16_is_close_to_float32(variant: Variant) -> None:
    model = tiny(variant).train()
    batch = batch_of(model)
    for phase in model.phases:
        torch.manual_seed(1)
        exact = sum(model.losses(phase, batch).values())
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            rough = sum(model.losses(phase, batch).values())
        assert torch.allclose(exact.float(), rough.float(), rtol=0.1, atol=0.05), phase


def test_a_generator_samples_what_it_should(variant: Variant) -> None:
    model = tiny(variant).eval()
    if not isinstance(model, Generator):
        pytest.skip(f"{variant.name} is not a generator")
    z = latents(range(5), model.z_dim)
    with torch.inference_mode():
        batch = model.sample(z)
        assert batch.shape == (5, 3, model.config.data.height, model.config.data.width)
        assert torch.allclose(model.sample(z[2:3]), batch[2:3], atol=1e-5)
        assert torch.equal(model.sample(z), batch)
        assert not torch.allclose(batch[0], batch[1])
        centre = model.sample(z, truncation=0.0)
        assert torch.allclose(centre[0], centre[1], atol=1e-5)


def test_save_and_load(variant: Variant, tmp_path: Path) -> None:
    model = tiny(variant)
    for parameter in model.parameters():
        parameter.data.add_(0.01)
    config = dataclasses.asdict(model.config)
    checkpoint.write(tmp_path, model=variant.name, config=config, weights=models.stored(model), card="", about={})
    again = models.load(tmp_path)
    assert not again.training and again.config == model.config
    stored = models.stored(again)
    assert all(torch.equal(tensor, stored[key]) for key, tensor in models.stored(model).items())
    for source, average in model.averages.items():
        raw, kept = (getattr(again, part).state_dict() for part in (source, average))
        assert all(torch.equal(raw[key], kept[key]) for key in raw)


def test_a_missing_or_strange_tensor_is_refused(variant: Variant, tmp_path: Path) -> None:
    model = tiny(variant)
    weights = models.stored(model)
    weights.pop(next(iter(weights)))
    config = dataclasses.asdict(model.config)
    checkpoint.write(tmp_path, model=variant.name, config=config, weights=weights, card="", about={})
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        models.load(tmp_path)


def test_training_and_resuming_are_exact(
    variant: Variant,
    faces: Path,
    tagged_faces: Path,
    pointed_faces: Path,
    contoured_faces: Path,
    boxed_faces: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """N pictures, a stop, and N more give the very bits that 2 N at once give; the stop falls between two readings of
    the curves, which the adaptive augmentation follows."""
    monkeypatch.setattr(loop, "TICK", 6)
    monkeypatch.setattr(batches, "MEASURED", 16)
    name, data = variant.name, tagged_faces if variant.told else faces
    spec = models.architecture(name).data_spec
    pointed = {0: data, 12: pointed_faces, 124: contoured_faces}[spec.points]
    data = () if spec.photos or spec.of_model == "must" else (boxed_faces if spec.boxes else pointed,)
    augment = {"augment": "ada", "augment_target": -1.0} if models.architecture(name).augments else {"augment": "none"}
    arguments = {"preset": "tiny", "snap": 0.08, "workers": 0, **augment}
    arguments |= {"attributes": "hair,eyes"} if variant.told else {}
    arguments |= {"photos": photos, "drawings": faces} if spec.photos else {}
    arguments |= {"of": "builtin:anime"} if spec.of_model == "must" else {}
    whole = train(name, *data, out=tmp_path / "whole", kimg=0.16, **arguments).out
    parts = train(name, *data, out=tmp_path / "parts", kimg=0.08, **arguments).out
    train(name, *data, out=parts, kimg=0.16, **arguments)
    a, b = (checkpoint.load_training(folder / "training.pt") for folder in (whole, parts))
    assert a["nimg"] == b["nimg"] == 160
    assert a["augment"] == b["augment"]
    torch.manual_seed(0)
    fresh = models.build(name, checkpoint.read(whole).config)
    if {fresh.lr_scale(progress) for progress in (0.0, 0.5, 1.0)} == {1.0}:  # a schedule depends on the run's length
        assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
        for one, other in zip(a["optimizers"], b["optimizers"], strict=True):
            for index, moments in one["state"].items():
                assert all(torch.equal(moments[k], other["state"][index][k]) for k in moments)
    assert any(not torch.equal(a["model"][key], tensor) for key, tensor in fresh.state_dict().items())
    assert (whole / "snapshots" / "000000" / "model.safetensors").is_file()
