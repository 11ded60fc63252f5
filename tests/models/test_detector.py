"""Training of the face detector: crops, matching, losses, scores."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kyara.models import detector
from kyara.models.base import Batch
from kyara.models.detector import matching, model, second, views
from kyara.models.detector.config import PRESETS, AugmentConfig
from kyara.models.detector.views import Targets
from kyara.perception import face_network, face_refiner
from kyara.perception.detector import iou
from kyara.training import transfer

PLAIN = AugmentConfig(crop=1.0, mosaic=0.0, restyle=0.0, degrees=0.0, upside=0.0, smallest_face=4.0, faintest=0.0)


def squares(count: int, size: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures (count, 3, size, size) with a red square on grey each, and their faces (count, 1, 7, 2): its box, and
    its corners and middle as points."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.rand(count, 1, 1, generator=generator) * 0.3 + 0.2
    low = torch.rand(count, 1, 2, generator=generator) * (1 - side)
    high = low + side
    at = (torch.arange(size) + 0.5) / size
    across, down = ((at > low[..., k]) & (at < high[..., k]) for k in (0, 1))  # (count, size)
    inside = (down[:, :, None] & across[:, None])[:, None]
    colour = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    corners = [low, high, low, torch.cat([high[..., :1], low[..., 1:]], 2), (low + high) / 2]
    corners += [torch.cat([low[..., :1], high[..., 1:]], 2), high]
    return torch.where(inside, colour, 0.0), torch.stack(corners, 2)


def redness(picture: Tensor, box: Tensor) -> float:
    """The share of red pixels in a box of a picture (3, H, W), without its border."""
    x0, y0, x1, y1 = box.round().int().tolist()
    red = (picture[0] > 0.5) & (picture[1:] < -0.5).all(0)
    inner = red[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
    return float(inner.float().mean()) if inner.numel() else 1.0


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_faces_go_where_the_pictures_go(mosaic: float) -> None:
    torch.manual_seed(0)
    pictures, faces = squares(32, 96)
    crops, found = views.vary(pictures, faces, replace(PLAIN, mosaic=mosaic))
    assert crops.shape == pictures.shape and found.boxes.shape[1] == 4
    assert found.learned.sum() >= (48 if mosaic else 16)
    for crop, boxes, learned in zip(crops, found.boxes, found.learned, strict=True):
        assert all(redness(crop, box) > 0.9 for box in boxes[learned])
        red = ((crop[0] > 0.5) & (crop[1:] < -0.5).all(0)).float().sum()
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert mosaic or not learned.any() or float(red) == pytest.approx(float(areas.sum()), rel=0.15, abs=9)


def test_points_go_with_their_faces_and_boxes_of_turned_ones_hold_an_ellipse() -> None:
    faces = squares(1)[1]
    angle = math.radians(30)
    turn = torch.tensor([[[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]])
    moved = views.moved_faces(faces, turn, (64, 64))[0, 0]
    middle = (moved[0] + moved[1]) / 2
    assert torch.allclose(middle, moved[4], atol=1e-3)  # the third point is the middle
    side = (faces[0, 0, 1] - faces[0, 0, 0]) * 64
    assert torch.allclose(moved[1] - moved[0], side, atol=1e-3)  # the ellipse of a square is a circle
    first = moved[2] - middle  # the top left corner
    back = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert torch.allclose(back @ first, -side / 2, atol=1e-3)


def test_cut_off_small_and_faint_faces_are_ignored() -> None:
    faces = torch.full((1, 4, 7, 2), torch.nan)
    for k, (x0, x1) in enumerate([(10, 30), (-12, 8), (-4, 16), (40, 43)]):
        faces[0, k, 0], faces[0, k, 1] = torch.tensor([x0, 20.0]), torch.tensor([x1, 23.0 if k == 3 else 40.0])
    found = views.targets(faces, (64, 64), PLAIN)
    assert found.learned.tolist() == [[True, False, True, False]]
    assert found.ignored.tolist() == [[False, True, False, True]]
    assert found.boxes[0, 2].tolist() == [0, 20, 16, 40]
    none = views.targets(torch.full((1, 2, 7, 2), torch.nan), (64, 64), PLAIN)
    assert not none.learned.any() and not none.ignored.any() and none.boxes.isfinite().all()
    torch.manual_seed(0)
    pictures, faces = squares(8)
    blank = views.vary(pictures * 0, faces, replace(PLAIN, faintest=0.1))[1]
    assert not blank.learned.any() and blank.ignored.any()


def test_what_lies_outside_a_picture_is_no_face() -> None:
    faces = torch.tensor([[[0.2, 0.2], [0.6, 0.6]], [[0.7, 0.2], [1.1, 0.6]], [[1.2, 0.2], [1.6, 0.6]]])
    kept = views.inside(torch.cat([faces, torch.zeros(3, 5, 2)], 1)[None], 0.5)[0]
    assert torch.equal(kept[0, :2], faces[0]) and kept[1, 1, 0] == 1 and kept[2].isnan().all()


def test_each_face_gets_the_best_cells() -> None:
    centres, strides = face_network.cells(64, 64, torch.device("cpu"))
    boxes = torch.tensor([[4.0, 4, 20, 20], [30, 30, 60, 60], [0, 0, 0, 0]])[None]
    learned = torch.tensor([[True, True, False]])
    found = Targets(boxes, torch.zeros(1, 3, 5, 2), learned, ~learned & False)
    size = strides * 2
    predictions = torch.cat([centres - size, centres + size], 1)[None]
    match = matching.assign(predictions, torch.zeros(1, len(centres)), found, centres, strides)
    for k in (0, 1):
        mine = match.positive[0] & (match.face[0] == k)
        assert 1 <= mine.sum() <= matching.CANDIDATES
        inside = (centres > boxes[0, k, :2]) & (centres < boxes[0, k, 2:])
        assert inside[mine].all()
    assert not (match.positive[0] & (match.face[0] == 2)).any()
    exact = predictions.clone()
    exact[0, 9] = boxes[0, 0]  # the cell at (12, 12), which is in the middle of the first face
    assert centres[9].tolist() == [12, 12]
    match = matching.assign(exact, torch.zeros(1, len(centres)), found, centres, strides)
    assert match.positive[0, 9] and match.face[0, 9] == 0


def test_giou() -> None:
    one = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    other = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 4, 1]])
    assert matching.giou(one, other).tolist() == pytest.approx([1, 1 / 3, 0 - 2 / 4])


def test_unknown_points_and_ignored_faces_cost_nothing() -> None:
    torch.manual_seed(0)
    net = detector.Model(PRESETS["tiny"].replace(augment=vars(PLAIN))).train()
    pictures, faces = squares(4)

    def losses(faces: Tensor) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return net.losses("train", Batch(pictures, faces=faces))

    unknown = faces.clone()
    unknown[:, :, 2:] = torch.nan
    assert float(losses(unknown)["points"].detach()) == 0 and float(losses(faces)["points"].detach()) > 0
    assert torch.equal(losses(unknown)["box"], losses(faces)["box"])
    none = losses(torch.full_like(faces, torch.nan))
    assert float(none["box"].detach()) == 0 and float(none["score"].detach()) > 0
    with pytest.raises(ValueError, match="column `boxes`"):
        net.losses("train", Batch(pictures))


def test_a_mirrored_face_keeps_its_left() -> None:
    faces = squares(2)[1]
    mirrored = faces.clone()
    mirrored[..., 0] = 1 - mirrored[..., 0]
    found = model.unmirrored(Batch(torch.zeros(2, 3, 8, 8), faces=mirrored, mirrored=torch.tensor([True, False])))
    assert torch.equal(found[1], mirrored[1])
    left, right = found[0, 0, 2], found[0, 0, 3]
    assert left[0] < right[0]


def test_it_learns_where_squares_are() -> None:
    torch.manual_seed(0)
    config = PRESETS["tiny"].replace(
        network={"widths": (16, 16, 16, 16), "neck": 16}, augment=vars(replace(PLAIN, smallest=0.8, largest=1.2))
    )
    net = detector.Model(config).train()
    optimizer = torch.optim.AdamW(net.net.parameters(), 4e-3)
    for step in range(150):
        pictures, faces = squares(16, seed=step)
        sum(net.losses("train", Batch(pictures, faces=faces)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    net.net_ema.load_state_dict(net.net.state_dict())
    pictures, faces = squares(32, seed=1000)
    scores = net.measure(Batch(pictures, faces=faces), lambda a, b: 0.0)
    assert scores["missed/plain"] < 0.2 and scores["recall"] > 0.6
    with torch.inference_mode():
        _, found, points = net.detect(pictures)
    best = found.argmax(1)
    chosen = points[torch.arange(32), best]
    assert (chosen[:, 2] / 64 - faces[:, 0, 4]).norm(dim=1).median() < 0.05
    drawn = net.preview(Batch(pictures, faces=faces))
    assert drawn is not None and drawn.shape == pictures.shape and not torch.equal(drawn, pictures)


def test_average_precision() -> None:
    scores, right = torch.tensor([0.9, 0.3, 0.8, 0.5]), torch.tensor([True, True, False, True])
    precision, recall = model.curve(scores, right, 4)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4]) and recall.tolist() == [0.25, 0.25, 0.5, 0.75]
    assert model.average_precision(precision, recall) == pytest.approx(0.25 * (1 + 0.75 + 0.75))
    empty = model.curve(scores[:0], right[:0], 4)
    assert model.average_precision(*empty) == 0


def predictions(*boxes: list[float]) -> tuple[Tensor, Tensor]:
    """Boxes (1, A, 4), and logits (1, A) that fall from one to the next."""
    return torch.tensor([boxes]), -torch.arange(float(len(boxes)))[None]


def test_candidates_are_faces_false_alarms_and_moved_faces_but_nothing_near_ignored_ones() -> None:
    known = torch.tensor([[[10.0, 10, 30, 30], [40, 40, 60, 60]]])
    learned = torch.tensor([[True, False]])
    found = Targets(known, torch.zeros(1, 2, 5, 2), learned, ~learned)
    torch.manual_seed(0)
    boxes = predictions([10, 10, 30, 29], [41, 40, 60, 60], [45, 45, 55, 55], [0, 40, 20, 60], [10, 10, 30, 19])
    chosen = second.choose(*boxes, found)
    used = [box.tolist() for box in chosen.boxes[0][chosen.used[0]]]
    assert [10, 10, 30, 29] in used and [0, 40, 20, 60] in used
    assert not any(box in used for box in boxes[0][0, 1:3].tolist())  # in or near the ignored face
    assert [10, 10, 30, 19] not in used  # neither a face nor none
    moved = chosen.boxes[0, -second.MOVED :][chosen.used[0, -second.MOVED :]]
    assert len(moved) == 1  # there is one face only
    assert torch.equal(chosen.target[0][chosen.used[0]][0], known[0, 0])
    nothing = second.choose(*boxes, found._replace(learned=learned & False, ignored=learned | ~learned))
    assert chosen.boxes[0, -2:].isfinite().all() and not nothing.used[0, -second.MOVED :].any()


def test_the_second_stage_learns_what_a_face_is_and_where() -> None:
    """Red squares are faces, blue ones are not."""
    torch.manual_seed(0)
    refiner = face_refiner.Refiner((8, 16, 16, 16)).train()
    optimizer = torch.optim.Adam(refiner.parameters(), 2e-3)

    def batch(seed: int) -> tuple[Tensor, second.Candidates]:
        pictures, faces = squares(16, seed=seed)
        pictures[8:] = pictures[8:].flip(1)
        boxes = faces[:, :, :2].flatten(2) * 64
        side = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
        moved = boxes + side * (torch.rand(16, 1, 4) - 0.5) * 0.4
        red = (torch.arange(16) < 8)[:, None]
        return pictures, second.Candidates(moved, boxes, torch.where(red, 0.6, 0.0), red | ~red)

    for step in range(80):
        score, box = second.compare(refiner, *batch(step))
        (score + box).backward()
        optimizer.step()
        optimizer.zero_grad()
    pictures, chosen = batch(1000)
    where = face_refiner.squares(chosen.boxes)
    raw = refiner.eval()(face_refiner.sampled(pictures, where))
    assert (raw[:8, 0] > 1).all() and (raw[8:, 0] < -1).all()
    corrected = iou(face_refiner.decode(raw, where.flatten(0, 1)), chosen.target[:, 0])[:8]
    before = iou(chosen.boxes, chosen.target)[:8, 0]
    assert corrected.mean() > 0.85 > before.mean()


def test_the_first_stage_can_stay_as_it_is() -> None:
    torch.manual_seed(0)
    net = detector.Model(PRESETS["tiny"].replace(augment=vars(PLAIN), losses={"first": 0.0})).train()
    pictures, faces = squares(4)
    losses = net.losses("train", Batch(pictures, faces=faces))
    assert set(losses) == {"second/score", "second/box"}
    sum(losses.values()).backward()
    assert net.net.refiner is not None and net.net.refiner.out.weight.grad is not None
    assert net.net.out.weight.grad is None
    alone = detector.Model(PRESETS["tiny"].replace(augment=vars(PLAIN), network={"refiner": ()})).train()
    assert set(alone.losses("train", Batch(pictures, faces=faces))) == {"score", "box", "points"}
    with pytest.raises(ValueError, match=r"losses\.first=0 needs a second stage"):
        detector.Model(PRESETS["tiny"].replace(losses={"first": 0.0}, network={"refiner": ()}))
    for widths in ((8,), (8, 12), (8,) * 7):
        with pytest.raises(ValueError, match=r"network\.refiner: .* multiples of 8"):
            PRESETS["tiny"].replace(network={"refiner": widths})


def test_the_second_stage_changes_nothing_in_the_first() -> None:
    torch.manual_seed(0)
    both = detector.Model(PRESETS["tiny"])
    torch.manual_seed(0)
    alone = detector.Model(PRESETS["tiny"].replace(network={"refiner": ()}))
    weights = alone.state_dict()
    assert all(torch.equal(both.state_dict()[name], tensor) for name, tensor in weights.items())
    assert len(weights) < len(both.state_dict())


def test_a_detector_of_one_stage_gets_a_second_one() -> None:
    parent = detector.Model(PRESETS["tiny"].replace(network={"refiner": ()}))
    child = detector.Model(PRESETS["tiny"])
    fresh, unused = transfer.initialise(child, parent)
    assert fresh and all(name.startswith("net.refiner") for name in fresh) and not unused
    assert torch.equal(child.net.out.weight, parent.net.out.weight)
