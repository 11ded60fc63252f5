"""Pictures that a network makes, of any kind of network: those that an edit names, variants of them, random ones."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files import checkpoint
from kyara.files.dataset import Dataset
from kyara.files.masks import MARKED
from kyara.files.names import printable
from kyara.files.pictures import center_crop, read_recipe, to_float
from kyara.generation.recipe import Recipe, read_like
from kyara.generation.sampler import shot_latents
from kyara.generation.shots import angle_of
from kyara.generation.styles import unpack
from kyara.models.base import Generator, Inpainter, Model, StyledGenerator, StyledTranslator, latents
from kyara.nn import conditioning
from kyara.nn.activations import SampleFn
from kyara.nn.seeding import fixed_seed
from kyara.rewriting.edit import Picture, as_mask
from kyara.rewriting.rules import root_of

TRUNCATION = 0.7  # of seeds, the default of `kyara generate`
CHANNEL_ORDERS = [*itertools.permutations(range(3))]  # of red, green and blue; the first is the identity
HELD_OUT = 0.1  # share of the data
Part = Literal["all", "training", "held out"]
HOLE_JITTER = 4  # holes are shifted by at most so many pixels


class Samples:
    """Reproducible pictures of one network: every sample_fn makes the same pictures at every call."""

    def __init__(self, model: Model, name: str, data: Dataset | None = None) -> None:
        """`data` are the inputs of a network that needs pictures. ValueError if they are missing, or not needed."""
        self.model, self.name, self.data = model, name, data
        self.parts: dict[Part, Dataset | None] = dict.fromkeys(("all", "training", "held out"), data)
        if data is not None and len(data) > 1:
            self.parts["training"], self.parts["held out"] = data.split(HELD_OUT)
        self.size = model.config.data.width, model.config.data.height
        self.device = next(model.parameters()).device
        if not isinstance(model, Generator) and data is None:
            raise ValueError(f"--data: {name} makes pictures from pictures; name some, which it should treat as before")
        if isinstance(model, Generator) and data is not None:
            raise ValueError(f"--data: {name} makes pictures from seeds; leave it out")

    @property
    def holds_out(self) -> bool:
        """Whether random pictures are held out. Those of a generator differ by their seeds; of data with a single
        picture there are none."""
        return self.data is None or len(self.data) > 1

    def random(self, count: int, seed: int, holes: Tensor | None = None, part: Part = "all") -> SampleFn:
        """Random pictures, from this part of the data if the network needs any. `holes` (N, 1, H, W) bool, for an
        inpainter, are filled in turn, each shifted a little."""
        with fixed_seed(seed):
            inputs = self._inputs(count, self.parts[part])
            if holes is None:
                return self.model.sample_fn(count, inputs)
            assert isinstance(self.model, Inpainter)
            shifts = torch.randint(-HOLE_JITTER, HOLE_JITTER + 1, (count, 2)).tolist()
            moved = [shift_hole(holes[i % len(holes)], *shift) for i, shift in enumerate(shifts)]
            return functools.partial(self.model.fill, inputs, torch.stack(moved))

    def holes(self, targets: Sequence[Picture]) -> Tensor | None:
        """The holes of an edit's pictures, (N, 1, H, W) bool; None for a network that fills none."""
        found = [self._hole(target) for target in targets if isinstance(self.model, Inpainter)]
        return torch.stack(found) if found else None

    def variants(self, target: Picture, count: int) -> SampleFn:
        """The picture that an edit names, followed by `count` variants in which nothing moves: other colours for a
        generator or an inpainter, other styles for a translator."""
        model = self.model
        if isinstance(model, StyledGenerator):
            return functools.partial(model.synthesise, self._recoloured(model, self.styles(target), count))
        if target.rgba is None:
            raise ValueError(f"{target.label}: {self.name} makes pictures from pictures; name one instead of a seed")
        picture = center_crop(np.ascontiguousarray(target.rgba[:, :, :3]), *self.size)
        inputs = to_float(picture[None]).to(self.device).expand(1 + count, -1, -1, -1)
        if isinstance(model, StyledTranslator):
            style = target.style
            first = torch.zeros(1, model.style_dim) if style is None else latents([style], model.style_dim)
            with fixed_seed(0):
                styles = torch.cat([first, torch.randn(count, model.style_dim)]).to(self.device)
            return functools.partial(model.translate, inputs, styles)
        if isinstance(model, Inpainter):
            orders = [CHANNEL_ORDERS[i % len(CHANNEL_ORDERS)] for i in range(1 + count)]
            inputs = torch.stack([one[list(order)] for one, order in zip(inputs, orders, strict=True)])
            return functools.partial(model.fill, inputs, self._hole(target).expand(1 + count, -1, -1, -1))
        raise ValueError(f"{self.name}: an edit cannot name pictures of such a model")

    def mask(self, mask: np.ndarray | tuple[int, int, int, int], target: Picture, label: str) -> np.ndarray:
        """A mask of a target at the network's size, (H, W) in [0, 1]. ValueError if it does not fit the target, or if
        nothing of it is left at that size."""
        height, width = self.size[::-1] if target.rgba is None else target.rgba.shape[:2]
        if (width, height) == self.size:
            return as_mask(mask, height, width, label)
        fitted = self._fit_gray(np.round(as_mask(mask, height, width, label) * 255)) / np.float32(255)
        if not (fitted >= MARKED).any():
            size = f"{self.size[0]}x{self.size[1]}, the size of {self.name}"
            raise ValueError(f"{label}, mask: nothing is left of it at {size}; make the mask larger")
        return fitted

    def styles(self, target: Picture) -> Tensor:
        """The styles ws (1, layers, w_dim) of a picture of a generator. ValueError if the generator did not make it."""
        model = self.model
        assert isinstance(model, StyledGenerator)
        if target.seed is not None:
            z, labels, truncation = latents([target.seed], model.z_dim), model.draw([target.seed]), TRUNCATION
        else:
            recipe = self._recipe(target)
            if "latent" in recipe.shot:
                return unpack(recipe.shot["latent"], model)[None]
            found = conditioning.find(recipe.shot["labels"], model.config.data.attributes, self.name, target.label)
            labels = {name: torch.tensor([label]) for name, label in found.items()}
            z, truncation = shot_latents([recipe.shot], model.z_dim), recipe.truncation
        labels = {name: label.to(self.device) for name, label in labels.items()}
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            ws = model.styles(z.to(self.device), labels)
            return ws if truncation == 1 else model.mean_w(1, labels).lerp(ws, truncation)

    def _recipe(self, target: Picture) -> Recipe:
        if target.path is None or read_recipe(target.path) is None:
            hint = "kyara invert finds its latent and writes a picture that can be named"
            raise ValueError(f"{target.label}: the picture does not say how {self.name} made it; {hint}")
        recipe, found = read_like(target.path), checkpoint.read(self.name)
        problem = ""
        if recipe.checkpoint not in (found.hash, root_of(found)):
            made_by = f"{recipe.checkpoint} ({printable(recipe.model)})"
            problem = f"was made by checkpoint {made_by}, and {self.name} is {found.hash}; name a picture of that one"
        elif recipe.blend:
            problem = f"was made by a blend of two generators; name a picture that {self.name} made alone"
        elif recipe.mirror:
            problem = "is mirrored; make its seed again, without --mirror"
        elif angle_of(recipe.shot):
            problem = "has a turned head; kyara generate --like PICTURE --turn 0 makes it again, not turned"
        if problem:  # enlarged ones show the same
            raise ValueError(f"{target.label}: {target.path} {problem}")
        return recipe

    def _recoloured(self, model: StyledGenerator, ws: Tensor, count: int) -> Tensor:
        """Styles, followed by variants whose finer half is that of random pictures."""
        if not count:
            return ws
        with fixed_seed(1), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            seeds = torch.randint(2**31, (count,)).tolist()
            labels = {name: label.to(self.device) for name, label in model.draw(seeds).items()}
            other = model.styles(torch.randn(count, model.z_dim, device=self.device), labels)
        fine = torch.arange(ws.shape[1], device=self.device)[:, None] >= ws.shape[1] // 2
        return torch.cat([ws, torch.where(fine, other, ws)])

    def _hole(self, target: Picture) -> Tensor:
        """(1, H, W) bool."""
        if target.hole is None:
            raise ValueError(f'{target.label}: {self.name} fills holes; name one, as "hole": "hole.png"')
        return torch.from_numpy(self._fit_gray(target.hole * 255)[None] > 127).to(self.device)

    def _fit_gray(self, gray: np.ndarray) -> np.ndarray:
        """Gray values (H, W) from 0 to 255 at the network's size, (H', W') uint8."""
        return center_crop(np.repeat(gray.astype(np.uint8)[:, :, None], 3, 2), *self.size)[:, :, 0]

    def _inputs(self, count: int, data: Dataset | None) -> Tensor:
        if data is None:
            return torch.zeros(count, 3, self.size[1], self.size[0], device=self.device)
        chosen = torch.randint(len(data), (count,)).tolist()
        return to_float(np.stack([*data.decode(chosen, *self.size)])).to(self.device)


def shift_hole(hole: Tensor, down: int, right: int) -> Tensor:
    """A hole (1, H, W) bool, shifted by at most `HOLE_JITTER` pixels and cut off at the border."""
    height, width = hole.shape[1:]
    padded, top, left = F.pad(hole, (HOLE_JITTER,) * 4), HOLE_JITTER - down, HOLE_JITTER - right
    return padded[:, top : top + height, left : left + width]
