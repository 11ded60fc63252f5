"""Pictures that a network makes, whatever kind of network: those that an edit names, ones like them, random ones."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files import checkpoint
from kyara.files.dataset import Dataset
from kyara.files.pictures import center_crop, read_recipe, to_float
from kyara.generation.recipe import Recipe, read_like
from kyara.generation.sampler import shot_latents
from kyara.generation.styles import unpack
from kyara.models.base import Generator, Inpainter, Model, StyledGenerator, StyledTranslator, latents
from kyara.models.projector import fixed_seed
from kyara.nn import conditioning
from kyara.nn.activations import SampleFn
from kyara.rewriting.differences import root_of
from kyara.rewriting.edit import Picture, as_mask

TRUNCATION = 0.7
"""Of seeds: what `kyara generate` shows."""
COLOURS = [*itertools.permutations(range(3))]
"""Orders of red, green and blue; the first changes nothing."""
JITTER = 4
"""Pixels that holes are moved by at most."""


class Hosts:
    """Pictures of one network. All are reproducible: the same are made every time."""

    def __init__(self, model: Model, name: str, given: Dataset | None = None) -> None:
        """`given` are what a network makes pictures from that needs some. ValueError if they are missing."""
        self.model, self.name, self.given = model, name, given
        self.size = model.config.data.width, model.config.data.height
        self.device = next(model.parameters()).device
        if not isinstance(model, Generator) and given is None:
            raise ValueError(f"--data: {name} makes pictures from pictures; name some, whose rules are kept")
        if isinstance(model, Generator) and given is not None:
            raise ValueError(f"--data: {name} makes pictures from nothing; leave it out")

    def others(self, count: int, seed: int, holes: Tensor | None = None) -> SampleFn:
        """Random pictures; of an inpainter with `holes` (N, 1, H, W), moved a little, if they are given."""
        with fixed_seed(seed):
            some = self._some(count)
            if holes is None:
                return self.model.sample_fn(count, some)
            assert isinstance(self.model, Inpainter)
            shifts = torch.randint(-JITTER, JITTER + 1, (count, 2)).tolist()
            moved = [shifted(holes[i % len(holes)], *shift) for i, shift in enumerate(shifts)]
            return functools.partial(self.model.fill, some, torch.stack(moved))

    def holes(self, hosts: Sequence[Picture]) -> Tensor | None:
        """What an edit's pictures are filled in, (N, 1, H, W) bool; None for other networks."""
        found = [self._hole(host) for host in hosts if isinstance(self.model, Inpainter)]
        return torch.stack(found) if found else None

    def like(self, host: Picture, variants: int) -> SampleFn:
        """The picture that an edit means, and then variants of it in which everything is where it was: of a generator
        and an inpainter in other colours, of a translator in other styles."""
        model = self.model
        if isinstance(model, StyledGenerator):
            return functools.partial(model.synthesise, self._recoloured(self.styles(host), variants))
        if host.rgba is None:
            raise ValueError(f"{host.where}: {self.name} makes pictures from pictures; name one instead of a seed")
        shown = self._shown(host.rgba).expand(1 + variants, -1, -1, -1)
        if isinstance(model, StyledTranslator):
            first = torch.zeros(1, model.style_dim) if host.style is None else latents([host.style], model.style_dim)
            with fixed_seed(0):
                styles = torch.cat([first, torch.randn(variants, model.style_dim)]).to(self.device)
            return functools.partial(model.translate, shown, styles)
        if isinstance(model, Inpainter):
            colours = [COLOURS[i % len(COLOURS)] for i in range(1 + variants)]
            shown = torch.stack([one[list(order)] for one, order in zip(shown, colours, strict=True)])
            return functools.partial(model.fill, shown, self._hole(host).expand(1 + variants, -1, -1, -1))
        raise ValueError(f"{self.name}: pictures of such a model cannot be named")

    def mask(self, mask: np.ndarray | tuple[int, int, int, int], host: Picture, where: str) -> np.ndarray:
        """A mask (H, W) in [0, 1] of the network's size, from one of the host's."""
        if host.rgba is None or isinstance(self.model, Generator):
            return as_mask(mask, self.size[1], self.size[0], where)
        height, width = host.rgba.shape[:2]
        full = as_mask(mask, height, width, where)
        grey = np.repeat(np.round(full * 255).astype(np.uint8)[:, :, None], 3, 2)
        return center_crop(grey, *self.size)[:, :, 0] / np.float32(255)

    def styles(self, host: Picture) -> Tensor:
        """The styles ws (1, layers, w_dim) of a picture of a generator. ValueError if it did not make it."""
        model = self.model
        assert isinstance(model, StyledGenerator)
        if host.seed is not None:
            labels = {name: label.to(self.device) for name, label in model.draw([host.seed]).items()}
            return self._truncated(latents([host.seed], model.z_dim).to(self.device), labels, TRUNCATION)
        if host.path is None or read_recipe(host.path) is None:
            hint = "kyara invert finds the latent of a picture, and writes one that can be named"
            raise ValueError(f"{host.where}: the picture does not say how {self.name} made it; {hint}")
        recipe = read_like(host.path)
        found = checkpoint.read(self.name)
        if recipe.checkpoint not in (found.hash, root_of(found)) or recipe.mirror or recipe.blend:
            raise ValueError(f"{host.where}: {host.path} was made by another checkpoint than {self.name}, or mirrored")
        return self._of_recipe(recipe, model)

    def _of_recipe(self, recipe: Recipe, model: StyledGenerator) -> Tensor:
        if "latent" in recipe.shot:
            return unpack(recipe.shot["latent"], model)[None]
        found = conditioning.find(recipe.shot["labels"], model.config.data.attributes, self.name)
        labels = {name: torch.tensor([label], device=self.device) for name, label in found.items()}
        return self._truncated(shot_latents([recipe.shot], model.z_dim).to(self.device), labels, recipe.truncation)

    def _truncated(self, z: Tensor, labels: dict[str, Tensor], truncation: float) -> Tensor:
        model = self.model
        assert isinstance(model, StyledGenerator)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            ws = model.styles(z, labels)
            return ws if truncation == 1 else model.mean_w(1, labels).lerp(ws, truncation)

    def _recoloured(self, ws: Tensor, variants: int) -> Tensor:
        """Styles, and variants whose finer half is that of random pictures."""
        model = self.model
        assert isinstance(model, StyledGenerator)
        if not variants:
            return ws
        with fixed_seed(1), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            labels = {
                name: d.to(self.device) for name, d in model.draw(torch.randint(2**31, (variants,)).tolist()).items()
            }
            other = model.styles(torch.randn(variants, model.z_dim, device=self.device), labels)
        fine = torch.arange(ws.shape[1], device=self.device)[:, None] >= ws.shape[1] // 2
        return torch.cat([ws, torch.where(fine, other, ws)])

    def _hole(self, host: Picture) -> Tensor:
        """(1, H, W) bool."""
        if host.hole is None:
            raise ValueError(f'{host.where}: {self.name} fills holes; say where, as "hole": "hole.png"')
        hole = center_crop(np.repeat(host.hole[:, :, None] * np.uint8(255), 3, 2), *self.size)[:, :, :1] > 127
        return torch.from_numpy(hole).movedim(2, 0).to(self.device)

    def _shown(self, rgba: np.ndarray) -> Tensor:
        shown = center_crop(np.ascontiguousarray(rgba[:, :, :3]), *self.size)
        return to_float(shown[None]).to(self.device)

    def _some(self, count: int) -> Tensor:
        if self.given is None:
            return torch.zeros(count, 3, self.size[1], self.size[0], device=self.device)
        chosen = torch.randint(len(self.given), (count,)).tolist()
        return to_float(np.stack([*self.given.decode(chosen, *self.size)])).to(self.device)


def shifted(hole: Tensor, down: int, right: int) -> Tensor:
    """A hole (1, H, W) bool moved by at most `JITTER` pixels; what leaves the picture is gone."""
    height, width = hole.shape[1:]
    wide = F.pad(hole, (JITTER, JITTER, JITTER, JITTER))
    return wide[:, JITTER - down : JITTER - down + height, JITTER - right : JITTER - right + width]
