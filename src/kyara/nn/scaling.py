"""Weights as layers with an equalised learning rate use them (Karras et al. 2018, section 4.1): times a gain, in the
dtype of the input. For all layers of a network at once that takes a few operations, instead of several a layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

Use = tuple[Tensor, float, torch.dtype]  # a parameter, its gain, and the dtype of the product
_shared: ContextVar[Mapping[tuple[Tensor, torch.dtype], Tensor] | None] = ContextVar("shared", default=None)


def scaled(parameter: Tensor, gain: float, dtype: torch.dtype) -> Tensor:
    """`parameter` times `gain`, in `dtype`; inside `shared`, as computed there. A parameter has one gain."""
    known = None if torch.compiler.is_compiling() else _shared.get()  # a compiler fuses these operations by itself
    found = None if known is None else known.get((parameter, dtype))
    return (parameter * gain).to(dtype) if found is None else found


def uses(layers: Iterable[Any], dtype: torch.dtype) -> Iterator[Use]:
    """The uses of layers, or None, for inputs of `dtype`."""
    for layer in layers:
        if layer is not None:
            yield from layer.uses(dtype)


@contextlib.contextmanager
def shared(uses: Iterable[Use]) -> Iterator[None]:
    """Computes `uses` together, for the calls of `scaled` in its body. Their gradients are computed together too, after
    those of everything in the body."""
    if torch.compiler.is_compiling():
        yield
        return
    gains, keys = {}, []
    for parameter, gain, dtype in uses:
        gains[parameter] = gain
        keys.append((parameter, dtype))
    places = {parameter: i for i, parameter in enumerate(gains)}
    outputs = [(places[parameter], dtype) for parameter, dtype in keys]
    values = _Scaled.apply([*gains.values()], outputs, *gains) if outputs else ()
    token = _shared.set(dict(zip(keys, values, strict=True)))
    try:
        yield
    finally:
        _shared.reset(token)


class _Scaled(torch.autograd.Function):
    """Parameters times gains, and each output one of the products, in a dtype. Linear: its gradient is differentiable
    as it stands, as its own gradient."""

    @staticmethod
    def forward(
        ctx: Any, gains: list[float], outputs: list[tuple[int, torch.dtype]], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.gains, ctx.outputs, ctx.dtypes = gains, outputs, [parameter.dtype for parameter in parameters]
        ctx.set_materialize_grads(False)
        products = torch._foreach_mul(parameters, gains)
        return tuple(cast([products[i] for i, _ in outputs], [dtype for _, dtype in outputs]))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        known = [
            (i, gradient)
            for (i, _), gradient in zip(ctx.outputs, gradients, strict=True)
            if gradient is not None and ctx.needs_input_grad[2 + i]
        ]
        sums: dict[int, Tensor] = {}
        wide = cast([gradient for _, gradient in known], [ctx.dtypes[i] for i, _ in known])
        for (i, _), gradient in zip(known, wide, strict=True):
            # In this order the sum has the layout of the later one, as autograd's has: optimizers see the same numbers
            # in the same order.
            sums[i] = gradient + sums[i] if i in sums else gradient
        found: list[Tensor | None] = [None] * len(ctx.gains)
        if sums:
            products = torch._foreach_mul([*sums.values()], [ctx.gains[i] for i in sums])
            for i, product in zip(sums, products, strict=True):
                found[i] = product
        return None, None, *found


def cast(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """Each tensor in its dtype, in one operation for all that have another one."""
    result = [*tensors]
    changed = [i for i, (tensor, dtype) in enumerate(zip(tensors, dtypes, strict=True)) if tensor.dtype != dtype]
    if changed:
        for i in changed:
            result[i] = torch.empty_like(tensors[i], dtype=dtypes[i])
        torch._foreach_copy_([result[i] for i in changed], [tensors[i] for i in changed])
    return result
