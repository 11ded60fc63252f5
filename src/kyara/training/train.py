"""The verb `kyara train`. Options that need no network are checked before torch is imported."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from kyara import models, verbs
from kyara.files.dataset import open_dataset
from kyara.files.names import short_name
from kyara.training.options import LARGEST_BATCH, Policy, Tuning

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from kyara.training.settings import Plan

Architecture = Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=f"Architecture: {', '.join(models.names())}.")]
TARGET = 0.6  # Default of --augment-target


@dataclasses.dataclass(frozen=True)
class TrainResult(verbs.Result):
    """Result of `train`."""

    out: Path
    settings: Mapping[str, Any]  # Everything that defines the run: architecture, hyperparameters, data, options
    dry_run: bool
    finished: bool = False  # False if a signal stopped training before --kimg
    kimg: float = 0.0  # Thousands of pictures that the run has been trained on in total
    use: str = ""  # Command that uses the trained model, or empty
    fresh: tuple[str, ...] = ()  # With --init: newly initialised modules, which the parent does not have
    unused: tuple[str, ...] = ()  # With --init: modules of the parent that were not loaded
    forecast: str = ""  # With --forecast: how long the whole run would take

    def __str__(self) -> str:
        if self.forecast:
            return self.forecast
        if self.dry_run:
            from kyara.files.checkpoint import config_text

            return config_text({**self.settings, "out": str(self.out)}).rstrip()
        if not self.finished:
            return f"stopped and saved: {self.out}\ncontinue with the same command"
        return f"done: {self.out}" + (f"\nuse it with: {self.use}" if self.use else "")


@verbs.checked
def train(
    model: Architecture,
    data: tyro.conf.Positional[Path | None] = None,
    *,
    photos: Path | None = None,
    drawings: Path | None = None,
    of: str | None = None,
    layer: str = "auto",
    out: verbs.Out = None,
    preset: str | None = None,
    size: str | None = None,
    attributes: str = "",
    set: str = "",
    kimg: Annotated[float | None, verbs.Range(0)] = None,
    snap: Annotated[float | None, verbs.Range(above=0)] = None,
    patience: Annotated[int | None, verbs.Range(0)] = None,
    batch: Annotated[int | None, verbs.Range(1, LARGEST_BATCH)] = None,
    micro_batch: Annotated[int | None, verbs.Range(1, LARGEST_BATCH)] = None,
    mirror: bool = True,
    augment: Policy | None = None,
    augment_colour: bool | None = None,
    augment_target: Annotated[float | None, verbs.Range(-1, 1)] = None,
    init: str | None = None,
    tune_layers: Annotated[int | None, verbs.Range(1, 1000)] = None,
    tune_end: Literal["fine", "coarse"] = "fine",
    freeze: str | None = None,
    layer_lr_multiplier: Annotated[float, verbs.Range(above=0, most=1)] = 1.0,
    seed: verbs.Seed = 0,
    precision: verbs.Precision = "auto",
    compile: bool = False,
    graphs: bool = True,
    profile: bool = False,
    device: verbs.Device = "auto",
    devices: verbs.Devices = 1,
    workers: verbs.Workers = 2,
    forecast: bool = False,
    dry_run: verbs.DryRun = False,
) -> TrainResult:
    """Train a model on a dataset. The same command again resumes an interrupted run, also with a larger --kimg.

    With --init and 500 pictures or fewer, a generator has other defaults, which are printed: --freeze for the mapping
    network, unless it is fitted to an encoder, and all but the last six layers of the discriminator, optimizer.lr at
    most 0.001, --augment diffaugment without colours, --kimg 300, --snap 10, --patience 5.

    Args:
        model: An architecture; `kyara.models.names()` lists them.
        data: Folder or .zip with pictures, preferably prepared by `kyara prepare`.
        photos: For models trained on two datasets: the photos, which the model translates to drawings.
        drawings: For models trained on two datasets: the drawings.
        of: For models trained on another model (projector): the checkpoint of that model. Do not give DATA, unless
            that model translates pictures; then DATA are its input. For distortion: generators, with commas between
            them, whose errors it learns beside the distortions of DATA.
        layer: With --of, the layer of that model; auto is the layer at half the size of its pictures.
        preset: A named set of hyperparameters. The default is the model's first preset, for two CPU cores.
        size: Size of the pictures, such as 96 or 512x256 (height x width). The default is the preset's.
        attributes: Columns of the data that the model is conditioned on or predicts, such as hair,eyes. With --init,
            also attributes of the checkpoint that the data lack. A StyleGAN2 keeps them if all of its attributes are
            named.
        set: Hyperparameters to change, such as optimizer.lr=0.001,network.channel_max=128; --dry-run prints all of
            them.
        kimg: Total training length in thousands of pictures, by default 1000; 0 only saves the initial network.
        snap: Interval between snapshots in thousands of pictures, by default 50.
        patience: Early stopping: end after this many consecutive snapshots without a better one, or when the samples of
            a generator are copies of the data. 0, the default, is off.
        batch: Batch size. The default is the preset's.
        micro_batch: Batch size of gradient accumulation, to save memory; must divide the batch.
        mirror: Flip half of the pictures horizontally.
        augment: Augmentation of the discriminator's input: ada (adaptive, the default), diffaugment or none.
        augment_colour: Include colour transforms in the augmentation. The default is yes, unless the model is a
            generator conditioned on attributes, which may be colours.
        augment_target: With --augment ada, target for the mean sign of the discriminator's output on real pictures, -1
            to 1; by default 0.6. Above it, ada increases the strength of the augmentation.
        init: Initialise from a checkpoint of the same architecture, possibly of a smaller size. Without --preset, its
            hyperparameters are used as well.
        tune_layers: With --init, the number of generator layers to train; the others are frozen.
        tune_end: With --tune-layers, train the last layers (fine) or the first ones (coarse).
        freeze: With --init, the modules to freeze, such as mapping,g=2,d=4,encoder: the mapping network, the first 2
            layers of the generator, the first 4 layers of the discriminator, and the encoder; none for no modules.
        layer_lr_multiplier: With --init, the learning rate of each generator layer relative to that of the next finer
            layer.
        seed: Random seed.
        compile: Compile the model with torch.compile: takes minutes at the start, and then speeds up training.
        graphs: On a GPU, run the phases of a step as CUDA graphs, for models that allow it. Speeds up training.
        forecast: Take a few steps, print how long the whole run would take, and write nothing.
        profile: Write a trace of 20 steps to trace.json in the run folder, for chrome://tracing or ui.perfetto.dev.
    """
    command = verbs.command_line(train, locals())
    _check(model, layer, of, augment, augment_target)
    augmentation = {"augment": augment, "augment-colour": augment_colour, "augment-target": augment_target}
    augment = "ada" if augment_target is not None else augment
    freeze = "" if freeze == "none" else freeze
    tuning = Tuning(tune_layers, tune_end, freeze or "", layer_lr_multiplier)
    if tuning != Tuning() and init is None:
        raise ValueError("--tune-layers, --tune-end, --freeze, --layer-lr-multiplier: need --init CHECKPOINT")

    from kyara.training import distributed, run, runtime, settings, small_sets, transfer
    from kyara.training.trainer import Options, split_batch

    target, (devices, machines) = runtime.pick_device(device), runtime.count_processes(devices)
    if compile:
        runtime.check_compiler(target)
    data, photos = settings.choose_data(model, data, photos, drawings, of)
    parent = transfer.inherited(model, init) if init is not None and preset is None else None
    seen = None if init is None else transfer.SEEN
    config = settings.configure(model, preset=preset, size=size, batch=batch, changes=set, parent=parent, seen=seen)
    changed = settings.parse_changes(set, config)
    dataset, photo_set = (None if path is None else open_dataset(path) for path in (data, photos))
    config = settings.describe_data(model, config, dataset, attributes, of, layer, init)
    given = small_sets.Choices(
        "" if tuning != Tuning() and freeze is None else freeze,
        config.optimizer.lr if preset is not None or "lr" in changed.get("optimizer", {}) else None,
        augment, augment_colour, kimg, snap, patience,
    )  # fmt: skip
    useful = transfer.useful(model, config, init)
    chosen, few = small_sets.choose(given, model, config, useful, 0 if dataset is None else len(dataset))
    tuning, config = small_sets.applied(chosen, tuning, config)
    least = models.architecture(model).least_micro_batch(config)
    options = Options(
        config.optimizer.batch, split_batch(config.optimizer.batch, micro_batch, devices * machines, least),
        seed, mirror,
        augment=chosen.augment or "ada",
        augment_colour=settings.pick_augment_colour(chosen.augment_colour, chosen.augment or "ada", model, config),
        augment_target=TARGET if augment_target is None else augment_target,
        precision=runtime.pick_precision(precision, target),
    )  # fmt: skip
    plan = settings.Plan(model, config, options, tuning, init, dataset, photo_set, chosen.schedule, few, command)
    fabric = runtime.make_fabric(target, devices=devices, machines=machines, precision=options.precision)
    folder = Path()
    if distributed.is_rank_zero():
        folder = run.find_run(out, f"{model}-{short_name(data or str(of))}", plan.settings)
        if not (folder / run.STATE).is_file():  # a run that was begun with these options goes on
            settings.check_augment(model, augmentation)
            distributed.warn(config.warning())
        transfer.check(model, config, tuning, None if (folder / run.STATE).is_file() else init)
    if dry_run:
        return TrainResult(folder, plan.settings, True)
    if forecast:
        return _forecast(plan, fabric, folder, workers, compile_losses=compile, graphs=graphs)
    return _fit(plan, fabric, folder, workers, profile, compile_losses=compile, graphs=graphs)


def _check(model: str, layer: str, of: str | None, augment: Policy | None, augment_target: float | None) -> None:
    models.check_name(model)
    if layer != "auto" and of is None:
        raise ValueError(f"--layer {layer}: needs --of CHECKPOINT")
    if augment_target is not None and augment not in (None, "ada"):
        raise ValueError(f"--augment-target {augment_target}: needs --augment ada, not {augment}; leave it out")


def _forecast(plan: Plan, fabric: Fabric, folder: Path, workers: int, **trainer_options: bool) -> TrainResult:
    """Measures some steps of a run that is not begun."""
    from kyara.training import estimate, peers, transfer
    from kyara.training.batches import Batches
    from kyara.training.trainer import Trainer

    with peers.watched(fabric):
        network, _, _ = transfer.build(plan.model, plan.config, plan.options.seed, plan.tuning, plan.init)
        trainer = Trainer(network, plan.options, fabric=fabric, **trainer_options)
        stream = Batches(network, plan.dataset, plan.photos, workers=workers).stream(plan.options, fabric, 0)
        seconds = estimate.time_step(trainer, next(stream))
    if not fabric.is_global_zero:  # only rank 0 returns a result
        raise SystemExit(0)
    took = estimate.sentence(plan.schedule["kimg"] * 1000, plan.options.batch, seconds)
    return TrainResult(folder, plan.settings, True, forecast=took)


def _fit(plan: Plan, fabric: Fabric, folder: Path, workers: int, profile: bool, **trainer_options: bool) -> TrainResult:
    """Trains a new run in the folder of rank 0, or resumes the one that is there."""
    from kyara.training import distributed, loop, peers, run, small_sets, transfer
    from kyara.training.batches import Batches
    from kyara.training.trainer import Trainer

    with peers.watched(fabric), contextlib.ExitStack() as lock:
        distributed.require_same(fabric, run.identity(plan.settings))

        def start() -> tuple[Path, bool]:
            lock.enter_context(run.locked(folder))
            run.find_run(folder, "", plan.settings)  # another process may have trained it since the first check
            return folder, (folder / run.STATE).is_file()

        folder, resume = distributed.on_rank_zero(fabric, start)
        if plan.dataset is not None and fabric.is_global_zero:
            useful = transfer.useful(plan.model, plan.config, plan.init)
            small_sets.report(plan.model, len(plan.dataset), useful, plan.few)
        init = None if resume else plan.init
        network, fresh, unused = transfer.build(plan.model, plan.config, plan.options.seed, plan.tuning, init)
        trainer = Trainer(network, plan.options, fabric=fabric, **trainer_options)
        batches = Batches(network, plan.dataset, plan.photos, workers=workers)
        writer = run.Run(folder, plan.model, plan.about, resume, profile, plan.command)
        finished = loop.fit(trainer, batches, writer, **plan.schedule)
    if not fabric.is_global_zero:  # only rank 0 returns a result
        raise SystemExit(0)
    use = run.next_command(type(network), folder)
    return TrainResult(folder, plan.settings, False, finished, trainer.nimg / 1000, use, fresh, unused)
