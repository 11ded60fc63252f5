"""The sampler: pictures from seeds, latents, labels, truncation and styles, on the generator's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from kyara.generation.shots import Shot
from kyara.models import load
from kyara.models.base import Generator, StyledGenerator, latents
from kyara.training.inference import device_name, fit_batch, move, reproducible

BATCH, GPU_BATCH = 8, 64
"""Batch size on a CPU, and the largest one on a GPU. It is constant for a generator: convolutions may sum in another
order for other batch sizes, which would change the last bits of a seed's picture."""
_gpu_batches: WeakKeyDictionary[Generator, int] = WeakKeyDictionary()


def load_generator(name: str, device: torch.device) -> Generator:
    """The generator of a Checkpoint. Raises ValueError if the model does not generate pictures from seeds."""
    model = load(name, device)
    if not isinstance(model, Generator):
        raise ValueError(f"{name}: does not generate pictures from seeds; builtin:anime does")
    return model


def batch_size(generator: Generator) -> int:
    """The number of pictures that the generator computes at once: 8 on a CPU, on a GPU up to 64, as its memory allows.
    It is measured once for each generator."""
    device = next(generator.parameters()).device
    if device.type != "cuda":
        return BATCH

    @torch.inference_mode()
    def run(count: int) -> Tensor:
        with reproducible(device):
            return generator.sample(torch.zeros(count, generator.z_dim, device=device), truncation=0.7)

    if generator not in _gpu_batches:
        _gpu_batches[generator] = fit_batch(run, device, cpu=BATCH, most=GPU_BATCH)
    return _gpu_batches[generator]


def computed(device: torch.device, batch: int) -> dict[str, Any]:
    """For its recipe, what the last bits of a picture depend on beside the generator and its inputs."""
    return {"device": device_name(device), "precision": "float32", "batch": batch, "torch": str(torch.__version__)}


@torch.inference_mode()
def sample(
    generator: Generator,
    z: Tensor,
    labels: Mapping[str, Tensor] | None = None,
    *,
    truncation: float = 1.0,
    mirror: bool = False,
    batch: int | None = None,
) -> Tensor:
    """Pictures (N, 3, H, W), approximately in [-1, 1], of latents z (N, z_dim) and labels (N,) by attribute. A picture
    does not depend on the others or on N: `batch` of them, by default `batch_size`, are always computed at once; the
    last batch is padded by repeating the last latent."""
    device, batch = next(generator.parameters()).device, batch or batch_size(generator)
    made = []
    for start in range(0, len(z), batch):
        index = torch.arange(start, start + batch).clamp_max(len(z) - 1)  # (batch,)
        chosen = {name: move(label[index], device) for name, label in (labels or {}).items()}
        with reproducible(device):
            part = generator.sample(move(z[index], device), truncation=truncation, labels=chosen)
        made.append(part[: len(z) - start])
    pictures = torch.cat(made)  # (N, 3, H, W)
    return pictures.flip(3) if mirror else pictures


def sample_seeds(
    generator: Generator, seeds: Iterable[int], *, truncation: float = 1.0
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yields batches of pictures (B, 3, H, W) of seeds, and their labels (B,) by attribute, sampled from the
    distribution of the training data."""
    remaining = iter(seeds)
    while batch := list(islice(remaining, batch_size(generator))):
        labels = generator.draw(batch)
        yield sample(generator, latents(batch, generator.z_dim), labels, truncation=truncation), labels


@torch.inference_mode()
def synthesise(generator: StyledGenerator, ws: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) of styles ws (N, layers, w_dim), computed one by one so that they are independent."""
    with reproducible(ws.device):
        return torch.cat([generator.synthesise(one[None]) for one in ws])


def shot_latents(shots: Sequence[Shot], z_dim: int) -> Tensor:
    """Latents z (N, z_dim) of shots with a seed, or interpolated between two."""
    if all("seed" in shot for shot in shots):
        return latents([shot["seed"] for shot in shots], z_dim)
    return torch.cat([_latent(shot, z_dim) for shot in shots])


def _latent(shot: Shot, z_dim: int) -> Tensor:
    if "seed" in shot:
        return latents([shot["seed"]], z_dim)
    a, b = latents(shot["seeds"], z_dim)
    return slerp(a, b, shot["position"])[None]


def shot_labels(shots: Sequence[Shot], attributes: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """The labels (N,) of shots by attribute; -1 (unknown) where a shot has none."""
    return {
        name: torch.tensor([[*values].index(v) if (v := shot["labels"].get(name)) else -1 for shot in shots])
        for name, values in attributes.items()
    }


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation (Shoemake 1985) from a to b, each (z_dim,), at t in [0, 1]. Linear interpolation would
    give shorter vectors than the latents that the model was trained on."""
    a64, b64 = a.double(), b.double()
    cosine = torch.dot(a64, b64) / (a64.norm() * b64.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    return (((1 - t) * angle).sin() * a64 + (t * angle).sin() * b64).div(angle.sin()).to(a.dtype)
