"""Does a generator copy? The training pictures nearest to its pictures, on one sheet.

    python benchmarks/nearest.py runs/00000-stylegan2-faces faces.zip --prefix-from db --out nearest.png

The sheet shows each face beside the nearest picture by VGG16 features and, in the row below, by pixels. It contains
pictures of the dataset and has its licence.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from common import held_out, load_vgg16, run
from frechet import INPUT, dataset_features, features, sample

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.generation.sampler import load_generator
from kyara.training.runtime import pick_device

FACES = 16
PAIRS = 4
"""Faces in one row of the sheet."""
HELD_OUT = 200
"""Held-out real pictures that the generated ones are compared with."""


class Nearest(NamedTuple):
    """The nearest training picture of each of Q pictures."""

    indices: np.ndarray
    """(Q,) numbers in the training set."""
    mirrored: np.ndarray
    """(Q,) bool: whether the mirror image is nearer."""
    distance: np.ndarray
    """(Q,) root mean square difference; for pixels in grey levels of 255."""


def nearest(rows: np.ndarray, mirrored: np.ndarray, pool: np.ndarray) -> Nearest:
    """For pictures `rows` (Q, ...) and their mirror images, in a `pool` (N, ...)."""
    queries = torch.from_numpy(np.stack([rows, mirrored])).flatten(2).float()  # (2, Q, D)
    slices = (torch.from_numpy(pool[i : i + 1000]).flatten(1).float() for i in range(0, len(pool), 1000))
    distances = torch.cat([torch.cdist(queries, part) for part in slices], dim=2)  # (2, Q, N)
    closest, index = distances.min(dim=2)
    distance, side = closest.min(dim=0)
    return Nearest(
        index.gather(0, side[None])[0].numpy(),
        side.bool().numpy(),
        (distance / queries.shape[2] ** 0.5).numpy(),
    )


def pairs(faces: np.ndarray, pool: np.ndarray, found: Nearest) -> list[np.ndarray]:
    """Each face, followed by its nearest training picture, mirrored if the mirror image was nearer."""
    cells = []
    for face, i, turned in zip(faces, found.indices, found.mirrored, strict=False):  # the faces come first
        cells += [face, pool[i][:, ::-1] if turned else pool[i]]
    return cells


def measure(
    checkpoint: tyro.conf.Positional[str],
    dataset: tyro.conf.Positional[Path],
    out: Path,
    prefix_from: str | None = None,
    limit: int | None = None,
    truncation: float = 1.0,
    size: str = "64",
    input_size: int = INPUT,
    device: str = "auto",
) -> None:
    """Writes the sheet and prints the distances of seeds 0 to 15 to training pictures.

    Args:
        checkpoint: A folder, builtin:NAME or hf-hub:OWNER/NAME.
        dataset: The training data, a folder or .zip.
        out: The PNG to write.
        prefix_from: File names of held-out pictures sort from here on. They are not searched; the distances of 200
            of them are printed, too: a generator that copies comes nearer.
        limit: Search only this many training pictures, drawn at random.
        truncation: 1 is none, 0 gives the average face.
        size: All pictures are resized to this first with Lanczos' filter: 64, or 512x256 (height x width).
        input_size: Shorter side of the network's input, resized bilinearly.
        device: auto, cpu or cuda.
    """
    if out.exists():
        raise FileExistsError(f"--out {out}: exists already; choose another name")
    width, height = pictures.parse_size(size)
    network = load_vgg16().to(pick_device(device))
    generator = load_generator(checkpoint, network.shift.device)
    faces = np.stack(list(sample(generator, range(FACES), width, height, truncation)))  # (16, H, W, 3)
    data = open_dataset(dataset)
    order = np.random.RandomState(0).permutation(len(data)).tolist()
    training = set(range(len(data)) if prefix_from is None else held_out(data, prefix_from)[0])
    held = [i for i in order if i not in training][:HELD_OUT]
    trained = [i for i in order if i in training][:limit]
    if not trained:
        raise ValueError(f"--prefix-from {prefix_from}: leaves no training picture of {dataset}")

    queries = np.stack([*faces, *data.decode(held, width, height)])  # (16 + held out, H, W, 3)
    turned = np.ascontiguousarray(queries[:, :, ::-1])
    images = np.stack(list(data.decode(trained, width, height)))  # (N, H, W, 3)
    rows = dataset_features(data, trained, network, width, height, input_size)  # (N, 1024)
    seen, seen_turned = features(queries, network, input_size), features(turned, network, input_size)
    found = {"features": nearest(seen, seen_turned, rows), "pixels": nearest(queries, turned, images)}

    cells = [pairs(faces, images, by) for by in found.values()]
    step = 2 * PAIRS
    bands = [cell[i : i + step] for i in range(0, 2 * FACES, step) for cell in cells]
    pictures.write_png(out, pictures.sheet([picture for band in bands for picture in band], columns=step))
    for seed in range(FACES):
        matches = (f"{by} {n.distance[seed]:.1f} {data.names[trained[n.indices[seed]]]}" for by, n in found.items())
        print(f"seed {seed}: {', '.join(matches)}")
    for by, n in found.items():
        reals = f", held-out real pictures {np.median(n.distance[FACES:]):.1f}" if held else ""
        print(f"median distance by {by}: generated {np.median(n.distance[:FACES]):.1f}{reals}")


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
