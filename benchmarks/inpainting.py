"""How well holes in faces are filled: a trained network beside nearest neighbours and OpenCV's two methods.

    python benchmarks/inpainting.py DATA.zip --checkpoint runs/00000-inpainting-faces --count 500 --prefix-from db

Nobody is trained on the faces from --prefix-from on; the nearest neighbours are looked for among the others, by what is
known of a face. The sheet shows pictures of the dataset: keep it where the dataset may be kept.
"""

from __future__ import annotations

import dataclasses
import json as jsons
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch
import tyro
from measure import machine
from torch import Tensor

from kyara import models
from kyara.data.holes import free_form, middle
from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.models.base import Inpainter, apart
from kyara.nn.losses import fidelity

NEIGHBOURS = 32
"""Whose mean fills a hole; of 1 to 256 the best, by what they leave of the middle quarter."""
RADIUS = 3
"""Of OpenCV's methods, in pixels: their documentation's."""
SHOWN = 12
"""Faces on the sheet, for each kind of hole."""
ROW = "| {holes} | {method} | {hole_l1:.4f} | {psnr:.2f} | {frechet:.2f} | {ms:.1f} |"

Fill = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass
class Neighbours:
    """Fills a hole with the mean of what the nearest faces of a pool (N, 3, H, W) uint8 have there."""

    pool: Tensor
    count: int = NEIGHBOURS

    def __call__(self, real: Tensor, holes: Tensor) -> Tensor:
        known = (~holes).expand_as(real).flatten(1).float()  # (B, D)
        wanted = real.flatten(1) * known
        far = []
        for part in self.pool.split(1000):
            faces = part.float().div_(127.5).sub_(1).flatten(1)
            far.append(known @ faces.square().t() - 2 * wanted @ faces.t())  # but for a constant
        nearest = torch.cat(far, 1).topk(self.count, largest=False).indices  # (B, count)
        means = torch.stack([self.pool[some].float().mean(0) for some in nearest]).div_(127.5).sub_(1)
        return torch.where(holes, means, real)


def opencv(method: int) -> Fill:
    """Telea's fast marching, or Navier-Stokes (Bertalmio et al. 2001), on pictures as a file holds them."""

    def fill(real: Tensor, holes: Tensor) -> Tensor:
        masks = holes[:, 0].numpy().astype(np.uint8)
        whole = pictures.to_uint8(real)
        made = [cv2.inpaint(np.ascontiguousarray(p), m, RADIUS, method) for p, m in zip(whole, masks, strict=True)]
        return torch.where(holes, pictures.to_float(np.stack(made)), real)

    return fill


def ours(model: Inpainter) -> Fill:
    def fill(real: Tensor, holes: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([model.fill(a, b) for a, b in zip(real.split(32), holes.split(32), strict=True)])

    return fill


def scores(filled: Tensor, real: Tensor, holes: Tensor) -> dict[str, float]:
    """Mean absolute difference in the hole, of [-1, 1]; PSNR of the whole picture in dB, of bytes; Fréchet distance to
    the real pictures in what the built-in tagger sees."""
    filled = pictures.to_float(pictures.to_uint8(filled))
    hole_l1, psnr = fidelity(filled, real, holes)
    return {"hole_l1": float(hole_l1.mean()), "psnr": float(psnr.mean()), "frechet": apart(filled, real)}


def split(dataset: Dataset, prefix_from: str, count: int) -> tuple[list[int], list[int]]:
    """The other faces, and `count` of those whose file names sort from `prefix_from` on."""
    stems = [PurePosixPath(name).stem for name in dataset.names]
    held = [i for i, stem in enumerate(stems) if stem >= prefix_from]
    others = [i for i, stem in enumerate(stems) if stem < prefix_from]
    if len(held) < count or len(others) < NEIGHBOURS:
        raise ValueError(f"--prefix-from {prefix_from} --count {count}: of {dataset.path} {len(held)} are held out")
    return others, [held[i] for i in np.linspace(0, len(held) - 1, count).astype(int)]


def main(
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
        count: So many of them.
        out: Where to write a sheet: with holes, filled by each method, whole.
        json: Print one JSON object for each row instead.
    """
    model = models.load(checkpoint)
    if not isinstance(model, Inpainter):
        raise ValueError(f"--checkpoint {checkpoint}: fills no holes; give one of the architecture inpainting")
    width, height = model.config.data.width, model.config.data.height
    dataset = open_dataset(data)
    others, held = split(dataset, prefix_from, count)
    real = pictures.to_float(np.stack(list(dataset.decode(held, width, height))))
    pool = torch.from_numpy(np.stack(list(dataset.decode(others, width, height)))).permute(0, 3, 1, 2)
    methods: dict[str, Fill] = {
        "Kyara": ours(model),
        f"mean of {NEIGHBOURS} nearest": Neighbours(pool),
        "OpenCV Telea": opencv(cv2.INPAINT_TELEA),
        "OpenCV Navier-Stokes": opencv(cv2.INPAINT_NS),
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


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(str(error)) from error
