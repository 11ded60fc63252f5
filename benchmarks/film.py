"""Flicker of a translator on films of known motion.

    python benchmarks/film.py photos.zip builtin:cartoon --count 6 --seconds 10 --sheet film.png

Each photo becomes a film: the head moves, tilts and comes nearer as an affine motion, the light changes slowly, and
every frame has noise of its own. Every drawn frame is moved back by the known motion, so that all that still changes
from frame to frame, but for the light, is flicker: the mean absolute difference of consecutive frames, in 8-bit
levels, inside the middle 70 % of the picture; and the largest mean difference in a block of 16 x 16 pixels, which an
eye would notice first. Of the film itself, whose noise that is; of one drawing that is moved and moved back, which is
the error of interpolation; of frames drawn one by one; and of frames drawn as a film. The sheet shows a frame of each
second, and below it five times its difference from the frame after it.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from common import machine, print_table, run
from PIL import Image
from torch import Tensor

from kyara import models
from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float, to_uint8
from kyara.models.base import Translator

FPS = 25
BLOCK = 16  # pixels
ROWS = "the film", "one drawing, moved", "drawn one by one", "drawn as a film"


def pose(second: float) -> tuple[Tensor, float]:
    """The motion (2, 3), in units of half the picture, and the light at a time of the film."""
    angle, scale = 0.12 * math.sin(1.3 * second), 1 + 0.08 * math.sin(0.9 * second)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    x, y = 0.10 * math.sin(1.7 * second), 0.05 * math.sin(2.3 * second)
    return torch.tensor([[cos, -sin, x], [sin, cos, y]]), 1 + 0.06 * math.sin(0.7 * second)


def moved(picture: Tensor, motion: Tensor) -> Tensor:
    """A picture (3, H, W) sampled at motion(positions)."""
    grid = F.affine_grid(motion[None], [1, *picture.shape], align_corners=False)
    return F.grid_sample(picture[None], grid, padding_mode="reflection", align_corners=False)[0]


def inverse(motion: Tensor) -> Tensor:
    return torch.linalg.inv(torch.cat([motion, torch.tensor([[0.0, 0.0, 1.0]])]))[:2]


def frames(photo: Tensor, seconds: float, noise: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The film of a photo (3, H, W) in [-1, 1], and the motion of each frame."""
    for i in range(round(seconds * FPS)):
        motion, light = pose(i / FPS)
        frame = (moved(photo, motion) + 1) * light - 1
        yield (frame + noise * torch.randn_like(frame)).clamp(-1, 1), motion


def middle(difference: Tensor) -> Tensor:
    """The mean over colours (H', W') of the middle 70 % of a difference (3, H, W), in 8-bit levels."""
    height, width = difference.shape[1:]
    rows, columns = round(height * 0.15), round(width * 0.15)
    return difference[:, rows : height - rows, columns : width - columns].abs().mean(0) * 127.5


def flicker(drawn: list[Tensor]) -> tuple[float, float]:
    """Mean, and mean over pairs of the largest block, of the differences between consecutive frames."""
    differences = torch.stack([middle(b - a) for a, b in itertools.pairwise(drawn)])
    blocks = F.avg_pool2d(differences[:, None], BLOCK).flatten(1).amax(1)
    return float(differences.mean()), float(blocks.mean())


def strip(drawn: list[Tensor]) -> Tensor:
    """A frame of each second above five times its difference from the next one, (3, 2 H, seconds W)."""
    shown = drawn[:-1:FPS]
    changes = [((b - a).abs() * 5 - 1).clamp(max=1) for a, b in zip(shown, drawn[1::FPS], strict=False)]
    return torch.cat([torch.cat([a, b], 1) for a, b in zip(shown, changes, strict=True)], 2)


def measure(
    photos: tyro.conf.Positional[Path],
    checkpoint: tyro.conf.Positional[str] = "builtin:cartoon",
    *,
    count: int = 6,
    seconds: float = 10,
    side: int = 256,
    noise: float = 0.02,
    sheet: Path | None = None,
) -> None:
    """Args:
    photos: a dataset; its first `count` pictures.
    noise: standard deviation, of a range from -1 to 1.
    sheet: file for the strips of the first film.
    """
    torch.manual_seed(0)
    model = models.load(checkpoint).requires_grad_(False).eval()
    if not isinstance(model, Translator):
        raise SystemExit(f"{checkpoint}: not a translator")
    dataset = open_dataset(photos)
    count = min(count, len(dataset))
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
    spent = 0.0
    for index in range(count):
        photo = F.interpolate(to_float(dataset.picture(index)[None]), (side, side), mode="bilinear", antialias=True)[0]
        film, made = model.film_fn(), {name: [] for name in rows}
        with torch.inference_mode():
            still = model.translate(photo[None])[0].float()
        for frame, motion in frames(photo, seconds, noise):
            back = inverse(motion)
            with torch.inference_mode():
                single = model.translate(frame[None])[0]
                start = time.process_time()
                drawn = film(frame[None])[0]
                spent += time.process_time() - start
            for name, picture in zip(ROWS, (frame, moved(still, motion), single, drawn), strict=True):
                made[name].append(moved(picture.float(), back))
        for name, pictures in made.items():
            rows[name].append(flicker(pictures))
        if sheet and not index:
            strips = torch.cat([strip(pictures) for pictures in made.values()], 1)
            Image.fromarray(to_uint8(strips[None])[0]).save(sheet)
    print(machine())
    print(f"{count} films of {seconds:g} s, {side} px, {spent / count / seconds / FPS:.2f} s of processor time a frame")
    means = {name: torch.tensor(values).mean(0).tolist() for name, values in rows.items()}
    print_table({name: dict(zip(("mean", "largest block"), pair, strict=True)) for name, pair in means.items()})


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
