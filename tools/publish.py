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

from kyara import models
from kyara.files import checkpoint
from kyara.models.base import (
    Descriptor,
    Detector,
    Generator,
    Inpainter,
    LandmarkDetector,
    Model,
    Scorer,
    Tagger,
    Translator,
    latents,
)
from kyara.models.projector import Model as Projector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder or one of its snapshots")
    parser.add_argument("name", help="the built-in's name, as in builtin:NAME")
    parser.add_argument("--card", type=Path, required=True)
    options = parser.parse_args()
    model = models.load(options.run)
    found = checkpoint.read(options.run)
    about = {**found.about, "scores": {k: round(v, 4) for k, v in found.about["scores"].items()}}
    if about.get("init") and Path(about["init"]).is_absolute():  # a path of this machine says nothing elsewhere
        about["init"] = Path(about["init"]).name
    before = output(model)
    model, weights = fold(model)
    halved = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    models.restore(model, {name: t.float() if t.is_floating_point() else t for name, t in halved.items()})
    worst = float((output(model) - before).abs().max())
    if worst > 8 / 127.5:
        raise SystemExit(f"half precision changes the output by {worst:.3f}: not published")
    config = dataclasses.asdict(model.config)
    data = {key: value for key, value in config["data"].items() if key != "label_counts"}  # long, and in config.json
    card = options.card.read_text(encoding="utf-8").format(
        kimg=f"{about['kimg']:g}",
        photos=about.get("photos", {}),
        layer=config.get("generator", {}).get("layer"),
        **about.get("data", {}),
        config=json.dumps(config | {"data": data}),
    )
    out = checkpoint.BUILTIN / options.name
    checkpoint.write(out, model=found.model, config=config, weights=halved, card=card, about=about)
    size = (out / checkpoint.WEIGHTS).stat().st_size / 1e6
    print(f"{out}: {size:.1f} MB, half precision changes the output by at most {worst:.4f}")


def fold(model: Model) -> tuple[Model, dict[str, Tensor]]:
    """The same network without ConvNeXt's layer scales, and what is stored of it: each becomes part of the linear layer
    before it. They are float32, so in bfloat16 every block would convert what passes through it there and back."""
    weights = dict(models.stored(model))
    if not getattr(model.config.network, "layer_scale", 0):
        return model, weights
    for name in [name for name in weights if name.endswith(".layer_scale_parameter")]:
        scale, linear = weights.pop(name), name.replace("layer_scale_parameter", "pwconv2")
        weights[f"{linear}.weight"] = weights[f"{linear}.weight"] * scale[:, None]
        weights[f"{linear}.bias"] = weights[f"{linear}.bias"] * scale
    return type(model)(model.config.replace(network={"layer_scale": 0.0})).eval(), weights  # type: ignore[call-arg]


@torch.inference_mode()
def output(model: Model) -> Tensor:
    """What the model does on fixed input: pictures in [-1, 1], scores or descriptors."""
    if isinstance(model, Generator):
        return model.sample(latents(range(32), model.z_dim))
    data, generator = model.config.data, torch.Generator().manual_seed(0)
    some = torch.rand(32, 3, data.height, data.width, generator=generator) * 2 - 1
    if isinstance(model, Translator):
        return torch.cat([model.translate(part) for part in some.split(4)])
    if isinstance(model, Inpainter):
        return model.fill(some, torch.arange(some.shape[3]).expand(32, 1, *some.shape[2:]) % 32 < 8)
    if isinstance(model, Projector):
        return model.project(some, some.flip(0)) / model.deviation
    if isinstance(model, Tagger):
        return torch.cat([*model.probabilities(some).values()], 1)
    if isinstance(model, Descriptor):
        return model.embed(some)
    if isinstance(model, LandmarkDetector):
        return model.find(some)
    if isinstance(model, Detector):
        boxes, scores, _ = model.detect(some)
        return torch.cat([scores, boxes.flatten(1) / data.width], 1)
    assert isinstance(model, Scorer)
    return model.scores(some)


if __name__ == "__main__":
    main()
