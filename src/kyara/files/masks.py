"""Masks: pictures that are white where something is filled or changed.

Transparent parts are not marked, whatever their colour: painting programs export a mask painted on a layer of its own
with a transparent rest."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from kyara.files.dataset import Dataset, open_dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.names import normalized
from kyara.files.pictures import decode_rgba

MARKED = 0.5  # Minimum value of a marked pixel


def read_mask(source: Path | bytes, name: str | None = None) -> np.ndarray:
    """The mask in a picture file: (H, W) float32 in [0, 1], its brightest channel times its opacity. Raises
    PictureError if it cannot be decoded, or no pixel reaches `MARKED`."""
    name = name or (str(source) if isinstance(source, Path) else "mask")
    rgba = decode_rgba(source, name)
    mask = rgba[:, :, :3].max(2).astype(np.float32) * rgba[:, :, 3] / 255**2
    if not (mask >= MARKED).any():
        most = round(float(mask.max()) * 255)
        what = "is empty" if most == 0 else f"has values from 0 to {most}"
        hint = "paint what is to change white (255), opaque"
        raise PictureError(f"{name}: the mask {what}, so it marks nothing; {hint}")
    return mask


class Masks:
    """A mask for each picture: a folder or a .zip with pictures of the same relative names, or one picture as the mask
    of a single picture."""

    def __init__(self, path: Path) -> None:
        """Raises DatasetError if the folder or .zip has no pictures. Other files in it are ignored."""
        self.path = path
        self.is_folder = path.is_dir() or path.suffix.lower() == ".zip"
        self._index = _Index(open_dataset(path)) if self.is_folder else None

    def read(self, name: str) -> np.ndarray:
        """The mask of a picture, as `read_mask`. `name` is relative to its folder, such as "a/1.jpg". Raises
        DatasetError if there is none, or several."""
        if self._index is None:
            return read_mask(self.path)
        dataset, i = self._index.dataset, self._index.find(normalized(name))
        return read_mask(dataset.read(i), str(dataset.location(i)))


class _Index:
    """The masks by their names."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._by: tuple[dict[str, list[int]], ...] = ({}, {}, {})
        for i, name in enumerate(dataset.names):
            for places, key in zip(self._by, _keys(normalized(name.removeprefix(dataset.base))), strict=True):
                places.setdefault(key, []).append(i)

    def find(self, name: str) -> int:
        """Index of the mask of the picture `name`: with the same path, or else the only one with the same file name, in
        both cases with any suffix."""
        _, stem, _ = keys = _keys(name)
        found = next(filter(None, (places.get(key) for places, key in zip(self._by, keys, strict=True))), [])
        if len(found) == 1:
            return found[0]
        if found:
            listed = " and ".join(self.dataset.names[i] for i in found[:2])
            raise DatasetError(f"{self.dataset.path}: contains several masks for {name}: {listed}; keep one")
        raise DatasetError(f"{self.dataset.path}: contains no mask named {stem}; name masks as the pictures")


def _keys(name: str) -> tuple[str, str, str]:
    """A relative path, the same without suffix, and the file name without suffix."""
    path = PurePosixPath(name)
    return name, str(path.with_suffix("")), path.stem
