"""Run by test_distributed.py: the same steps in one process or in two, their states saved by rank.

python two_processes.py DEVICES OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from kyara import models
from kyara.models.base import Batch, Config, Model
from kyara.training.runtime import make_fabric
from kyara.training.trainer import Options, Trainer

BATCH, STEPS = 8, 6


class Toy(Model):
    """A classifier with running statistics, random numbers, and no float buffer that a network would have. It is sure
    of bright pictures only."""

    phases = ("d",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.d = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.LazyLinear(1))
        self.d(torch.zeros(1, 3, 8, 8))

    def players(self) -> dict[str, nn.Module]:
        return {"d": self.d}

    def losses(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        noise = torch.randn_like(batch.real)
        batch.log["real_sign"] = batch.real.mean().sign()
        return {"d": self.d(batch.augment(batch.real) + 0.1 * noise).square().mean()}


def build(name: str) -> Model:
    torch.manual_seed(0)
    if name == "toy":
        return Toy(Config().replace(data={"width": 8, "height": 8}))
    return models.architecture(name)(models.architecture(name).presets["tiny"])


def pictures(model: Model, step: int) -> Tensor:
    """A batch whose first half is bright and whose second half is dark."""
    random = torch.Generator().manual_seed(step)
    bright = torch.rand(BATCH, 3, model.config.data.height, model.config.data.width, generator=random)
    return torch.cat([bright[: BATCH // 2], -bright[BATCH // 2 :]])


def run(name: str, devices: int, out: Path) -> None:
    fabric = make_fabric(torch.device("cpu"), devices=devices)
    if devices > 1:
        fabric.launch()
    model, share = build(name), BATCH // devices
    trainer = Trainer(model, Options(BATCH, BATCH // 2, augment_target=-0.5), fabric=fabric)
    trainer.augment.p = 0.3
    for step in range(STEPS):
        first = fabric.global_rank * share
        trainer.step(Batch(pictures(model, step)[first : first + share]))
        if step % 2:
            trainer.read()
    torch.save(trainer.state_dict(), out / f"{name}-{devices}-{fabric.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("toy", "dcgan", "mlp", "stylegan2"):
        run(name, int(sys.argv[1]), Path(sys.argv[2]))
