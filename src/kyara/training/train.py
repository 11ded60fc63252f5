"""The verb `kyara train`."""

from __future__ import annotations

import dataclasses
import json as json_format
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from lightning_fabric import Fabric

from kyara import models
from kyara.files.dataset import Dataset, known_values, open_dataset
from kyara.files.pictures import parse_size
from kyara.models.base import Config, Generator, Inpainter, Model, Translator
from kyara.training.augment import Policy
from kyara.training.loop import Options, fit, tell
from kyara.training.run import Run, find_run
from kyara.training.runtime import pick_device
from kyara.training.transfer import Tuning, check_held, inherited, initialise, tune

Architecture = Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=f"Architecture: {', '.join(models.names())}.")]


def train(
    model: Architecture,
    data: tyro.conf.Positional[Path | None] = None,
    *,
    photos: Path | None = None,
    drawings: Path | None = None,
    of: str | None = None,
    layer: str = "auto",
    out: Path | None = None,
    preset: str | None = None,
    size: str | None = None,
    attributes: str = "",
    set: str = "",
    kimg: float = 1000.0,
    snap: float = 50.0,
    batch: int | None = None,
    micro_batch: int | None = None,
    mirror: bool = True,
    augment: Policy = "ada",
    augment_colour: bool | None = None,
    augment_target: float = 0.6,
    init: str | None = None,
    tune_layers: int | None = None,
    tune_end: Literal["fine", "coarse"] = "fine",
    freeze: str = "",
    layer_lr_multiplier: float = 1.0,
    seed: int = 0,
    precision: Literal["auto", "32", "bf16"] = "auto",
    compile: bool = False,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Trains a model on a dataset. The same command again goes on where it stopped, with a larger --kimg too.

    Args:
        model: An architecture; `kyara.models.names()` lists them.
        data: Folder or .zip with pictures, best made by `kyara prepare`.
        photos: For a model that learns from two datasets: what it shall make drawings of.
        drawings: And what its drawings shall look like.
        of: For a model that learns about another (projector): that one. DATA is left out, unless that one makes
            pictures from pictures, which DATA then are.
        layer: With --of, which of its layers; auto is one at half the size of its pictures.
        out: Run folder; without it runs/00000-MODEL-DATA.
        preset: A named set of the model's numbers; without it the model's first, made for two cores.
        size: Size of the pictures, as 96 or 512x256 (height x width); without it the preset's.
        attributes: Columns of the data that the model learns to obey or to tell, as hair,eyes.
        set: More of the model's numbers, as optimizer.lr=0.001,network.channel_max=128; --dry-run shows them all.
        kimg: Thousands of pictures to train for, in all.
        snap: Thousands of pictures between two snapshots.
        batch: Pictures in one step; without it the preset's.
        micro_batch: Pictures that go through the network at once, if memory is short; must divide the batch.
        mirror: Show half of the pictures flipped left to right.
        augment: What the discriminator sees: ada (adapts to how well it knows the pictures), diffaugment or none.
        augment_colour: Let augmentation change colours too; by default unless a generator learns attributes, which
            may be colours.
        augment_target: How sure of real pictures the discriminator may be before ada steps in.
        init: Start from a checkpoint of the same architecture, possibly of a smaller size. Without --preset the
            model's numbers are that checkpoint's.
        tune_layers: With --init, how many layers of the generator learn; the others stay the parent's.
        tune_end: Which: fine, those nearest to the picture, or coarse.
        freeze: With --init, what stays the parent's, as mapping,g=2,d=4: the mapping network, the coarsest layers of
            the generator, the layers of the discriminator nearest to the picture.
        layer_lr_multiplier: With --init, the learning rate of each layer of the generator, as a share of the next finer
            one's.
        seed: Everything random follows from it.
        precision: bf16 (mixed) or 32; auto is bf16 wherever it is faster.
        compile: Compile the network first; costs minutes, then steps are faster.
        device: auto, cpu, cuda, ...
        devices: How many of them; the batch is shared out.
        workers: Processes that decode pictures.
        dry_run: Print everything that would be used, and stop.
        json: Print the result as JSON.
    """
    data, photos = choose_data(model, data, photos, drawings, of)
    out = None if out is None else Path(out)  # from Python, texts will do
    target = pick_device(device)
    parent = inherited(model, init) if init is not None and preset is None else None
    config = configure(model, preset=preset, size=size, batch=batch, changes=set, parent=parent)
    tuning = Tuning(tune_layers, tune_end, freeze, layer_lr_multiplier)
    if tuning != Tuning() and init is None:
        raise ValueError("--tune-layers, --tune-end, --freeze, --layer-lr-multiplier: only go with --init CHECKPOINT")
    dataset = None if data is None else open_dataset(data)
    if of is not None:
        config = config.replace(**models.architecture(model).about(of, layer))
    if dataset is not None:
        config = config.replace(data=describe_attributes(model, dataset, attributes))
    told = bool(config.data.attributes) and issubclass(models.architecture(model), Generator)
    recolour = augment_colour if augment_colour is not None else not told
    options = Options(
        batch=config.optimizer.batch,
        micro_batch=micro_batch or config.optimizer.batch // devices,
        seed=seed,
        mirror=mirror,
        augment=augment,
        augment_colour=recolour,
        augment_target=augment_target,
        precision=pick_precision(precision, target),
    )
    if options.batch % (options.micro_batch * devices):
        raise ValueError(f"--micro-batch {micro_batch}: must divide --batch {options.batch} on {devices} device(s)")
    photo_set = None if photos is None else open_dataset(photos)
    description = {
        **({"data": about(dataset)} if dataset else {}),
        **({"photos": about(photo_set)} if photo_set else {}),
        "training": dataclasses.asdict(options),
        "init": init and str(init),
        **({"tuning": dataclasses.asdict(tuning)} if tuning != Tuning() else {}),
    }
    same = {"model": model, "config": dataclasses.asdict(config), **description}
    folder = find_run(out, model, data or Path(str(of).replace(":", "-")), same)
    if dry_run:
        print(json_format.dumps({**same, "kimg": kimg, "snap": snap, "out": str(folder)}, indent=2))
        return folder
    fabric = Fabric(
        accelerator=target.type,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
    )
    fabric.launch()
    if told and augment != "none" and augment_colour is None and fabric.is_global_zero:
        tell(f"augmentation leaves colours alone: {', '.join(config.data.attributes)} may be told by them")
    torch.manual_seed(seed)
    network = models.architecture(model)(config)
    tune(network, tuning)
    run = Run(folder, model, description)
    if init is not None and not run.resumable:
        fresh, left = initialise(network, models.load(init))
        check_held(network, fresh)
        if fabric.is_global_zero:
            print(f"started from {init}; fresh: {', '.join(fresh) or 'nothing'}", end="")
            print(f"; left behind: {', '.join(left)}" if left else "")
    finished = fit(
        fabric, network, dataset, run, options, photos=photo_set, kimg=kimg, snap=snap, compile_losses=compile,
        workers=workers,
    )  # fmt: skip
    if fabric.is_global_zero:
        print(
            json_format.dumps({"out": str(folder), "finished": finished})
            if json
            else closing_words(network, folder, finished)
        )
    return folder


def choose_data(
    model: str, data: Path | None, photos: Path | None, drawings: Path | None, of: str | None
) -> tuple[Path | None, Path | None]:
    """The dataset of `model`, and the photos if it learns from two; one that learns about another may need none.
    ValueError names the option that is missing or one too many."""
    kind = models.architecture(model)
    if (of is not None) != kind.of_another:
        if kind.of_another:
            raise ValueError(f"train {model}: learns about another model: kyara train {model} --of CHECKPOINT")
        raise ValueError(f"--of {of}: {model} does not learn about another model; leave the option out")
    if of is not None and not (photos or drawings):
        drawn = isinstance(models.load(of), Generator)
        if drawn != (data is None):
            why = "makes pictures from nothing; leave DATA out" if drawn else "makes pictures from pictures: name DATA"
            raise ValueError(f"--of {of}: {why}")
        return None if data is None else Path(data), None
    if not kind.from_photos:
        if data is None or photos or drawings:
            raise ValueError(f"train {model}: learns from one dataset: kyara train {model} DATA, without --photos")
        return Path(data), None
    if data is not None or photos is None or drawings is None:
        raise ValueError(f"train {model}: learns from two: kyara train {model} --photos PHOTOS --drawings DRAWINGS")
    return Path(drawings), Path(photos)


def about(dataset: Dataset) -> dict[str, Any]:
    """What config.json says of a dataset."""
    return {"name": dataset.path.name, "pictures": len(dataset), "fingerprint": dataset.fingerprint}


def configure(
    model: str,
    *,
    preset: str | None,
    size: str | None,
    batch: int | None,
    changes: str,
    parent: Config | None = None,
) -> Config:
    """A preset of the architecture, or else the parent's numbers, with what the command changes in them. ValueError
    names the option."""
    presets = models.architecture(model).presets
    if preset is not None and preset not in presets:
        raise ValueError(f"--preset {preset}: {model} has {', '.join(presets)}")
    config = presets[preset] if preset else parent or next(iter(presets.values()))
    values = parse_changes(changes, config)
    if size is not None:
        width, height = parse_size(size)
        values.setdefault("data", {}).update(width=width, height=height)
    if batch is not None:
        values.setdefault("optimizer", {})["batch"] = batch
    return config.replace(**values)


def describe_attributes(model: str, dataset: Dataset, wanted: str) -> dict[str, Any]:
    """What a Config says about the attributes `wanted`, as hair,eyes: their values, and which of these come together
    how often in the dataset. ValueError if there is no such column, or if the model can do nothing with any."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    use, there = (
        models.architecture(model).attributed,
        [key for key, column in dataset.attributes.items() if any(column)],
    )
    if names and use == "never":
        raise ValueError(f"--attributes {wanted}: {model} makes no use of attributes; leave the option out")
    if not names and use == "must":
        raise ValueError(f"--attributes: {model} needs one or more of {', '.join(there) or '(the data have none)'}")
    for name in names:
        if name not in there:
            raise ValueError(f"--attributes {name}: {dataset.path} knows {', '.join(there) or 'no attributes'}")
    values = {name: tuple(known_values(dataset.attributes[name])) for name in names}
    if not names:
        return {}
    rows = np.stack([dataset.labels(name, known) for name, known in values.items()], 1)  # (N, A)
    together, counts = np.unique(rows[(rows >= 0).all(1)], axis=0, return_counts=True)
    label_counts = tuple((*map(int, row), int(count)) for row, count in zip(together, counts, strict=True))
    return {"attributes": values, "label_counts": label_counts}


FROM_DATA = ("data.attributes", "data.label_counts", "generator.")
"""Beginnings of the names that --attributes and --of set."""


def parse_changes(text: str, config: Config) -> dict[str, dict[str, Any]]:
    """Reads PART.NAME=VALUE,... as parts of a Config, e.g. {"losses": {"style": 2.0}}. ValueError lists the names, or
    says which value is not of its field's type."""
    parts = {part.name: getattr(config, part.name) for part in dataclasses.fields(config)}
    hints = {f"{part}.{n}": hint for part, v in parts.items() for n, hint in typing.get_type_hints(type(v)).items()}
    hints = {name: hint for name, hint in hints.items() if not name.startswith(FROM_DATA)}
    values: dict[str, dict[str, Any]] = {}
    for change in filter(None, text.split(",")):
        name, _, value = (piece.strip() for piece in change.partition("="))
        if name not in hints:
            raise ValueError(f"--set {change}: no such number; there are {', '.join(sorted(hints))}")
        kind = hints[name]
        part, _, field = name.partition(".")
        try:
            if typing.get_origin(kind) is tuple:  # optimizer.betas=0.5/0.999
                read: Any = tuple(typing.get_args(kind)[0](piece) for piece in value.split("/"))
            else:
                read = value.lower() in ("true", "1", "yes") if kind is bool else kind(value)
        except ValueError as error:
            raise ValueError(f"--set {change}: must be of type {getattr(kind, '__name__', kind)}") from error
        values.setdefault(part, {})[field] = read
    return values


def pick_precision(wanted: Literal["auto", "32", "bf16"], device: torch.device) -> Literal["32", "bf16"]:
    """bf16 where the device computes in it, float32 where it would only emulate it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "32"
    return "32"


def closing_words(network: Model, folder: Path, finished: bool) -> str:
    """What to do next."""
    if not finished:
        return f"stopped and saved: {folder}\ngo on with the same command"
    if isinstance(network, Generator):
        return f"done: {folder}\nmake faces with: kyara generate {folder}"
    if isinstance(network, Translator | Inpainter):
        return f"done: {folder}\nuse it with: kyara translate {folder} PICTURES --out OUT"
    return f"done: {folder}"
