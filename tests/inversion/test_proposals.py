"""Choosing proposals, and measuring mouths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pair
import pytest
import torch
from pair import few_samples  # noqa: F401
from test_reading import Fake
from torch import Tensor

from kyara import models
from kyara.inversion import proposals
from kyara.inversion.avatar import AvatarResult
from kyara.inversion.portraits import differences
from kyara.inversion.proposals import TONE, Proposer, choose, far_from_median, lengths, mouth
from kyara.inversion.reading import Reading, Trait

SKIN, PINK = (240, 205, 180), (220, 90, 110)


def face_points() -> np.ndarray:
    """Landmarks of a face of 96 pixels: eyes at (32, 44) and (64, 44), mouth at (48, 72)."""
    eye = np.array([[-6, 0], [0, -4], [6, 0], [0, 4]])
    rest = np.array([[48, 60], [43, 72], [53, 72], [48, 88]])
    return np.concatenate([eye + np.array([32, 44]), eye + np.array([64, 44]), rest]).astype(np.float32) / 96


def test_an_open_mouth_is_larger_than_a_line() -> None:
    shares = []
    for height in (0, 1, 8):
        picture = np.full((96, 96, 3), SKIN, np.uint8)
        picture[72 : 72 + height, 42:54] = PINK
        share, lightness = mouth(picture, face_points())
        shares.append(share)
        assert lightness == pytest.approx(84.7, abs=0.2)  # of the skin
    assert shares[0] == 0 and 0 < shares[1] < proposals.OPEN / 2 < shares[2]


def test_a_mouth_beyond_the_edge_is_no_error() -> None:
    for shift in (-0.9, 0.9):
        assert 0 <= mouth(np.full((96, 96, 3), SKIN, np.uint8), face_points() + np.float32(shift))[0] <= 1


def test_skin_of_another_tone_than_usual_is_far() -> None:
    tones = np.array([80.0, 86.0, 83.0, 50.0, 40.0, 44.0])
    found = far_from_median(tones, ["light"] * 4 + ["dark"] * 2)
    assert found.tolist() == pytest.approx([1.5 / TONE, 4.5 / TONE, 1.5 / TONE, 1, 2 / TONE, 2 / TONE])
    assert not far_from_median(tones, [""] * 6).any()  # without labels, dark skin is not unusual


def test_lengths_are_in_distances_between_the_eyes() -> None:
    np.testing.assert_allclose(lengths(face_points()[None])[0], (0.5, 0.875, 1.375), rtol=1e-5)


def test_the_best_comes_first_and_the_others_differ() -> None:
    quality = np.array([-0.1, 0.0, -0.05, -0.3, -5.0])
    far = np.array([[0, 0.1, 0.1, 1, 2], [0.1, 0, 0, 1, 2], [0.1, 0, 0, 1, 2], [1, 1, 1, 0, 2], [2, 2, 2, 2, 0]])
    assert choose(quality, far, 1) == [1]
    assert choose(quality, far, 2) == [1, 3]  # different, and 4 is too bad
    assert choose(quality, far, 9) == [1, 2, 0, 3, 4]


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> Proposer:
    child = pair.write(tmp_path_factory.mktemp("child") / "child", labels=True)
    scorer = models.build(
        "distortion", {"data": {"width": 32, "height": 32}, "network": {"depths": (1, 1), "widths": (8, 8)}}
    )
    return Proposer(models.load(child), scorer.eval(), Fake({}), None)  # type: ignore[arg-type]


def test_proposals_have_the_labels_and_are_the_same_again(proposer: Proposer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "CANDIDATES", 32)
    reading = Reading((), {"hair": {"pink": 1.0}, "eyes": {"brown": 0.5, "red": 0.5}}, 0.5)
    photo = np.random.RandomState(0).randint(0, 256, (32, 32, 3), np.uint8)
    first, again, other = (proposer.propose(photo, reading, seed, 5) for seed in (1, 1, 2))
    assert first.pictures.shape == (5, 32, 32, 3) and len(first.scores) == len(first.shots) == 5
    assert {shot["labels"]["hair"] for shot in first.shots} == {"pink"}
    assert np.array_equal(first.pictures, again.pictures) and not np.array_equal(first.pictures, other.pictures)
    assert len({picture.tobytes() for picture in first.pictures}) == 5


def test_what_the_photo_does_not_say_varies(proposer: Proposer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "CANDIDATES", 32)
    photo = np.zeros((32, 32, 3), np.uint8)
    reading = Reading((), {"hair": {"pink": 1.0}}, None, unread=("eyes",))
    shots = proposer.propose(photo, reading, 1, 8).shots
    assert {shot["labels"]["hair"] for shot in shots} == {"pink"} and len(
        {shot["labels"]["eyes"] for shot in shots}
    ) > 1
    nothing = proposer.propose(photo, Reading((), {"hair": {"pink": 1.0}}, None), 1, 8)  # it has no such eyes
    assert all(shot["labels"] == {"hair": "pink"} for shot in nothing.shots)


def test_broken_drawings_are_left_out(proposer: Proposer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "CANDIDATES", 48)
    scores = [0.1] * 20 + [0.95] * 28
    monkeypatch.setattr(proposals, "score_pictures", lambda pictures, scorer: scores)
    found = proposer.propose(np.zeros((32, 32, 3), np.uint8), Reading((), {}, None), 3, 4)
    assert min(found.scores) == 0.95
    scores[:] = [0.1] * 47 + [0.9]  # too few whole ones: the best of the others follow
    found = proposer.propose(np.zeros((32, 32, 3), np.uint8), Reading((), {}, None), 3, 4)
    assert len(found.scores) == len(found.shots) == 4 and np.isfinite(found.scores).all()


class Bright(Fake):
    """A tagger that takes bright drawings for women."""

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        bright = (pictures.mean((1, 2, 3)) > 0).float() * 0.98 + 0.01
        return {"gender": torch.stack([bright, 1 - bright], 1)}


def test_drawings_that_do_not_show_their_labels_come_later(proposer: Proposer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = np.stack([np.full((32, 32, 3), grey, np.uint8) for grey in (220, 40, 40, 40)])
    labels = [{"gender": "female"}, {"gender": "female"}, {"gender": "male"}, {"hair": "pink"}]
    assert not proposer._shown(made, labels).any()  # no judge
    monkeypatch.setattr(proposer, "judge", Bright({"gender": {"female": 0.5, "male": 0.5}}))
    expected = [np.log(0.99), np.log(0.02), np.log(0.99), 0]
    assert proposer._shown(made, labels).tolist() == pytest.approx(expected, abs=1e-5)


def test_the_page_escapes_names(tmp_path: Path) -> None:
    from kyara.inversion.proposals_page import Person, write_page
    from kyara.inversion.reading import Trait

    traits = [Trait("hair_length", "<b>", 0.4, "<i>unknown"), Trait("glasses", "round", 1.0, "chosen")]
    person = Person("<a>", None, [("a.png", "<c>"), ("b c.png", "d")], traits, ["<u>blurred"])
    write_page(tmp_path, [person], [("<l>", "<why>")], command="kyara avatar '<x>'", about="1 photo")
    page = (tmp_path / "index.html").read_text()
    assert not any(mark in page for mark in ("<a>", "<c>", "<i>unknown", "<u>blurred", "<l>", "<why>", "'<x>'"))
    assert "hair length" in page and "40%, varied" in page and "b%20c.png" in page and "chosen" in page


def test_the_pages_of_pictures_with_undecodable_names_are_written(tmp_path: Path) -> None:
    from kyara.inversion import chain, proposals_page

    name = "\udc8a\udce7"  # Shift-JIS, as in old zips
    person = proposals_page.Person("me", None, [("me.png", "a")], [], [name])
    proposals_page.write_page(tmp_path, [person], [], command=f"kyara avatar {name}.png", about=name)
    assert "kyara avatar ??.png" in (tmp_path / "index.html").read_text()
    one = chain.Chain("me", name, None, "me.png", "me.png", [], [], [name])
    chain.write_page(tmp_path, [one], [(name, name)], command=f"kyara avatar {name}.png --method reverse", about=name)
    assert "kyara avatar ??.png --method" in (tmp_path / "index.html").read_text()


def test_captions_name_what_differs() -> None:
    drawn = [
        {"hair_length": "short", "bangs": "side", "eyes": "brown", "hair": "brown"},
        {"hair_length": "long", "bangs": "side", "eyes": "brown", "hair": "brown"},
    ]
    assert differences(drawn) == ["hair length short", "hair length long"]
    assert differences(drawn[:1]) == [""]


def test_the_terminal_explains_what_is_uncertain(tmp_path: Path) -> None:
    hat, mouth = Trait("hat", "hat", 0.9, "no hats are known"), Trait("mouth", "smile_teeth", 0.5)
    result = AvatarResult(tmp_path, "builtin:character", 1, 1, 1.0, (), (), False, {"a.png": [hat, mouth]})
    assert "  a.png: hat (no hats are known), mouth smile teeth?" in str(result)
    assert "values with ? are not certain" in str(result)
    sure = AvatarResult(tmp_path, "builtin:character", 1, 1, 1.0, (), (), False, {"a.png": [hat]})
    assert "?" not in str(sure)
