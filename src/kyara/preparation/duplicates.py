"""Duplicate detection, with 800 bytes of memory per picture.

Two pictures are near duplicates if their perceptual hashes differ in few bits and their thumbnails are similar too,
since faces of one style share most bits. The thresholds were measured on drawn faces of 96 pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from kyara.files import pictures

HASH_BITS = 10
"""Maximum Hamming distance of the 64-bit hashes: recompressed and resized copies have 2, brightened ones up to 8."""
THUMBNAIL_DISTANCE = 0.11
"""Maximum distance: copies are below 0.1; other drawings of one character, shifted by 1-2 pixels, start at 0.12."""
CANDIDATES = 8  # Number of pictures, those with the most similar hashes, among which `Seen.nearest` searches
TONE_WEIGHT = 0.05
"""Weight of differences explained by a tone curve: small, but with 0 all uniform pictures would be duplicates."""

_DCT = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64).astype(np.float32)  # (8, 32)
_ONES = np.array([i.bit_count() for i in range(2**16)], dtype=np.uint8)
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Impression:
    """The hashes and the thumbnail of a picture for duplicate detection."""

    digest: bytes  # SHA-256 of the pixels
    hash: int
    """Perceptual hash, 64 bits: whether each of the lowest 8x8 DCT coefficients of the grey picture at 32x32 exceeds
    their median."""
    thumbnail: np.ndarray  # (16, 16, 3) uint8


def impression(picture: np.ndarray) -> Impression:
    """The impression of a picture (H, W, 3) uint8."""
    small = pictures.resize(picture, 32, 32).astype(np.float32)
    cosines = (_DCT @ (small @ _GREY) @ _DCT.T).ravel()  # (64,)
    bits = np.packbits(cosines > np.median(cosines[1:]))
    thumbnail = np.round(small.reshape(16, 2, 16, 2, 3).mean((1, 3))).astype(np.uint8)
    return Impression(hashlib.sha256(picture.tobytes()).digest(), int.from_bytes(bits.tobytes(), "big"), thumbnail)


def thumbnail_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of thumbnails (K, 16, 16, 3): (K,), 0 for identical, about 1 for unrelated ones. Differences explained
    by one tone curve over all channels (brightness, contrast, gamma, clipping) have a small weight."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    # Clipping loses information, so the curve may exist in one direction only.
    toned = np.minimum(_toned(flat_a, flat_b), _toned(flat_b, flat_a))
    raw = ((flat_a - flat_b) ** 2).mean(1) / (np.minimum(_texture(a), _texture(b)) + 4) ** 2
    distance: np.ndarray = np.sqrt(toned + TONE_WEIGHT**2 * raw)
    return distance


def _toned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared difference to `b`, in units of its variance, after the best monotone tone curve (ranks kept)."""
    matched = np.empty_like(a)
    np.put_along_axis(matched, np.argsort(a, axis=1, kind="stable"), np.sort(b, axis=1), axis=1)
    result: np.ndarray = ((matched - b) ** 2).mean(1) / (b.std(1) + 4) ** 2
    return result


def _texture(thumbnails: np.ndarray) -> np.ndarray:
    """Standard deviation from the mean colour, (K,)."""
    result: np.ndarray = (thumbnails - thumbnails.mean((1, 2), keepdims=True)).std((1, 2, 3))
    return result


def _bits(words: np.ndarray) -> np.ndarray:
    """Number of set bits in each of (N,) uint64, as `np.bitwise_count`, which needs NumPy 2."""
    return _ONES[words.view(np.uint16)].reshape(-1, 4) @ np.ones(4, np.uint8)


class Seen:
    """An index of the pictures kept so far, to find duplicates of them."""

    def __init__(self, duplicates: str) -> None:
        self.duplicates = duplicates
        self.exact: dict[bytes, int] = {}
        self.indices: list[int] = []
        self.hashes = np.empty(1024, dtype=np.uint64)
        self.thumbnails = np.empty((1024, 16, 16, 3), dtype=np.uint8)

    def find(self, seen: Impression) -> tuple[str, int] | None:
        """(kind of duplicate, index of the original); None if it is not a duplicate."""
        if self.duplicates != "keep" and seen.digest in self.exact:
            return "exact duplicate", self.exact[seen.digest]
        if self.duplicates != "near":
            return None
        close = np.flatnonzero(_bits(self.hashes[: len(self.indices)] ^ np.uint64(seen.hash)) <= HASH_BITS)
        if not len(close):
            return None
        distances = thumbnail_distance(np.broadcast_to(seen.thumbnail, (len(close), 16, 16, 3)), self.thumbnails[close])
        best = int(distances.argmin())
        return ("near duplicate", self.indices[close[best]]) if distances[best] < THUMBNAIL_DISTANCE else None

    def nearest(self, seen: Impression) -> tuple[int, float] | None:
        """(index, `thumbnail_distance`) of the most similar picture; None if there is no other."""
        n = len(self.indices)
        if not n:
            return None
        bits = _bits(self.hashes[:n] ^ np.uint64(seen.hash))
        close = np.argpartition(bits, CANDIDATES)[:CANDIDATES] if n > CANDIDATES else np.arange(n)
        distances = thumbnail_distance(np.broadcast_to(seen.thumbnail, (len(close), 16, 16, 3)), self.thumbnails[close])
        best = int(distances.argmin())
        return self.indices[close[best]], float(distances[best])

    def distance(self, seen: Impression, index: int) -> float:
        """`thumbnail_distance` to the picture of that index."""
        kept = self.thumbnails[self.indices.index(index)]
        return float(thumbnail_distance(seen.thumbnail[None], kept[None])[0])

    def add(self, seen: Impression, index: int) -> None:
        self.exact[seen.digest] = index
        n = len(self.indices)
        if n == len(self.hashes):
            self.hashes = np.concatenate([self.hashes, np.empty_like(self.hashes)])
            self.thumbnails = np.concatenate([self.thumbnails, np.empty_like(self.thumbnails)])
        self.hashes[n], self.thumbnails[n] = seen.hash, seen.thumbnail
        self.indices.append(index)
