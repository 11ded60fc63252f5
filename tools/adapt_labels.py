"""Adapts the mapping network of a StyleGAN2, so that its pictures show more often what is asked for.

    kyara train views characters-128.zip --attributes gender,eyes,mouth --kimg 100 --out runs/tagger
    python tools/adapt_labels.py builtin:character runs/tagger --weights gender=2,mouth=3 --out runs/adapted

The mapping network is optimised, with its label rows, until a tagger reads the labels in generated pictures. The
synthesis network stays as it is, so it cannot learn textures that deceive the tagger; the discriminator, and a penalty
on the distribution of the styles, keep the pictures realistic. The labels of the model `views` are better than those of
the discriminator, which has to see eyes and mouths in the features of whole faces. Let another tagger judge.

To add an attribute, begin with `kyara train stylegan2 DATA --init MODEL --attributes OLD,NEW --kimg 0`: the rows of its
labels are initialised with zeros. With `--only NEW`, only they are optimised, and other pictures stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from tqdm import trange

from kyara import models
from kyara.files import checkpoint
from kyara.models.base import Tagger
from kyara.models.stylegan2.model import Model
from kyara.models.views import AugmentConfig, vary
from kyara.nn import conditioning
from kyara.nn.losses import nonsaturating_g

LR, ROW_LR = 0.1, 0.4  # of the whole mapping network, and of rows alone
REALISM = 0.5  # weight of the discriminator's loss
ANCHOR = 8.0  # weight of the distance between the distributions of whitened styles, before and after
STYLES, HIDDEN = 256, 0.2  # styles for that distance, and the share of them with hidden labels, see `dropped`
RIDGE = 0.01  # what is added to the eigenvalues of the covariance of styles, as a share of the largest
AUGMENT = AugmentConfig()  # of the pictures that the tagger sees
LEAST = 1e-6  # minimum probability
POOL, SEEDS = 4096, 10**6  # number of labels to draw from, and the first of their seeds


def cross_entropies(probabilities: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Tensor]:
    """The cross entropy of each attribute that the tagger reads, over the pictures whose label is known."""
    return {
        name: F.nll_loss(found.clamp_min(LEAST).log(), labels[name], ignore_index=-1)
        for name, found in probabilities.items()
        if (labels.get(name, torch.tensor(-1)) >= 0).any()
    }


def adapt(
    generator: Model,
    tagger: Tagger,
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
        found = cross_entropies(tagger.probabilities(vary(pictures.clamp(-1, 1), AUGMENT)), wanted)
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
    tagger: tyro.conf.Positional[str],
    *,
    out: Path,
    weights: str = "",
    only: str = "",
    steps: int = 1000,
    batch: int = 12,
) -> None:
    """Adapts the mapping network of a generator.

    Args:
        model: A StyleGAN2 with attributes.
        tagger: A tagger of the same attributes and values, and of pictures in the same frame.
        out: Folder of the new checkpoint.
        weights: Weights of attributes in the loss other than 1, such as gender=3,eyes=2.
        only: Attributes, such as mouth,bangs, of which nothing but the label rows is optimised. Pictures without such
            labels stay as they are.
        steps: Steps of the optimisation of the mapping network.
        batch: Pictures of a step.
    """
    torch.manual_seed(0)
    found, generator = checkpoint.read(model), models.load(model)
    if not isinstance(generator, Model) or not generator.config.data.attributes:
        raise SystemExit(f"{model}: not a StyleGAN2 with attributes")
    reader, attributes = models.load(tagger), generator.config.data.attributes
    if not isinstance(reader, Tagger) or any(attributes.get(name, v) != v for name, v in reader.attributes.items()):
        raise SystemExit(f"{tagger}: not a tagger of the same attributes and values")
    reader.requires_grad_(False)
    chosen = {name: float(weight) for name, weight in (pair.split("=") for pair in weights.split(",") if pair)}
    losses = adapt(generator, reader, chosen, steps, batch, [*filter(None, only.split(","))])
    print(f"loss {np.mean(losses[: steps // 10 or 1]):.3f} -> {np.mean(losses[-(steps // 10 or 1) :]):.3f}")
    tensors, card = models.stored(generator), (found.path / checkpoint.CARD).read_text("utf-8")
    checkpoint.write(out, model="stylegan2", config=found.config, weights=tensors, card=card, about=found.about)


if __name__ == "__main__":
    tyro.cli(main)
