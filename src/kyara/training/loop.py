"""The one training loop.

It counts in pictures and knows no architecture by name: a model brings its players, phases and losses
(kyara.models.base), the loop brings data, augmentation, precision, devices, averages, snapshots and care.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from kyara.files.dataset import POINTS, Dataset, Stream
from kyara.files.pictures import to_float
from kyara.models.base import COLUMNS, Batch, Generator, Model
from kyara.training.augment import NoAugment, Policy, make
from kyara.training.log import Log, Means, Watch
from kyara.training.run import Run
from kyara.training.scores import builtin_frechet
from kyara.training.transfer import groups

TICK = 32
"""Steps between two readings of the curves; the host waits for the device only then."""
FAILURES = 16
"""Dropped steps in a row after which the last snapshot comes back."""
RETRIES = 3
"""How often it does, before the run is given up."""
SHEET = 64
"""Pictures on a sample sheet."""
MEASURED = 512
"""Pictures that scores are measured on while training."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is trained, besides the model's own numbers; kept in config.json."""

    batch: int
    micro_batch: int
    seed: int
    mirror: bool
    augment: Policy
    augment_colour: bool
    augment_target: float
    precision: Literal["32", "bf16"]


def fit(
    fabric: Fabric,
    model: Model,
    dataset: Dataset | None,
    run: Run,
    options: Options,
    *,
    photos: Dataset | None = None,
    kimg: float,
    snap: float,
    compile_losses: bool = False,
    workers: int = 2,
) -> bool:
    """Trains `model` until `kimg` thousand pictures have been seen. A model that learns `from_photos` is shown as many
    `photos`; one without a dataset makes its own pictures. False if a signal asked it to stop before."""
    # Networks, optimisers, averages.
    config, device, main = model.config, fabric.device, fabric.is_global_zero
    model.to(device).train()
    players = model.players()
    optimizers: dict[nn.Module, torch.optim.Optimizer] = {}
    for player in players.values():
        if player not in optimizers:
            optimizers[player] = model.optimizer(groups([*player.parameters()]))
    learning = {parameter for parameter in model.parameters() if parameter.requires_grad}
    augment = make(options.augment, colour=options.augment_colour, target=options.augment_target)
    once = torch.compile(model.losses, dynamic=False) if compile_losses else model.losses
    watch, means = Watch(), Means()
    failures = torch.zeros((), device=device)
    nimg, step, best, retries, saved = 0, 0, float("inf"), 0, -1

    # Where an earlier process stopped.
    if main:
        run.begin(model)
    fabric.barrier()
    if run.resumable:
        state = run.load_state()
        nimg, step, best, retries = (state[key] for key in ("nimg", "step", "best", "retries"))
        load_state(state, model, optimizers, augment, watch, means)
        saved = nimg
        if nimg >= kimg * 1000:
            return True

    # Pictures, and the few that stay the same for sheets and scores.
    def stream() -> Iterator[Batch]:
        if training_set is None:
            return itertools.repeat(
                Batch(torch.zeros(options.batch // fabric.world_size, 3, config.data.height, config.data.width))
            )
        open_stream = functools.partial(
            Stream, width=config.data.width, height=config.data.height, batch=options.batch, mirror=options.mirror,
            rank=fabric.global_rank, world=fabric.world_size, workers=workers, start=nimg,
        )  # fmt: skip
        known = open_stream(training_set, seed=options.seed, values=config.data.attributes, points=model.pointed)
        if photos is None:
            return (Batch(real, labels=labels) for real, labels in known)
        others = open_stream(photos, seed=options.seed + 1, values={})  # another order: they are no pairs
        return (Batch(r, labels=labels, photos=p) for (r, labels), (p, _) in zip(known, others, strict=True))

    training_set, measured_set = dataset.split(model.holdout) if dataset and model.holdout else (dataset, dataset)
    measured = fixed_pictures(measured_set, photos, MEASURED, model, workers).to(device)
    pictures = stream()
    log = Log(run.folder, nimg) if main else None
    if main and not nimg and dataset is not None:
        run.sheet("reals.png", measured.real[:SHEET])

    def snapshot() -> None:
        """Everything that a person looks at and that resuming needs, as of now."""
        nonlocal best, saved
        for buffer in model.buffers():  # statistics that each device kept on its own
            if fabric.world_size > 1 and buffer.is_floating_point():
                buffer.copy_(mean(fabric, buffer))
        if log is not None:
            model.eval()
            with torch.no_grad():
                scores, sheet = model.measure(measured, builtin_frechet), model.preview(measured[:SHEET])
            model.train()
            by_value = isinstance(model, Generator) and bool(config.data.attributes)
            if sheet is not None:
                run.sheet(f"fakes{nimg // 1000:06d}.png", sheet, COLUMNS if by_value else None)
            if sheet is not None and isinstance(model, Generator):
                scores["diversity"], collapsed = watch.diversity(sheet, measured.real[:SHEET])
                warn(collapsed if nimg else None)
                if by_value:
                    asked = [(name, config.data.attributes[name][label]) for name, label in model.shown_values()]
                    spread, alarm = watch.values(sheet.unflatten(0, (-1, COLUMNS)), asked, measured.real[:SHEET])
                    warn(alarm if nimg and not collapsed else None)
                    log.write(nimg, {f"diversity/{name}": share for name, share in spread.items()})
            score = next(iter(scores.values()), -float(nimg))
            run.snapshot(model, nimg, scores, best=score <= best or not run.has_weights)
            best = min(best, score)
            log.write(nimg, {f"score/{name}": value for name, value in scores.items()})
            counters = {"nimg": nimg, "step": step, "best": best, "retries": retries}
            run.save_state(pack_state(model, optimizers, augment, watch, means, **counters))
            tell(f"{nimg / 1000:g} kimg: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))
        fabric.barrier()
        saved = nimg

    bar = tqdm(total=int(kimg * 1000), initial=nimg, unit="img", disable=None if main else True, smoothing=0.05)
    began, seen = time.perf_counter(), nimg
    with stopping() as stop:
        if not run.resumable:
            snapshot()  # untrained: the sheet to compare with, and the state that a failure goes back to
        while nimg < kimg * 1000 and not asked_to_stop(fabric, stop, step):
            # One step: every phase that is due, on the same pictures.
            seed_step(options.seed, step, fabric.global_rank, retries)
            whole = dataclasses.replace(next(pictures), step=step, augment=augment).to(device)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = (
                        config.optimizer.lr * model.lr_scale(nimg / (kimg * 1000)) * group.get("lr_multiplier", 1.0)
                    )
            kept = [buffer.clone() for buffer in model.buffers()]
            dropped = torch.zeros((), device=device)
            for phase in model.phases:
                every = model.reg_interval(phase)
                if not every or step % every:
                    continue
                player = players[phase]
                for other in optimizers:
                    for parameter in other.parameters():
                        parameter.requires_grad_(other is player and parameter in learning)
                losses = once if every == 1 else model.losses
                for begin in range(0, len(whole.real), options.micro_batch):
                    batch = whole[begin : begin + options.micro_batch]
                    with fabric.autocast():
                        named = losses(phase, batch)
                    if not named:  # the phase rests
                        continue
                    share = options.micro_batch / len(whole.real)
                    torch.stack([loss.float() for loss in named.values()]).sum().mul(share).backward()
                    means.add({f"loss/{k}": v for k, v in named.items()} | batch.log)
                dropped = torch.maximum(dropped, update(fabric, optimizers[player]))

            # Averages; a step that went wrong leaves no trace in statistics either.
            for buffer, before in zip(model.buffers(), kept, strict=True):
                if buffer.is_floating_point():
                    buffer.copy_(torch.where(dropped > 0, before, buffer))
            failures = (failures + dropped) * dropped
            means.add({"dropped": dropped})
            nimg, step = nimg + options.batch, step + 1
            half_life = min(config.optimizer.ema_kimg * 1000, nimg * config.optimizer.ema_ramp)
            for source, average in model.averages.items():
                move_average(
                    getattr(model, average),
                    getattr(model, source),
                    0.5 ** (options.batch / max(half_life, 1e-8)),
                )

            # Every so often: read the curves, adapt the augmentation, look for trouble.
            bar.update(options.batch)
            if step % TICK == 0:
                ticks = {**means.take(), "augment/p": augment.p}
                real_sign, fake_sign = ticks.get("real_sign"), ticks.get("fake_sign")
                if real_sign is not None:
                    augment.adapt(real_sign, TICK * options.batch)
                    if fake_sign is not None:
                        warn(watch.discriminator(real_sign, fake_sign))
                speed = (nimg - seen) / (time.perf_counter() - began)
                began, seen = time.perf_counter(), nimg
                if log is not None:
                    log.write(nimg, {**ticks, "img/s": speed})
                bar.set_postfix({k.removeprefix("loss/"): f"{v:.3g}" for k, v in ticks.items() if "loss/" in k})
                if float(failures) >= FAILURES:
                    retries += 1
                    if retries > RETRIES:
                        raise FloatingPointError(
                            f"{run.folder}: losses or gradients were not finite {FAILURES} times in a row, and went "
                            f"back to the last snapshot {RETRIES} times; lower lr with --set, or use --precision 32"
                        )
                    warn(f"{FAILURES} steps in a row were not finite: going back to the last snapshot")
                    state = run.load_state()
                    nimg, step, best = (state[key] for key in ("nimg", "step", "best"))
                    load_state(state, model, optimizers, augment, watch, means)
                    failures.zero_()
                    pictures = stream()
                    bar.n = nimg
                    bar.refresh()
                    continue
            if nimg // (snap * 1000) > (nimg - options.batch) // (snap * 1000):
                snapshot()

        # Done, or asked to stop: nothing is lost either way.
        if saved != nimg:
            snapshot()
    bar.close()
    if log is not None:
        log.close()
    return nimg >= kimg * 1000


def asked_to_stop(fabric: Fabric, stop: threading.Event, step: int) -> bool:
    """Whether any device's process was asked to stop. Several must agree on the step, and ask each other only now and
    then: one that stopped alone would leave the others waiting."""
    if fabric.world_size == 1:
        return stop.is_set()
    return step % TICK == 0 and float(mean(fabric, torch.tensor(float(stop.is_set()), device=fabric.device))) > 0


def mean(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The mean of a tensor over devices."""
    found = fabric.all_reduce(tensor, reduce_op="mean")
    assert isinstance(found, Tensor)
    return found


def update(fabric: Fabric, optimizer: torch.optim.Optimizer) -> Tensor:
    """One optimiser step on gradients averaged over devices. If any is not finite the step changes nothing: fused
    optimisers skip it by themselves, so the host need not wait to know. Returns 1 for a dropped step, else 0."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:  # no loss asked for a step
        return torch.zeros((), device=fabric.device)
    if fabric.world_size > 1:
        flat = mean(fabric, torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    norm = torch.nn.utils.get_total_norm(gradients)
    found = (~torch.isfinite(norm)).float()
    optimizer.found_inf, optimizer.grad_scale = found, None  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return found


@torch.no_grad()
def move_average(average: nn.Module, source: nn.Module, decay: float) -> None:
    """Moves the average's parameters towards the source's, and copies its buffers."""
    move = get_ema_multi_avg_fn(decay)
    move(list(average.parameters()), list(source.parameters()), None)
    for kept, buffer in zip(average.buffers(), source.buffers(), strict=True):
        kept.copy_(buffer)


def seed_step(seed: int, step: int, rank: int, retries: int) -> None:
    """What is random in a step depends on its number alone, so that resuming is exact without keeping any state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank, retries]).generate_state(1, np.uint64)[0]))


def pack_state(
    model: Model,
    optimizers: Mapping[nn.Module, torch.optim.Optimizer],
    augment: NoAugment,
    watch: Watch,
    means: Means,
    **counters: float,
) -> dict[str, Any]:
    """Everything that resuming needs, as tensors and plain containers."""
    return {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers.values()],
        "augment": augment.state_dict(),
        "watch": watch.state_dict(),
        "means": means.state_dict(),
        **counters,
    }


def load_state(
    state: Mapping[str, Any],
    model: Model,
    optimizers: Mapping[nn.Module, torch.optim.Optimizer],
    augment: NoAugment,
    watch: Watch,
    means: Means,
) -> None:
    """Puts back what `pack_state` took."""
    model.load_state_dict(state["model"])
    for optimizer, kept in zip(optimizers.values(), state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    augment.load_state_dict(state["augment"])
    watch.load_state_dict(state["watch"])
    means.load_state_dict(state["means"], next(model.parameters()).device)


def fixed_pictures(dataset: Dataset | None, photos: Dataset | None, count: int, model: Model, workers: int) -> Batch:
    """Up to `count` pictures spread evenly over the dataset, with what is known about them, and as many photos. Black
    ones if there is no dataset."""
    if dataset is None:
        return Batch(torch.zeros(count, 3, model.config.data.height, model.config.data.width))

    def decode(pictures: Dataset, chosen: np.ndarray) -> Tensor:
        size = model.config.data.width, model.config.data.height
        return to_float(np.stack(list(pictures.decode(chosen.tolist(), *size, workers))))

    count = min(count, len(dataset), len(photos or dataset))
    chosen = np.linspace(0, len(dataset) - 1, count).astype(int)
    known = {name: dataset.labels(name, values)[chosen] for name, values in model.config.data.attributes.items()}
    if model.pointed:
        known[POINTS] = dataset.points[chosen]
    labels = {name: torch.from_numpy(label) for name, label in known.items()}
    others = None if photos is None else decode(photos, np.linspace(0, len(photos) - 1, count).astype(int))
    return Batch(decode(dataset, chosen), labels=labels, photos=others)


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the step in progress can finish and be saved. A second signal
    does what it always does."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()
        tell("stopping after this step; the run is being saved")
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def tell(message: str) -> None:
    """A line on stderr that does not break the progress bar."""
    tqdm.write(message, file=sys.stderr)


def warn(message: str | None) -> None:
    """Says what a person should know, if there is anything."""
    if message:
        tell(f"warning: {message}")
