"""The ConvNeXt is that of transformers, to the bit: its initial weights, outputs, gradients and random numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextModel

from kyara.nn.convnext import Classifier, ConvNeXt

NUMBERS: dict[str, Any] = {"patch_size": 2, "depths": (1, 2, 1), "widths": (8, 16, 24)}


def theirs(numbers: dict[str, Any]) -> ConvNextConfig:
    return ConvNextConfig(
        patch_size=numbers["patch_size"],
        num_stages=len(numbers["depths"]),
        depths=list(numbers["depths"]),
        hidden_sizes=list(numbers["widths"]),
        drop_path_rate=numbers.get("drop_path", 0.0),
        layer_scale_init_value=numbers["layer_scale"],
    )


@pytest.mark.parametrize("numbers", [{"drop_path": 0.5, "layer_scale": 0.7}, {"layer_scale": 0.0}])
def test_it_is_that_of_transformers(numbers: dict[str, Any]) -> None:
    numbers = NUMBERS | numbers
    torch.manual_seed(0)
    ours = Classifier(numbers, classes=2)
    torch.manual_seed(0)
    other: nn.Module = ConvNextForImageClassification(theirs(numbers))
    assert ours.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in ours.state_dict().items())
    pictures = torch.randn(4, 3, 24, 20).contiguous(memory_format=torch.channels_last)
    for training in (True, False):
        found = []
        for network in (ours.train(training), other.train(training)):
            torch.manual_seed(1)
            logits = network(pictures)
            logits = logits if isinstance(logits, torch.Tensor) else logits.logits
            gradients = torch.autograd.grad(logits.square().sum(), [*network.parameters()])
            found.append([logits, *gradients, torch.rand(1)])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_its_stages_are_those_of_transformers() -> None:
    numbers = {**NUMBERS, "layer_scale": 1.0}
    ours, other = ConvNeXt(numbers).eval(), ConvNextModel(theirs(numbers)).eval()
    other.load_state_dict(ours.state_dict())
    pictures = torch.randn(2, 3, 16, 24).contiguous(memory_format=torch.channels_last)
    _, *maps = other(pictures, output_hidden_states=True).hidden_states
    assert [tuple(x.shape[1:]) for x in ours.stages(pictures)] == [(8, 8, 12), (16, 4, 6), (24, 2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(ours.stages(pictures), maps, strict=True))
