"""StyleGAN2 as a model: its losses, layers and samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kyara.models import base
from kyara.models.stylegan2 import reconstruction
from kyara.models.stylegan2.config import PRESETS, Config
from kyara.models.stylegan2.discriminator import Discriminator
from kyara.models.stylegan2.generator import GeneratorNet, StyledConv
from kyara.models.stylegan2.growing import grow_bands
from kyara.nn import conditioning
from kyara.nn.activations import LayerRange
from kyara.nn.losses import nonsaturating_d, nonsaturating_g, path_lengths, r1_penalty


def _parameters(*modules: Any) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def total(losses: Iterable[Tensor]) -> Tensor:
    first, *others = losses
    return sum(others, first)


class Model(base.StyledGenerator):
    """StyleGAN2 (Karras et al. 2020): generator, its moving average, and discriminator."""

    presets = PRESETS
    phases = ("d", "d_reg", "g", "g_reg")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    unsampled = ("encoder",)
    data_spec = base.DataSpec(attributes="may", keeps_attributes=True)
    capturable = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.z_dim = config.network.z_dim
        self.g = GeneratorNet(config)
        self.d = Discriminator(config)
        self.g_ema = self.average(self.g)
        self.path_average = nn.Buffer(torch.zeros(()))
        known = config.data.attributes, config.data.label_counts, config.data.unlabelled
        self.drawn = conditioning.Drawn(*known) if config.data.unlabelled else None

    def layers(self) -> Mapping[str, Sequence[list[nn.Parameter]]]:
        first, *finer = self.g.synthesis.blocks
        g = [[self.g.synthesis.constant, *_parameters(first.conv1, first.to_rgb)]]
        for block in finer:
            g += [_parameters(block.conv0), _parameters(block.conv1, block.to_rgb)]
        d = [_parameters(self.d.from_rgb)]
        d += [_parameters(part) for block in reversed(self.d.blocks) for part in (block.conv0, block.conv1, block.skip)]
        encoder = {} if self.g.encoder is None else {"encoder": [_parameters(self.g.encoder)]}
        return {"mapping": [_parameters(self.g.mapping)], "g": g, "d": d, **encoder}

    def copy_from_parent(self, parent: base.Model) -> set[str]:
        assert isinstance(parent, Model)
        copied = self._copy_bands(parent)
        return copied | self._copy_trunk(parent, copied)

    def _copy_bands(self, parent: Model) -> set[str]:
        """Layers that make or read wavelet bands, from a parent for pictures of half the size."""
        ours, theirs = self.config, parent.config
        levels = ours.network.wavelets - theirs.network.wavelets
        grown = theirs.data.width << max(levels, 0), theirs.data.height << max(levels, 0)
        if levels < 1 or grown != (ours.data.width, ours.data.height):
            return set()
        pairs = {"g": (self.g, parent.g), "g_ema": (self.g_ema, parent.g_ema), "d": (self.d, parent.d)}
        return {f"{part}.{name}" for part, pair in pairs.items() for name in grow_bands(*pair, levels)}

    def _copy_trunk(self, parent: Model, copied: set[str]) -> set[str]:
        """The convolutions of an encoder, if the parent has none: those of the discriminator that are the parent's, or
        were `copied` from it, which has learned to look at such pictures."""
        if self.g.encoder is None or self.g_ema.encoder is None or parent.g.encoder is not None:
            return set()
        theirs, trunk = parent.d.state_dict(), {}
        for name, tensor in self.d.state_dict().items():
            known = f"d.{name}" in copied or (name in theirs and theirs[name].shape == tensor.shape)
            if known and name.startswith(("from_rgb.", "blocks.")):
                trunk[name] = tensor
        for encoder in (self.g.encoder, self.g_ema.encoder):
            encoder.load_state_dict(trunk, strict=False)
        return {f"{part}.encoder.{name}" for part in ("g", "g_ema") for name in trunk}

    def freeze(self, parameters: Sequence[nn.Parameter]) -> None:
        super().freeze(parameters)
        if not any(parameter.requires_grad for parameter in self.g.mapping.parameters()):
            self.g.mapping.decay = 1.0  # also freezes the moving average of w

    def reg_interval(self, phase: str) -> int:
        losses = self.config.losses
        if phase.startswith("d") and not losses.adversarial:
            return 0
        lazy = {"d_reg": (losses.r1_interval, losses.r1_gamma), "g_reg": (losses.path_interval, losses.path_weight)}
        interval, weight = lazy.get(phase, (1, 1.0))
        return interval if weight else 0

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        labels = conditioning.table(batch.labels, self.config.data.attributes, batch.real)  # (B, A)
        return getattr(self, f"_{phase}")(batch, labels)

    @classmethod
    def least_micro_batch(cls, config: base.Config) -> int:
        assert isinstance(config, Config)
        return 2 if config.network.encoder and config.losses.encoded < 1 else 1

    def _fake_labels(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (B, A) of fakes, for the discriminator and for the generator. Only the generator gets labels of
        attributes that the data have none of: they would tell fakes from real pictures. Reconstructions keep the labels
        of their pictures."""
        losses, count = self.config.losses, self._reconstructed(len(labels))
        mixed = conditioning.shuffled(labels, losses.label_mixing_prob)
        shown = conditioning.dropped(torch.cat([labels[:count], mixed[count:]]), losses.label_drop_prob)
        return shown, torch.cat([shown[:count], self._completed(shown[count:])])

    def _completed(self, labels: Tensor) -> Tensor:
        return labels if self.drawn is None else self.drawn(labels)

    def _reconstructed(self, batch: int) -> int:
        """Number of fakes of a batch that are reconstructions of its first real pictures: one at least, and not all if
        the share is below 1. An even number if the batch is even, so that neither kind is a prime number of pictures,
        which has no groups for the minibatch deviation."""
        if not self.config.network.encoder:
            return 0
        share, step = self.config.losses.encoded, 2 if batch % 2 == 0 and batch > 2 else 1
        most = batch if share == 1 else max(batch - step, 1)
        return min(max(round(batch * share / step) * step, step), most)

    def _fakes(self, labels: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pictures with labels (B, A), and their styles: reconstructions of `real` (n, 3, H, W), then pictures of
        random latents."""
        count = 0 if real is None else len(real)
        z = torch.randn(len(labels) - count, self.z_dim, device=labels.device)
        ws = self.g.styles(z, labels[count:], self.config.losses.style_mixing_prob)
        if real is not None:
            ws = torch.cat([self.g.encode(real), ws])
        if not ws.requires_grad and torch.is_grad_enabled():  # mapping network frozen; path lengths need gradients
            ws = ws.detach().requires_grad_(True)
        return self.g.synthesis(ws), ws

    def _encoded(self, batch: base.Batch) -> Tensor | None:
        """The pictures (n, 3, H, W) to reconstruct; None without an encoder."""
        return batch.real[: self._reconstructed(len(batch.real))] if self.g.encoder is not None else None

    def _judge(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `Discriminator.judge`, of as many pictures as there are reconstructions, and of the others, apart: in a
        group of both kinds of fakes, the variety of the reconstructions would hide from the minibatch deviation that
        the others are alike. Real pictures have groups of the same sizes, on which the deviation depends."""
        count = self._reconstructed(len(pictures))
        if count in (0, len(pictures)):
            return self.d.judge(pictures, labels)
        parts = slice(count), slice(count, None)
        logits, label_logits = zip(*(self.d.judge(pictures[part], labels[part]) for part in parts), strict=True)
        return torch.cat(logits), None if label_logits[0] is None else torch.cat(label_logits)

    def _d(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        fake_shown, fake_labels = self._fake_labels(labels)
        with torch.no_grad():
            fake, _ = self._fakes(fake_labels, self._encoded(batch))
        shown = conditioning.dropped(labels, self.config.losses.label_drop_prob)
        real_logits, label_logits = self._judge(batch.augment(batch.real), shown)
        fake_logits, fake_label_logits = self._judge(batch.augment(fake), fake_shown)
        batch.log_signs(real_logits[:, 0], fake_logits[:, 0])
        if label_logits is not None:
            batch.log["label_accuracy"] = conditioning.accuracy(label_logits, labels, self.config.data.attributes)
        label_loss = conditioning.losses("d_labels", label_logits, labels, self.config)
        if self.drawn is not None:  # no picture teaches these labels: they keep what they mean to the generator
            drawn = self.drawn.alone(fake_labels)
            label_loss |= conditioning.losses("d_drawn_labels", fake_label_logits, drawn, self.config)
        pairs = zip(real_logits.unbind(1), fake_logits.unbind(1), strict=True)  # of the picture, and of its parts
        return {"d": total(nonsaturating_d(*pair) for pair in pairs), **label_loss}

    def _d_reg(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        # On the augmented input, in float32: second derivatives are too inaccurate in bfloat16.
        seen = batch.augment(batch.real).detach().requires_grad_(True)
        with torch.autocast(seen.device.type, enabled=False):
            logits, _ = self._judge(seen, conditioning.dropped(labels, self.config.losses.label_drop_prob))
            penalty = total(r1_penalty(one, seen) for one in logits.unbind(1))
        batch.log["r1"] = penalty.detach()
        return {"d_reg": penalty * (self.config.losses.r1_gamma / 2 * self.config.losses.r1_interval)}

    def _g(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        real = self._encoded(batch)
        shown, fake_labels = self._fake_labels(labels)
        fake, ws = self._fakes(fake_labels, real)
        found = self._adversarial(batch.augment(fake), shown, fake_labels) if self.config.losses.adversarial else {}
        if real is not None and self.g.encoder is not None:
            known = fake_labels[: len(real)]
            step = reconstruction.Step(self.g, self.d, self.g.encoder, real, known, fake, ws)
            found |= reconstruction.losses(step, self.config.losses)
        return found

    def _adversarial(self, seen: Tensor, shown: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The generator's losses on fakes (B, 3, H, W) as the discriminator sees them, which gets the labels `shown`
        (B, A); `labels` are the generator's."""
        logits, label_logits = self._judge(seen, shown)
        loss = total(map(nonsaturating_g, logits.unbind(1))) * self.config.losses.adversarial
        return {"g": loss, **conditioning.losses("g_labels", label_logits, labels, self.config)}

    def _g_reg(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        with torch.autocast(batch.real.device.type, enabled=False):
            shown = conditioning.dropped(labels[: max(len(labels) // 2, 1)], self.config.losses.label_drop_prob)
            pictures, ws = self._fakes(self._completed(shown))
            lengths = path_lengths(pictures, ws)  # (B / 2,)
        average = self.path_average.lerp(lengths.detach().mean(), self.config.losses.path_decay)
        self.path_average.copy_(average)
        batch.log["path_length"] = average
        penalty = (lengths - average).square().mean()
        return {"g_reg": penalty * (self.config.losses.path_weight * self.config.losses.path_interval)}

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        ws = self.styles(z, labels)
        if truncation != 1:
            mean = self.mean_w(len(z), labels).float()  # under autocast, either can be in bfloat16
            ws = mean.lerp(ws.float(), truncation)
        return self.synthesise(ws)

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """With an encoder, also the mean absolute error of reconstructions, in [0, 2]. It comes first, so that it
        chooses the best snapshot, if the generator learns from reconstructions alone."""
        scores = super().measure(batch, distance)
        if self.g_ema.encoder is None:
            return scores
        error = {"reconstruction": self._reconstruction_error(batch.real)}
        return {**scores, **error} if self.config.losses.adversarial else {**error, **scores}

    def _reconstruction_error(self, pictures: Tensor) -> float:
        made = torch.cat([self.synthesise(self.g_ema.encode(part)) for part in pictures.split(32)])
        return float((made.float() - pictures).abs().mean())

    def styles(self, z: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.g_ema.mapped(z, conditioning.table(labels, self.config.data.attributes, z))

    def mean_w(self, count: int, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        like = self.g_ema.mapping.w_average.expand(count, -1)
        return self.g_ema.mean_w(conditioning.table(labels, self.config.data.attributes, like))

    def synthesise(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        return self.g_ema.synthesis(ws, False if noise is None else noise)

    def encode(self, pictures: Tensor) -> Tensor | None:
        return self.g_ema.encode(pictures) if self.g_ema.encoder is not None else None

    def noise_maps(self) -> list[Tensor]:
        return self.g_ema.synthesis.noise_maps()

    def memories(self) -> Sequence[LayerRange]:
        named = ((f"g_ema.{name}", module) for name, module in self.g_ema.named_modules())
        return [LayerRange(name, name) for name, module in named if isinstance(module, StyledConv)]
