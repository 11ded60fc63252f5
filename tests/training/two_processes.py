"""Run by test_distributed.py: the same steps in one process or in two, their states saved by rank.

python two_processes.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))

from every_model import Variant, batch_of, tiny, variants

from kyara.models.base import Batch, Config, Model
from kyara.training.runtime import make_fabric
from kyara.training.trainer import Options, Trainer

BATCH, STEPS = 8, 3
TOY = Variant("toy", False)
ALL = [TOY, *variants()]


class Toy(Model):
    """A classifier with random numbers, and no float buffer that a network would have. It is sure of bright pictures
    only."""

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


def build(variant: Variant) -> Model:
    torch.manual_seed(0)
    return Toy(Config().replace(data={"width": 8, "height": 8})) if variant is TOY else tiny(variant)


def batch(model: Model, step: int) -> Batch:
    """A batch whose first half is bright and whose second half is dark."""
    torch.manual_seed(step)
    found = batch_of(model, BATCH)
    found.real.abs_()[BATCH // 2 :].neg_()
    return found


def run(variant: Variant, devices: int, out: Path) -> None:
    """Writes the state after some steps as VARIANT-DEVICES-RANK.pt."""
    fabric = make_fabric(torch.device("cpu"), devices=devices)
    if devices > 1:
        fabric.launch()
    model, share = build(variant), BATCH // devices
    trainer = Trainer(model, Options(BATCH, BATCH // 2, augment_target=-0.5), fabric=fabric)
    trainer.augment.p = 0.3
    first = fabric.global_rank * share
    for step in range(STEPS):
        trainer.step(batch(model, step)[first : first + share])
        trainer.read()
    torch.save(trainer.state_dict(), out / f"{label(variant)}-{devices}-{fabric.global_rank}.pt")


def label(variant: Variant) -> str:
    return variant.name + "-told" * variant.told


if __name__ == "__main__":
    torch.set_num_threads(1)
    for variant in ALL:
        run(variant, 2, Path(sys.argv[1]))
