"""Adapts the label embedding of a StyleGAN2, so that its pictures show more often what is asked for.

    python tools/adapt_labels.py builtin:character characters-128.zip --weights gender=3,eyes=2 --out runs/adapted

A classifier is trained on labelled pictures in the frame of the generator. Then the rows of the label embedding are
optimised until it reads the labels in generated pictures. Everything else stays as it is, so the generator cannot learn
textures that deceive the classifier. Its labels are better than those of the discriminator, which has to see eyes and
mouths in the features of whole faces: here, networks of their own look at them. Judge the result with another tagger.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from tqdm import trange

from kyara import models
from kyara.data import variation
from kyara.files import checkpoint
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.pictures import to_float
from kyara.models.base import latents
from kyara.models.stylegan2.model import Model
from kyara.nn.conditioning import Attributes

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the sides

EYES: tuple[Box, Box] = ((0.17, 0.375, 0.485, 0.655), (0.515, 0.375, 0.83, 0.655))
LOWER: Box = (0.155, 0.34, 0.845, 0.845)  # brows to chin
PARTS = {"eyes": EYES, "expression": (LOWER,)}
"""Where attributes are read in faces as `prepare` frames them; others in the whole picture, at half the size."""
WIDTHS = (3, 24, 48, 64, 64)
BATCH, CLASSIFIER_LR, LR = 64, 2e-3, 0.12
ANCHOR = 0.1  # weight of the mean squared shift of a row
SEEDS = 10**6, 10**8  # of the pictures: other ones than people try


class Classifier(nn.Module):
    """A small convolutional network for each view. (B, 3, H, W) in [-1, 1] -> attribute -> logits (B, V)."""

    def __init__(self, attributes: Attributes, height: int, width: int) -> None:
        super().__init__()
        self.views = {name: name if name in PARTS else "face" for name in attributes}
        self.bodies, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for view in dict.fromkeys(self.views.values()):
            layers: list[nn.Module] = []
            for inputs, outputs in itertools.pairwise(WIDTHS):
                layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
            self.bodies[view] = nn.Sequential(*layers, nn.Flatten())
            cells = self.bodies[view](look(torch.zeros(1, 3, height, width), view)[0]).shape[1]
            named = {name: values for name, values in attributes.items() if self.views[name] == view}
            self.heads.update({name: nn.Linear(cells, len(values)) for name, values in named.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        seen = {
            view: torch.stack([body(part) for part in look(pictures, view)]).mean(0)
            for view, body in self.bodies.items()
        }
        return {name: head(seen[self.views[name]]) for name, head in self.heads.items()}


def look(pictures: Tensor, view: str) -> list[Tensor]:
    """The parts of pictures (B, 3, H, W) that a view shows; the right eye is mirrored."""
    if view not in PARTS:
        return [F.avg_pool2d(pictures, 2)]
    height, width = pictures.shape[2:]
    first, *rest = (
        pictures[:, :, round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        for left, top, right, bottom in PARTS[view]
    )
    return [first, *(F.interpolate(part.flip(3), first.shape[2:]) for part in rest)]


def vary(pictures: Tensor) -> Tensor:
    """Augmented pictures: moved by up to a fortieth of the size, lighter, darker, and with noise."""
    theta = variation.random_affine(pictures, degrees=2, scale=0.03, translate=0.025)
    moved = variation.jitter(variation.warp(pictures, theta, "border"), 0.15, channels=1)
    return moved + 0.05 * torch.randn_like(moved)


def cross_entropies(logits: dict[str, Tensor], labels: dict[str, Tensor], smoothing: float = 0.0) -> dict[str, Tensor]:
    """The cross entropy of each attribute, over the pictures whose label is known."""
    return {
        name: F.cross_entropy(logit, labels[name], ignore_index=-1, label_smoothing=smoothing)
        for name, logit in logits.items()
        if (labels[name] >= 0).any()
    }


def train_classifier(data: Dataset, attributes: Attributes, size: tuple[int, int], epochs: int) -> Classifier:
    """A classifier of labelled pictures of that size (height, width)."""
    height, width = size
    pictures = torch.from_numpy(np.stack([*data.decode(range(len(data)), width, height)]))  # (N, H, W, 3) uint8
    labels = {name: torch.from_numpy(data.labels(name, values)) for name, values in attributes.items()}
    network = Classifier(attributes, height, width)
    optimizer = torch.optim.AdamW(network.parameters(), CLASSIFIER_LR, weight_decay=0.05)
    steps = epochs * (len(data) // BATCH or 1)
    for step in trange(steps, desc="classifier"):
        optimizer.param_groups[0]["lr"] = CLASSIFIER_LR * (1 - step / steps)
        chosen = torch.randint(len(data), (BATCH,))
        logits = network(vary(to_float(pictures[chosen].numpy())))
        loss = sum(cross_entropies(logits, {n: y[chosen] for n, y in labels.items()}, 0.05).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def adapt(generator: Model, classifier: Classifier, weights: dict[str, float], steps: int, batch: int) -> list[float]:
    """Optimises the rows of the label embedding in place. Returns the losses."""
    table = generator.g_ema.mapping.labels
    assert table is not None
    generator.requires_grad_(False)
    rows = table.rows.requires_grad_(True)
    start, random, losses = rows.detach().clone(), np.random.RandomState(0), list[float]()
    optimizer = torch.optim.Adam([rows], LR, betas=(0.8, 0.99))
    for step in trange(steps, desc="labels"):
        optimizer.param_groups[0]["lr"] = LR * min(1, (step + 1) / 10) * (1 - step / steps)
        seeds = random.randint(*SEEDS, batch).tolist()
        labels = drawn(generator, seeds)
        pictures = generator.synthesise(generator.styles(latents(seeds, generator.z_dim), labels)).clamp(-1, 1)
        found = cross_entropies(classifier(vary(pictures)), labels)
        loss = sum((weights.get(name, 1.0) * one for name, one in found.items()), torch.zeros(()))
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss + ANCHOR * (rows - start).square().sum(1).mean()).backward()
        optimizer.step()
    rows.requires_grad_(False)
    return losses


def drawn(generator: Model, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Labels (B,) of seeds, as `kyara generate` draws them."""
    labels = [generator.label_table.draw({}, seed) for seed in seeds]
    return {name: torch.tensor([one[name] for one in labels]) for name in generator.config.data.attributes}


def main(
    model: tyro.conf.Positional[str],
    data: tyro.conf.Positional[Path],
    *,
    out: Path,
    weights: str = "",
    epochs: int = 10,
    steps: int = 300,
    batch: int = 12,
) -> None:
    """Adapts the label embedding of a generator.

    Args:
        model: A StyleGAN2 with attributes.
        data: Labelled pictures in the same frame.
        out: Folder of the new checkpoint.
        weights: Weights of attributes in the loss other than 1, such as gender=3,eyes=2.
        epochs: Training length of the classifier.
        steps: Steps of the optimisation of the labels.
        batch: Pictures of a step.
    """
    torch.manual_seed(0)
    found, generator = checkpoint.read(model), models.load(model)
    if not isinstance(generator, Model) or not generator.config.data.attributes:
        raise SystemExit(f"{model}: not a StyleGAN2 with attributes")
    attributes, size = generator.config.data.attributes, (generator.config.data.height, generator.config.data.width)
    classifier = train_classifier(open_dataset(data), attributes, size, epochs)
    chosen = {name: float(weight) for name, weight in (pair.split("=") for pair in weights.split(",") if pair)}
    losses = adapt(generator, classifier, chosen, steps, batch)
    print(f"loss {np.mean(losses[: steps // 10 or 1]):.3f} -> {np.mean(losses[-(steps // 10 or 1) :]):.3f}")
    tensors, card = models.stored(generator), (found.path / checkpoint.CARD).read_text("utf-8")
    checkpoint.write(out, model="stylegan2", config=found.config, weights=tensors, card=card, about=found.about)


if __name__ == "__main__":
    tyro.cli(main)
