"""Where the face is in a picture, as an ellipse and five points, from its landmarks: for tools/detector_pictures.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from kyara.files.dataset import Dataset
from kyara.perception import landmarks

MIRROR = [1, 0, 2, 4, 3]  # order of the points after mirroring
UNSURE = 0.07  # maximum mean difference of landmarks in the mirrored picture, in units of the height from eyes to chin
SIDE = 96  # pixels in which landmarks are looked for


@dataclass
class Face:
    """A face as an ellipse with two half axes, and five points; NaN where unknown. In pixels."""

    centre: np.ndarray  # (2,)
    across: np.ndarray  # (2,) from the centre to a cheek
    down: np.ndarray  # (2,) from the centre to the chin
    points: np.ndarray  # (5, 2)

    def mapped(self, matrix: np.ndarray, shift: np.ndarray) -> Face:
        """The face under x -> matrix @ x + shift."""
        points = self.points @ matrix.T + shift
        if np.linalg.det(matrix) < 0:
            points = points[MIRROR]
        return Face(matrix @ self.centre + shift, matrix @ self.across, matrix @ self.down, points)

    def box(self) -> np.ndarray:
        """x0 y0 x1 y1 of the ellipse."""
        half = np.sqrt(self.across**2 + self.down**2)
        return np.concatenate([self.centre - half, self.centre + half])

    def numbers(self) -> list[float | None]:
        """The numbers of the column `boxes`."""
        x0, y0, x1, y1 = self.box().tolist()
        places = [None if math.isnan(v) else round(v, 1) for v in self.points.flatten().tolist()]
        return [round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1), *places]


Labelled = list[tuple[Dataset, int, list[Face]]]  # a dataset, the index of a picture, and its faces


def from_landmarks(points: np.ndarray) -> Face | None:
    """The face with the twelve points (12, 2) of `landmarks.NAMES`, or None if they are not plausible."""
    left, right, nose, mouth, chin = points[0:4].mean(0), points[4:8].mean(0), points[8], points[9:11], points[11]
    middle = (left + right) / 2
    height = float(np.linalg.norm(chin - middle))
    if height < 4:
        return None
    down = (chin - middle) / height
    across = np.array([down[1], -down[0]])
    apart = float((right - left) @ across) / height
    slope = abs(float((right - left) @ down)) / height
    order = [float((p - middle) @ down) / height for p in (nose, mouth.mean(0), chin)]
    corners = float((mouth[1] - mouth[0]) @ across) / height
    if not (0.35 < apart < 1.45 and slope < 0.35 and 0.1 < order[0] < order[1] < 0.97 and corners > 0.03):
        return None
    photo = apart < 0.72  # eyes of photos are closer together, and the forehead is lower
    forehead, cheeks = (0.72, 1.5) if photo else (0.85, 1.22)
    outer = points[[0, 6]]
    width = float((outer[1] - outer[0]) @ across) * cheeks
    width = float(np.clip(width, 0.62 * height * (1 + forehead), 1.15 * height * (1 + forehead)))
    centre = middle + down * height * (1 - forehead) / 2
    centre = centre + across * float((outer.mean(0) - middle) @ across)
    five = np.stack([left, right, nose, mouth[0], mouth[1]])
    return Face(centre, across * width / 2, down * height * (1 + forehead) / 2, five)


def label(dataset: Dataset, indices: Sequence[int], region: tuple[float, ...]) -> Labelled:
    """The pictures whose landmarks, looked for in a region (left, top, right, bottom in shares), are plausible."""
    found = []
    for begin in range(0, len(indices), 32):
        chosen, stacked, origins = indices[begin : begin + 32], [], []
        for i in chosen:
            picture = Image.fromarray(dataset.picture(i))
            box = tuple(share * side for share, side in zip(region, picture.size * 2, strict=True))
            side = min(box[2] - box[0], box[3] - box[1])
            origins.append((np.array(box[:2]), side))
            stacked.append(
                np.array(picture.resize((96, 96), Image.Resampling.BOX, (*box[:2], box[0] + side, box[1] + side)))
            )
        batch = torch.from_numpy(np.stack(stacked)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            straight = landmarks.find(batch).numpy()
            mirrored = landmarks.find(batch.flip(3)).numpy()[:, list(landmarks.MIRRORED)]
        mirrored[..., 0] = 1 - mirrored[..., 0]
        for i, points, other, (origin, side) in zip(chosen, straight, mirrored, origins, strict=True):
            height = np.linalg.norm(points[11] - points[:8].mean(0))
            sure = np.linalg.norm(points - other, axis=1).mean() < UNSURE * height
            face = from_landmarks((points + other) / 2 * side + origin)
            if sure and face is not None:
                found.append((dataset, i, [face]))
    return found


def in_scenes(dataset: Dataset) -> Labelled:
    """The pictures of a dataset whose column `boxes` has shares, with all their faces."""
    found = []
    for i, cell in enumerate(dataset.box_cells):
        picture, faces = Image.fromarray(dataset.picture(i)), []
        for part in filter(None, cell.split(";")):
            x, y, width, height = np.array([float(v) for v in part.split(",")]) * (picture.size * 2)
            nowhere = np.full((5, 2), np.nan)
            faces.append(
                Face(
                    np.array([x + width / 2, y + height / 2]),
                    np.array([width / 2, 0.0]),
                    np.array([0.0, height / 2]),
                    nowhere,
                )
            )
        found.append((dataset, i, faces))
    return found
