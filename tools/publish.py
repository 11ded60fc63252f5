"""Makes a built-in checkpoint of a run: half precision, a card that says what it is and what was measured.

    python tools/publish.py runs/anime-64 anime --card docs/cards/anime.md

Weights in half precision must give the same pictures, or the same scores, to within a rounding of 8 bits; the script
refuses if they do not. The card is docs/cards/NAME.md with {kimg}, {pictures}, {fingerprint} and {config} filled in.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

from kyara import checkpoint, models
from kyara.models.base import Generator, Model, latents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder or one of its snapshots")
    parser.add_argument("name", help="the built-in's name, as in builtin:NAME")
    parser.add_argument("--card", type=Path, required=True)
    options = parser.parse_args()
    model = models.load(options.run)
    found = checkpoint.read(options.run)
    about = {**found.about, "scores": {k: round(v, 4) for k, v in found.about["scores"].items()}}
    halved = {name: t.half() if t.is_floating_point() else t for name, t in models.stored(model).items()}
    before = output(model)
    models.restore(model, {name: t.float() if t.is_floating_point() else t for name, t in halved.items()})
    worst = float((output(model) - before).abs().max())
    if worst > 8 / 127.5:
        raise SystemExit(f"half precision changes the output by {worst:.3f}: not published")
    card = options.card.read_text(encoding="utf-8").format(
        kimg=f"{about['kimg']:g}", **about["data"], config=json.dumps(dataclasses.asdict(model.config))
    )
    out = checkpoint.BUILTIN / options.name
    config = dataclasses.asdict(model.config)
    checkpoint.write(out, model=found.model, config=config, weights=halved, card=card, about=about)
    size = (out / checkpoint.WEIGHTS).stat().st_size / 1e6
    print(f"{out}: {size:.1f} MB, half precision changes the output by at most {worst:.4f}")


@torch.inference_mode()
def output(model: Model) -> Tensor:
    """What the model does on fixed input: pictures in [-1, 1], or scores."""
    if isinstance(model, Generator):
        return model.sample(latents(range(32), model.z_dim))
    noise = torch.rand(32, 3, model.config.height, model.config.width, generator=torch.Generator().manual_seed(0))
    scores: Tensor = model.scores(noise * 2 - 1)  # type: ignore[operator]
    return scores


if __name__ == "__main__":
    main()
