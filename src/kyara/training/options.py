"""Option types of `kyara train`, without importing torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

LARGEST_BATCH = 2**16

Policy = Literal["ada", "diffaugment", "none"]  # see kyara.training.augment


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Selects the layers to fine-tune and their learning rates; stored in config.json."""

    layers: int | None = None  # number of generator layers to train; the others and the mapping network are frozen
    end: Literal["fine", "coarse"] = "fine"  # whether these are the last layers (fine) or the first ones (coarse)
    freeze: str = ""
    """Modules to freeze, such as mapping,g=2,d=4: the mapping network, the first 2 layers of the generator (FreezeG),
    the first 4 layers of the discriminator (FreezeD, Mo et al. 2020)."""
    lr_multiplier: float = 1.0
    """Learning rate of each generator layer relative to that of the next finer layer. The mapping network has the
    learning rate of the coarsest layer."""
