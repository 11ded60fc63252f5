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
        self._dataset = open_dataset(path) if self.is_folder else None

    def read(self, name: str) -> np.ndarray:
        """The mask of a picture, as `read_mask`. `name` is relative to its folder, such as "a/1.jpg". Raises
        DatasetError if there is none, or several."""
        if self._dataset is None:
            return read_mask(self.path)
        i = _find(self._dataset, normalized(name))
        return read_mask(self._dataset.read(i), str(self._dataset.location(i)))


def _find(dataset: Dataset, name: str) -> int:
    """Index of the mask of the picture `name`: with the same path, or else the only one with the same file name, in
    both cases with any suffix."""
    names = [normalized(other.removeprefix(dataset.base)) for other in dataset.names]
    stem = str(PurePosixPath(name).with_suffix(""))
    whole = [i for i, other in enumerate(names) if str(PurePosixPath(other).with_suffix("")) == stem]
    same = [i for i in whole if names[i] == name]
    alike = [i for i, other in enumerate(names) if PurePosixPath(other).stem == PurePosixPath(name).stem]
    found = same or whole or alike
    if len(found) == 1:
        return found[0]
    if found:
        listed = " and ".join(dataset.names[i] for i in found[:2])
        raise DatasetError(f"{dataset.path}: contains several masks for {name}: {listed}; keep one")
    raise DatasetError(f"{dataset.path}: contains no mask named {stem}; name masks as the pictures")
