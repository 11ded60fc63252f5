"""A step waits for no device: it reads nothing back, and makes nothing on the host that would have to be copied.

On the CPU the calls are recorded that would make the host wait for a GPU, or that no CUDA graph could capture."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from every_model import ATTRIBUTES, Variant, batch_of, tiny, variants
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import kyara
from kyara.models import stylegan2
from kyara.models.base import Model
from kyara.nn.constants import constant
from kyara.training.trainer import Options, Trainer

SOURCE = Path(kyara.__file__).parent
CALLS = {
    *("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"),  # read from the device
    *("tensor", "as_tensor", "from_numpy", "new_tensor"),  # copy to it
}
FACTORIES = {"zeros", "ones", "full", "empty", "arange", "linspace", "eye", "rand", "randn", "randint", "randperm"}
OPERATORS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2"}  # their result depends on values

EXCEPTIONS: dict[str, dict[str, str]] = {
    "cartoongan": {
        "_where": "on the CPU alone, where eyes are drawn in a part of the picture to save time",
        "_connected": "on the CPU alone, which follows edges until nothing changes",
    },
    "copy": {"some": "drawn on the host, since they decide how many pictures are altered"},
    "detector": {
        "restyle": "the styles are drawn on the host, since they decide how many pictures each style has",
        "_apply": "the indices of these pictures",
    },
    "distortion": {
        "_examples": "the host draws a seed and the size of the batch",
        "apply": "the kinds are drawn on the host, since they decide how many pictures each kind has",
    },
    "drawing": {"crop": "the size of the squares decides how finely they are sampled"},
    "inpainting": {
        "recur": "a picture leaves the recurrence when its hole is closed, which nobody can know before",
        "features": "a shift of the pictures, drawn on the host since it decides on the padding",
    },
    "projector": {
        "draw": "labels of the source are a function of seeds, drawn by NumPy",
        "sample_fn": "those seeds",
    },
    "traits": {"crop": "the size of the squares decides how finely they are sampled"},
    "upscaler": {
        "cropped": "the place of the patches, drawn on the host since it decides on the slices",
        "fringed": "a shift of the pictures, drawn on the host likewise",
    },
}
"""Functions of a model that may do so, and why."""


def caller() -> str:
    """The innermost named function of Kyara that is running; empty if there is none."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if Path(code.co_filename).is_relative_to(SOURCE) and not code.co_name.startswith("<"):
            return code.co_name
        frame = frame.f_back
    return ""


class Calls(TorchFunctionMode):
    """Records calls of PyTorch's functions, by the function that makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in CALLS or (name in FACTORIES and kwargs.get("device") is None):
            self.found[caller()] = name
        if name in ("__getitem__", "__setitem__"):
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(i, list) or (isinstance(i, Tensor) and i.dtype == torch.bool) for i in parts):
                self.found[caller()] = f"{name} with a list or a mask"
        return func(*args, **kwargs)


class Operators(TorchDispatchMode):
    """Records operators, also those within PyTorch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in OPERATORS:
            self.found[caller()] = func.overloadpacket.__name__
        return func(*args, **(kwargs or {}))


def recorded(function: Callable[[], object]) -> dict[str, str]:
    with Calls() as calls, Operators() as operators:
        function()
    return calls.found | operators.found


@pytest.mark.parametrize("variant", variants(), ids=lambda v: v.name + "-told" * v.told)
def test_a_step_does_not_wait(variant: Variant) -> None:
    allowed, found = EXCEPTIONS.get(variant.name, {}), step_of(tiny(variant))
    assert {name: what for name, what in found.items() if name not in allowed} == {}
    assert set(allowed) <= set(found), "an exception that is none any more"


def test_a_step_with_an_encoder_does_not_wait() -> None:
    network, losses = {"encoder": 1, "labels_from": 2}, {"label_drop_prob": 0.5}
    config = stylegan2.PRESETS["tiny"].replace(data={"attributes": ATTRIBUTES}, network=network, losses=losses)
    assert step_of(stylegan2.Model(config)) == {}


def step_of(model: Model) -> dict[str, str]:
    """What a step in which every phase is due does that would wait."""
    trainer, batch = Trainer(model, Options(batch=8, micro_batch=8)), batch_of(model)
    trainer.augment.p = 0.5
    trainer.step(batch)  # loads frozen networks and caches constants
    trainer.step(batch)
    trainer.steps = math.lcm(*(model.reg_interval(phase) or 1 for phase in model.phases))  # every phase is due

    return recorded(lambda: trainer.step(batch))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x * torch.tensor([1.0, 2.0]),
        lambda x: x * x.new_tensor([1.0, 2.0]),
        lambda x: x + torch.arange(2),
        lambda x: x[[1, 0]],
        lambda x: x[x > 0],
        lambda x: torch.masked_select(x, x > 0),
        lambda x: torch.equal(x, x),
    ],
)
def test_what_waits_is_found(function: Callable[[Tensor], object]) -> None:
    x = torch.ones(2)
    assert recorded(lambda: function(x))


def test_constants_are_made_once() -> None:
    x = torch.ones(2)
    assert torch.equal(constant([1, 2], x), torch.tensor([1.0, 2.0]))
    assert constant((3, 1), x, torch.int64).dtype == torch.int64
    assert not recorded(lambda: x * constant((1, 2), x))
    with torch.inference_mode():
        made = constant((5, 6), x)
    assert not made.is_inference()  # training may use it
