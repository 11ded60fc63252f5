"""The face detector: decoding, suppression, copies of several sizes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.files import checkpoint, pictures
from kyara.files.errors import CheckpointError
from kyara.perception import detector, face_network, face_refiner
from kyara.perception.detector import FaceDetector, iou, suppress, votes


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    cls = models.architecture("detector")
    model = cls(cls.presets["tiny"])
    config = dataclasses.asdict(model.config)
    checkpoint.write(tmp_path / "m", model="detector", config=config, weights=models.stored(model), card="", about={})
    return tmp_path / "m"


def test_cells_are_in_the_order_of_predictions() -> None:
    """The network is translation equivariant: a change of the picture changes the cells around it."""
    torch.manual_seed(0)
    network = face_network.Network((8, 8, 8, 8), (1, 1, 1, 1), 8, 1)
    pictures = torch.zeros(1, 3, 100, 230)
    centres, strides = face_network.cells(100, 230, pictures.device)
    raw = network(pictures)
    assert raw.shape == (1, len(centres), face_network.OUTPUTS)
    assert len(centres) == 16 * 32 + 8 * 16 + 4 * 8
    pictures[:, :, 40:44, 200:204] = 1.0
    changed = (network(pictures) - raw)[0].abs().sum(1)
    for stride in face_network.STRIDES:
        level = strides[:, 0] == stride
        nearest = centres[level][changed[level].argmax()]
        assert (nearest - torch.tensor([202.0, 42.0])).abs().max() <= 1.5 * stride


def test_boxes_and_points_are_decoded() -> None:
    centres, strides = face_network.cells(32, 32, torch.device("cpu"))
    raw = torch.zeros(1, len(centres), face_network.OUTPUTS)
    raw[0, 0, 1:5] = torch.tensor([0.5, -0.25, 0.0, float(torch.tensor(2.0).log())])
    raw[0, 0, 5:7] = torch.tensor([0.5, -0.5])
    boxes, points = face_network.decode(raw, centres, strides)
    middle = torch.tensor([4 + 4.0, 4 - 2.0])  # the first cell of stride 8
    assert torch.allclose(
        boxes[0, 0], torch.cat([middle - torch.tensor([16.0, 32.0]), middle + torch.tensor([16, 32])])
    )
    assert torch.allclose(points[0, 0, 0], middle + torch.tensor([16.0, -32.0]))
    assert torch.allclose(points[0, 0, 1], middle)


def test_suppression_keeps_the_best_of_each_face() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 5, 5], [20, 0, 30, 11.0]])
    scores = torch.tensor([0.5, 0.9, 0.6, 0.3, 0.7])
    assert suppress(boxes, scores).tolist() == [1, 4]  # the fourth is a part of the second
    assert suppress(boxes[[0, 2, 3]], -scores[[0, 2, 3]]).tolist() == [2, 1]  # the best part hides the whole
    assert suppress(boxes[:0], scores[:0]).tolist() == []
    assert float(iou(boxes[0], boxes[1])) == pytest.approx(90 / 110)
    assert float(iou(boxes[0], boxes[2])) == 0


def test_a_face_behind_another_figure_is_kept_if_it_is_certain() -> None:
    """A smaller face in front of it scores higher, and is almost all inside its box."""
    boxes = torch.tensor([[0, 0, 20, 20], [8, 12, 18, 22.0]])
    assert suppress(boxes, torch.tensor([0.9, 0.95])).tolist() == [1, 0]
    assert suppress(boxes, torch.tensor([0.7, 0.95])).tolist() == [1]  # more likely hair and face in one box
    assert suppress(boxes, torch.tensor([0.95, 0.9])).tolist() == [0]  # a part of the face


def test_boxes_of_one_face_are_averaged() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [2, 0, 12, 10], [20, 0, 30, 10.0]])
    scores = torch.tensor([0.4, 0.8, 0.1])
    kept = suppress(boxes, scores)
    assert kept.tolist() == [1, 2]
    assert torch.allclose(votes(boxes, scores, kept) @ boxes, torch.tensor([[1.6, 0, 11.6, 10], [20, 0, 30, 10]]))


def blob(pixels: Tensor) -> Tensor:
    """Raw predictions that find the red square in pictures (B, 3, H, W): its box, and its corners as points."""
    centres, strides = face_network.cells(pixels.shape[2], pixels.shape[3], pixels.device)
    raw = torch.zeros(1, len(centres), face_network.OUTPUTS)
    raw[..., 0] = -10
    red = (pixels[0, 0] > 0.5) & (pixels[0, 1] < -0.5)
    if not red.any():
        return raw
    rows, columns = red.any(1).nonzero(), red.any(0).nonzero()
    low, high = (torch.tensor([float(f(columns)), float(f(rows))]) for f in (torch.amin, torch.amax))
    high += 1
    half, middle = (high - low) / 2, (low + high) / 2
    cell = int((centres - middle).abs().sum(1).argmin())
    raw[0, cell, 0] = 4 - abs(float(half.mean()) - 40) / 20  # best at 80 pixels
    raw[0, cell, 1:3] = (middle - centres[cell]) / strides[cell]
    raw[0, cell, 3:5] = (half / (strides[cell] * face_network.INITIAL_SIZE / 2)).log()
    raw[0, cell, 5:] = torch.tensor([-0.5, -0.5, 0.5, -0.5, 0, 0, -0.5, 0.5, 0.5, 0.5])
    return raw


def one_stage(predict: Callable[[Tensor], Tensor], refiner: Any = None) -> Any:
    """A network that predicts this in its first stage."""

    class Network:
        def __init__(self) -> None:
            self.refiner = refiner

        def __call__(self, pixels: Tensor) -> Tensor:
            return predict(pixels)

    return Network()


@pytest.mark.parametrize(("height", "width", "side"), [(700, 500, 60), (96, 96, 40), (1500, 2000, 900), (320, 64, 30)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_face_is_found_where_it_is(
    untrained: Path, monkeypatch: pytest.MonkeyPatch, height: int, width: int, side: int, flip: bool
) -> None:
    picture = np.full((height, width, 3), 255, np.uint8)
    top, left = height // 3, width // 5
    picture[top : top + side, left : left + side] = (255, 0, 0)
    detect = FaceDetector(untrained, threshold=0.3, flip=flip)
    monkeypatch.setattr(detect, "network", one_stage(blob))
    faces = detect(picture)
    assert len(faces) == 1 and faces.boxes.dtype == faces.scores.dtype == faces.points.dtype == np.float32
    exact = max(height, width) / 320 + 1
    assert np.allclose(faces.boxes[0], [left, top, left + side, top + side], atol=exact)
    corners = [[left, top], [left + side, top], [left + side / 2, top + side / 2]]
    assert np.allclose(faces.points[0, :3], corners, atol=exact)


def test_the_best_come_first_and_the_threshold_counts(untrained: Path) -> None:
    random = np.random.RandomState(0)
    picture = random.randint(0, 255, (90, 70, 3)).astype(np.uint8)
    every = FaceDetector(untrained, threshold=0.0)(picture)
    assert len(every) > 3 and (np.diff(every.scores) <= 0).all()
    assert (every.boxes >= 0).all() and (every.boxes <= [70, 90, 70, 90]).all()
    for one, other in itertools.combinations(every.boxes[:5], 2):
        assert iou(torch.from_numpy(one), torch.from_numpy(other)) <= detector.SAME_FACE + 0.1  # both are clipped
    threshold = float(every.scores[2])
    fewer = FaceDetector(untrained, threshold=threshold)(picture)
    assert 0 < len(fewer) < len(every) and (fewer.scores >= threshold).all()
    nothing = FaceDetector(untrained, threshold=1.0)(picture)
    assert len(nothing) == 0 and nothing.boxes.shape == (0, 4) and nothing.points.shape == (0, 5, 2)


def test_crops_of_the_second_stage_are_those_of_training() -> None:
    """`cut` and `sampled` differ only in how they resize; both repeat the border."""
    random = np.random.RandomState(0)
    picture = pictures.resize(random.randint(0, 256, (45, 35, 3), dtype=np.uint8), 140, 180)
    boxes = [[20.3, 30.6, 70, 90], [100, 100, 150, 170], [-10, -5, 30, 30], [60.4, 60.7, 76, 80], [3, 5, 140, 180]]
    where = face_refiner.squares(torch.tensor(boxes))
    exact = pictures.to_float(face_refiner.cut(picture, where.numpy()))
    sampled = face_refiner.sampled(pictures.to_float(picture[None]), where[None])
    assert exact.shape == sampled.shape == (5, 3, 64, 64)
    assert (exact - sampled).abs().mean((1, 2, 3)).max() < 0.06
    moved = face_refiner.sampled(pictures.to_float(picture[None]), where[None] + torch.tensor([1.0, 0, 0]))
    assert (exact - moved).abs().mean() > 2 * (exact - sampled).abs().mean()
    noise = random.randint(0, 256, (400, 400, 3), dtype=np.uint8)
    whole = face_refiner.squares(torch.tensor([[110.0, 110, 290, 290]]))
    reduced = pictures.to_float(face_refiner.cut(noise, whole.numpy()))[:, :, 16:-16, 16:-16]
    trained = face_refiner.sampled(pictures.to_float(noise[None]), whole[None])[:, :, 16:-16, 16:-16]
    assert trained.std() < 1.6 * reduced.std()


def test_crops_far_outside_or_of_any_size_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.RandomState(0).randint(0, 256, (18, 14, 3), dtype=np.uint8)
    far = face_refiner.cut(picture, np.array([[-500.0, 900, 40], [7, 9, 1e6], [3, 4, 0.5]]))
    assert np.abs(far[0].astype(int) - picture[-1, 0]).max() <= 1
    assert far.shape == (3, 64, 64, 3)
    assert (face_refiner.cut(picture[:1, :1], np.array([[0.5, 0.5, 2.0]])) == picture[0, 0]).all()
    assert face_refiner.sampled(torch.zeros(1, 3, 9, 9), torch.zeros(1, 0, 3)).shape == (0, 3, 64, 64)


def test_the_second_stage_confirms_and_corrects(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.full((320, 320, 3), 255, np.uint8)
    picture[100:180, 60:140] = (255, 0, 0)
    picture[100:180, 160:] = 0  # so that the crop and its mirror image differ
    detect = FaceDetector(untrained, threshold=0.3)

    def refine(crops: Tensor) -> Tensor:
        raw = torch.zeros(len(crops), 5)
        mirrored = crops[:, :, :, :8].mean() < crops[:, :, :, -8:].mean()  # the right of the picture is black
        raw[:, 0], raw[:, 1], raw[:, 3] = logit, -0.25 if mirrored else 0.25, float(torch.tensor(0.5).log())
        return raw

    logit = 1.0
    monkeypatch.setattr(detect, "network", one_stage(blob, refine))
    faces = detect(picture)
    assert len(faces) == 1 and np.allclose(faces.boxes[0], [100, 100, 140, 180], atol=2)  # 80 px to the right by 1/4
    assert faces.scores[0] == pytest.approx(float(torch.tensor(4.0 + face_refiner.WEIGHT * logit).sigmoid()), abs=1e-4)
    logit = -12.0
    assert len(detect(picture)) == 0


def test_faces_do_not_depend_on_the_precision_of_the_caller(untrained: Path) -> None:
    find = FaceDetector(untrained, threshold=0)
    picture = np.random.RandomState(0).randint(0, 256, (60, 40, 3)).astype(np.uint8)
    alone = find(picture)
    with torch.autocast("cpu", torch.bfloat16):
        inside = find(picture)
    assert all(
        np.array_equal(a, b) for a, b in zip(dataclasses.astuple(alone), dataclasses.astuple(inside), strict=True)
    )


def test_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="a landmarks, not a face detector"):
        FaceDetector("builtin:landmarks")


def test_loading_moves_no_random_numbers(untrained: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    FaceDetector(untrained)
    assert torch.equal(torch.rand(3), expected)
