"""One step: accumulation, compilation, state."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kyara import models
from kyara.models.base import Batch, Config, Model
from kyara.training import runtime, trainer
from kyara.training.trainer import Options, Trainer


class Regression(Model):
    """No random numbers, and a loss that is a mean over pictures."""

    phases = ("d",)
    averages = {"d": "d_ema"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(Config().replace(data={"width": 8, "height": 8}, optimizer={"lr": 0.01}))
        self.d: nn.Module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 1))
        self.d_ema = self.average(self.d)

    def players(self) -> dict[str, nn.Module]:
        return {"d": self.d}

    def losses(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        found = self.d(batch.augment(batch.real)).squeeze(1)
        batch.log["real_sign"] = found.detach().sign().mean()
        return {"d": (found - batch.real.mean((1, 2, 3))).square().mean()}


def build(name: str = "", **changes: dict[str, Any]) -> Model:
    torch.manual_seed(0)
    if not name:
        return Regression()
    return models.architecture(name)(models.architecture(name).presets["tiny"].replace(**changes))


def pictures(model: Model, count: int = 8, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    shape = count, 3, model.config.data.height, model.config.data.width
    return torch.rand(shape, generator=random) * 2 - 1


def gradients(model: Model, micro_batch: int, monkeypatch: pytest.MonkeyPatch, *, random: bool = True) -> list[Tensor]:
    """Of every phase of one step, before the optimiser uses them. Without `random` the random numbers are all alike."""
    found: list[Tensor] = []
    batch = Batch(pictures(model))
    update = trainer.update

    def kept(fabric: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        found.extend(grad.clone() for grad in grads if grad is not None)
        return update(fabric, optimizer)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "update", kept)
        for name in () if random else ("rand", "randn"):
            patch.setattr(torch, name, lambda *shape, **how: torch.full(_shape(shape), 0.6, **how))
        Trainer(model, Options(8, micro_batch, augment="none")).step(batch)
    return found


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_accumulated_gradients_are_those_of_the_batch(micro_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = (gradients(build(), size, monkeypatch) for size in (8, micro_batch))
    assert len(whole) == len(parts) == 4
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_accumulated_gradients_of_stylegan2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what depends on other pictures: random numbers, statistics of a group, the mean path length."""
    found = []
    for size in (8, 4):
        changes = {"network": {"mbstd_group_size": 1}, "losses": {"style_mixing_prob": 0.0}}
        model = build("stylegan2", **changes)
        model.phases = ("d", "d_reg", "g")  # type: ignore[misc]
        found.append(gradients(model, size, monkeypatch, random=False))
    assert len(found[0]) == len(found[1]) > 50
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-5)


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape


def test_a_micro_batch_has_its_own_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They continue from phase to phase, as those of a device do, and depend on the number of the step alone."""
    drawn: dict[tuple[str, int], float] = {}
    model = build("mlp")

    def losses(phase: str, batch: Batch) -> dict[str, Tensor]:
        drawn[phase, len(drawn)] = float(torch.rand(()))
        return {phase: next(model.players()[phase].parameters()).sum()}

    monkeypatch.setattr(model, "losses", losses)
    one = Trainer(model, Options(8, 4, augment="none"))
    one.step(Batch(pictures(model)))
    first = list(drawn.values())
    assert len(set(first)) == 4
    drawn.clear()
    Trainer(model, Options(8, 8, augment="none")).step(Batch(pictures(model)))
    assert list(drawn.values()) == [first[0], first[2]]  # d and g of the first share


def test_statistics_are_the_mean_over_micro_batches() -> None:
    model = build("dcgan")
    names = [name for name, buffer in model.named_buffers() if name.startswith("d.") and buffer.is_floating_point()]
    batch = pictures(model)
    before = {name: model.get_buffer(name).clone() for name in names}
    Trainer(model, Options(8, 4, augment="none")).step(Batch(batch))
    assert names and any(not torch.equal(before[name], model.get_buffer(name)) for name in names)
    constant = [name for name, buffer in build("stylegan2").named_buffers() if "noise" in name]
    stylegan2 = build("stylegan2")
    kept = {name: stylegan2.get_buffer(name).clone() for name in constant}
    Trainer(stylegan2, Options(8, 2)).step(Batch(pictures(stylegan2)))
    assert constant and all(torch.equal(kept[name], stylegan2.get_buffer(name)) for name in constant)


@pytest.mark.parametrize(("start", "half_life"), [(0.0, 8 * 0.05), (20.0, 20_008 * 0.05), (500.0, 10_000)])
def test_the_average_of_a_parent_is_not_lost_in_the_first_steps(start: float, half_life: float) -> None:
    model = Regression()
    model.config = model.config.replace(optimizer={"ema_start_kimg": start})
    before = model.d[0].weight.detach().clone()
    Trainer(model, Options(8, 8, augment="none")).step(Batch(pictures(model)))
    expected = torch.lerp(before, model.d[0].weight, 1 - 0.5 ** (8 / half_life))
    assert torch.allclose(model.d_ema[0].weight, expected, atol=1e-7)


def test_statistics_of_batch_normalisation_are_averaged_as_the_weights_are() -> None:
    model = build("dcgan")
    names = [name for name, _ in model.g.named_buffers()]  # type: ignore[union-attr,operator]
    before = {name: model.g_ema.get_buffer(name).clone() for name in names}  # type: ignore[union-attr,operator]
    Trainer(model, Options(8, 8, augment="none")).step(Batch(pictures(model)))
    half_life = min(model.config.optimizer.ema_kimg * 1000, 8 * model.config.optimizer.ema_ramp)
    for name in names:
        now, made = (part.get_buffer(name) for part in (model.g, model.g_ema))  # type: ignore[union-attr,operator]
        moved = torch.lerp(before[name], now, 1 - 0.5 ** (8 / half_life)) if now.is_floating_point() else now
        assert torch.allclose(made, moved, atol=1e-7) and not torch.equal(now, before[name])
    assert any("running_var" in name for name in names)


def test_lazy_regularisation_adapts_adam() -> None:
    """k / (k + 1) of the learning rate, and powers of it of the decay rates (Karras et al. 2020, appendix B)."""
    model = build("stylegan2", losses={"r1_interval": 16, "path_interval": 4}, optimizer={"betas": (0.5, 0.99)})
    one, optimizer = Trainer(model, Options(8, 8)), model.config.optimizer
    one.step(Batch(pictures(model)))
    for phase, share in (("d", 16 / 17), ("g", 4 / 5)):
        (group,) = one.optimizers[one.players[phase]].param_groups[-1:]
        assert group["lr"] == pytest.approx(optimizer.lr * share * group["lr_multiplier"])
        assert group["betas"] == pytest.approx((0.5**share, 0.99**share))
    without = Trainer(build("stylegan2", losses={"r1_gamma": 0.0, "path_weight": 0.0}), Options(8, 8))
    assert not any("lazy" in group for kept in without.optimizers.values() for group in kept.param_groups)


def test_a_run_from_before_adam_was_adapted_continues_as_it_was() -> None:
    one = Trainer(build("stylegan2"), Options(8, 8))
    state = one.state_dict()
    for kept in state["optimizers"]:
        for group in kept["param_groups"]:
            group["betas"] = one.model.config.optimizer.betas
            del group["lazy"]
    other = Trainer(build("stylegan2"), Options(8, 8))
    other.load_state_dict(state)
    other.step(Batch(pictures(other.model)))
    groups = [group for kept in other.optimizers.values() for group in kept.param_groups]
    assert {group["lr"] / group["lr_multiplier"] for group in groups} == {one.model.config.optimizer.lr}


def test_a_state_continues_exactly() -> None:
    whole, parts, other = (Trainer(build("stylegan2"), Options(8, 4, augment_target=-1.0)) for _ in range(3))
    for step in range(4):
        for one in (whole, parts):
            one.step(Batch(pictures(one.model, seed=step)))
            if step == 1:
                one.read()
    other.load_state_dict(parts.state_dict())
    for one in (whole, other):
        one.step(Batch(pictures(one.model, seed=4)))
        one.read()
    a, b = whole.state_dict(), other.state_dict()
    assert (
        a["augment"] == b["augment"]
        and a["augment"]["p"] == pytest.approx(40 / 500_000)
        and a["nimg"] == b["nimg"] == 40
    )
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])


@pytest.mark.parametrize("micro_batch", [-8, 0, 3, 16])
def test_a_micro_batch_must_divide_the_batch(micro_batch: int) -> None:
    with pytest.raises(ValueError, match="--micro-batch"):
        Trainer(build(), Options(8, micro_batch))


@pytest.mark.parametrize("name", ["", "mlp"])
def test_compiled_code_follows_the_strength_of_augmentation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled once for each phase, with and without augmentation, and never again while p moves."""
    compile_ = torch.compile  # the strictest: every number that changes would be compiled again
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="eager", dynamic=False))
    torch._dynamo.reset()
    model = build(name)
    compiled = Trainer(model, Options(8, 8), compile_losses=True)
    batch = Batch(pictures(model))
    if model.data_spec.photos:
        batch.photos = pictures(model, seed=2)
    for p in (0.0, 0.1, 0.2):
        compiled.augment.p = p
        for _ in range(2):
            compiled.step(batch)
    counters = torch._dynamo.utils.counters
    frames = counters["stats"]["unique_graphs"]
    for step in range(12):
        compiled.augment.p = 0.3 + step / 20
        compiled.step(batch)
    assert counters["stats"]["unique_graphs"] == frames
    assert torch.isfinite(torch.cat([p.flatten() for p in model.parameters()])).all()


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"--compile: needs a C\+\+ compiler"):
        runtime.check_compiler(torch.device("cpu"))
