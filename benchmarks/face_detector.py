"""Recall and precision of the face detector on labelled illustrations.

    python benchmarks/face_detector.py PICTURES boxes.csv --threshold 0.4

`boxes.csv` has a row for each face: file_name, x, y, width, height in pixels, from hairline to chin and from cheek to
cheek; and `ignore`, 1 for doubtful faces, which count neither as found nor as missed. Other columns, such as view,
style or gender, are groups. Pictures without a row have no face.

Two rules say whether a detection is right: `place`, its centre is inside the box and its size (the square root of the
area) within a factor of two; `iou`, the intersection over union is at least 0.5. Detections are matched greedily by
score, each face once. Prints precision and recall at the threshold, which is to be chosen on other pictures, the recall
of each group, and the best recall at a precision of 0.95 of all thresholds.
"""

from __future__ import annotations

import csv
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from common import run

from kyara.files import pictures
from kyara.perception.detector import BUILTIN, FaceDetector, Faces
from kyara.preparation.detect import Builtin
from kyara.preparation.faces import CERTAIN

PRECISION = 0.95
SIZES = ((0, 25), (25, 40), (40, 80), (80, 160), (160, 100_000))  # groups of sizes in pixels
NOT_GROUPS = {"file_name", "x", "y", "width", "height", "ignore"}


@dataclass
class Labelled:
    """A face of the table."""

    box: np.ndarray  # (4,) x0 y0 x1 y1
    ignored: bool
    groups: dict[str, str]


@dataclass
class Judged:
    """One detection: whether it is right, and the face that it found."""

    score: float
    right: bool
    face: Labelled | None


def measure(
    folder: tyro.conf.Positional[Path],
    boxes: tyro.conf.Positional[Path],
    *,
    model: str = BUILTIN,
    threshold: float = CERTAIN,
    alone: bool = False,
    flip: bool = False,
    device: str = "cpu",
    save: Path | None = None,
) -> None:
    """Prints precision and recall.

    Args:
        folder: The pictures.
        boxes: The table of their faces.
        model: The detector.
        threshold: Minimum score.
        alone: Whether the network is measured alone, without the landmarks that confirm its faces in `prepare`.
        flip: With --alone, whether mirrored copies are searched, too.
        device: With --alone, where it runs.
        save: A JSON file for all detections.
    """
    labels = read(boxes)
    network = partial(FaceDetector, model, device, threshold=0.02, flip=flip)
    detector = network() if alone else partial(confirmed, Builtin(model=model))
    found, took = dict[str, Faces](), 0.0
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        picture = pictures.decode(path)
        began = time.perf_counter()
        found[path.name] = detector(picture)
        took += time.perf_counter() - began
    if missing := sorted(set(labels) - set(found)):
        raise ValueError(f"{boxes}: {folder} has no {', '.join(missing[:3])}")
    if save is not None:
        rows = {name: [*zip(f.boxes.tolist(), f.scores.tolist(), strict=True)] for name, f in found.items()}
        save.write_text(json.dumps(rows))
    faces = [face for row in labels.values() for face in row if not face.ignored]
    print(f"{model}: {len(found)} pictures, {len(faces)} faces, {took / len(found):.2f} s a picture")
    for name, rule in RULES.items():
        judged = [one for file, some in found.items() for one in match(labels[file], some, rule)]
        report(name, judged, faces, threshold)


def confirmed(detector: Builtin, picture: np.ndarray) -> Faces:
    """What `prepare` finds, with any score."""
    faces = detector.possible(picture, 0.0)
    boxes = np.array([[face.left, face.top, face.right, face.bottom] for face in faces], np.float32).reshape(-1, 4)
    points = np.array([[*face.eyes, face.nose, *face.mouth] for face in faces], np.float32).reshape(-1, 5, 2)
    return Faces(boxes, np.array([face.score for face in faces], np.float32), points)


def read(path: Path) -> dict[str, list[Labelled]]:
    """The faces of each picture of the table."""
    labels: dict[str, list[Labelled]] = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[key]) for key in ("x", "y", "width", "height"))
            size = (width * height) ** 0.5
            low, high = next(limits for limits in SIZES if size < limits[1])
            groups = {key: value for key, value in row.items() if key not in NOT_GROUPS}
            groups["size"] = f"{low} to {high - 1}" if high < SIZES[-1][1] else f"{low} and more"
            box = np.array([x, y, x + width, y + height])
            labels[row["file_name"]].append(Labelled(box, row.get("ignore", "0") == "1", groups))
    return labels


def sides(box: np.ndarray) -> np.ndarray:
    return (box[2:] - box[:2]).clip(0)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    both = np.concatenate([np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])])
    shared = sides(both).prod()
    return float(shared / (sides(one).prod() + sides(other).prod() - shared))


def contains(box: np.ndarray, inner: np.ndarray) -> bool:
    """Whether the centre of another box is inside."""
    centre = (inner[:2] + inner[2:]) / 2
    return bool((centre >= box[:2]).all() and (centre <= box[2:]).all())


def in_place(found: np.ndarray, face: np.ndarray) -> bool:
    return contains(face, found) and 0.25 <= sides(found).prod() / sides(face).prod() <= 4


def overlapping(found: np.ndarray, face: np.ndarray) -> bool:
    return overlap(found, face) >= 0.5


Rule = Callable[[np.ndarray, np.ndarray], bool]
RULES: dict[str, Rule] = {"place": in_place, "iou": overlapping}


def match(faces: Sequence[Labelled], found: Faces, rule: Rule) -> list[Judged]:
    """Judges the detections in one picture, without those on ignored faces."""
    free, judged = [face for face in faces if not face.ignored], []
    for box, score in zip(found.boxes, found.scores, strict=True):
        right = [face for face in free if rule(box, face.box)]
        if right:
            best = max(right, key=lambda face: overlap(box, face.box))
            free = [face for face in free if face is not best]
            judged.append(Judged(float(score), True, best))
        elif not any(contains(face.box, box) or contains(box, face.box) for face in faces if face.ignored):
            judged.append(Judged(float(score), False, None))
    return judged


def report(name: str, judged: Sequence[Judged], faces: Sequence[Labelled], threshold: float) -> None:
    """Prints precision and recall at the threshold, the recall of groups, and the best recall at PRECISION."""
    kept = [one for one in judged if one.score >= threshold]
    hits = {id(one.face) for one in kept if one.right}
    precision = len(hits) / max(len(kept), 1)
    print(f"\n{name}: recall {len(hits) / len(faces):.3f} at precision {precision:.3f}, threshold {threshold:g}")
    ranked = np.array([one.right for one in sorted(judged, key=lambda one: -one.score)], bool).cumsum()
    precise = ranked / np.arange(1, len(ranked) + 1) >= PRECISION
    best = ranked[precise].max(initial=0)
    scores = sorted((one.score for one in judged), reverse=True)
    at = scores[int(np.flatnonzero(precise)[-1])] if precise.any() else 1.0
    print(f"  best recall at precision {PRECISION}: {best / len(faces):.3f}, at threshold {at:.3f} of these pictures")
    for group in sorted({key for face in faces for key in face.groups}):
        values = sorted(
            {face.groups[group] for face in faces}, key=lambda value: (value.partition(" ")[0].zfill(9), value)
        )
        shares = []
        for value in values:
            chosen = [face for face in faces if face.groups[group] == value]
            shares.append(f"{value} {sum(id(face) in hits for face in chosen) / len(chosen):.2f} of {len(chosen)}")
        print(f"  {group}: {', '.join(shares)}")


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
