"""Adapts the mapping network of a StyleGAN2, so that its pictures show more often what is asked for.

    python tools/adapt_labels.py builtin:character characters-128.zip --weights gender=2,mouth=3 --out runs/adapted

A classifier is trained on labelled pictures in the frame of the generator. Then the mapping network is optimised, with
its label rows, until the classifier reads the labels in generated pictures. The synthesis network stays as it is, so it
cannot learn textures that deceive the classifier; the discriminator, and a penalty on the distribution of the styles,
keep the pictures realistic. The labels of the classifier are better than those of the discriminator, which has to see
eyes and mouths in the features of whole faces: here, networks of their own look at them. Judge the result with another
tagger.

To add an attribute, begin with `kyara train stylegan2 DATA --init MODEL --attributes OLD,NEW --kimg 0`: the rows of its
labels are initialised with zeros. With `--only NEW`, only they are optimised, and other pictures stay as they are."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection
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
from kyara.models.stylegan2.model import Model
from kyara.nn import conditioning
from kyara.nn.conditioning import Attributes
from kyara.nn.losses import nonsaturating_g

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the sides

EYES: tuple[Box, Box] = ((0.17, 0.375, 0.485, 0.655), (0.515, 0.375, 0.83, 0.655))
LOWER: Box = (0.155, 0.34, 0.845, 0.845)  # brows to chin
MOUTH: Box = (0.265, 0.595, 0.735, 0.875)
PARTS = {"eyes": EYES, "expression": (LOWER,), "mouth": (MOUTH,)}
"""Where attributes are read in faces as `prepare` frames them; others in the whole picture, at half the size."""
WIDTHS = (3, 24, 48, 64, 64)
FINE = {"mouth"}  # views whose first layer keeps the size: the lines of a mouth have one or two pixels
DROPOUT = 0.3
BATCH, CLASSIFIER_LR = 64, 2e-3
LR, ROW_LR = 0.1, 0.4  # of the whole mapping network, and of rows alone
REALISM = 0.5  # weight of the discriminator's loss
ANCHOR = 8.0  # weight of the distance between the distributions of whitened styles, before and after
STYLES, HIDDEN = 256, 0.2  # styles for that distance, and the share of them with hidden labels, see `dropped`
RIDGE = 0.01  # what is added to the eigenvalues of the covariance of styles, as a share of the largest
POOL, SEEDS = 4096, 10**6  # number of labels to draw from, and the first of their seeds


class Classifier(nn.Module):
    """A small convolutional network for each view. (B, 3, H, W) in [-1, 1] -> attribute -> logits (B, V)."""

    def __init__(self, attributes: Attributes, height: int, width: int) -> None:
        super().__init__()
        self.views = {name: name if name in PARTS else "face" for name in attributes}
        self.bodies, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for view in dict.fromkeys(self.views.values()):
            layers: list[nn.Module] = []
            for i, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
                stride = 1 if view in FINE and not i else 2
                layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            self.bodies[view] = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(DROPOUT))
            cells = self.bodies[view].eval()(look(torch.zeros(1, 3, height, width), view)[0]).shape[1]
            named = {name: values for name, values in attributes.items() if self.views[name] == view}
            self.heads.update({name: nn.Linear(cells, len(values)) for name, values in named.items()})
        self.train()

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


def adapt(
    generator: Model,
    classifier: Classifier,
    weights: dict[str, float],
    steps: int,
    batch: int,
    only: Collection[str] = (),
) -> list[float]:
    """Optimises the mapping network in place, or only the rows of some attributes. Returns the losses."""
    network, names = generator.g_ema.mapping, list(generator.config.data.attributes)
    before = copy.deepcopy(network).requires_grad_(False)
    generator.requires_grad_(False)
    assert network.labels is not None
    parameters = [network.labels.rows] if only else [*network.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    known = conditioning.rows(generator.config.data.attributes, unknown=True)
    chosen = torch.tensor([not only or (name in only and value is not None) for name, value in known])[:, None]
    pool, losses = drawn(generator, POOL), list[float]()
    whiten = whitening(before(torch.randn(POOL, generator.z_dim), pool))
    lr = ROW_LR if only else LR
    optimizer = torch.optim.Adam(parameters, lr, betas=(0.8, 0.99))
    for step in trange(steps, desc="mapping"):
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        labels, z = pool[torch.randint(POOL, (STYLES,))], torch.randn(STYLES, generator.z_dim)
        shown = conditioning.dropped(labels, HIDDEN)
        moved = sliced_distance(network(z, shown) @ whiten, before(z, shown) @ whiten)
        wanted = dict(zip(names, labels[:batch].unbind(1), strict=True))
        pictures = generator.synthesise(generator.styles(z[:batch], wanted))
        real = nonsaturating_g(generator.d(pictures, labels[:batch]))
        found = cross_entropies(classifier(vary(pictures.clamp(-1, 1))), wanted)
        loss = sum((weights.get(name, 1.0) * one for name, one in found.items()), torch.zeros(()))
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss + ANCHOR * moved + REALISM * real).backward()
        assert network.labels.rows.grad is not None
        network.labels.rows.grad *= chosen
        optimizer.step()
    network.requires_grad_(False)
    return losses


def whitening(styles: Tensor) -> Tensor:
    """The matrix (C, C) by which styles (N, C) are multiplied so that all directions have about the same variance."""
    values, vectors = torch.linalg.eigh(torch.cov(styles.T))
    return vectors / (values.clamp_min(0) + RIDGE * values.max()).sqrt()


def sliced_distance(a: Tensor, b: Tensor) -> Tensor:
    """The squared sliced Wasserstein distance of two samples (N, C), over C random directions (Bonneel et al. 2015)."""
    directions = torch.linalg.qr(torch.randn(a.shape[1], a.shape[1]))[0]
    return ((a @ directions).sort(0).values - (b @ directions).sort(0).values).square().mean()


def drawn(generator: Model, count: int) -> Tensor:
    """Labels (count, A), as `kyara generate` draws them for seeds that people do not try."""
    seeds = range(SEEDS, SEEDS + count)
    return torch.tensor([[*generator.label_table.draw({}, seed).values()] for seed in seeds])


def main(
    model: tyro.conf.Positional[str],
    data: tyro.conf.Positional[Path],
    *,
    out: Path,
    weights: str = "",
    only: str = "",
    epochs: int = 10,
    steps: int = 1000,
    batch: int = 12,
) -> None:
    """Adapts the mapping network of a generator.

    Args:
        model: A StyleGAN2 with attributes.
        data: Labelled pictures in the same frame.
        out: Folder of the new checkpoint.
        weights: Weights of attributes in the loss other than 1, such as gender=3,eyes=2.
        only: Attributes, such as mouth,bangs, of which nothing but the label rows is optimised. Pictures without such
            labels stay as they are.
        epochs: Training length of the classifier.
        steps: Steps of the optimisation of the mapping network.
        batch: Pictures of a step.
    """
    torch.manual_seed(0)
    found, generator = checkpoint.read(model), models.load(model)
    if not isinstance(generator, Model) or not generator.config.data.attributes:
        raise SystemExit(f"{model}: not a StyleGAN2 with attributes")
    attributes, size = generator.config.data.attributes, (generator.config.data.height, generator.config.data.width)
    classifier = train_classifier(open_dataset(data), attributes, size, epochs)
    chosen = {name: float(weight) for name, weight in (pair.split("=") for pair in weights.split(",") if pair)}
    losses = adapt(generator, classifier, chosen, steps, batch, [*filter(None, only.split(","))])
    print(f"loss {np.mean(losses[: steps // 10 or 1]):.3f} -> {np.mean(losses[-(steps // 10 or 1) :]):.3f}")
    tensors, card = models.stored(generator), (found.path / checkpoint.CARD).read_text("utf-8")
    checkpoint.write(out, model="stylegan2", config=found.config, weights=tensors, card=card, about=found.about)


if __name__ == "__main__":
    tyro.cli(main)
