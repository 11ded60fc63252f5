"""What becomes of a picture, by the faces that were found in it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from kyara.files import pictures
from kyara.preparation.faces import Box
from kyara.preparation.fit import Found, Made, Options, fit, side
from kyara.preparation.prepare import FEW, _are_cut

CERTAIN, DOUBTFUL = Box(100, 100, 200, 200, 0.9), Box(250, 250, 350, 350, 0.26)


def made(frame: Literal["face", "whole"], *faces: Box) -> Made:
    noise = np.random.RandomState(0).randint(0, 256, (400, 400, 3), dtype=np.uint8)
    options = Options(64, 64, 32, "drawn", "all", frame, "mirror")
    (one,) = fit(pictures.encode_png(noise), "a.png", Found((400, 400), faces), options=options)[1]
    return one


def test_the_whole_picture_is_kept_only_if_it_shows_a_face() -> None:
    assert made("face", DOUBTFUL).reason == made("whole", DOUBTFUL).reason == "uncertain"
    assert "0.26" in made("whole", DOUBTFUL).detail and "--detect none" in made("whole", DOUBTFUL).detail
    assert made("whole").reason == "no face found"
    assert made("whole", DOUBTFUL, CERTAIN).data and made("face", CERTAIN).data


def test_a_whole_picture_without_a_certain_face_does_not_decide_the_size() -> None:
    assert side(Found((400, 500), [DOUBTFUL]), "drawn", "whole") == 0
    assert side(Found((400, 500), [DOUBTFUL, CERTAIN]), "drawn", "whole") == 400


@pytest.mark.parametrize(("face", "cut"), [(CERTAIN, True), (DOUBTFUL, False)])
def test_auto_cuts_pictures_if_enough_show_a_certain_face(face: Box, cut: bool) -> None:
    few = round(FEW * 20)
    found = [Found((400, 400), [face])] * (few + 1) + [Found((400, 400), [])] * (19 - few)
    assert _are_cut(found, "auto") == cut and not _are_cut(found[2:], "auto")
    assert _are_cut(found, "drawn")
