"""Reconstruction by backward projectors of pictures that the generator did not make: table 1 of Re-Generator.

    python benchmarks/projectors.py faces.zip feature=runs/a cycle=runs/b all=runs/c --prefix-from db

A linear encoder (`inversion/latents.py`) gives the host of each picture; the picture is projected into its features:

    LPIPS        (VGG16) between reconstruction and picture
    Wasserstein  sliced 1-Wasserstein distance between projected features and those of random pictures of the
                 generator, in standard deviations; and the same for the generator's own pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from common import held_out, load_vgg16, lpips, machine, print_table, run

from kyara import models
from kyara.files.dataset import open_dataset
from kyara.files.pictures import sheet, to_float, to_uint8, write_png
from kyara.inversion.latents import LatentSpace
from kyara.models.projector import vectors
from kyara.nn.activations import capture
from kyara.nn.losses import sliced_wasserstein
from kyara.nn.seeding import fixed_seed

Named = Annotated[tuple[str, ...], tyro.conf.Positional]


def measure(
    pictures: tyro.conf.Positional[Path],
    named: Named,
    *,
    count: int = 200,
    prefix_from: str = "",
    sheet_out: Path | None = None,
) -> None:
    """Prints a row for each projector, given as NAME=CHECKPOINT.

    Args:
        pictures: Pictures that the generator did not make.
        named: Projectors.
        count: Number of pictures.
        prefix_from: Only pictures whose file names sort from here on, which the generator was not trained on.
        sheet_out: Picture with some inputs, their hosts and the reconstructions of each projector.
    """
    loaded = {one.partition("=")[0]: models.load(one.partition("=")[2]).requires_grad_(False) for one in named}
    first: Any = next(iter(loaded.values()))
    network: Any = models.load(first.config.generator.checkpoint).requires_grad_(False)
    dataset = open_dataset(pictures)
    chosen = held_out(dataset, prefix_from)[1]
    chosen = np.random.RandomState(0).permutation(chosen)[:count].tolist()
    given = to_float(np.stack([*dataset.decode(chosen, network.config.data.width, network.config.data.height)]))
    vgg16 = load_vgg16()
    space = LatentSpace(network)
    guessed = space.styles(space.encode(given)).float()
    span = network.memories()[first.config.generator.layer]
    hosts = [capture(network, span, lambda ws=ws: network.synthesise(ws)) for ws in guessed.split(50)]
    with fixed_seed(7):
        own = [capture(network, span, network.sample_fn(len(x), torch.zeros(len(x)))) for x in given.split(50)]
    true = vectors(torch.cat([host.value for host in own]))
    directions = torch.randn(256, true.shape[1], generator=torch.Generator().manual_seed(0))
    scale = true.std(0)
    rows: dict[str, dict[str, float]] = {}

    def distance(made: torch.Tensor) -> float:
        return float(lpips(vgg16, made.clamp(-1, 1), given).mean())

    shown = [given[:12], torch.cat([host.pictures for host in hosts])[:12]]
    rows["the host itself"] = {"LPIPS": distance(torch.cat([host.pictures for host in hosts]))}
    for name, projector in loaded.items():
        assert hasattr(projector, "project")
        with torch.no_grad():
            found = [projector.project(x, host.pictures) for x, host in zip(given.split(50), hosts, strict=True)]
            made = torch.cat([host.decode(value) for value, host in zip(found, hosts, strict=True)])
            again = torch.cat([projector.project(host.pictures, host.pictures) for host in own])
        rows[name] = {
            "LPIPS": distance(made),
            "Wasserstein": float(sliced_wasserstein(vectors(torch.cat(found)) / scale, true / scale, directions)),
            "Wasserstein, own pictures": float(sliced_wasserstein(vectors(again) / scale, true / scale, directions)),
        }
        shown.append(made[:12])
    print(machine())
    print_table(rows, digits=".4f")
    if sheet_out:
        write_png(sheet_out, sheet([one for part in shown for one in to_uint8(part.clamp(-1, 1))], 12))


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
