"""CartoonGAN: photos become drawings, learned from photos and drawings that are no pairs (Chen et al. 2018), with the
losses that Wang, Sun and Cui name for faces.

Their report names landmark, style, content, grayscale and colour losses beside the adversarial one and gives no
equations. Content, style, grayscale, colour and total variation are completed after AnimeGANv2 (Chen et al. 2020); the
landmark loss, the discriminator of eyes and the flattened target are ours. Each loss has a weight in `Config`, and
one of weight 0 is never computed.

The network is a small hourglass without statistics of its own at inference, so that what becomes of a place depends on
what is near it alone: a large picture may be translated in parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data.edges import smooth_edges
from kyara.models import base
from kyara.models.cartoongan.config import PRESETS, Config
from kyara.models.cartoongan.eyes import fields, fields_loss
from kyara.models.cartoongan.networks import Artist, Critic
from kyara.models.cartoongan.painting import (
    cel,
    chrominance_loss,
    colour_loss,
    colourless,
    flatten,
    grey,
    total_variation,
)
from kyara.nn.losses import least_squares
from kyara.perception import landmarks, portrait
from kyara.perception.features import gram, load_features, unit

SMALLEST = 32
"""Pixels of the shorter side that a frozen network needs."""
EYES_COUNT = 5.0
"""How much more than other places the eyes of a cel count."""
DRAWN = (
    "adversarial", "content", "style", "grayscale", "colour", "landmark", "eyes", "chrominance", "flat", "cel", "tv",
)  # fmt: skip
"""The losses that look at what is drawn."""
SHOWN = 32
"""Photos on the sample sheet."""


class Model(base.Translator):
    """The generator, a discriminator of pictures and, with `eyes`, one of eyes."""

    config_type = Config
    presets = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    from_photos = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.g = Artist(config)
        self.g_ema = self.average(self.g)
        self.d = nn.ModuleDict({"near": Critic(config.network.d_channels), "far": Critic(config.network.d_channels)})
        if config.losses.eyes:
            self.d["eyes"] = Critic(config.network.d_channels)
        self.eye_sizes = nn.Buffer(torch.tensor([portrait.PHOTO, portrait.DRAWN]))  # running means

    def players(self) -> Mapping[str, nn.Module]:
        return {"d": self.d, "g": self.g}

    @property
    def receptive_field(self) -> int:
        return self.g.receptive_field

    def translate(self, pictures: Tensor) -> Tensor:
        made: Tensor = self.g_ema(pictures)
        return made.clamp(-1, 1)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        """What the phase minimises. While the content alone is learned the discriminators rest: nothing."""
        assert batch.photos is not None
        content_only = batch.step * self.config.optimizer.batch < self.config.losses.content_kimg * 1000
        if phase == "d":
            judged = self.config.losses.adversarial or self.config.losses.eyes
            return self.d_losses(batch) if judged and not content_only else {}
        given = self.g.expose(batch.photos)
        photos, shift, points = self.belongs(dataclasses.replace(batch, photos=given))
        losses = {}
        if self.g.warp is not None and shift is not None:
            found = self.g.warp(given)
            losses["warp"] = (found - shift).abs().mean() * (100 / given.shape[3] * self.config.losses.warp)
            given = portrait.remap(given, found.detach())
        looks = None
        if self.g.gaze is not None and points is not None:
            looks = self.g.gaze(given)
            losses["gaze"] = fields_loss(looks, fields(photos, points)) * self.config.losses.gaze
            looks = looks.detach()
        if not self.asked:
            return losses
        made = self.g.finish(self.g.draw(given).float(), looks)
        seen = self._see(made) if self.config.losses.content or self.config.losses.style else []
        losses |= self.kept(made, seen, photos, points)
        return losses if content_only else losses | self.drawn(made, seen, points, batch)

    @property
    def asked(self) -> bool:
        """Whether any loss looks at what is drawn."""
        return any(getattr(self.config.losses, name) for name in DRAWN)

    @torch.no_grad()
    def belongs(self, batch: base.Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The photos with their eyes enlarged, (B, 3, H, W), from where their pixels come, (B, 2, H, W), and where
        the points of their faces are then, (B, K, 2); None if nothing asks for them."""
        config, photos = self.config, batch.photos
        assert photos is not None
        if not (config.network.enlarge_eyes or config.losses.landmark or config.losses.eyes or config.losses.gaze):
            return photos, None, None
        points = landmarks.find(photos)
        if not config.network.enlarge_eyes:
            return photos, None, points
        now = torch.stack([portrait.eye_size(points), portrait.eye_size(landmarks.find(batch.real))])
        self.eye_sizes.lerp_(now.to(self.eye_sizes.dtype), 0.01)
        photo, drawn = self.eye_sizes
        shift, there = portrait.enlarge(
            points, 1 + config.network.enlarge_eyes * (drawn / photo - 1), *photos.shape[2:]
        )
        return portrait.remap(photos, shift), shift, there

    def d_losses(self, batch: base.Batch) -> dict[str, Tensor]:
        """Drawings are real; results, and drawings without their lines or colours, are not."""
        config, drawings, photos = self.config, batch.real, batch.photos
        assert photos is not None
        with torch.no_grad():
            made = self.g(photos).float()
        shown = {"d_real": (drawings, config.losses.d_real), "d_fake": (made, config.losses.d_fake)}
        if config.losses.d_smooth:
            shown["d_smooth"] = smooth_edges(drawings), config.losses.d_smooth
        if config.losses.d_grey:
            shown["d_grey"] = grey(drawings), config.losses.d_grey
        together = batch.augment(torch.cat([pictures for pictures, _ in shown.values()]))
        logits = [critic.chunk(len(shown)) for critic in self._judge(together)]
        losses = {}
        for i, (name, (_, weight)) in enumerate(shown.items()):
            losses[name] = mean([self._is(critic[i], name == "d_real") for critic in logits]) * weight
        undecided = 0.5 if config.losses.least_squares else 0.0
        for i, name in enumerate(("real", "fake")):
            batch.log[f"{name}_sign"] = (logits[0][i].detach() - undecided).sign().mean()
        if config.losses.eyes:
            with torch.no_grad():
                drawn, there = landmarks.find(drawings), landmarks.find(photos)
            real, fake = self._judge_eyes(torch.cat([drawings, made]), torch.cat([drawn, there])).chunk(2)
            losses["d_eyes"] = self._is(real, True) + self._is(fake, False)
        return losses

    def kept(self, made: Tensor, seen: list[Tensor], photos: Tensor, points: Tensor | None) -> dict[str, Tensor]:
        """What holds results (B, 3, H, W), in which a network has `seen` maps, to the photos, their eyes enlarged, of
        faces with points (B, K, 2)."""
        config, losses = self.config, {}
        if config.losses.content:
            pairs = zip(seen, self._see(photos), strict=True)
            losses["content"] = mean([F.l1_loss(unit(a), unit(b)) for a, b in pairs]) * config.losses.content
        if config.losses.colour:
            losses["colour"] = colour_loss(made, photos) * config.losses.colour
        if config.losses.flat:
            losses["flat"] = F.l1_loss(made.float(), flatten(photos)) * config.losses.flat
        if config.losses.chrominance:
            losses["chrominance"] = chrominance_loss(made, photos) * config.losses.chrominance
        if config.losses.cel:
            losses["cel"] = self._cel(made, photos, points) * config.losses.cel
        return losses

    def drawn(self, made: Tensor, seen: list[Tensor], points: Tensor | None, batch: base.Batch) -> dict[str, Tensor]:
        """What makes drawings of results (B, 3, H, W), in which a network has `seen` maps, and whose points (B, K, 2)
        belong there."""
        config, losses = self.config, {}
        if config.losses.adversarial:
            opinions = [self._is(logits, True) for logits in self._judge(batch.augment(made))]
            losses["adversarial"] = mean(opinions) * config.losses.adversarial
        if config.losses.eyes and points is not None:
            losses["eyes"] = self._is(self._judge_eyes(made, points), True) * config.losses.eyes
        if config.losses.style:
            losses["style"] = self._style(seen, batch.real) * config.losses.style
        if config.losses.grayscale:
            losses["grayscale"] = self._style(self._see(grey(made)), grey(batch.real)) * config.losses.grayscale
        if config.losses.landmark and points is not None:
            losses["landmark"] = portrait.distance(landmarks.find(made), points) * config.losses.landmark
        if config.losses.tv:
            losses["tv"] = total_variation(made) * config.losses.tv
        return losses

    def _cel(self, made: Tensor, photos: Tensor, points: Tensor | None) -> Tensor:
        """The mean distance of results from cels. Eyes and what is around them count for more: they are small. If no
        eyes are drawn over it they are fine in the cel."""
        if points is None:
            return F.l1_loss(made, cel(photos))
        eyes = portrait.around_eyes(points, *photos.shape[2:])
        wanted = cel(photos, None if self.config.losses.gaze else eyes)
        return ((made - wanted).abs() * (1 + EYES_COUNT * eyes)).mean()

    def _is(self, logits: Tensor, real: bool) -> Tensor:
        """What the discriminator loses if these are real, or are not."""
        if self.config.losses.least_squares:
            return least_squares(logits, float(real))
        return F.softplus(-logits if real else logits).mean()

    def _judge(self, pictures: Tensor) -> list[Tensor]:
        """What two discriminators say of pictures: one looks at lines, one at shapes, at half the size."""
        if not self.config.network.d_colours:
            pictures = colourless(pictures)
        if self.config.network.d_relief:
            pictures = portrait.relief(pictures)
        small = F.avg_pool2d(pictures, 2, ceil_mode=True)
        return [self.d["near"](pictures).float(), self.d["far"](small).float()]

    def _judge_eyes(self, pictures: Tensor, points: Tensor) -> Tensor:
        """The logits of both eyes of each picture, (B, 2, h, w)."""
        eyes = portrait.eyes(pictures if self.config.network.d_colours else colourless(pictures), points)
        if self.config.network.d_relief:
            eyes = portrait.contrast(eyes)
        eyes = eyes * portrait.window(eyes.device)
        left, right = self.d["eyes"](eyes).float().chunk(2)
        return torch.cat([left, right], 1)

    def _see(self, pictures: Tensor) -> list[Tensor]:
        """What the frozen network sees, of at most `seen` pixels."""
        scale = self.config.losses.features_size / min(pictures.shape[2:])
        if scale < 1:
            pictures = F.interpolate(pictures, scale_factor=scale, mode="bilinear", antialias=True)
        smallest = tuple(max(side, SMALLEST) for side in pictures.shape[2:])
        if smallest != pictures.shape[2:]:
            pictures = F.interpolate(pictures, smallest, mode="bilinear")
        return load_features(self.config.losses.features, pictures.device).features(pictures)

    def _style(self, seen: list[Tensor], drawings: Tensor) -> Tensor:
        """The distance of the Gram matrices of results from the mean one of drawings, layer by layer, as a share of
        it."""
        with torch.no_grad():
            wanted = [gram(maps).mean(0) for maps in self._see(drawings)]
        there = [gram(maps) for maps in seen]
        return mean([(a - b).abs().mean() / b.abs().mean() for a, b in zip(there, wanted, strict=True)])

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Fréchet distance, in what the built-in tagger sees, between results and drawings."""
        assert batch.photos is not None
        made = torch.cat([self.translate(part) for part in batch.photos.split(8)])
        return {"frechet": distance(made, batch.real)}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """Photos, each with its result to the right."""
        assert batch.photos is not None
        photos = batch.photos[:SHOWN]
        return torch.stack([photos, self.translate(photos)], 1).flatten(0, 1)


def mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
