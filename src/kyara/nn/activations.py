"""Replace and cache the activations of any module of a network, with hooks.

Rewriting treats a range of layers as an associative memory (Bau et al. 2020, section 3): the input of its first module
is the *key*, the output of its last module the *value*. `capture` runs the network once; the returned cache can then
run only the memory, or only the layers after it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SampleFn = Callable[[], Tensor]  # makes pictures (B, 3, H, W), the same ones at every call


class LayerRange(NamedTuple):
    """A range of layers: the names of its first and its last module, often the same."""

    first: str
    last: str

    def through(self, end: LayerRange) -> LayerRange:
        """The range from the first module of this one to the last module of `end`."""
        return LayerRange(self.first, end.last)


def replace_output(
    model: nn.Module, name: str, function: Callable[[Tensor], Tensor]
) -> contextlib.AbstractContextManager[None]:
    """Passes the output of a module through a function while the context is active. KeyError without such a module."""

    def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
        return with_first_tensor(output, function(first_tensor(output)))

    return _hooked(model, {name: replace})


@contextlib.contextmanager
def _hooked(model: nn.Module, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, hook in hooks.items():
            stack.callback(find_module(model, name).register_forward_hook(hook).remove)
        yield


@contextlib.contextmanager
def restored(weights: Iterable[Tensor]) -> Iterator[None]:
    """Weights may be changed and trained while the context is active; then they are as before."""
    before = [(weight, weight.requires_grad, weight.detach().clone()) for weight in weights]
    try:
        yield
    finally:
        for weight, requires_grad, value in before:
            weight.detach().copy_(value)
            weight.requires_grad_(requires_grad)


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The submodule of that name. KeyError lists some that exist."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        some = ", ".join(n for n, _ in model.named_modules() if n)[:200]
        raise KeyError(f"{name}: no such module; there are {some} ...") from None


def first_tensor(output: Any) -> Tensor:
    """The output of a module, or its first element if it is a tuple."""
    tensor = output[0] if isinstance(output, tuple) else output
    assert isinstance(tensor, Tensor)
    return tensor


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """`output` with its (first) tensor replaced."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


class _StopForward(Exception):  # noqa: N818  not an error
    """Ends a forward pass early."""


@dataclasses.dataclass
class ActivationCache:
    """The activations of one forward pass, from which parts of the network can be run again."""

    model: nn.Module
    layers: LayerRange  # the memory, between key and value
    sample_fn: SampleFn
    key: Tensor  # input of the memory, (B, C, h, w)
    value: Tensor  # output of the memory, (B, C', h', w')
    pictures: Tensor  # (B, 3, H, W) in [-1, 1]
    before_key: dict[str, list[Any]]  # outputs of modules that ran before the key, one for each call
    before_value: dict[str, list[Any]]  # of modules that ran before the memory ended, also of those beside it

    def compute_value(self) -> Tensor:
        """The value that the memory gives for the key with its current weights; differentiable in these."""
        values: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Any) -> None:
            values.append(first_tensor(output))
            raise _StopForward

        stopped = _hooked(self.model, {self.layers.last: stop})
        with contextlib.suppress(_StopForward), _replayed(self.model, self.before_key), stopped:
            self.sample_fn()
        return values[0]

    def decode(self, value: Tensor) -> Tensor:
        """The pictures for another value (B, C', h', w'), everything else unchanged; differentiable."""
        last = self.layers.last
        output = with_first_tensor(self.before_value[last][0], value)
        with _replayed(self.model, {**self.before_value, last: [output]}):
            return self.sample_fn()

    def rerun(self) -> tuple[Tensor, Tensor]:
        """Pictures and value with the current weights of the memory; differentiable."""
        values: list[Tensor] = []

        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            values.append(first_tensor(output))

        with _replayed(self.model, self.before_key), _hooked(self.model, {self.layers.last: record}):
            return self.sample_fn(), values[0]

    def kernels(self) -> dict[str, nn.Parameter]:
        """The convolution kernels of the memory by name: those on which the value depends, given the key."""
        named = {name: p for name, p in self.model.named_parameters() if p.ndim == 4}
        with restored(named.values()), torch.enable_grad():
            for parameter in named.values():
                parameter.requires_grad_(True)
            grads = torch.autograd.grad(self.compute_value().sum(), [*named.values()], allow_unused=True)
        return {name: p for (name, p), grad in zip(named.items(), grads, strict=True) if grad is not None}


def capture(model: nn.Module, layers: LayerRange, sample_fn: SampleFn) -> ActivationCache:
    """Runs the network once and caches its activations. RuntimeError if the layers do not run once a picture."""
    keys: list[Tensor] = []
    calls_before_key: dict[str, int] = {}
    siblings = {name: _siblings(model, name) for name in layers}
    outputs: dict[str, list[Any]] = {name: [] for names in (*siblings.values(), [layers.last]) for name in names}
    ends = outputs[layers.last]

    def begin(module: nn.Module, inputs: Any) -> None:
        keys.append(inputs[0].detach())
        calls_before_key.update({name: len(calls) for name, calls in outputs.items()})

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if name == layers.last or not ends:
                outputs[name].append(_cloned(output))

        return hook

    with _hooked(model, {name: record(name) for name in outputs}), torch.no_grad():
        handle = find_module(model, layers.first).register_forward_pre_hook(begin)
        try:
            pictures = sample_fn()
        finally:
            handle.remove()
    if len(keys) != 1 or len(ends) != 1:
        raise RuntimeError(f"{layers}: runs {len(keys)} times for a picture; a memory must run exactly once")
    before_key = {name: outputs[name][: calls_before_key[name]] for name in siblings[layers.first]}
    before_value = {name: outputs[name] for name in [*siblings[layers.last], layers.last]}
    return ActivationCache(model, layers, sample_fn, keys[0], first_tensor(ends[0]), pictures, before_key, before_value)


def _siblings(model: nn.Module, name: str) -> list[str]:
    """Modules beside the one called `name` and beside the modules that contain it: those that end before it begins, or
    run after it. Containers that never run themselves, such as a ModuleList, are replaced by their children."""
    found: list[str] = []
    path = name.split(".")
    for depth in range(len(path)):
        parent = ".".join(path[:depth])
        for child, module in model.get_submodule(parent).named_children():
            if child != path[depth]:
                found += _runnable(f"{parent}.{child}" if parent else child, module)
    return found


def _runnable(name: str, module: nn.Module) -> list[str]:
    if type(module).forward is not nn.Module.forward:
        return [name]
    return [inner for child, part in module.named_children() for inner in _runnable(f"{name}.{child}", part)]


def _cloned(output: Any) -> Any:
    """A copy, since modules that follow may change tensors in place."""
    if isinstance(output, tuple | list):
        return type(output)(map(_cloned, output))
    return output.clone() if isinstance(output, Tensor) else output


@contextlib.contextmanager
def _replayed(model: nn.Module, outputs: Mapping[str, list[Any]]) -> Iterator[None]:
    """Modules return their cached outputs, one for each call, instead of running; after these they run normally."""

    def replay(module: nn.Module, cached: list[Any]) -> Callable[..., Any]:
        remaining, run = iter(cached), module.forward

        def forward(*inputs: Any, **options: Any) -> Any:
            for output in remaining:
                return _cloned(output)
            return run(*inputs, **options)

        return forward

    changed = {name: find_module(model, name) for name, cached in outputs.items() if cached}
    for name, module in changed.items():
        module.forward = replay(module, outputs[name])
    try:
        yield
    finally:
        for module in changed.values():
            del module.forward
