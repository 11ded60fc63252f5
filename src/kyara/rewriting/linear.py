"""The linear memory of Bau et al. 2020, "Rewriting a deep generative model": one convolution, a rule inserted as a
change of low rank, in directions in which only what is meant differs from everything else.

Keys are what the convolution itself sees, after styles are multiplied in, a vector for every place; what they are like
everywhere is C, their mean product, not centred (section 3.3). Besides the gradient steps of the paper there is a
direct solution by ridge regression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.nn.activations import ActivationCache, Cut, module_of, replacing
from kyara.nn.layers import ModulatedConv
from kyara.rewriting.lessons import Lesson
from kyara.rewriting.nonlinear import Difference

UNITS = 30
"""Units of a key that are erased."""
SMALLEST = 1e-5
"""Of an eigenvalue of C, as a share of the largest: smaller ones are taken to be this before the root."""
ROUNDS, SHARES = 6, (1.0, 0.5, 0.25, 0.1, 0.03)
"""Of the direct solution: what normalises a convolution changes with its weights, so that a step may be too long."""


class LinearMemory:
    """One layer of a network, as a memory. ValueError if there is not exactly one convolution in it."""

    def __init__(self, cut: Cut, others: Sequence[ActivationCache]) -> None:
        """`others` are random pictures, from which it is known what keys are like."""
        self.cut = cut
        weights = cut.weights(others[0])
        if len(weights) != 1:
            raise ValueError(f"a linear memory is one convolution; here are {len(weights)}")
        ((self.name, self.weight),) = weights.items()
        self.module = module_of(cut.model, self.name.rpartition(".")[0])
        keys = torch.cat([_places(self.keys(host)) for host in others]).double()
        self.second_moment = keys.T @ keys / len(keys)  # C, (channels, channels)
        values, axes = torch.linalg.eigh(self.second_moment)
        values = values.clamp_min(values[-1] * SMALLEST)
        self.whiten = axes @ torch.diag(values.rsqrt()) @ axes.T

    @torch.no_grad()
    def keys(self, host: ActivationCache) -> Tensor:
        """What the convolution sees of these pictures, (B, channels, h, w)."""
        seen: list[Tensor] = []
        if isinstance(self.module, ModulatedConv):
            handle = self.module.keys.register_forward_hook(lambda module, given, out: seen.append(out.detach()))
        else:
            handle = self.module.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
        try:
            host.remember()
        finally:
            handle.remove()
        return seen[0].to(self.weight.dtype)

    def directions(self, context: Sequence[Lesson], rank: int = 1) -> Tensor:
        """What the masked places of some pictures have in common and others have not: orthonormal, (rank, channels).
        Of the whitened keys under the masks the leading right singular vectors, whitened again (section 3.4)."""
        rows = []
        for lesson in context:
            keys = self.keys(lesson.host)
            mask = F.interpolate(lesson.alpha, keys.shape[2:], mode="area")
            rows.append((_places(keys).double() @ self.whiten) * _places(mask))
        stacked = torch.cat(rows)
        stacked = stacked[stacked.abs().sum(1) > 0]
        _, _, leading = torch.linalg.svd(stacked, full_matrices=False)
        found, _ = torch.linalg.qr((leading[:rank] @ self.whiten).T)
        found = found.T
        sign = torch.where((stacked @ self.whiten.inverse() @ found.T).sum(0) < 0, -1.0, 1.0)
        return (found * sign[:, None]).to(self.weight.dtype)

    def insert(
        self, lessons: Sequence[Lesson], directions: Tensor, *, steps: int = 2001, lr: float = 0.05
    ) -> Difference:
        """The change of the weight by which goals are met under the masks (equation 5): Adam on the mean absolute
        difference in the lessons' boxes. What is learned is how much of the directions each kernel reads, so that there
        is nothing to project back; the paper's code projects every tenth step, and may go astray between."""
        with self._free():
            before = self.weight.detach().clone()
            read = torch.zeros_like(torch.einsum("ockl,rc->orkl", before, directions)).requires_grad_(True)
            adam = torch.optim.Adam([read], lr=lr)
            boxes = [_box(lesson.new) for lesson in lessons]
            for _ in range(steps):
                with torch.no_grad():
                    self.weight.copy_(before + torch.einsum("orkl,rc->ockl", read, directions))
                losses = []
                for lesson, box in zip(lessons, boxes, strict=True):
                    with torch.enable_grad():
                        off = (lesson.host.remember() - lesson.goal).abs().mean(1, keepdim=True)
                        losses.append((off * box).sum() / box.sum())
                self.weight.grad = None
                torch.stack(losses).mean().backward()
                assert self.weight.grad is not None
                read.grad = torch.einsum("ockl,rc->orkl", self.weight.grad, directions)
                adam.step()
            return {self.name: torch.einsum("orkl,rc->ockl", read.detach(), directions)}

    def solve(self, lessons: Sequence[Lesson], directions: Tensor, *, ridge: float = 1e-2) -> Difference:
        """The same in one stroke: least squares in the lessons' boxes, as every output channel is a linear function of
        the weight. `ridge`, as a share of the mean diagonal, keeps the solution small where the lessons say nothing."""
        with self._free():
            before, best = self.weight.detach().clone(), self._off(lessons)
            for _ in range(ROUNDS):
                step, there = self._step(lessons, directions, ridge), self.weight.detach().clone()
                for share in SHARES:
                    self.weight.data = there + share * step
                    if (off := self._off(lessons)) < best:
                        break
                else:  # what normalises the convolution stands in the way
                    self.weight.data = there
                    break
                best = off
            return {self.name: self.weight.detach() - before}

    @torch.no_grad()
    def _off(self, lessons: Sequence[Lesson]) -> float:
        """How far values are from their goals in the lessons' boxes, squared."""
        squares = [((x.host.remember() - x.goal).square() * _box(x.new)).sum() for x in lessons]
        return float(torch.stack(squares).sum())

    @torch.no_grad()
    def _step(self, lessons: Sequence[Lesson], directions: Tensor, ridge: float) -> Tensor:
        out, _, height, width = self.weight.shape
        taps = torch.eye(height * width, device=self.weight.device).view(-1, 1, height, width)
        kernels = (directions[:, None, :, None, None] * taps).flatten(0, 1)  # (rank taps, channels, K, K)
        products, off = torch.zeros(()).double(), torch.zeros(()).double()
        for lesson in lessons:
            box = _places(_box(lesson.new).to(torch.float64))  # (P, 1)
            basis = _places(self._convolve(self.keys(lesson.host), kernels)).double()  # (P, rank taps)
            slope, missing = self._slopes(lesson)
            slope, missing = (_places(m).double() for m in (slope, missing))  # (P, out)
            weighed = (slope.square() * box).T[:, :, None] * basis  # (out, P, rank taps)
            products = products + basis.T @ weighed
            off = off + torch.einsum("pb,po->ob", basis, slope * missing * box)
        diagonal = products.diagonal(dim1=1, dim2=2)
        one = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device)
        products = products + (ridge * diagonal.mean(1)[:, None, None] + 1e-12) * one
        found = torch.linalg.solve(products, off[:, :, None])[:, :, 0]
        change = torch.einsum(
            "orkl,rc->ockl", found.to(self.weight.dtype).view(out, len(directions), height, width), directions
        )
        return change / (self.module.weight_gain if isinstance(self.module, ModulatedConv) else 1.0)

    def _convolve(self, keys: Tensor, kernels: Tensor) -> Tensor:
        if isinstance(self.module, ModulatedConv):
            return self.module.convolve(keys, kernels)
        assert isinstance(self.module, nn.Conv2d)
        named = {"weight": kernels, "bias": kernels.new_zeros(len(kernels))}
        given = {key: named[key] for key, _ in self.module.named_parameters()}
        found: Tensor = torch.func.functional_call(self.module, given, (keys,))
        return found

    def _slopes(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """How fast each value grows with what the convolution gives for it, and how far it is from its goal:
        (B, out, h, w) each."""
        name = self.name.rpartition(".")[0]
        name = f"{name}.products" if isinstance(self.module, ModulatedConv) else name
        kept: list[Tensor] = []

        def leaf(product: Tensor) -> Tensor:
            kept.append(product.detach().requires_grad_(True))
            return kept[0] * 1.0

        with torch.enable_grad(), replacing(self.cut.model, {name: leaf}):
            values = lesson.host.remember()
            (slope,) = torch.autograd.grad(values.sum(), kept[0])
        return slope, lesson.goal - values.detach()

    @torch.no_grad()
    def erased(self, host: ActivationCache, masks: Tensor, units: int = UNITS) -> Tensor:
        """The values (B, C, h, w) without those units of the keys that say most of what is under masks (B, 1, H, W):
        the ones with the highest mean square there, relative to that everywhere."""
        keys = self.keys(host)
        under = F.interpolate(masks, keys.shape[2:], mode="area")
        inside = (keys.square() * under).sum((0, 2, 3)) / under.sum().clamp_min(1e-6)
        share = inside / self.second_moment.diagonal().float().clamp_min(1e-8)
        chosen = share.topk(min(units, len(share) // 2)).indices
        with replacing(
            self.cut.model, {f"{self.name.rpartition('.')[0]}.keys": lambda x: x.index_fill(1, chosen, 0.0)}
        ):
            return host.remember()

    @contextmanager
    def _free(self) -> Iterator[None]:
        before = self.weight.detach().clone()
        self.weight.requires_grad_(True)
        try:
            yield
        finally:
            with torch.no_grad():
                self.weight.copy_(before)
            self.weight.requires_grad_(False)
            self.weight.grad = None


def _places(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C)."""
    return maps.movedim(1, 3).flatten(0, 2)


def _box(where: Tensor) -> Tensor:
    """The bounding box of each mask (B, 1, h, w), as a mask in {0, 1}."""
    rows, columns = where.any(3, keepdim=True).float(), where.any(2, keepdim=True).float()

    def filled(line: Tensor, axis: int) -> Tensor:
        return line.cummax(axis).values * line.flip(axis).cummax(axis).values.flip(axis)

    return filled(rows, 2) * filled(columns, 3)
