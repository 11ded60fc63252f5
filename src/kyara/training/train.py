"""The verb `kyara train`."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from kyara import models, verbs
from kyara.files.dataset import open_dataset
from kyara.files.names import short_name
from kyara.models.base import Config, Generator, Inpainter, Model, Translator
from kyara.training.augment import Policy
from kyara.training.batches import Batches
from kyara.training.distributed import is_rank_zero, on_rank_zero, require_same, tell
from kyara.training.loop import fit
from kyara.training.peers import watched
from kyara.training.run import NAMES, STATE, Run, find_run, flat
from kyara.training.runtime import check_compiler, count_processes, make_fabric, pick_device, pick_precision
from kyara.training.settings import choose_data, configure, describe_attributes
from kyara.training.trainer import LARGEST_BATCH, Options, Trainer, split_batch
from kyara.training.transfer import Tuning, inherited, initialise, tune

Architecture = Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=f"Architecture: {', '.join(models.names())}.")]
NO_TUNING = Tuning()


@dataclasses.dataclass(frozen=True)
class TrainResult(verbs.Result):
    """A run folder, and how far it is."""

    out: Path
    settings: Mapping[str, Any]  # everything that defines the run: the model and its numbers, the data, the options
    dry_run: bool
    finished: bool = False  # not if a signal stopped it before --kimg
    kimg: float = 0.0  # thousands of pictures that the run has seen, in all
    use: str = ""  # the command that uses what was trained, if there is one
    fresh: tuple[str, ...] = ()  # with --init, the modules that did not start from the parent's weights
    left_behind: tuple[str, ...] = ()  # with --init, the modules of the parent that were not used

    def __str__(self) -> str:
        if self.dry_run:
            return json.dumps({**self.settings, "out": str(self.out)}, indent=2, ensure_ascii=False)
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
    kimg: Annotated[float, verbs.Range(0)] = 1000.0,
    snap: Annotated[float, verbs.Range(above=0)] = 50.0,
    batch: Annotated[int | None, verbs.Range(1, LARGEST_BATCH)] = None,
    micro_batch: Annotated[int | None, verbs.Range(1, LARGEST_BATCH)] = None,
    mirror: bool = True,
    augment: Policy = "ada",
    augment_colour: bool | None = None,
    augment_target: Annotated[float, verbs.Range(-1, 1)] = 0.6,
    init: str | None = None,
    tune_layers: Annotated[int | None, verbs.Range(1, 1000)] = None,
    tune_end: Literal["fine", "coarse"] = "fine",
    freeze: str = "",
    layer_lr_multiplier: Annotated[float, verbs.Range(above=0, most=1)] = 1.0,
    seed: verbs.Seed = 0,
    precision: verbs.Precision = "auto",
    compile: bool = False,
    device: verbs.Device = "auto",
    devices: verbs.Devices = 1,
    workers: verbs.Workers = 2,
    dry_run: verbs.DryRun = False,
) -> TrainResult:
    """Trains a model on a dataset. The same command again resumes where it stopped, also with a larger --kimg.

    Args:
        model: An architecture; `kyara.models.names()` lists them.
        data: Folder or .zip with pictures, best made by `kyara prepare`.
        photos: For a model that learns from two datasets: what it turns into drawings.
        drawings: For a model that learns from two datasets: what its drawings look like.
        of: For a model that learns about another model (projector): that model. DATA is left out, unless that model
            makes pictures from pictures; then DATA are those.
        layer: With --of, which of its layers; auto is one at half the size of its pictures.
        preset: A named set of the model's numbers. The default is the model's first, made for two cores.
        size: Size of the pictures, such as 96 or 512x256 (height x width). The default is the preset's.
        attributes: Columns of the data that the model is conditioned on or predicts, such as hair,eyes.
        set: More of the model's numbers, such as optimizer.lr=0.001,network.channel_max=128; --dry-run
            shows them all.
        kimg: Thousands of pictures to train on in all; 0 only writes the untrained network.
        snap: Thousands of pictures between two snapshots.
        batch: Pictures in one step. The default is the preset's.
        micro_batch: Pictures that go through the network at once, if memory is short; must divide the batch.
        mirror: Flip half of the pictures left to right.
        augment: What the discriminator sees: ada (adapts to how well it knows the pictures), diffaugment or none.
        augment_colour: Let augmentation change colours too. The default is yes, unless a generator learns attributes,
            which may be colours.
        augment_target: How sure of real pictures the discriminator may be before ada augments more, -1 to 1.
        init: Start from a checkpoint of the same architecture, possibly of a smaller size. Without --preset the
            model's numbers are that checkpoint's.
        tune_layers: With --init, how many layers of the generator are trained; the others stay the parent's.
        tune_end: With --tune-layers, which: fine, those nearest to the picture, or coarse.
        freeze: With --init, what stays the parent's, such as mapping,g=2,d=4: the mapping network, the coarsest layers
            of the generator, the layers of the discriminator nearest to the picture.
        layer_lr_multiplier: With --init, the learning rate of each layer of the generator, as a share of the next finer
            one's.
        seed: Seed of everything random.
        compile: Compile the network first; takes minutes, then steps are faster.
    """
    if layer != "auto" and of is None:
        raise ValueError(f"--layer {layer}: only goes with --of CHECKPOINT")
    tuning = Tuning(tune_layers, tune_end, freeze, layer_lr_multiplier)
    if tuning != NO_TUNING and init is None:
        raise ValueError("--tune-layers, --tune-end, --freeze, --layer-lr-multiplier: only go with --init CHECKPOINT")
    target, (devices, machines) = pick_device(device), count_processes(devices)
    if compile:
        check_compiler(target)
    data, photos = choose_data(model, data, photos, drawings, of)
    parent = inherited(model, init) if init is not None and preset is None else None
    config = configure(model, preset=preset, size=size, batch=batch, changes=set, parent=parent)
    dataset, photo_set = (None if path is None else open_dataset(path) for path in (data, photos))
    if of is not None:
        config = config.replace(**models.architecture(model).describe_source(of, layer))
    if dataset is not None:
        config = config.replace(data=describe_attributes(model, dataset, attributes))
    conditional = bool(config.data.attributes) and issubclass(models.architecture(model), Generator)
    options = Options(
        batch=config.optimizer.batch,
        micro_batch=split_batch(config.optimizer.batch, micro_batch, devices * machines),
        seed=seed,
        mirror=mirror,
        augment=augment,
        augment_colour=not conditional if augment_colour is None else augment_colour,
        augment_target=augment_target,
        precision=pick_precision(precision, target),
    )
    description = {  # what config.json holds besides the architecture
        **{
            name: {"name": one.path.name, "pictures": len(one), "fingerprint": one.fingerprint}
            for name, one in (("data", dataset), ("photos", photo_set))
            if one is not None
        },
        "training": dataclasses.asdict(options),
        "init": init,
        **({"tuning": dataclasses.asdict(tuning)} if tuning != NO_TUNING else {}),
    }
    settings = {"model": model, "config": dataclasses.asdict(config), **description}
    fabric = make_fabric(target, devices=devices, machines=machines, precision=options.precision)
    folder = find_run(out, f"{model}-{short_name(data or str(of))}", settings) if is_rank_zero() else Path()
    if dry_run:
        return TrainResult(folder, settings, True)
    fabric.launch()
    with watched(fabric):
        require_same(fabric, {name: value for name, value in flat(settings).items() if name not in NAMES})
        folder, resume = on_rank_zero(fabric, lambda: (folder, (folder / STATE).is_file()))
        if conditional and augment != "none" and augment_colour is None and fabric.is_global_zero:
            tell(f"augmentation leaves colours alone, which may show {', '.join(config.data.attributes)}")
        network, fresh, left_behind = build(model, config, seed, tuning, None if resume else init)
        trainer = Trainer(network, options, fabric=fabric, compile_losses=compile)
        batches = Batches(network, dataset, photo_set, workers=workers)
        finished = fit(trainer, batches, Run(folder, model, description, resume), kimg=kimg, snap=snap)
    if not fabric.is_global_zero:  # what follows happens once
        raise SystemExit(0)
    use = _next_command(network, folder)
    return TrainResult(folder, settings, False, finished, trainer.nimg / 1000, use, fresh, left_behind)


def build(
    model: str, config: Config, seed: int, tuning: Tuning, init: str | None
) -> tuple[Model, tuple[str, ...], tuple[str, ...]]:
    """A network with fresh weights, or with those of the checkpoint `init`; then also the modules that stay fresh, and
    those of the parent that were left behind. ValueError if the numbers do not fit together."""
    torch.manual_seed(seed)
    try:
        network = models.architecture(model)(config)
    except (RuntimeError, ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"--set, --size: {model} cannot be built with these numbers ({error})") from error
    if not all(parameter.numel() for parameter in network.parameters()):
        raise ValueError(f"--set, --size: {model} cannot be built with these numbers (a layer has no weights)")
    tune(network, tuning)
    if init is None:
        return network, (), ()
    fresh, left_behind = initialise(network, models.load(init))
    if is_rank_zero():
        left = f"; left behind: {', '.join(left_behind)}" if left_behind else ""
        tell(f"started from {init}; fresh: {', '.join(fresh) or 'nothing'}{left}")
    return network, tuple(fresh), tuple(left_behind)


def _next_command(network: Model, folder: Path) -> str:
    """The command that uses a trained network."""
    if isinstance(network, Generator):
        return shlex.join(["kyara", "generate", str(folder)])
    if isinstance(network, Translator | Inpainter):
        return f"{shlex.join(['kyara', 'translate', str(folder)])} PICTURES"
    return ""
