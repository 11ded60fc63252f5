"""The linear memory of Bau et al. 2020, "Rewriting a deep generative model": one convolution, changed by a low-rank
update along directions in which the masked places differ from everything else.

Keys are the inputs of the convolution itself, after modulation, one vector for each cell. Their statistics over random
pictures are C, the uncentered second moment (section 3.3). Instead of the gradient steps of the paper, it is solved by
ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models.projector import vectors
from kyara.nn.activations import ActivationCache, find_module, replace_output, restored
from kyara.nn.layers import ModulatedConv
from kyara.rewriting.lessons import TrainingBatch
from kyara.rewriting.nonlinear import WeightDifference

ERASED_UNITS = 30
MIN_EIGENVALUE = 1e-5  # eigenvalues of C are clamped to this share of the largest
ITERATIONS, STEP_SIZES = 6, (1.0, 0.5, 0.25, 0.1, 0.03)
"""Of the solution. Demodulation depends on the weights, so a full step may overshoot."""


class LinearMemory:
    """One convolution as a memory. ValueError if the layers hold another number of them."""

    def __init__(self, samples: Sequence[ActivationCache]) -> None:
        """`samples` are random pictures, from which C is estimated."""
        self.model, self.layers = samples[0].model, samples[0].layers
        kernels = samples[0].kernels()
        if len(kernels) != 1:
            raise ValueError(f"a linear memory is one convolution; these layers have {len(kernels)}")
        ((self.name, self.weight),) = kernels.items()
        self.module_name = self.name.rpartition(".")[0]
        self.module = find_module(self.model, self.module_name)
        keys = torch.cat([vectors(self.keys(cache)) for cache in samples]).double()
        self.second_moment = keys.T @ keys / len(keys)  # C, (channels, channels)
        values, axes = torch.linalg.eigh(self.second_moment)
        values = values.clamp_min(values[-1] * MIN_EIGENVALUE)
        self.whitening = axes @ torch.diag(values.rsqrt()) @ axes.T  # C^-1/2

    @torch.no_grad()
    def keys(self, cache: ActivationCache) -> Tensor:
        """The inputs of the convolution for these pictures, (B, channels, h, w)."""
        keys: list[Tensor] = []

        def record(inputs: Tensor) -> Tensor:
            keys.append(inputs.detach())
            return inputs

        with self._replace_keys(record):
            cache.compute_value()
        return keys[0].to(self.weight.dtype)

    @contextmanager
    def _replace_keys(self, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Passes the inputs of the convolution through a function while the context is active."""
        if isinstance(self.module, ModulatedConv):  # after modulation
            handle = self.module.keys.register_forward_hook(lambda module, inputs, keys: function(keys))
        else:
            handle = self.module.register_forward_pre_hook(lambda module, inputs: (function(inputs[0]),))
        try:
            yield
        finally:
            handle.remove()

    def directions(self, batches: Sequence[TrainingBatch], rank: int = 1) -> Tensor:
        """Orthonormal directions (rank, channels) that the masked places of some pictures share and others do not have:
        the leading right singular vectors of the whitened keys under the masks, whitened again (section 3.4)."""
        rows = []
        for batch in batches:
            keys = self.keys(batch.cache)
            mask = F.interpolate(batch.alpha, keys.shape[2:], mode="area")
            rows.append((vectors(keys).double() @ self.whitening) * vectors(mask))
        stacked = torch.cat(rows)
        stacked = stacked[stacked.abs().sum(1) > 0]
        _, _, leading = torch.linalg.svd(stacked, full_matrices=False)
        directions = torch.linalg.qr((leading[:rank] @ self.whitening).T).Q.T
        sign = torch.where((stacked @ self.whitening.inverse() @ directions.T).sum(0) < 0, -1.0, 1.0)
        return (directions * sign[:, None]).to(self.weight.dtype)

    def solve(self, batches: Sequence[TrainingBatch], directions: Tensor, *, ridge: float = 1e-2) -> WeightDifference:
        """The weight difference that reaches the targets (equation 5), by least squares: each output channel is a
        linear function of the weight. `ridge`, as a share of the mean diagonal, regularises what the batches do not
        determine."""
        with restored([self.weight]):
            original, best = self.weight.detach().clone(), self._error(batches)
            for _ in range(ITERATIONS):
                step, start = self._step(batches, directions, ridge), self.weight.detach().clone()
                for size in STEP_SIZES:
                    self.weight.data = start + size * step
                    if (error := self._error(batches)) < best:
                        break
                else:  # no step size helps: demodulation cancels the change
                    self.weight.data = start
                    break
                best = error
            return {self.name: self.weight.detach() - original}

    @torch.no_grad()
    def _error(self, batches: Sequence[TrainingBatch]) -> float:
        """Sum of squared errors in the boxes around the masks."""
        squares = [((b.cache.compute_value() - b.target).square() * bounding_box(b.inside)).sum() for b in batches]
        return float(torch.stack(squares).sum())

    @torch.no_grad()
    def _step(self, batches: Sequence[TrainingBatch], directions: Tensor, ridge: float) -> Tensor:
        """One Gauss-Newton step: the change of the weight, of its shape."""
        out, _, height, width = self.weight.shape
        taps = torch.eye(height * width, device=self.weight.device).view(-1, 1, height, width)
        kernels = (directions[:, None, :, None, None] * taps).flatten(0, 1)  # (rank taps, channels, K, K)
        products, projected = torch.zeros(()).double(), torch.zeros(()).double()
        for batch in batches:
            box = vectors(bounding_box(batch.inside).to(torch.float64))  # (P, 1)
            basis = vectors(self._convolve(self.keys(batch.cache), kernels)).double()  # (P, rank taps)
            slope, error = (vectors(maps).double() for maps in self._slopes(batch))
            weighted = (slope.square() * box).T[:, :, None] * basis  # (out, P, rank taps)
            products = products + basis.T @ weighted
            projected = projected + torch.einsum("pb,po->ob", basis, slope * error * box)
        diagonal = products.diagonal(dim1=1, dim2=2)
        identity = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device)
        products = products + (ridge * diagonal.mean(1)[:, None, None] + 1e-12) * identity
        solution = torch.linalg.solve(products, projected[:, :, None])[:, :, 0]
        coefficients = solution.to(self.weight.dtype).view(out, len(directions), height, width)
        change = torch.einsum("orkl,rc->ockl", coefficients, directions)
        return change / (self.module.weight_gain if isinstance(self.module, ModulatedConv) else 1.0)

    def _convolve(self, keys: Tensor, kernels: Tensor) -> Tensor:
        if isinstance(self.module, ModulatedConv):
            return self.module.convolve(keys, kernels)
        assert isinstance(self.module, nn.Conv2d)
        named = {"weight": kernels, "bias": kernels.new_zeros(len(kernels))}
        parameters = {key: named[key] for key, _ in self.module.named_parameters()}
        products: Tensor = torch.func.functional_call(self.module, parameters, (keys,))
        return products

    def _slopes(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Derivatives of the values by the convolution's output, and distances to the target, (B, out, h, w) each."""
        name = f"{self.module_name}.products" if isinstance(self.module, ModulatedConv) else self.module_name
        leaves: list[Tensor] = []

        def as_leaf(product: Tensor) -> Tensor:
            leaves.append(product.detach().requires_grad_(True))
            return leaves[0] * 1.0

        with torch.enable_grad(), replace_output(self.model, name, as_leaf):
            values = batch.cache.compute_value()
            (slope,) = torch.autograd.grad(values.sum(), leaves[0])
        return slope, batch.target - values.detach()

    @torch.no_grad()
    def erased_value(self, cache: ActivationCache, masks: Tensor, units: int = ERASED_UNITS) -> Tensor:
        """The value (B, C, h, w) without the units of the keys that are specific to what is under masks (B, 1, H, W):
        those with the highest mean square there relative to everywhere."""
        keys = self.keys(cache)
        under = F.interpolate(masks, keys.shape[2:], mode="area")
        inside = (keys.square() * under).sum((0, 2, 3)) / under.sum().clamp_min(1e-6)
        ratio = inside / self.second_moment.diagonal().float().clamp_min(1e-8)
        chosen = ratio.topk(min(units, len(ratio) // 2)).indices

        with self._replace_keys(lambda keys: keys.index_fill(1, chosen, 0.0)):
            return cache.compute_value()


def bounding_box(where: Tensor) -> Tensor:
    """The bounding box of each mask (B, 1, h, w), as a mask in {0, 1}."""
    rows, columns = where.any(3, keepdim=True).float(), where.any(2, keepdim=True).float()

    def filled(line: Tensor, axis: int) -> Tensor:
        return line.cummax(axis).values * line.flip(axis).cummax(axis).values.flip(axis)

    return filled(rows, 2) * filled(columns, 3)
