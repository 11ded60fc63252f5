"""Finding faces in pictures: the place where detectors are entered.

A detector is a function that takes a picture and names boxes; `DETECTORS` maps the name that `--detect` takes
to a function that loads one. `kyara prepare` then cuts each picture to its largest box.
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
"""Name -> what loads the detector. Called for every picture: it should remember what it has loaded."""


def load(name: str) -> Detector:
    """The detector of that name. DetectorError if there is none, or what it needs is missing."""
    if name not in DETECTORS:
        known = ", ".join(sorted(DETECTORS))
        hint = "of drawings, cut the faces out beforehand"
        raise DetectorError(
            f"--detect {name}: no such detector; there are {known}, which find people in photos; {hint}"
        )
    return DETECTORS[name]()
