"""CartoonGAN: translation of photos to drawings, trained on unpaired photos and drawings (Chen et al. 2018), with
losses for faces after Wang, Sun and Cui.

Their report names landmark, content, grayscale and colour losses without equations. Content, grayscale, colour and
total variation follow AnimeGANv2 (Chen et al. 2020); the landmark, chrominance and cel losses are new. The network
does not compute statistics at inference, so that large pictures can be translated in tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from kyara.data.edges import smooth_edges
from kyara.models import base
from kyara.models.cartoongan.config import PRESETS, Config
from kyara.models.cartoongan.eyes import fields, fields_loss
from kyara.models.cartoongan.losses import DRAW, KEEP, Step, gan
from kyara.models.cartoongan.networks import Discriminators, Generator
from kyara.models.cartoongan.painting import grey
from kyara.nn.losses import weighted
from kyara.perception import landmarks, portrait

SHOWN = 32  # photos on the sample sheet


class Model(base.Translator):
    """CartoonGAN (Chen et al. 2018): generator, its moving average, two discriminators."""

    presets = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(photos=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.g = Generator(config)
        self.g_ema = self.average(self.g)
        self.d = Discriminators(config.network)
        self.eye_sizes = nn.Buffer(torch.tensor([portrait.PHOTO, portrait.DRAWN]))  # running means

    @property
    def receptive_field(self) -> int:
        return self.g.receptive_field

    def translate(self, pictures: Tensor) -> Tensor:
        return self.g_ema(pictures).clamp(-1, 1)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        assert batch.photos is not None
        content_only = batch.step * self.config.optimizer.batch < self.config.losses.content_kimg * 1000
        if phase == "d":
            return {} if content_only or not self.config.losses.adversarial else self.d_losses(batch, batch.photos)
        photos, shift, points = self.targets(batch.photos, batch.real)
        losses, inputs = {}, batch.photos
        if self.g.warp is not None and shift is not None:
            found = self.g.warp(inputs)
            losses["warp"] = (found - shift).abs().mean() * (100 / inputs.shape[3] * self.config.losses.warp)
            inputs = portrait.remap(inputs, found.detach())
        looks = None
        if self.g.gaze is not None and points is not None:
            looks = self.g.gaze(inputs)
            losses["gaze"] = fields_loss(looks, fields(photos, points)) * self.config.losses.gaze
            looks = looks.detach()
        if not any(getattr(self.config.losses, name) for name in KEEP | DRAW):
            return losses
        made = self.g.finish(self.g.draw(inputs).float(), looks)
        weights = self.config.losses
        step = Step(weights, made, photos, batch.real, points, lambda pictures: self.d(batch.augment(pictures)))
        losses |= weighted(KEEP, step, weights)
        return losses if content_only else losses | weighted(DRAW, step, weights)

    @torch.no_grad()
    def targets(self, photos: Tensor, drawings: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Photos with enlarged eyes, the displacement field (B, 2, H, W), and the new landmarks; None if not needed."""
        enlarge, losses = self.config.network.enlarge_eyes, self.config.losses
        if not (enlarge or losses.landmark or losses.gaze):
            return photos, None, None
        points = landmarks.find(photos)
        if not enlarge:
            return photos, None, points
        sizes = torch.stack([portrait.eye_size(points), portrait.eye_size(landmarks.find(drawings))])
        self.eye_sizes.lerp_(sizes.to(self.eye_sizes.dtype), 0.01)
        photo, drawn = self.eye_sizes
        shift, moved = portrait.enlarge(points, 1 + enlarge * (drawn / photo - 1), *photos.shape[2:])
        return portrait.remap(photos, shift), shift, moved

    def d_losses(self, batch: base.Batch, photos: Tensor) -> dict[str, Tensor]:
        """Loss of the discriminators: drawings are real; outputs, and drawings without edges or colours, are fake."""
        weights, drawings = self.config.losses, batch.real
        with torch.no_grad():
            made = self.g(photos).float()
        shown = {"d_real": drawings, "d_fake": made}
        if weights.d_smooth:
            shown["d_smooth"] = smooth_edges(drawings)
        if weights.d_grey:
            shown["d_grey"] = grey(drawings)
        together = self.d(batch.augment(torch.cat([*shown.values()])))
        parts = dict(zip(shown, zip(*(logits.chunk(len(shown)) for logits in together), strict=True), strict=True))
        batch.log_signs(parts["d_real"][0], parts["d_fake"][0], threshold=0.5 if weights.least_squares else 0.0)
        return {name: gan(logits, name == "d_real", weights) * getattr(weights, name) for name, logits in parts.items()}

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """The distance between translations and drawings."""
        assert batch.photos is not None
        return {"frechet": distance(torch.cat([self.translate(part) for part in batch.photos.split(8)]), batch.real)}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """Photos, each with its translation to the right."""
        assert batch.photos is not None
        photos = batch.photos[:SHOWN]
        return torch.stack([photos, self.translate(photos)], 1).flatten(0, 1)
