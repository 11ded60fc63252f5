"""Errors of rewriting for networks that make pictures from pictures: translators and inpainters.

    python benchmarks/rewriting_photos.py runs/munit photos.zip held-out.zip --projector runs/projector --sheet a.jpg
    python benchmarks/rewriting_photos.py builtin:inpainting faces.zip held-out.zip --projector runs/projector

An inpainter is taught to fill the eyes with the pattern, a translator to draw the pattern on every face. Three examples
of `photos.zip` are used, and 16 held-out pictures for the evaluation, as in rewriting.py: inside, LPIPS to the picture
with the pattern pasted on; outside, LPIPS to the picture before the edit.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import machine, run
from judging import Judge, part_of_example, shown, write_sheet
from torch import Tensor

from kyara import models
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.pictures import to_float
from kyara.models.base import Inpainter
from kyara.perception import landmarks
from kyara.rewriting.edit import Picture, read_edit
from kyara.rewriting.learning import RuleTrainer, learn_rule
from kyara.rewriting.samples import Samples

JUDGED, TAUGHT = 16, 3
EYES = slice(0, 8)
"""The points of both eyes among those of builtin:landmarks."""
AROUND = 0.35
"""Margin of the hole around them, in distances between the eyes."""


def measure(
    model: tyro.conf.Positional[str],
    photos: tyro.conf.Positional[Path],
    held: tyro.conf.Positional[Path],
    *,
    projector: str,
    patterns: str = "glasses,eye patch,cat eyes",
    layers: int | None = None,
    steps: int | None = None,
    sheet: Path | None = None,
) -> None:
    """Teaches patterns one by one and prints the errors of each on held-out pictures.

    Args:
        model: The network: a translator or an inpainter.
        photos: Training pictures: the examples, and those that preserve the old rules.
        held: Held-out pictures.
        projector: Its projector.
        patterns: Patterns.
        layers: Layers of the memory.
        steps: Steps of the memory.
        sheet: Picture of the held-out pictures, the outputs before, and the outputs with each pattern.
    """
    network = models.load(model).requires_grad_(False)
    hosts, finder = Samples(network, model, open_dataset(photos)), models.load(projector).requires_grad_(False)
    base = RuleTrainer(hosts, finder, layers=layers)
    if steps:
        base = dataclasses.replace(base, settings=dataclasses.replace(base.settings, steps=steps))
    assert hosts.data is not None
    known, unknown = (
        chosen(hosts, data, count) for data, count in ((hosts.data, TAUGHT), (open_dataset(held), JUDGED))
    )
    fills = isinstance(network, Inpainter)
    faces = to_float(np.stack([picture.rgba[:, :, :3] for picture in unknown]))  # type: ignore[index]
    rows = [faces]
    print(machine())
    for pattern in patterns.split(","):
        # An inpainter is compared with the original face, a translator with the face that it drew.
        judge = Judge(pattern, hosts, unknown, faces if fills else None)
        rows = rows if len(rows) > 1 else [faces, judge.before]
        began = time.perf_counter()
        taught = learn_rule(base, read_edit({"name": pattern, "examples": examples(pattern, hosts, known, fills)}))
        made = judge.shown(taught.difference)
        rows.append(made)
        row = {"inside": judge.inside(made), "outside": judge.outside(made), "seconds": time.perf_counter() - began}
        row |= taught.measured
        print(json.dumps({"pattern": pattern, **{name: round(value, 4) for name, value in row.items()}}), flush=True)
    if sheet:
        write_sheet(sheet, rows)


def examples(pattern: str, hosts: Samples, pictures: list[Picture], fills: bool) -> list[dict[str, Any]]:
    """Each picture with the mask and the pattern."""
    made = shown(hosts, pictures)
    found = []
    for picture, drawn in zip(pictures, made, strict=True):
        assert picture.rgba is not None
        face = to_float(picture.rgba[None, :, :, :3])[0] if fills else drawn
        hole = {"hole": picture.hole} if fills else {}
        found.append({"picture": picture.rgba, **hole, **part_of_example(pattern, face)})
    return found


def chosen(hosts: Samples, data: Dataset, count: int) -> list[Picture]:
    """Random pictures of a dataset at the network's size; for an inpainter with a hole at the eyes."""
    width, height = hosts.size
    some = np.random.RandomState(0).permutation(len(data))[:count].tolist()
    fills = isinstance(hosts.model, Inpainter)
    found = []
    for shape in data.decode(some, width, height):
        rgba = np.concatenate([shape, np.full((height, width, 1), 255, np.uint8)], 2)
        found.append(Picture(rgba=rgba, hole=eyes_of(to_float(shape[None])) if fills else None))
    return found


def eyes_of(face: Tensor) -> np.ndarray:
    """A box around the eyes of a face (1, 3, H, W), (H, W) bool."""
    height, width = face.shape[2:]
    with torch.no_grad():
        points = landmarks.find(face)[0][EYES].cpu().numpy() * [width, height]
    apart = np.hypot(*(points[4:].mean(0) - points[:4].mean(0)))
    low, high = points.min(0) - AROUND * apart, points.max(0) + AROUND * apart
    y, x = np.mgrid[:height, :width] + 0.5
    return (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
