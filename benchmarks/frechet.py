"""How far apart two sets of pictures are: Fréchet and kernel distance of VGG16 features.

    python benchmarks/frechet.py GALLERY faces.zip
    python benchmarks/frechet.py faces.zip --checkpoint runs/00000-stylegan2-faces --prefix-from db

The numbers compare among themselves, at the same size, input and N, and not with published FID, which takes
Inception and 50,000 pictures. The Fréchet distance shrinks as N grows: read it beside that of real from real
pictures at the same N (give the same set twice). The kernel distance has no such bias.
"""

from __future__ import annotations

import itertools
import json as jsons
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from tqdm import tqdm
from vgg16 import archive

from kyara.evaluation import metrics
from kyara.evaluation.cache import remember
from kyara.evaluation.features import Extractor
from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.generation.sampler import load_generator
from kyara.models.base import Generator, latents
from kyara.perception.vgg16 import VGG16, WEIGHTS_SHA256, read_weights
from kyara.training.runtime import pick_device

BATCH = 32
LAYERS = "VGG16 relu4_3+relu5_3, spatial means"
INPUT = 64
LINE = (
    "Fréchet {frechet:.2f}, kernel {kernel:.4f}: {a} (N={n_a}), {b} (N={n_b}); "
    "{seen}, {layers}, weights {weights}, seed {seed}"
)


def features(
    images: Iterable[np.ndarray], network: VGG16, input_size: int = INPUT, normalised: bool = True
) -> np.ndarray:
    """Spatial means of relu4_3 and relu5_3 of each picture, (N, 1024) float32.

    `images` are (H, W, 3) uint8 of one size; the network sees them resized bilinearly, with a shorter side of
    `input_size` pixels, and normalised as it was trained, or else in [0, 1] as they are.
    """

    def embed(x: Tensor) -> Tensor:
        scale = input_size / min(x.shape[2:])
        size = [round(side * scale) for side in x.shape[2:]]
        if not normalised:
            x = (x + 1) / 2 * network.scale + network.shift  # what the network does first is undone
        return network.features(F.interpolate(x, size, mode="bilinear", antialias=True))

    extractor = Extractor("vgg16", WEIGHTS_SHA256[:16], network.shift.device, embed)
    return np.concatenate([extractor(np.stack(batch)) for batch in _batches(images)])


def _batches(images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    iterator = iter(images)
    return iter(lambda: list(itertools.islice(iterator, BATCH)), [])


def split(
    a: Dataset | None, b: Dataset, prefix_from: str = "", limit: int | None = None, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Which pictures of each set are compared, at most `limit` of each, drawn by `seed`.

    Of `b` those whose file names sort from `prefix_from` on, the held-out ones. Where both are the same set,
    no picture stands on both sides: `a` gives the others, or, with no prefix, each gives a random half.
    """
    random = np.random.RandomState(seed)
    order = random.permutation(len(b)).tolist()
    right = [i for i in order if PurePosixPath(b.names[i]).stem >= prefix_from]
    if a is None:
        left = []
    elif a.path.resolve() != b.path.resolve():
        left = random.permutation(len(a)).tolist()
    elif prefix_from:
        left = [i for i in order if PurePosixPath(b.names[i]).stem < prefix_from]
    else:
        left, right = order[: len(order) // 2], order[len(order) // 2 :]
    if not right or (a is not None and not left):
        raise ValueError(f"--prefix-from {prefix_from}: leaves one side without pictures of {b.path}")
    return left[:limit], right[:limit]


def dataset_features(
    dataset: Dataset,
    indices: list[int],
    network: VGG16,
    width: int,
    height: int,
    input_size: int = INPUT,
    normalised: bool = True,
) -> np.ndarray:
    """`features` of these pictures, brought to that size by Lanczos' filter.

    Those of a .zip are computed once and kept in the cache.
    """

    def compute() -> dict[str, np.ndarray]:
        images = dataset.decode(indices, width, height)
        return {
            "features": features(_progress(images, len(indices), dataset.path.name), network, input_size, normalised)
        }

    if not dataset.path.is_file():  # only archives have checksums, which tell that nothing changed
        return compute()["features"]
    names = [dataset.names[i] for i in indices]
    key = {"data": dataset.fingerprint, "names": names, "size": [width, height], "input": input_size}
    if not normalised:
        key["normalised"] = False
    return remember("vgg16", {**key, "hash": WEIGHTS_SHA256}, compute)["features"]


def _progress(images: Iterable[np.ndarray], total: int, name: str) -> Iterable[np.ndarray]:
    return tqdm(images, desc=name, total=total, disable=None)


def sample(
    generator: Generator, seeds: Iterable[int], width: int, height: int, truncation: float = 1.0
) -> Iterator[np.ndarray]:
    """The generator's picture of each seed as a file would hold it, (height, width, 3) uint8."""
    device, remaining = next(generator.parameters()).device, iter(seeds)
    while some := list(itertools.islice(remaining, BATCH)):
        labels = {name: label.to(device) for name, label in generator.draw(some).items()}
        with torch.inference_mode():
            made = generator.sample(latents(some, generator.z_dim).to(device), truncation=truncation, labels=labels)
        for picture in pictures.to_uint8(made):
            yield pictures.center_crop(picture, width, height)


def main(
    sets: tyro.conf.Positional[tuple[Path, ...]],
    checkpoint: str | None = None,
    count: int = 2000,
    truncation: float = 1.0,
    prefix_from: str = "",
    limit: int | None = None,
    size: str = "64",
    input_size: int = INPUT,
    normalised: bool = True,
    device: str = "auto",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Prints how far set A is from set B.

    Args:
        sets: Two folders or .zip files, A and B; with --checkpoint only B.
        checkpoint: A is made by this Checkpoint: a folder, builtin:NAME or hf-hub:OWNER/NAME.
        count: How many pictures the checkpoint makes, of seeds 0, 1, ...
        truncation: 1 is off, 0 gives the average face.
        prefix_from: Of B only the pictures whose file names sort from here on (held out); if A is the same
            set, the others of it.
        limit: At most so many pictures of each set, at random.
        size: Both sets are brought to this size first, by Lanczos' filter: 64, or 512x256 (height x width).
        input_size: Shorter side of what the network sees, bilinearly resized.
        normalised: Show the network pictures as it was trained, with ImageNet's mean taken away; without, in [0, 1] as
            they are. Many scripts forget it, and their numbers are about a quarter.
        device: auto, cpu or cuda.
        seed: Draws halves and limited sets.
        json: Print one JSON object instead of a line.
    """
    if len(sets) != (1 if checkpoint else 2):
        raise ValueError("give two sets of pictures, or one and --checkpoint")
    width, height = pictures.parse_size(size)
    network = VGG16(read_weights(archive())).to(pick_device(device))
    b = open_dataset(sets[-1])
    a = None if checkpoint else open_dataset(sets[0])
    left, right = split(a, b, prefix_from, limit, seed)
    if a is not None:
        ours = dataset_features(a, left, network, width, height, input_size, normalised)
    else:
        assert checkpoint is not None
        made = sample(load_generator(checkpoint, network.shift.device), range(count), width, height, truncation)
        ours = features(_progress(made, count, checkpoint), network, input_size, normalised)
    reals = dataset_features(b, right, network, width, height, input_size, normalised)
    about = {
        "frechet": metrics.frechet(metrics.statistics(ours), metrics.statistics(reals)),
        "kernel": metrics.kernel(ours, reals),
        "a": f"{checkpoint} at truncation {truncation:g}" if checkpoint else str(sets[0]),
        "b": f"{sets[-1]} from {prefix_from}" if prefix_from else str(sets[-1]),
        "n_a": len(ours),
        "n_b": len(reals),
        "seen": f"{height}x{width} by Lanczos, {input_size} bilinearly{'' if normalised else ', not normalised'}",
        "layers": LAYERS,
        "weights": WEIGHTS_SHA256[:8],
        "seed": seed,
    }
    print(jsons.dumps(about) if json else LINE.format(**about))


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(str(error)) from error
