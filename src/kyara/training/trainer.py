"""The optimiser step, and the state that it updates."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kyara import verbs
from kyara.models.base import Batch, Model
from kyara.training import distributed
from kyara.training.augment import make
from kyara.training.graphs import Graphs
from kyara.training.log import Means
from kyara.training.options import LARGEST_BATCH, Policy
from kyara.training.runtime import Precision, make_fabric
from kyara.training.transfer import groups

Losses = Callable[[str, Batch], dict[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class Options:
    """Training options other than the hyperparameters of the model; stored in config.json."""

    batch: int  # total batch size of all devices
    micro_batch: int  # batch size of gradient accumulation; divides the batch of each device
    seed: int = 0
    mirror: bool = True
    augment: Policy = "ada"
    augment_colour: bool = True
    augment_target: float = 0.6
    precision: Precision = "32"


class Trainer:
    """Trains a model: optimisers, moving averages, augmentation. `step` trains on one batch.

        trainer = Trainer(model, Options(batch=32, micro_batch=32))
        trainer.step(Batch(pictures))

    Without `fabric` the model stays on its device. With `graphs` phases run as CUDA graphs on a GPU, if the model
    allows it."""

    def __init__(
        self,
        model: Model,
        options: Options,
        *,
        fabric: Fabric | None = None,
        compile_losses: bool = False,
        graphs: bool = True,
    ) -> None:
        self.fabric = fabric or make_fabric(next(model.parameters()).device, precision=options.precision)
        self.device = self.fabric.device
        split_batch(options.batch, options.micro_batch, self.fabric.world_size, model.least_micro_batch(model.config))
        self.model, self.options = model.to(self.device).train(), options
        self.players = model.players()
        self.trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
        players, colour, target = dict.fromkeys(self.players.values()), options.augment_colour, options.augment_target
        self.optimizers = {player: model.optimizer(groups([*player.parameters()])) for player in players}
        for player, optimizer in self.optimizers.items():
            slow(optimizer, lazy_share(model, self.players, player))
        self.augment = make(options.augment, colour=colour, target=target, device=self.device)
        self.losses: Losses = torch.compile(model.losses) if compile_losses else model.losses
        self.graphs = Graphs(self.device) if graphs and model.capturable and self.device.type == "cuda" else None
        self.means = Means()
        self.failures = torch.zeros((), device=self.device)  # number of consecutive dropped steps
        self.nimg = self.steps = self.retries = self._read_at = 0

    def step(self, batch: Batch, progress: float = 0.0) -> None:
        """Performs an optimiser step of every phase that is due, without synchronising with the device.

        Args:
            batch: Pictures of this rank, (B, 3, H, W) with B = options.batch / ranks; uint8 or in [-1, 1].
            progress: Position in the run, in [0, 1], for the learning rate schedule.
        """
        batch = dataclasses.replace(batch, step=self.steps, augment=self.augment).to(self.device)
        lr = self.model.config.optimizer.lr * self.model.lr_scale(progress)
        for group in (group for optimizer in self.optimizers.values() for group in optimizer.param_groups):
            group["lr"] = lr * group.get("lr_multiplier", 1.0) * group.get("lazy", 1.0)
        shares = Shares(self, len(batch.real) // self.options.micro_batch)
        dropped = torch.zeros((), device=self.device)
        for phase in self.model.phases:
            interval = self.model.reg_interval(phase)
            if interval and self.steps % interval == 0:
                self._backward(phase, batch, shares, self.losses if interval == 1 else self.model.losses)
                dropped = torch.maximum(dropped, update(self.fabric, self.optimizers[self.players[phase]]))
        for parameter in self.trainable:
            parameter.requires_grad_(True)
        shares.merge(dropped)
        self.failures = (self.failures + dropped) * dropped
        self.means.add({"dropped": dropped})
        self.nimg, self.steps = self.nimg + self.options.batch, self.steps + 1
        self._update_averages()

    def _backward(self, phase: str, batch: Batch, shares: Shares, losses: Losses) -> None:
        """Accumulates the gradients of one phase over the micro-batches."""
        player, size = self.players[phase], self.options.micro_batch
        for other in self.optimizers:
            for parameter in other.parameters():
                parameter.requires_grad_(other is player and parameter in self.trainable)
        for i in range(shares.count):
            shares.select(i)
            part = batch[i * size : (i + 1) * size]
            work = functools.partial(self._differentiate, phase, losses, 1 / shares.count)
            if self.graphs:
                trained = [parameter for parameter in player.parameters() if parameter.requires_grad]
                alone = shares.count == 1
                self.means.add(self.graphs.run(phase, self.augment.active, trained, work, part, alone=alone))
            else:
                self.means.add(work(part))

    def _differentiate(self, phase: str, losses: Losses, weight: float, batch: Batch) -> dict[str, Tensor]:
        """Adds the gradients of a phase's losses, times `weight`. Returns what is logged."""
        with self.fabric.autocast():
            named = losses(phase, batch)
        if named:  # else there is nothing to do for this phase in this step
            torch.stack([loss.float() for loss in named.values()]).sum().mul(weight).backward()
        return {**{f"loss/{name}": loss.detach() for name, loss in named.items()}, **batch.log} if named else {}

    @torch.no_grad()
    def _update_averages(self) -> None:
        config = self.model.config.optimizer
        seen = self.nimg + config.ema_start_kimg * 1000
        half_life = min(config.ema_kimg * 1000, seen * config.ema_ramp)
        move = get_ema_multi_avg_fn(0.5 ** (self.options.batch / max(half_life, 1e-8)))
        for names in self.model.averages.items():
            source, average = (getattr(self.model, name) for name in names)
            (ours, others), (theirs, values) = averaged(average), averaged(source)
            move(ours, theirs, None)
            copy(others, values)

    def read(self) -> dict[str, float]:
        """Means of losses and logged values since the last call, over all ranks. Adapts the augmentation.
        Synchronises with the device."""
        distributed.average(self.fabric, self.means.tensors())
        means = self.means.take()
        values = {**means, "augment/p": self.augment.p}
        if "real_sign" in means:
            self.augment.adapt(means["real_sign"], self.nimg - self._read_at)
        self._read_at = self.nimg
        return values

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from, as tensors and plain containers. Must be called on every rank."""
        distributed.average(self.fabric, self.means.tensors())
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers.values()],
            "augment": {"p": self.augment.p},
            "means": self.means.state_dict(),
            "nimg": self.nimg,
            "step": self.steps,
            "retries": self.retries,
            "read_at": self._read_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers.values(), state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.augment.p = state["augment"]["p"]
        self.means.load_state_dict(state["means"], self.device)
        self.nimg, self.steps, self.retries = state["nimg"], state["step"], state["retries"]
        self._read_at = state["read_at"]
        self.failures.zero_()


class Shares:
    """The micro-batches of one step. As on separate devices, each one has its own random state and float buffers
    (statistics), which are averaged at the end. So N micro-batches on one device do what N devices do; another size
    draws other random numbers, and changes what compares the pictures of a micro-batch (statistics of groups, negatives
    of a contrast)."""

    def __init__(self, trainer: Trainer, count: int) -> None:
        self.trainer, self.count = trainer, count
        self.before = self._buffers()
        self.kept: list[tuple[list[Tensor], list[Tensor]] | None] = [None] * count
        self.current: int | None = None

    def _buffers(self) -> list[Tensor]:
        buffers = [*self.trainer.model.buffers()]
        return list(torch._foreach_clone(buffers)) if buffers else []

    def select(self, i: int) -> None:
        """Restores the random state and the buffers of the i-th micro-batch."""
        if i == self.current:
            return
        if self.current is not None:
            self.kept[self.current] = random_state(self.trainer.device), self._buffers()
        kept, self.current = self.kept[i], i
        if kept is None:
            # The seed depends on the step only, so that resuming is exact.
            share = self.trainer.fabric.global_rank * self.count + i
            entropy = [self.trainer.options.seed, self.trainer.steps, share, self.trainer.retries]
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
        else:
            set_random_state(self.trainer.device, kept[0])
        if self.count > 1:
            copy([*self.trainer.model.buffers()], kept[1] if kept else self.before)

    @torch.no_grad()
    def merge(self, dropped: Tensor) -> None:
        """Averages the float buffers over micro-batches and ranks, or restores them if the step was dropped."""
        buffers = [*self.trainer.model.buffers()]
        floats = [i for i, buffer in enumerate(buffers) if buffer.is_floating_point()]
        if self.count * self.trainer.fabric.world_size > 1:
            # Average the changes rather than the values, so that constant buffers keep their exact values.
            values = [kept[1] for i, kept in enumerate(self.kept) if kept and i != self.current] + [buffers]
            changes = [torch.stack([each[i] - self.before[i] for each in values]).mean(0) for i in floats]
            distributed.average(self.trainer.fabric, changes)
            for i, change in zip(floats, changes, strict=True):
                buffers[i].copy_(self.before[i] + change)
        if floats:  # as one vector
            now, before = (torch.cat([each[i].flatten() for i in floats]) for each in (buffers, self.before))
            kept = torch.where(dropped > 0, before, now).split([buffers[i].numel() for i in floats])
            copy([buffers[i] for i in floats], [part.view_as(buffers[i]) for i, part in zip(floats, kept, strict=True)])


def averaged(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """What of a module is averaged, and what is copied. The statistics of batch normalisation are averaged with the
    weights: those of the last weights are not those of their average. Other buffers are constants, or averages."""
    norms = (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    statistics = [x for norm in norms for x in (norm.running_mean, norm.running_var) if x is not None]
    known = {id(x) for x in statistics}
    return [*module.parameters(), *statistics], [x for x in module.buffers() if id(x) not in known]


def lazy_share(model: Model, players: Mapping[str, nn.Module], player: nn.Module) -> float:
    """Optimiser steps of the main phases of a player, as a share of all of its steps: k / (k + 1) with a regularisation
    every k steps."""
    intervals = [model.reg_interval(phase) for phase, its in players.items() if its is player]
    lazy = sum(1 / interval for interval in intervals if interval > 1)
    main = intervals.count(1)
    return main / (main + lazy) if main else 1.0


def slow(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Adapts Adam to steps of which only a `share` are of the main phases (Karras et al. 2020, appendix B): its
    learning rate, and the decay rates, of which each step counts for less. Kept in the groups, so that a run from
    before this continues as it began."""
    for group in optimizer.param_groups if share < 1 else ():
        group["lazy"], group["betas"] = share, tuple(beta**share for beta in group["betas"])


def copy(targets: list[Tensor], values: list[Tensor]) -> None:
    """Copies values to tensors, all in one operation."""
    if targets:
        torch._foreach_copy_(targets, values)


def split_batch(batch: int, micro_batch: int | None, devices: int, least: int = 1) -> int:
    """The micro-batch size, by default the batch of a device. Raises ValueError if the batch is not divisible, or if
    the model needs `least` pictures and has fewer."""
    verbs.check_number("--batch", batch, least=1, most=LARGEST_BATCH)
    verbs.check_number("--micro-batch", micro_batch, least=1)
    if batch % devices:
        raise ValueError(f"--batch {batch}: must be a multiple of --devices {devices}")
    if micro_batch is not None and batch // devices % micro_batch:
        each = f"the {batch // devices} pictures of each device" if devices > 1 else f"--batch {batch}"
        raise ValueError(f"--micro-batch {micro_batch}: must divide {each}")
    if (size := micro_batch or batch // devices) < least:
        given = f"--batch {batch}" + (f" --devices {devices}" if devices > 1 else "")
        given = given if micro_batch is None else f"--micro-batch {micro_batch}"
        raise ValueError(f"{given}: this model cannot learn from {size} alone; it needs {least} pictures at a time")
    return size


def random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def update(fabric: Fabric, optimizer: torch.optim.Optimizer) -> Tensor:
    """One optimiser step with gradients averaged over ranks. The step is skipped if any gradient is not finite; fused
    optimisers do so without a host sync. Returns 1 for a skipped step, else 0."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:  # no phase had a loss
        return torch.zeros((), device=fabric.device)
    distributed.average(fabric, gradients)
    dropped = (~torch.isfinite(torch.nn.utils.get_total_norm(gradients))).float()
    optimizer.found_inf, optimizer.grad_scale = dropped, None  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return dropped
