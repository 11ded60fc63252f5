"""What backward projectors restore of pictures that their generator never made: table 1 of Re-Generator.

    python benchmarks/projectors.py faces.zip feature=runs/a cycle=runs/b all=runs/c --prefix-from db

The hosts are what a linear encoder takes the pictures for (`inversion/latents.py`); they are projected and made again:

    LPIPS        (VGG16) of what is restored and the picture
    Wasserstein  sliced, 1-Wasserstein, between projected features and those of random pictures of the generator, in
                 standard deviations; and the same for projected and true features of its own pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from measure import machine
from torch import Tensor
from vgg16 import archive

from kyara import models
from kyara.files.dataset import open_dataset
from kyara.files.pictures import sheet, to_float, to_uint8, write_png
from kyara.inversion.latents import LatentSpace
from kyara.models.projector import places, still
from kyara.nn.activations import capture
from kyara.nn.losses import sliced_wasserstein
from kyara.perception.vgg16 import VGG16, read_weights

Named = Annotated[tuple[str, ...], tyro.conf.Positional]


def main(
    pictures: tyro.conf.Positional[Path],
    named: Named,
    *,
    count: int = 200,
    prefix_from: str = "",
    sheet_out: Path | None = None,
) -> None:
    """Prints a row for each projector, given as NAME=CHECKPOINT.

    Args:
        pictures: Pictures that the generator never made.
        named: Projectors.
        count: How many pictures.
        prefix_from: Only pictures whose names sort from here on: what the generator was not trained on.
        sheet_out: Where to write some pictures, what their hosts are, and what each projector restores.
    """
    loaded = {one.partition("=")[0]: models.load(one.partition("=")[2]).requires_grad_(False) for one in named}
    first: Any = next(iter(loaded.values()))
    network: Any = models.load(first.config.generator.checkpoint).requires_grad_(False)
    dataset = open_dataset(pictures)
    chosen = [i for i, name in enumerate(dataset.names) if Path(name).name >= prefix_from]
    chosen = np.random.RandomState(0).permutation(chosen)[:count].tolist()
    given = to_float(np.stack([*dataset.decode(chosen, network.config.data.width, network.config.data.height)]))
    lpips = VGG16(read_weights(archive()))
    space = LatentSpace(network)
    guessed = space.styles(space.encode(given)).float()
    span = network.memories()[first.config.generator.layer]
    hosts = [capture(network, span, lambda ws=ws: network.synthesise(ws)) for ws in guessed.split(50)]
    with still(7):
        own = [capture(network, span, network.sample_fn(50, torch.zeros(50))) for _ in range(4)]
    true = places(torch.cat([host.value for host in own]))
    directions = torch.randn(256, true.shape[1], generator=torch.Generator().manual_seed(0))
    scale = true.std(0)
    rows: dict[str, dict[str, float]] = {}
    shown = [given[:12], torch.cat([host.pictures for host in hosts])[:12]]
    rows["the host itself"] = {"LPIPS": restored_lpips(lpips, torch.cat([host.pictures for host in hosts]), given)}
    for name, projector in loaded.items():
        assert hasattr(projector, "project")
        with torch.no_grad():
            found = [projector.project(x, host.pictures) for x, host in zip(given.split(50), hosts, strict=True)]
            made = torch.cat([host.decode(value) for value, host in zip(found, hosts, strict=True)])
            again = torch.cat([projector.project(host.pictures, host.pictures) for host in own])
        rows[name] = {
            "LPIPS": restored_lpips(lpips, made, given),
            "Wasserstein": float(sliced_wasserstein(places(torch.cat(found)) / scale, true / scale, directions)),
            "Wasserstein, own pictures": float(sliced_wasserstein(places(again) / scale, true / scale, directions)),
        }
        shown.append(made[:12])
    print(machine())
    columns = list(rows[list(rows)[-1]])
    print("| | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.4f}" if c in row else "" for c in columns) + " |")
    if sheet_out:
        write_png(sheet_out, sheet([one for part in shown for one in to_uint8(part.clamp(-1, 1))], 12))


def restored_lpips(network: VGG16, made: Tensor, given: Tensor) -> float:
    pairs = zip(made.clamp(-1, 1).split(25), given.split(25), strict=True)
    with torch.no_grad():
        return float(torch.cat([network.distance(a, b) for a, b in pairs]).mean())


if __name__ == "__main__":
    tyro.cli(main)
