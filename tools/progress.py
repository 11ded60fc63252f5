"""The same seeds by several checkpoints, one row each: what training changed.

python tools/progress.py docs/images/progress.png runs/anime-32 runs/anime-64/snapshots/000020 runs/anime-64
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL.Image import Resampling, fromarray

from kyara.files import pictures
from kyara.generation.sampler import load_generator, sample
from kyara.models.base import latents
from kyara.training.runtime import pick_device

SEEDS, TRUNCATION = range(16), 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoints", nargs="+")
    options = parser.parse_args()
    rows = []
    for name in options.checkpoints:
        generator = load_generator(name, pick_device("cpu"))
        z = latents(SEEDS, generator.z_dim)
        rows.append(pictures.to_uint8(sample(generator, z, generator.draw(SEEDS), truncation=TRUNCATION)))
    side = max(row.shape[1] for row in rows)
    enlarged = [np.asarray(fromarray(p).resize((side, side), Resampling.NEAREST)) for row in rows for p in row]
    pictures.write_png(options.out, pictures.sheet(enlarged, columns=len(SEEDS)))


if __name__ == "__main__":
    main()
