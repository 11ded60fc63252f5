"""Drawings of a picture with a known face, and the training targets."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from kyara.models.base import Batch
from kyara.models.drawing import Model, finding, paint, regions, sketch
from kyara.models.drawing.config import PRESETS, StyleConfig
from kyara.models.drawing.finding import ALL, Face, Traits, spread
from kyara.models.drawing.layout import AT, COUNT, PARTS, anchors, frames
from kyara.models.drawing.memory import Memory
from kyara.models.drawing.model import pairs

SIDE = 128
SKIN, HAIR = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.3, 0.2, 0.1])


def ring(count: int, x: float, y: float, width: float, height: float, start: float, turn: float = 1.0) -> torch.Tensor:
    """Points of an ellipse from an angle, clockwise or not."""
    angle = start + turn * torch.arange(count) * 2 * math.pi / count
    return torch.stack([x + width / 2 * angle.cos(), y + height / 2 * angle.sin()], 1)


def contours() -> torch.Tensor:
    """A face (COUNT, 2) in the middle of a picture of SIDE pixels."""
    base = [(51.0, 75.0), (55, 76), (59, 78), (64, 78), (69, 78), (73, 76), (77, 75)]
    parts = {
        "oval": ring(18, 64, 66, 56, 72, -math.pi / 2),
        "left eye": ring(16, 50, 60, 16, 8, math.pi),
        "right eye": ring(16, 78, 60, 16, 8, 0.0, -1.0),
        "irises": torch.tensor([(50.0, 60.0), (78, 60)]),
        "left brow": ring(10, 50, 50, 18, 4, math.pi),
        "right brow": ring(10, 78, 50, 18, 4, 0.0, -1.0),
        "nose": torch.tensor([(64.0, 58.0), (64, 62), (64, 67), (64, 72), (64, 76), *base]),
        "outer lips": ring(20, 64, 88, 22, 9, math.pi),
        "inner lips": ring(20, 64, 88, 18, 1, math.pi),
    }
    assert {name: len(points) for name, points in parts.items()} == PARTS
    return torch.cat([*parts.values()])


def portrait(shade: float = 1.0) -> tuple[torch.Tensor, Face]:
    """A picture (3, S, S) in [-1, 1] of skin below hair on a grey background, its right half darker, and its face."""
    columns = torch.arange(SIDE).expand(SIDE, SIDE)
    rows = columns.T
    inside = ((columns - 64.0) / 32).square() + ((rows - 64.0) / 46).square() < 1
    regions = torch.where(inside, torch.where(rows < 36, 2, 1), 0)
    colours = torch.stack([torch.full((3,), 0.6), SKIN, HAIR])
    picture = colours[regions].movedim(2, 0) * torch.where(columns < 64, 1.0, shade)
    points = contours()
    unit = float(frames(anchors(points[None]), 1.0)[0, :, 0].norm()) / 128
    square = torch.tensor([[SIDE / 2, 0, SIDE / 2], [0, SIDE / 2, SIDE / 2]])
    shares = torch.nn.functional.one_hot(regions, 4).movedim(2, 0).float()
    return picture * 2 - 1, Face(points, unit, square, shares)


def drawn(picture: torch.Tensor, *faces: Face, memory: Memory | None = None) -> torch.Tensor:
    with torch.no_grad():
        return sketch.draw(picture, faces, StyleConfig(), memory or Memory())


def test_skin_has_two_tones() -> None:
    picture, face = portrait(shade=0.6)
    made = (drawn(picture, face) + 1) / 2
    left, right = made[:, 70:80, 42:46].flatten(1), made[:, 70:80, 84:88].flatten(1)
    assert left.std(1).max() < 0.01 and right.std(1).max() < 0.01
    assert 0.7 < float(right.mean() / left.mean()) < 0.9
    even = (drawn(*portrait()) + 1) / 2
    assert (even[:, 70:80, 42:46].mean((1, 2)) - even[:, 70:80, 84:88].mean((1, 2))).abs().max() < 0.02


def test_features_are_drawn() -> None:
    made = (drawn(*portrait()) + 1) / 2
    lids, brow, mouth = made[:, 54:60, 44:56], made[:, 48:52, 45:55], made[:, 86:90, 56:72]
    for part in (lids, brow, mouth):
        assert part.mean(0).amin() < 0.5
    assert made[:, 56:64, 42:58].mean(0).amax() > 0.85  # the white of an eye


def test_regions_meet_at_a_line_and_the_background_has_none() -> None:
    made = ((drawn(*portrait()) + 1) / 2).mean(0)
    assert made[30:42, 64].amin() < 0.6 * min(float(made[44, 64]), 0.3)
    assert made[4:12, 4:12].std() < 0.01


def test_without_faces_everything_is_drawn_flat() -> None:
    torch.manual_seed(0)
    picture, _ = portrait()
    noisy = (picture + torch.randn_like(picture) * 0.05).clamp(-1, 1)
    made = drawn(noisy)
    assert made.shape == picture.shape
    assert made[:, 60:70, 60:70].std((1, 2)).max() < 0.5 * noisy[:, 60:70, 60:70].std((1, 2)).max()


def test_two_faces() -> None:
    picture, face = portrait()
    both = torch.cat([picture, picture], 2)
    moved = torch.tensor([SIDE, 0.0])
    square = face.frame.clone()
    square[:, 2] += moved
    other = Face(face.points + moved, face.unit, square, face.shares, key=1)
    made = drawn(both, face, other)
    assert (made[:, 30:100, 32:96] - made[:, 30:100, SIDE + 32 : SIDE + 96]).abs().mean() < 0.05


def test_a_face_at_the_border_and_a_tiny_picture() -> None:
    picture, face = portrait()
    out = Face(face.points - torch.tensor([70.0, 0.0]), face.unit, face.frame, face.shares)
    assert drawn(picture, out).isfinite().all()
    gone = Face(face.points + 500, face.unit, face.frame, face.shares)
    assert drawn(picture, gone).isfinite().all()
    assert drawn(picture[:, :5, :3], face).shape == (3, 5, 3)


def test_shares_are_those_of_the_nearest_face() -> None:
    _, face = portrait()
    shares = spread([face], SIDE, 4 * SIDE)
    assert torch.allclose(shares.sum(0), torch.tensor(1.0), atol=1e-4)
    assert shares[ALL.index("skin"), 70, 64] > 0.95 and shares[ALL.index("other"), 64, -8:].min() > 0.9
    assert spread([], 5, 7)[ALL.index("other")].eq(1).all()


def test_films_flicker_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames with noise, and contours that tremble: differences between consecutive frames."""
    torch.manual_seed(0)
    picture, face = portrait(shade=0.7)

    def seen(*_: object) -> list[Face]:
        return [Face(face.points + torch.randn_like(face.points) * 0.3, face.unit, face.frame, face.shares)]

    monkeypatch.setattr("kyara.models.drawing.model.find_faces", seen)
    model = Model(PRESETS["tiny"]).eval()
    frames = [(picture + torch.randn_like(picture) * 0.02).clamp(-1, 1)[None] for _ in range(6)]
    film = model.film_fn()
    change = {
        name: sum(float((one - other).abs().mean()) for one, other in itertools.pairwise(made[2:]))
        for name, made in (("stills", [model.translate(f) for f in frames]), ("film", [film(f) for f in frames]))
    }
    assert change["film"] < 0.5 * change["stills"]


def test_no_face_is_found_in_noise() -> None:
    torch.manual_seed(0)
    model = Model(PRESETS["tiny"]).eval()
    noise = torch.rand(3, 40, 60) * 2 - 1
    with torch.no_grad():
        assert finding.find_faces(noise, model.points_ema, model.regions_ema, model.config.network) == []


def test_pairs_undo_the_mirroring() -> None:
    torch.manual_seed(0)
    real, points = torch.rand(2, 3, 16, 32) * 2 - 1, torch.rand(2, COUNT, 2) * torch.tensor([0.5, 1.0])
    both = Batch(real, points=points, mirrored=torch.tensor([False, False]))
    photos, labels, found = pairs(both)
    assert torch.equal(photos, real[..., :16]) and torch.allclose(found, points * torch.tensor([2.0, 1.0]))
    flipped = torch.stack([1 - points[..., 0], points[..., 1]], 2)
    mirrored = pairs(Batch(real.flip(3), points=flipped, mirrored=torch.tensor([True, True])))
    assert torch.equal(mirrored[0], photos.flip(3)) and torch.equal(mirrored[1], labels.flip(3))
    left, right = found[:, AT["left eye"]], mirrored[2][:, AT["right eye"]]
    assert torch.allclose(torch.stack([1 - left[..., 0], left[..., 1]], 2), right, atol=1e-5)


def test_other_points_are_refused() -> None:
    with pytest.raises(ValueError, match=f"has 12 points; it must have {COUNT}"):
        pairs(Batch(torch.zeros(1, 3, 8, 16), points=torch.zeros(1, 12, 2)))


def with_traits(face: Face, **traits: float) -> Face:
    return dataclasses.replace(face, traits=Traits(**traits))


def test_a_bald_head_is_skin_and_other_heads_keep_their_hair() -> None:
    picture, face = portrait()
    made = (drawn(picture, with_traits(face, bald=0.9)) + 1) / 2
    hair = (drawn(picture, face) + 1) / 2
    forehead, top = made[:, 40:44, 60:68].mean((1, 2)), made[:, 22:28, 60:68].mean((1, 2))
    assert 0.7 < float(top.mean() / forehead.mean()) < 0.9  # the shade of skin
    assert hair[:, 22:28, 60:68].mean() < 0.6 * made[:, 22:28, 60:68].mean()
    both, moved = torch.cat([picture, picture], 2), torch.tensor([SIDE, 0.0])
    square = face.frame.clone()
    square[:, 2] += moved
    other = Face(face.points + moved, face.unit, square, face.shares, key=1)
    made = (drawn(both, with_traits(face, bald=0.9), other) + 1) / 2
    assert made[:, 22:28, SIDE + 60 : SIDE + 68].mean() < 0.6 * made[:, 22:28, 60:68].mean()


def test_a_beard_is_drawn_if_there_is_one() -> None:
    picture, face = portrait()
    picture[:, 80:100, 40:60] = picture[:, 80:100, 68:88] = 2 * HAIR[:, None, None] - 1
    cheeks, chin = (slice(None), slice(70, 74), slice(44, 50)), (slice(None), slice(90, 94), slice(46, 50))
    shaved, stubble, beard = (
        (drawn(picture, with_traits(face, **traits)) + 1) / 2 for traits in ({}, {"stubble": 0.9}, {"beard": 0.9})
    )
    shade = [float(made[chin].mean() / made[cheeks].mean()) for made in (shaved, stubble, beard)]
    assert shade[2] < shade[1] < shade[0]
    assert shade[2] < 0.6 < 0.75 < shade[0]


def test_dark_lenses_hide_the_eyes() -> None:
    picture, face = portrait()
    picture[:, 54:66, 40:60] = picture[:, 54:66, 68:88] = -0.9
    eyes = (slice(None), slice(57, 63), slice(44, 56))
    assert drawn(picture, face)[eyes].amax() > 0.7  # the white of an eye
    assert drawn(picture, with_traits(face, sunglasses=0.9))[eyes].amax() < 0.0


def test_a_hat_keeps_its_colours() -> None:
    """Hair is reduced to three tones of one colour, hats are not."""
    picture, face = portrait()
    picture[:, 18:36, 64:96] = torch.where(
        face.shares[2, 18:36, 64:96] > 0, torch.tensor([-0.8, -0.5, 0.9])[:, None, None], picture[:, 18:36, 64:96]
    )
    left, right = (slice(None), slice(26, 32), slice(52, 58)), (slice(None), slice(26, 32), slice(70, 76))
    pictures = [drawn(picture, one) for one in (face, with_traits(face, hat=0.9))]
    bluer = [float((made[right] - made[left])[2].mean()) for made in pictures]
    assert bluer[0] < 0.6 < 1.0 < bluer[1]


def test_teeth_are_drawn_in_mouths_that_are_open() -> None:
    picture, face = portrait()
    points = face.points.clone()
    points[AT["inner lips"]] = ring(20, 64, 88, 18, 6, math.pi)
    face = dataclasses.replace(face, points=points)
    picture[:, 84:92, 54:74] = 0.9
    mouth = (slice(None), slice(87, 88), slice(62, 66))
    assert drawn(picture, with_traits(face, teeth=0.9))[mouth].mean() > 0.7
    assert drawn(picture, face)[mouth].mean() < 0


@pytest.mark.parametrize(("traits", "hair"), [({"short": 0.9}, False), ({}, True)])
def test_a_shadow_on_the_neck_is_no_hair_if_hair_is_short(traits: dict[str, float], hair: bool) -> None:
    picture, face = portrait()
    points = [face.points.numpy()]
    shares = face.shares.clone()
    shares[:, 106:114, 76:84] = torch.tensor([0.0, 0, 1, 0])[:, None, None]
    shadow = dataclasses.replace(with_traits(face, **traits), shares=shares)
    found = regions.find((picture + 1) / 2, [shadow], points, face.unit)
    assert bool(found[regions.HAIR, 110, 80] > 0.5) == hair
    assert torch.allclose(found.sum(0), torch.ones(SIDE, SIDE), atol=1e-4)


def test_what_is_not_connected_to_a_face_is_background() -> None:
    picture, face = portrait()
    shares = face.shares.clone()
    island = torch.tensor([0.0, 1, 0, 0])[:, None, None]
    shares[:, 4:12, 4:12] = island
    shares[:, 60:64, 96:120] = island  # reaches the face
    found = regions.find(
        (picture + 1) / 2, [dataclasses.replace(face, shares=shares)], [face.points.numpy()], face.unit
    )
    assert found[regions.BACKGROUND, 8, 8] > 0.9
    assert found[regions.SKIN, 62, 110] > 0.5
    assert torch.allclose(found.sum(0), torch.ones(SIDE, SIDE), atol=1e-4)


def test_dark_skin_keeps_its_colour_under_reflections() -> None:
    """Reflections are nearly white: with them the mean of the lit skin is grey."""
    picture, face = portrait()
    dark = torch.tensor([0.38, 0.22, 0.15])
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    skin = face.shares[1] > 0
    picture = torch.where(skin, 2 * dark[:, None, None] - 1, picture)
    shining = skin & ((rows // 6 + columns // 6) % 3 == 0)
    picture = torch.where(shining, 2 * torch.tensor([0.62, 0.56, 0.54])[:, None, None] - 1, picture)
    made = (drawn(picture, face) + 1)[:, 70:76, 44:50].mean((1, 2)) / 2
    assert float(made.amin() / made.amax()) < 0.5  # of the matte skin 0.39, of the mean of the lit skin 0.6
    assert float(made.mean()) < 0.4


def test_reflections_count_if_there_is_nothing_else() -> None:
    picture, face = portrait()
    skin = (face.shares[1, None] > 0).float()
    picture = (picture + 1) / 2
    picture[:, :, 64:] = 0.7
    weight = paint.matte(picture, skin * (torch.arange(SIDE) < 64), face.unit)
    assert 0 < weight[0, 70, 90] < 0.05
    assert weight[0, 70, 44] > 0.9


def test_traits_are_read_and_follow_a_film_slowly() -> None:
    picture, face = portrait()
    found = finding.read(picture, anchors(face.points[None]))
    assert len(found) == 1 and all(0 <= value <= 1 for value in found[0])
    memory = Memory()
    memory.follow([face])
    assert 0 < memory.follow([with_traits(face, beard=1.0)])[0].traits.beard < 0.5


def test_one_face_found_twice_is_drawn_once() -> None:
    centres = torch.tensor([[10.0, 10], [11, 12], [90, 10], [50, 60]])
    sizes = torch.tensor([20.0, 20, 20, 20])
    assert finding.distinct(centres, sizes, [True, True, True, False]) == [0, 2]
