"""The nonlinear memory of Re-Generator (section 3.2): several convolutions and the activations between them learn a
rule together.

The loss (equation 11) keeps old values with weight p and teaches new ones with weight q; a pattern covers a small part
of a picture, so with p = q the old values dominate. Beyond the paper, pixels are compared too, inside the new pattern
and outside: a value that shows the pattern need not be the one that the projector found. The paper does not give its
weights; these were swept with benchmarks/rewriting.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from kyara.nn.activations import restored
from kyara.rewriting.lessons import TrainingBatch
from kyara.rewriting.settings import Settings
from kyara.training.runtime import has_bfloat16

WeightDifference = dict[str, Tensor]  # what is added to weights, by name
WARM_UP = 20  # steps in which the learning rate rises from zero
MOMENTUM = 0.9  # Nesterov's
QUINTIC, ITERATIONS = (3.4445, -4.7750, 2.0315), 5  # the polynomial of Muon's Newton-Schulz iteration


def train_memory(batches: Sequence[TrainingBatch], settings: Settings | None = None) -> WeightDifference:
    """The change of the memory's kernels by which it learns the batches; the network itself is left unchanged. Every
    step takes one batch, in random order. Deterministic."""
    settings = settings or Settings()
    weights = batches[0].cache.kernels()
    original = {name: weight.detach().clone() for name, weight in weights.items()}
    scale = float(torch.stack([batch.cache.value.float().abs().mean() for batch in batches]).mean())
    rates = [settings.lr * float(weight.detach().std()) for weight in weights.values()]
    momenta = [torch.zeros_like(weight) for weight in weights.values()]
    random, order = torch.Generator().manual_seed(0), list[int]()
    with restored(weights.values()):
        for weight in weights.values():
            weight.requires_grad_(True)
        for step in tqdm(range(settings.steps), desc="learning", unit="step", disable=None):
            order = order or torch.randperm(len(batches), generator=random).tolist()
            decay = (0.5 + 0.5 * math.cos(math.pi * step / settings.steps)) * min(1.0, (step + 1) / WARM_UP)
            loss = rewriting_loss(batches[order.pop()], settings, scale)
            grads = torch.autograd.grad(loss, [*weights.values()])
            for weight, grad, momentum, rate in zip(weights.values(), grads, momenta, rates, strict=True):
                momentum.lerp_(grad, 1 - MOMENTUM)
                weight.detach().sub_(muon_step(grad.lerp(momentum, MOMENTUM)), alpha=rate * decay)
        return {name: weight.detach() - original[name] for name, weight in weights.items()}


def muon_step(gradient: Tensor) -> Tensor:
    """A gradient (C', C, h, w) as Muon (Jordan et al. 2024) steps along it: with equal singular values, and a root mean
    square of about 1. The iteration runs on the product of the matrix with its transpose, which is small, and in
    float32: on CPUs without bfloat16, that of torch.optim.Muon takes half of the time of a training step."""
    matrix = gradient.flatten(1)
    rows = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    with torch.autocast(gradient.device.type, enabled=False):
        rows = rows / rows.norm().clamp_min(1e-7)
        gram, (a, b, c) = rows @ rows.T, QUINTIC
        total = identity = torch.eye(len(gram)).to(gram)
        for _ in range(ITERATIONS):
            factor = torch.addmm(torch.add(a * identity, gram, alpha=b), gram, gram, alpha=c)
            total, gram = factor @ total, factor @ gram @ factor
        step = total @ rows * max(matrix.shape) ** 0.5
    return (step.T if rows.shape != matrix.shape else step).view_as(gradient)


def rewriting_loss(batch: TrainingBatch, settings: Settings, scale: float = 1.0) -> Tensor:
    """Equation 11: p times the error of values outside plus q times that inside, mean absolute errors over all cells in
    units of `scale`; plus the errors of pixels inside and outside."""
    cache = batch.cache
    with torch.enable_grad(), autocast(cache.pictures):
        if settings.inside or settings.outside:
            pictures, values = cache.rerun()
        else:
            pictures, values = cache.pictures, cache.compute_value()
    error = (values - batch.target.to(values.dtype)).abs().mean(1, keepdim=True, dtype=torch.float32) / scale
    loss = (error * (settings.p * batch.outside + settings.q * batch.inside)).mean()
    inside, outside = batch.pixel_weights
    if settings.inside:
        error = (pictures - batch.edited).abs().mean(1, keepdim=True)
        loss = loss + settings.inside * (error * inside).sum() / inside.sum().clamp_min(1)
    if settings.outside:
        change = (pictures - cache.pictures.float()).abs().mean(1, keepdim=True)
        loss = loss + settings.outside * (change * outside).mean()
    return loss


def autocast(like: Tensor) -> torch.autocast:
    """bfloat16 where the device computes in it. Capture and training use the same precision, so that a rule the network
    already follows has a loss of zero. Weights in bfloat16 are not cached: they change in between."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=has_bfloat16(like.device), cache_enabled=False)
