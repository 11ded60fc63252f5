"""Moving points of a generated picture (DragGAN, Pan et al. 2023): the styles are optimised until the features at the
handles have moved to the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.base import StyledGenerator
from kyara.nn.activations import find_module, first_tensor

Point = tuple[float, float]  # x, y in pixels; the centre of the first pixel is (0, 0)


@dataclass(frozen=True)
class DragSettings:
    """Lengths are fractions of the picture's shorter side."""

    lr: float = 0.03  # learning rate of the styles
    patch: float = 0.05  # radius around a handle whose features are moved
    search: float = 0.09  # radius in which a handle is found again after a step
    arrived: float = 0.012  # distance to the target that ends the movement
    stride: float = 1.0  # how far one step tries to move the features, in cells of the feature map
    layers: float = 0.6  # share of the style layers that are optimised, coarsest first; the others keep the colours
    outside: float = 10.0  # weight of features outside the mask, which should not change


DEFAULT = DragSettings()


class Drag:
    """One picture that is being dragged."""

    def __init__(
        self,
        generator: StyledGenerator,
        ws: Tensor,
        handles: Sequence[Point],
        targets: Sequence[Point],
        mask: Tensor | None = None,
        settings: DragSettings = DEFAULT,
    ) -> None:
        """`ws` (layers, w_dim) are the styles of the picture. `mask` (H, W) bool marks what may move; by default all of
        it. Raises ValueError unless there are as many targets as handles, one or more, all inside the picture."""
        data = generator.config.data
        self.generator, self.settings, self.size = generator, settings, (data.width, data.height)
        points = torch.tensor([*handles, *targets], dtype=torch.float32)
        if len(handles) != len(targets) or not handles:
            raise ValueError(f"{len(handles)} handles and {len(targets)} targets: give a target for each handle")
        if not points.isfinite().all() or (points < 0).any() or (points > torch.tensor(self.size) - 1).any():
            raise ValueError(f"points must be inside the picture of {data.width}x{data.height} pixels")
        if mask is not None and mask.shape != (data.height, data.width):
            raise ValueError(f"the mask must have the size of the picture, {data.width}x{data.height} pixels")
        self.device = ws.device
        self.points = points[: len(handles)].to(self.device)  # (P, 2), where the handles are now
        self.targets = points[len(handles) :].to(self.device)  # (P, 2)
        self.unit = min(self.size)
        optimised = max(1, round(settings.layers * len(ws)))
        self.moving = ws[:optimised].clone().requires_grad_(True)
        self.fixed = ws[optimised:].clone()
        self.optimizer = torch.optim.Adam([self.moving], lr=settings.lr)
        self.layer = self._feature_layer(ws)
        with torch.no_grad():
            first, self._picture = self._features()
        self.first = first
        self.appearance = self._at(first, self.points[:, None])  # (P, 1, C), what a handle looks like
        self.outside = None if mask is None else ~mask.to(self.device)

    @property
    def ws(self) -> Tensor:
        """The styles of the picture now, (layers, w_dim)."""
        return torch.cat([self.moving.detach(), self.fixed])

    @property
    def picture(self) -> Tensor:
        """The picture (3, H, W) before the last step; `step` returns nothing, so that several cost one picture each."""
        return self._picture[0].detach()

    @property
    def distance(self) -> float:
        """The largest distance from a handle to its target, in pixels."""
        return float((self.targets - self.points).norm(dim=1).max())

    @property
    def done(self) -> bool:
        return self.distance <= self.settings.arrived * self.unit

    @torch.enable_grad()
    def step(self) -> None:
        """One step of motion supervision (equation 1) and of point tracking (equation 2)."""
        features, self._picture = self._features()
        with torch.no_grad():
            self._track(features)
        if self.done:
            return
        loss = self._motion_loss(features)
        if self.outside is not None:
            change = (self._full(features) - self._full(self.first)).abs().mean(1)[0]
            loss = loss + self.settings.outside * change[self.outside].mean()
        (self.moving.grad,) = torch.autograd.grad(loss, [self.moving])
        self.optimizer.step()

    def _motion_loss(self, features: Tensor) -> Tensor:
        cell = self.size[0] / features.shape[3]  # in pixels
        radius = max(self.settings.patch * self.unit, cell)
        away = self.targets - self.points
        distance = away.norm(dim=1, keepdim=True)
        move = away / distance.clamp_min(1e-6) * distance.clamp_max(self.settings.stride * cell)
        patch = self.points[:, None] + self._disc(radius, cell / 2)  # (P, K, 2)
        before = self._at(features, patch).detach()
        moved = self._at(features, patch + move[:, None])
        unfinished = (distance > self.settings.arrived * self.unit).float()[:, :, None]
        return ((moved - before).abs() * unfinished).mean()

    def _track(self, features: Tensor) -> None:
        """Moves each handle to the place nearby that looks most like it did at first."""
        cell = self.size[0] / features.shape[3]
        near = self._disc(max(self.settings.search * self.unit, cell), cell / 4)  # (K, 2)
        places = self.points[:, None] + near
        difference = (self._at(features, places) - self.appearance).abs().mean(2)  # (P, K)
        best = difference.argmin(1)
        limit = torch.tensor(self.size, device=self.device) - 1
        self.points = torch.minimum((self.points + near[best]).clamp_min(0), limit)

    def _disc(self, radius: float, spacing: float) -> Tensor:
        """Offsets (K, 2) in pixels inside a circle, the nearest first."""
        steps = torch.arange(-int(radius / spacing), int(radius / spacing) + 1, device=self.device) * spacing
        grid = torch.cartesian_prod(steps, steps)
        lengths = grid.norm(dim=1)
        order = lengths.argsort(stable=True)
        return grid[order][lengths[order] <= radius]

    def _at(self, features: Tensor, places: Tensor) -> Tensor:
        """Features (P, K, C) of (1, C, h, w) at places (P, K, 2) in pixels, interpolated."""
        scale = torch.tensor(self.size, device=self.device)
        grid = ((places + 0.5) / scale * 2 - 1)[None]
        found = F.grid_sample(features, grid, padding_mode="border", align_corners=False)  # (1, C, P, K)
        return found[0].permute(1, 2, 0)

    def _full(self, features: Tensor) -> Tensor:
        return F.interpolate(features, self.size[::-1], mode="bilinear", align_corners=False)

    def _features(self) -> tuple[Tensor, Tensor]:
        """The features (1, C, h, w) and the picture (1, 3, H, W) of the styles now."""
        kept: list[Tensor] = []
        module = find_module(self.generator, self.layer)
        handle = module.register_forward_hook(lambda _, __, output: kept.append(first_tensor(output)))
        try:
            picture = self.generator.synthesise(torch.cat([self.moving, self.fixed])[None])
        finally:
            handle.remove()
        return kept[0].float(), picture

    def _feature_layer(self, ws: Tensor) -> str:
        """The name of the last layer whose output is at most half as wide as the picture: finer ones hold textures that
        do not move with the shapes."""
        widths: dict[str, int] = {}
        names = [memory.last for memory in self.generator.memories()]

        def record(name: str) -> torch.utils.hooks.RemovableHandle:
            def hook(_: object, __: object, output: object) -> None:
                widths[name] = first_tensor(output).shape[3]

            return find_module(self.generator, name).register_forward_hook(hook)

        handles = [record(name) for name in names]
        try:
            with torch.no_grad():
                self.generator.synthesise(ws[None])
        finally:
            for handle in handles:
                handle.remove()
        fitting = [name for name in names if 2 * widths[name] <= self.size[0]]
        return fitting[-1] if fitting else names[0]
