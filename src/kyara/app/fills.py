"""The room Fill: holes that are painted in the browser, filled as `kyara translate` fills them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kyara import models
from kyara.app.data_urls import read_url
from kyara.app.items import number_name
from kyara.app.make import Maker
from kyara.app.project import STATE, UPLOADS, ProjectError, word
from kyara.app.rewrites import Rewrites
from kyara.files import checkpoint
from kyara.files.masks import MARKED, read_mask
from kyara.files.pictures import decode, encode_png
from kyara.generation.inputs import Picture
from kyara.generation.tiles import fill_pictures
from kyara.models.base import Inpainter

EXAMPLES = "builtin:anime"  # generator of the examples, of the size that builtin:inpainting was trained on
MAX_PIXELS = 2**24  # of a picture: the browser has several copies of it


class Fills:
    """Pictures with holes. A picture is given as the seed of an example, the number of a picture of Make, or a path."""

    def __init__(self, maker: Maker) -> None:
        self.maker, self.painter, self.project = maker, maker.painter, maker.project
        self._loaded: tuple[str, str, Inpainter] | None = None  # name, hash, network

    def fill(self, model: str, mask: str, seed: int | None, number: int | None, path: str) -> np.ndarray:
        """The filled picture (H, W, 3) uint8; nothing is written. ValueError if `kyara translate` would refuse it."""
        name, (pixels, _, _) = self.project.model(model), self._picture(seed, number, path)
        hole = self._hole(mask, pixels) >= MARKED
        picture = Picture("", "", pixels, hole)
        filled: np.ndarray = self.painter.call(lambda: fill_pictures(self._network(name), [picture]))[0]
        return filled

    def keep(self, model: str, mask: str, seed: int | None, number: int | None, path: str) -> tuple[list[str], str]:
        """Writes what the command needs. Returns its words, and the Gallery that it makes."""
        name, (pixels, stem, source) = self.project.model(model), self._picture(seed, number, path)
        self._hole(mask, pixels)
        if not source:
            source = self._upload(stem, encode_png(pixels))
        saved = self._upload(f"{stem}-mask", read_url(mask, "the mask"))
        out = self.project.free("galleries", f"fill-{stem}")
        return ["translate", word(name), word(source), "--mask", saved, "--out", out], out

    def _picture(self, seed: int | None, number: int | None, path: str) -> tuple[np.ndarray, str, str]:
        """The pixels, a name for files, and the path if there is one."""
        if path:
            found = self.project.existing(path)
            pixels, stem = decode(found, found.name), found.stem
        elif number is not None:
            pixels, stem = decode(self.maker.png(number)), number_name(self.maker.collection.item(number))
        elif seed is not None:
            pixels, stem = decode(Rewrites(self.maker).picture(EXAMPLES, seed)), f"seed{seed:04d}"
        else:
            raise ProjectError("choose a picture first")
        if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
            raise ProjectError(f"{Path(path).name}: has more than {MAX_PIXELS >> 20} million pixels; reduce it first")
        return pixels, stem, path

    @staticmethod
    def _hole(mask: str, pixels: np.ndarray) -> np.ndarray:
        """The mask (H, W) in [0, 1]. ValueError if nothing is painted, or its size is not that of the picture."""
        data = read_url(mask, "the mask")
        found = read_mask(data, "the mask")
        if found.shape != pixels.shape[:2]:
            sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (found, pixels))
            raise ValueError(f"the mask and the picture differ in size: {sizes} pixels")
        return found

    def _network(self, name: str) -> Inpainter:
        """On the painter's thread only."""
        absolute = self.project.absolute(name)
        found = checkpoint.read(absolute).hash
        if self._loaded is None or self._loaded[:2] != (name, found):
            network = models.load(absolute, self.painter.device).requires_grad_(False)
            if not isinstance(network, Inpainter):
                raise ValueError(f"{name}: does not fill holes; builtin:inpainting does")
            self._loaded = name, found, network
        return self._loaded[2]

    def _upload(self, stem: str, png: bytes) -> str:
        return self.project.save_new(f"{STATE}/{UPLOADS}", stem, ".png", png)
