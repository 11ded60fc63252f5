"""Quality of filled holes in faces: a trained network, nearest neighbours and the two methods of OpenCV.

    python benchmarks/inpainting.py DATA.zip --checkpoint runs/00000-inpainting-faces --count 500 --prefix-from db

Faces from --prefix-from on are held out. Nearest neighbours are searched among the others, by the known part of a
face. The sheet contains pictures of the dataset and has its licence. Without OpenCV (opencv-python-headless) its rows
are missing.
"""

from __future__ import annotations

import dataclasses
import json as jsons
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from common import held_out, machine, run
from torch import Tensor

from kyara import models
from kyara.data.holes import free_form, middle
from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.models.base import Inpainter
from kyara.nn.losses import fidelity
from kyara.perception.features import BuiltInFrechet

NEIGHBOURS = 32
"""Neighbours whose mean fills a hole: the best number of 1 to 256 for the middle quarter."""
RADIUS = 3
"""Radius of OpenCV's methods in pixels, as in their documentation."""
SHOWN = 12
"""Faces on the sheet for each kind of hole."""
ROW = "| {holes} | {method} | {hole_l1:.4f} | {psnr:.2f} | {frechet:.2f} | {ms:.1f} |"

Fill = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass
class Neighbours:
    """Fills a hole with the mean of the nearest faces of a pool (N, 3, H, W) uint8."""

    pool: Tensor
    count: int = NEIGHBOURS

    def __call__(self, real: Tensor, holes: Tensor) -> Tensor:
        known = (~holes).expand_as(real).flatten(1).float()  # (B, D)
        wanted = real.flatten(1) * known
        far = []
        for part in self.pool.split(1000):
            faces = part.float().div_(127.5).sub_(1).flatten(1)
            far.append(known @ faces.square().t() - 2 * wanted @ faces.t())  # squared distance without a constant
        nearest = torch.cat(far, 1).topk(min(self.count, len(self.pool)), largest=False).indices  # (B, count)
        means = torch.stack([self.pool[some].float().mean(0) for some in nearest]).div_(127.5).sub_(1)
        return torch.where(holes, means, real)


def opencv_methods() -> dict[str, Fill]:
    """Telea's fast marching and Navier-Stokes (Bertalmio et al. 2001), on uint8 pictures; none without OpenCV."""
    try:
        import cv2
    except ImportError:
        print("OpenCV is not installed: its methods are left out")
        return {}

    def fill(real: Tensor, holes: Tensor, method: int) -> Tensor:
        masks = holes[:, 0].numpy().astype(np.uint8)
        whole = pictures.to_uint8(real)
        made = [cv2.inpaint(np.ascontiguousarray(p), m, RADIUS, method) for p, m in zip(whole, masks, strict=True)]
        return torch.where(holes, pictures.to_float(np.stack(made)), real)

    flags = {"OpenCV Telea": cv2.INPAINT_TELEA, "OpenCV Navier-Stokes": cv2.INPAINT_NS}
    return {name: partial(fill, method=flag) for name, flag in flags.items()}


def ours(model: Inpainter) -> Fill:
    def fill(real: Tensor, holes: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([model.fill(a, b) for a, b in zip(real.split(32), holes.split(32), strict=True)])

    return fill


def scores(filled: Tensor, real: Tensor, holes: Tensor) -> dict[str, float]:
    """Mean absolute difference in the hole, in [-1, 1]; PSNR of the whole picture, rounded to uint8, in dB; Fréchet
    distance to the real pictures in `BuiltInFeatures`."""
    filled = pictures.to_float(pictures.to_uint8(filled))
    hole_l1, psnr = fidelity(filled, real, holes)
    return {"hole_l1": float(hole_l1.mean()), "psnr": float(psnr.mean()), "frechet": BuiltInFrechet()(filled, real)}


def split(dataset: Dataset, prefix_from: str, count: int) -> tuple[list[int], list[int]]:
    """The training faces, and `count` of the held-out ones."""
    others, held = held_out(dataset, prefix_from)
    if len(held) < count or not others:
        raise ValueError(f"--prefix-from {prefix_from} --count {count}: {len(held)} of {dataset.path} are held out")
    return others, [held[i] for i in np.linspace(0, len(held) - 1, count).astype(int)]


def measure(
    data: tyro.conf.Positional[Path],
    checkpoint: str,
    prefix_from: str,
    count: int = 500,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Prints a table of methods, for the middle quarter and for free forms.

    Args:
        data: Folder or .zip with faces.
        checkpoint: A folder, builtin:NAME or hf-hub:OWNER/NAME.
        prefix_from: Only faces whose file names sort from here on are filled.
        count: Number of these.
        out: PNG of some faces: with holes, filled by each method, original.
        json: Print a JSON object for each row.
    """
    model = models.load(checkpoint)
    if not isinstance(model, Inpainter):
        raise ValueError(f"--checkpoint {checkpoint}: not an inpainter; give one of the architecture inpainting")
    width, height = model.config.data.width, model.config.data.height
    dataset = open_dataset(data)
    others, held = split(dataset, prefix_from, count)
    real = pictures.to_float(np.stack(list(dataset.decode(held, width, height))))
    pool = torch.from_numpy(np.stack(list(dataset.decode(others, width, height)))).permute(0, 3, 1, 2)
    methods: dict[str, Fill] = {
        "Kyara": ours(model),
        f"mean of {NEIGHBOURS} nearest": Neighbours(pool),
        **opencv_methods(),
    }
    drawn = free_form(count, height, width, generator=torch.Generator().manual_seed(0))
    if not json:
        print(f"{machine()}; {count} faces, {height}x{width}, N of the pool {len(pool)}\n")
        print("| holes | filled by | hole L1 | PSNR, dB | Fréchet | ms a picture |\n|---|---|---|---|---|---|")
    rows = []
    for name, holes in (("middle quarter", middle(count, height, width)[:, None]), ("free form", drawn[:, None])):
        shown = [real.masked_fill(holes, 0.0)]
        for method, fill in methods.items():
            fill(real[:32], holes[:32])  # warms up
            start = time.perf_counter()
            filled = fill(real, holes)
            took = time.perf_counter() - start
            row = {"holes": name, "method": method, **scores(filled, real, holes), "ms": took / count * 1000}
            print(jsons.dumps(row) if json else ROW.format(**row), flush=True)
            shown.append(filled)
        rows += [some[:SHOWN] for some in (*shown, real)]
    if out is not None:
        pictures.write_png(out, pictures.sheet(pictures.to_uint8(torch.cat(rows)), SHOWN))


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
