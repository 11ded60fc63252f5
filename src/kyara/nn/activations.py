"""Looking into a network and changing what it computes, at any module of any Model. Nothing is subclassed, and when a
context ends nothing of it is left.

A network is cut in three by two of its modules: what goes into the first is the *key*, what comes out of the last the
*value*, and the layers between are a memory that has a value for every key (Bau et al. 2020, section 3). What comes
before the key runs once and is remembered; then the memory, or what comes after it, runs alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SampleFn = Callable[[], Tensor]
"""Makes pictures (B, 3, H, W), the same ones every time."""


class LayerRange(NamedTuple):
    """A layer of a network: its first and its last module, by name; often the same."""

    first: str
    last: str


@contextlib.contextmanager
def reading(model: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """What modules put out when the model runs inside the context, by their names; if they run more than once, what
    they put out last. KeyError if there is no such module."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, given, out: seen.__setitem__(name, tensor_of(out))

    with contextlib.ExitStack() as hooks:
        for name in names:
            hooks.callback(module_of(model, name).register_forward_hook(keep(name)).remove)
        yield seen


@contextlib.contextmanager
def replacing(model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """What modules put out is changed, by their names, while the context lasts."""

    def change(function: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        return lambda module, given, out: with_tensor(out, function(tensor_of(out)))

    with contextlib.ExitStack() as hooks:
        for name, function in changes.items():
            hooks.callback(module_of(model, name).register_forward_hook(change(function)).remove)
        yield


def module_of(model: nn.Module, name: str) -> nn.Module:
    """KeyError names some modules that there are."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        some = ", ".join(n for n, _ in model.named_modules() if n)[:200]
        raise KeyError(f"{name}: no such module; there are {some} ...") from None


def tensor_of(out: Any) -> Tensor:
    """What a module put out, or the first part of it."""
    found = out[0] if isinstance(out, tuple) else out
    assert isinstance(found, Tensor)
    return found


def with_tensor(out: Any, new: Tensor) -> Any:
    """`out` with its tensor, or the first one of it, replaced."""
    return (new, *out[1:]) if isinstance(out, tuple) else new


class _Reached(Exception):  # noqa: N818  no error
    """Ends a run of the network early."""


@dataclasses.dataclass
class ActivationCache:
    """Some pictures that a network makes, cut open: (B, ...) everywhere."""

    cut: Cut
    make: SampleFn
    key: Tensor
    """(B, C, h, w)."""
    value: Tensor
    """(B, C', h', w')."""
    picture: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    before_key: dict[str, list[Any]]
    """What modules put out before the key, each time they ran."""
    before_value: dict[str, list[Any]]
    """And before the value's module ended: what stands beside it."""

    def remember(self) -> Tensor:
        """The values that the memory has for the keys now; differentiable by its weights."""
        found: list[Tensor] = []

        def stop(module: nn.Module, given: Any, out: Any) -> None:
            found.append(tensor_of(out))
            raise _Reached

        with _recalled(self.cut.model, self.before_key):
            handle = self.cut.last.register_forward_hook(stop)
            try:
                self.make()
            except _Reached:
                pass
            finally:
                handle.remove()
        return found[0]

    def decode(self, value: Tensor) -> Tensor:
        """The pictures that become of other values (B, C', h', w'), all else as it is in these; differentiable."""
        rest = self.before_value[self.cut.span.last]
        recalled = {**self.before_value, self.cut.span.last: [with_tensor(rest[0], value)]}
        with _recalled(self.cut.model, recalled):
            return self.make()

    def redraw(self) -> tuple[Tensor, Tensor]:
        """The pictures that the network makes with the memory as it is now, and the memory's values; differentiable."""
        model, name = self.cut.model, self.cut.span.last
        with _recalled(model, self.before_key), reading(model, name) as seen:
            return self.make(), seen[name]


class Cut:
    """A network between whose layers `first` and `last` there is a memory."""

    def __init__(self, model: nn.Module, first: LayerRange, last: LayerRange) -> None:
        self.model, self.span = model, LayerRange(first.first, last.last)
        self.first, self.last = module_of(model, self.span.first), module_of(model, self.span.last)

    def open(self, make: SampleFn) -> ActivationCache:
        """Runs the network once. RuntimeError if the memory is not used exactly once for each picture."""
        keys: list[Tensor] = []
        values: list[Tensor] = []
        before = {name: _siblings(self.model, name) for name in self.span}
        outs: dict[str, list[Any]] = {name: [] for names in before.values() for name in names}
        outs[self.span.last] = []
        at_key: dict[str, int] = {}

        def begin(module: nn.Module, given: Any, named: Any) -> None:
            keys.append(given[0].detach())
            at_key.update({name: len(some) for name, some in outs.items()})

        def end(module: nn.Module, given: Any, out: Any) -> None:
            values.append(tensor_of(out).detach().clone())
            outs[self.span.last].append(_copied(out))

        def note(name: str) -> Callable[..., None]:
            return lambda module, given, out: None if values else outs[name].append(_copied(out))

        with contextlib.ExitStack() as hooks, torch.no_grad():
            hooks.callback(self.first.register_forward_pre_hook(begin, with_kwargs=True).remove)
            for name in outs:
                if name != self.span.last:
                    hooks.callback(module_of(self.model, name).register_forward_hook(note(name)).remove)
            hooks.callback(self.last.register_forward_hook(end).remove)
            picture = make()
        if len(keys) != 1 or len(values) != 1:
            raise RuntimeError(f"{self.span}: used {len(keys)} times for a picture; only layers used once are memories")
        before_key = {name: outs[name][: at_key[name]] for name in before[self.span.first]}
        before_value = {name: outs[name] for name in before[self.span.last]} | {self.span.last: outs[self.span.last]}
        return ActivationCache(self, make, keys[0], values[0], picture.detach(), before_key, before_value)

    def weights(self, host: ActivationCache) -> dict[str, nn.Parameter]:
        """The kernels of the memory by their names: those of convolutions that a value depends on, the key given."""
        named = {name: p for name, p in self.model.named_parameters() if p.ndim == 4}
        needed = [p.requires_grad for p in named.values()]
        for parameter in named.values():
            parameter.requires_grad_(True)
        try:
            with torch.enable_grad():
                grads = torch.autograd.grad(host.remember().sum(), [*named.values()], allow_unused=True)
        finally:
            for parameter, need in zip(named.values(), needed, strict=True):
                parameter.requires_grad_(need)
        return {name: p for (name, p), grad in zip(named.items(), grads, strict=True) if grad is not None}


def _siblings(model: nn.Module, name: str) -> list[str]:
    """Modules that end before the one called `name` begins, or never run before it: those beside it and beside what it
    stands in. Of what never runs itself, such as a list, what is in it."""
    found: list[str] = []
    path = name.split(".")
    for depth in range(len(path)):
        parent = ".".join(path[:depth])
        for child, module in model.get_submodule(parent).named_children():
            if child != path[depth]:
                found += _running(f"{parent}.{child}" if parent else child, module)
    return found


def _running(name: str, module: nn.Module) -> list[str]:
    if type(module).forward is not nn.Module.forward:
        return [name]
    return [inner for child, part in module.named_children() for inner in _running(f"{name}.{child}", part)]


def _copied(out: Any) -> Any:
    """What follows may change it in place."""
    if isinstance(out, tuple | list):
        return type(out)(_copied(part) for part in out)
    return out.detach().clone() if isinstance(out, Tensor) else out


@contextlib.contextmanager
def _recalled(model: nn.Module, outs: Mapping[str, list[Any]]) -> Iterator[None]:
    """Modules put out what they did before, so many times, without running."""

    def recall(module: nn.Module, some: list[Any]) -> Callable[..., Any]:
        left, run = iter(some), module.forward

        def forward(*given: Any, **named: Any) -> Any:
            for out in left:
                return _again(out)
            return run(*given, **named)

        return forward

    changed = [module_of(model, name) for name, some in outs.items() if some]
    for module, some in zip(changed, (some for some in outs.values() if some), strict=True):
        module.forward = recall(module, some)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _again(out: Any) -> Any:
    if isinstance(out, tuple | list):
        return type(out)(_again(part) for part in out)
    return out.clone() if isinstance(out, Tensor) else out
