"""The script that makes built-in checkpoints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from kyara import models

SCRIPT = Path(__file__).parents[1] / "tools" / "publish.py"


def test_layer_scales_become_part_of_the_layer_before() -> None:
    spec = importlib.util.spec_from_file_location("publish", SCRIPT)
    assert spec is not None and spec.loader is not None
    publish = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(publish)
    small = {"data": {"width": 32, "height": 32}, "network": {"depths": (1, 1, 1), "widths": (8, 16, 32)}}
    model = models.build("distortion", small).eval()
    with torch.no_grad():
        for name, tensor in model.net_ema.named_parameters():  # type: ignore[union-attr,operator]
            if "layer_scale" in name:
                tensor.uniform_(-1, 2)
    before = publish.output(model)
    folded, weights = publish.fold(model)
    models.restore(folded, weights)
    assert folded.config.network.layer_scale == 0 and not any("layer_scale" in name for name in folded.state_dict())
    torch.testing.assert_close(publish.output(folded), before, rtol=0, atol=1e-5)
    generator = models.build("dcgan", {"network": {"channels": 4}})
    assert publish.fold(generator)[0] is generator
