"""The registry of face detectors: `DETECTORS` maps each name that `--detect` takes to a function that loads one.

`kyara prepare` crops each picture to the largest box that the detector finds.
"""

from __future__ import annotations

from collections.abc import Callable

from kyara.preparation import align
from kyara.preparation.faces import Detector, DetectorError
from kyara.preparation.landmarks import Photo

DETECTORS: dict[str, Callable[[], Detector]] = {
    "photo": lambda: Photo(align.PORTRAIT),
    "ffhq": lambda: Photo(align.FFHQ),
}
"""Name -> function that loads the detector. It is called for every picture, so it should cache what it loads."""


def load(name: str) -> Detector:
    """The detector of that name. DetectorError if there is none, or its extra is missing."""
    if name not in DETECTORS:
        known = ", ".join(sorted(DETECTORS))
        hint = f"there are {known}, which find people in photos; of drawings, cut the faces out beforehand"
        raise DetectorError(f"--detect {name}: no such detector; {hint}")
    return DETECTORS[name]()
