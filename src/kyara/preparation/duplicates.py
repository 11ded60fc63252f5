"""Duplicate detection, with 500 bytes of memory per picture, and 20 KB in a temporary file.

Pictures whose outlines are similar, mirrored or not, are compared locally (see `copies`). A shift of a few percent
changes a third of the bits of a perceptual hash, but hardly an outline of 6x6 colours."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kyara.files import pictures
from kyara.preparation.copies import are_copies

OUTLINE = 6  # Side of the outline
SIMILAR = 0.88
"""Minimum cosine of the outlines of copies. Of 1,150 copies 1 has less (0.82, shifted by 4 %), and 1 % less than 0.93;
of unrelated faces in the same frame 99 % have less than 0.86, and half less than 0.38."""
COMPARED = 8  # The most similar pictures that are compared locally
AHEAD = 64
"""Pictures that are compared with all earlier ones in one matrix product, which is several times as fast as one product
for each, and takes 500 bytes of memory per earlier picture."""
DETAIL = 128  # Maximum side of the pictures that are compared locally


@dataclass(frozen=True)
class Impression:
    """What is kept of a picture for duplicate detection."""

    digest: bytes  # SHA-256 of the pixels
    outline: np.ndarray
    """(OUTLINE, OUTLINE, 3) float32: colours without their mean, of norm 1; zero for a picture of one colour."""
    detail: bytes  # The picture at up to DETAIL pixels (its sides are equal, whatever its shape), encoded


def impression(picture: np.ndarray) -> Impression:
    """The impression of a picture (H, W, 3) uint8."""
    small = pictures.resize(picture, OUTLINE, OUTLINE, by="box").astype(np.float32)
    small -= small.mean((0, 1))
    side = max(32, min(DETAIL, *picture.shape[:2]) // 32 * 32)
    detail = pictures.encode_webp(pictures.resize(picture, side, side, by="box"))
    outline = small / max(float(np.linalg.norm(small)), 1e-6)
    return Impression(hashlib.sha256(picture.tobytes()).digest(), outline, detail)


def outline_distance(outline: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distances of an outline to others (K, 3 * OUTLINE**2), mirrored or not: (K,), 0 for identical and about 1 for
    unrelated pictures."""
    return _distances(_cosines(outline, others))


def _cosines(outline: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With each of the others, as it is and mirrored: (K,) each."""
    return others @ outline.ravel(), others @ outline[:, ::-1].ravel()


def _distances(cosines: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    distances: np.ndarray = np.maximum(1 - np.maximum(*cosines), 0)
    return distances


def most_similar(cosines: np.ndarray) -> np.ndarray:
    """Positions of the first COMPARED cosines of at least SIMILAR, the largest first, of equal ones the first."""
    similar = np.flatnonzero(cosines >= SIMILAR)  # few of many: sorting all would take most of the time
    found: np.ndarray = similar[np.argsort(-cosines[similar], kind="stable")[:COMPARED]]
    return found


class Seen:
    """An index of the pictures kept so far, to find duplicates of them. They have the same size."""

    def __init__(self, duplicates: str) -> None:
        self.duplicates = duplicates
        self.exact: dict[bytes, int] = {}
        self.count = 0  # of the pictures
        self.outlines = np.empty((1024, 3 * OUTLINE**2), np.float32)
        self._details = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the index
        self._ends = [0]  # positions in it
        self._compared: tuple[Impression, int, tuple[np.ndarray, np.ndarray]] | None = None
        self._expected: dict[int, np.ndarray] = {}  # id of an impression -> cosines (2, K) with the first K pictures
        self._next: Sequence[Impression] = ()

    def expect(self, following: Sequence[Impression]) -> None:
        """Says which pictures follow, at most `AHEAD`, so that their similarities are computed together."""
        self._next, self._expected = following, {}  # the reference keeps their ids
        if self.count and following:
            both = np.stack([(one.outline.ravel(), one.outline[:, ::-1].ravel()) for one in following])  # (B, 2, D)
            cosines = both.reshape(2 * len(following), -1) @ self.outlines[: self.count].T
            pairs = cosines.reshape(len(following), 2, self.count)
            self._expected = {id(one): pair for one, pair in zip(following, pairs, strict=True)}

    def find(self, seen: Impression) -> tuple[str, int] | None:
        """(kind of duplicate, number of the original); None if it is not a duplicate."""
        if self.duplicates != "keep" and seen.digest in self.exact:
            return "exact duplicate", self.exact[seen.digest]
        found = next(self._copies(seen), None) if self.duplicates == "near" else None
        return None if found is None else ("near duplicate", found)

    def _copies(self, seen: Impression) -> Iterator[int]:
        """Numbers of the pictures of which it is a copy, first those that are not mirrored."""
        picture = None
        for step, cosines in zip((1, -1), self._cosines(seen), strict=True):
            likely = most_similar(cosines)
            if len(likely):
                picture = pictures.decode(seen.detail) if picture is None else picture
                others = np.stack([pictures.decode(self._detail(int(i))) for i in likely])
                yield from likely[are_copies(picture[:, ::step], others)].tolist()

    def _cosines(self, seen: Impression) -> tuple[np.ndarray, np.ndarray]:
        """Those with all pictures, kept because `nearest` follows `find`."""
        if self._compared is None or self._compared[0] is not seen or self._compared[1] != self.count:
            known = self._expected.get(id(seen), np.empty((2, 0), np.float32))
            rest = _cosines(seen.outline, self.outlines[known.shape[1] : self.count])
            plain, mirrored = (np.concatenate(pair) for pair in zip(known, rest, strict=True))
            self._compared = seen, self.count, (plain, mirrored)
        return self._compared[2]

    def _detail(self, i: int) -> bytes:
        self._details.seek(self._ends[i])
        return self._details.read(self._ends[i + 1] - self._ends[i])

    def nearest(self, seen: Impression) -> tuple[int, float] | None:
        """(number, `outline_distance`) of the most similar picture; None if there is no other."""
        if not self.count:
            return None
        distances = _distances(self._cosines(seen))
        best = int(distances.argmin())
        return best, float(distances[best])

    def distance(self, seen: Impression, i: int) -> float:
        """`outline_distance` to the picture of that number."""
        return float(outline_distance(seen.outline, self.outlines[i][None])[0])

    def add(self, seen: Impression) -> None:
        """Adds a picture. They are numbered in this order."""
        self.exact[seen.digest] = self.count
        if self.count == len(self.outlines):
            self.outlines = np.concatenate([self.outlines, np.empty_like(self.outlines)])
        self.outlines[self.count] = seen.outline.ravel()
        self.count += 1
        if self.duplicates == "near":
            self._details.seek(self._ends[-1])
            self._details.write(seen.detail)
            self._ends.append(self._details.tell())
