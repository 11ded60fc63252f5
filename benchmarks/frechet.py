"""Fréchet distance and MMD between two sets of pictures, in features of VGG16.

    python benchmarks/frechet.py GALLERY faces.zip
    python benchmarks/frechet.py faces.zip --checkpoint runs/00000-stylegan2-faces --prefix-from db

The numbers are comparable with each other at the same size, input and N, but not with published FID, which uses
Inception and 50,000 pictures. The Fréchet distance decreases with N: compare it with that of two halves of the real
pictures at the same N (give the same set twice). The MMD is unbiased.
"""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch.nn.functional as F
import tyro
from common import held_out, load_vgg16, run
from torch import Tensor
from tqdm import tqdm

from kyara.evaluation import metrics
from kyara.evaluation.features import FeatureExtractor, chunked
from kyara.evaluation.statistics import fit_gaussian
from kyara.files import pictures
from kyara.files.cache import cached
from kyara.files.dataset import Dataset, open_dataset
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.models.base import Generator
from kyara.perception.vgg16 import VGG16, WEIGHTS_SHA256
from kyara.training.runtime import pick_device

BATCH = 32
LAYERS = "VGG16 relu4_3+relu5_3, spatial means"
INPUT = 64
LINE = (
    "Fréchet {frechet:.2f}, MMD {mmd:.4f}: {a} (N={n_a}), {b} (N={n_b}); "
    "{input}, {layers}, weights {weights}, seed {seed}"
)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of features (N, F) and (M, F)."""
    return metrics.frechet(fit_gaussian(a), fit_gaussian(b))


def features(
    images: Iterable[np.ndarray], network: VGG16, input_size: int = INPUT, normalised: bool = True
) -> np.ndarray:
    """Spatial means of relu4_3 and relu5_3 of each picture, (N, 1024) float32.

    `images` are (H, W, 3) uint8 of one size. They are resized bilinearly to a shorter side of `input_size` pixels and
    normalised as in training, or, without `normalised`, left in [0, 1].
    """

    def embed(x: Tensor) -> Tensor:
        scale = input_size / min(x.shape[2:])
        size = [round(side * scale) for side in x.shape[2:]]
        if not normalised:
            x = (x + 1) / 2 * network.scale + network.shift  # the network's own normalisation is undone
        return network.features(F.interpolate(x, size, mode="bilinear", antialias=True))

    extractor = FeatureExtractor("vgg16", WEIGHTS_SHA256[:16], network.shift.device, embed)
    return np.concatenate([extractor(np.stack(batch)) for batch in chunked(images, BATCH)])


def split(
    a: Dataset | None, b: Dataset, prefix_from: str = "", limit: int | None = None, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Numbers of the pictures of each set that are compared, at most `limit` of each, drawn with `seed`.

    Of `b`, those whose file names sort from `prefix_from` on, the held-out ones. If both are the same set, no picture
    is on both sides: `a` gives the other ones or, without a prefix, each gives a random half.
    """
    random = np.random.RandomState(seed)
    order = random.permutation(len(b)).tolist()
    training, held = map(set, held_out(b, prefix_from))
    right = [i for i in order if i in held]
    if a is None:
        left = []
    elif a.path.resolve() != b.path.resolve():
        left = random.permutation(len(a)).tolist()
    elif prefix_from:
        left = [i for i in order if i in training]
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
    """`features` of these pictures, resized with Lanczos' filter first. Those of a .zip are cached."""

    def compute() -> dict[str, np.ndarray]:
        images = dataset.decode(indices, width, height)
        progress = tqdm(images, desc=dataset.path.name, total=len(indices), disable=None)
        return {"features": features(progress, network, input_size, normalised)}

    if not dataset.path.is_file():  # a folder has no checksums that tell whether it has changed
        return compute()["features"]
    names = [dataset.names[i] for i in indices]
    key = {"data": dataset.fingerprint, "names": names, "size": [width, height], "input": input_size}
    if not normalised:
        key["normalised"] = False
    return cached("vgg16", {**key, "hash": WEIGHTS_SHA256}, compute)["features"]


def sample(
    generator: Generator, seeds: Iterable[int], width: int, height: int, truncation: float = 1.0
) -> Iterator[np.ndarray]:
    """The generator's picture of each seed, (height, width, 3) uint8."""
    for made, _ in sample_seeds(generator, seeds, truncation=truncation):
        for picture in pictures.to_uint8(made):
            yield pictures.center_crop(picture, width, height)


def measure(
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
    """Prints the distances between set A and set B.

    Args:
        sets: Two folders or .zip files, A and B; with --checkpoint only B.
        checkpoint: A is generated by this Checkpoint: a folder, builtin:NAME or hf-hub:OWNER/NAME.
        count: Number of generated pictures, of seeds 0, 1, ...
        truncation: 1 is none, 0 gives the average face.
        prefix_from: Of B only pictures whose file names sort from here on (held out); if A is the same set, the
            other ones of it.
        limit: Pictures of each set, at most, drawn at random.
        size: Both sets are resized to this first with Lanczos' filter: 64, or 512x256 (height x width).
        input_size: Shorter side of the network's input, resized bilinearly.
        normalised: Normalise pictures with ImageNet's mean as in training; otherwise they are in [0, 1], a common
            mistake that divides the numbers by about four.
        device: auto, cpu or cuda.
        seed: For halves and limited sets.
        json: Print a JSON object.
    """
    if len(sets) != (1 if checkpoint else 2):
        raise ValueError("give two sets of pictures, or one and --checkpoint")
    width, height = pictures.parse_size(size)
    network = load_vgg16().to(pick_device(device))
    b = open_dataset(sets[-1])
    a = None if checkpoint else open_dataset(sets[0])
    left, right = split(a, b, prefix_from, limit, seed)
    if a is not None:
        ours = dataset_features(a, left, network, width, height, input_size, normalised)
    else:
        assert checkpoint is not None
        made = sample(load_generator(checkpoint, network.shift.device), range(count), width, height, truncation)
        ours = features(tqdm(made, desc=checkpoint, total=count, disable=None), network, input_size, normalised)
    reals = dataset_features(b, right, network, width, height, input_size, normalised)
    about = {
        "frechet": frechet(ours, reals),
        "mmd": metrics.mmd(ours, reals),
        "a": f"{checkpoint} at truncation {truncation:g}" if checkpoint else str(sets[0]),
        "b": f"{sets[-1]} from {prefix_from}" if prefix_from else str(sets[-1]),
        "n_a": len(ours),
        "n_b": len(reals),
        "input": f"{height}x{width} by Lanczos, {input_size} bilinearly{'' if normalised else ', not normalised'}",
        "layers": LAYERS,
        "weights": WEIGHTS_SHA256[:8],
        "seed": seed,
    }
    print(jsons.dumps(about) if json else LINE.format(**about))


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
