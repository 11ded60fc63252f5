"""Quality of a translator's drawings and their resemblance to the photos, beside filters.

    python benchmarks/cartoon.py photos.zip drawings.zip builtin:cartoon runs/a runs/b --sheet sheet.png

`photos.zip` contains held-out photos of faces. Needs MediaPipe (extra `photo`), which installs OpenCV. The baselines
are the photos themselves, a chain of filters (bilateral filter, 6 levels, black edges), and one half of the drawings
against the other. Measures:

    Fréchet    to the drawings: of VGG16 features (frechet.py, shorter side --input) of colour and of grey pictures, and
               of embeddings and levels of builtin:tagger
    points     mean distance of twelve MediaPipe landmarks from those of the photo, relative to the height of the face;
               eyes are drawn larger, so also without those around the eyes
    edges      correlation of the gradients with those of the photo, and with those of another photo
    flicker    difference between the result of a shifted photo and the shifted result, relative to the difference
               between results
    img/s      256 x 256 px, one at a time
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from common import load_vgg16, machine, print_table, run
from frechet import features, frechet
from torch import Tensor

from kyara import models
from kyara.files import checkpoint, pictures
from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.generation.tiles import translate_pictures
from kyara.models.base import Translator
from kyara.perception.vgg16 import VGG16

MESH = (33, 159, 133, 145, 362, 386, 263, 374, 1, 61, 291, 152)
AROUND_EYES = slice(0, 8)
TOP, CHIN = 10, 152
MOVED = 3
"""Shift in pixels, for the flicker."""

Pictures = list[np.ndarray]


def filters(picture: np.ndarray) -> np.ndarray:
    """Bilateral filter, posterise, black edges."""
    import cv2

    smooth = picture
    for _ in range(5):
        smooth = cv2.bilateralFilter(smooth, 9, 40, 40)
    levels = np.round(smooth / 255 * 5) / 5 * 255
    grey = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 5)
    white = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4) > 0
    return np.where(white[..., None], levels, 0).astype(np.uint8)


def translator(name: str) -> Callable[[np.ndarray], np.ndarray]:
    network = models.load(name).requires_grad_(False)
    if not isinstance(network, Translator):
        raise ValueError(f"{name}: not a translator")
    return lambda picture: translate_pictures(network.translate, picture[None], network)[0]


def measure(
    photos: tyro.conf.Positional[Path],
    drawings: tyro.conf.Positional[Path],
    names: tyro.conf.Positional[tuple[str, ...]],
    *,
    limit: int = 300,
    drawn_limit: int = 2000,
    input: int = 64,
    normalised: bool = True,
    sheet: Path | None = None,
    shown: int = 16,
    weights: Path | None = None,
    json_out: Path | None = None,
    side: int = 256,
) -> None:
    """Prints a row for each translator and baseline.

    Args:
        photos: Held-out photos.
        drawings: Drawings.
        names: Translators.
        limit: Photos, at most.
        drawn_limit: Drawings, at most.
        input: Shorter side of VGG16's input.
        normalised: Normalise VGG16's input as in training.
        sheet: Picture of some photos and results.
        shown: Photos on it.
        weights: Archive of VGG16's weights; by default it is downloaded.
        json_out: File for all numbers.
        side: Side of the pictures in pixels.
    """
    people, art = open_dataset(photos), open_dataset(drawings)
    order = np.random.RandomState(0).permutation(len(people))[:limit].tolist()
    given: Pictures = [*people.decode(order, side, side)]
    chosen = np.random.RandomState(0).permutation(len(art))[:drawn_limit].tolist()
    real: Pictures = [*art.decode(chosen, side, side)]
    embed = Embedder(load_vgg16(weights), models.load("builtin:tagger"), input, normalised)
    wanted, half = embed(real), embed(real[: len(real) // 2])
    points = [landmarks(picture) for picture in given]
    rows: dict[str, dict[str, Any]] = {
        "drawings, one half": {"frechet": distances(half, embed(real[len(real) // 2 :]))}
    }
    made: dict[str, Pictures] = {"photos": given, "filters": [filters(picture) for picture in given]}
    makers: dict[str, Callable[[np.ndarray], np.ndarray]] = {"photos": lambda x: x, "filters": filters}
    for name in names:
        makers[name] = translator(name)
        made[name] = [makers[name](picture) for picture in given]
    for name, results in made.items():
        rows[name] = {"frechet": distances(embed(results), wanted), **resemblance(given, results, points)}
        rows[name]["flicker"] = flicker(makers[name], given[:16], results[:16])
        rows[name]["img/s"] = speed(makers[name], given[0])
        if name in names:
            rows[name]["MB"] = (checkpoint.read(name).path / checkpoint.WEIGHTS).stat().st_size / 1e6
    print(machine())
    show(rows)
    if json_out:
        json_out.write_text(json.dumps(rows, indent=2))
    if sheet:
        shape = [made[name][i] for i in range(shown) for name in made]
        pictures.write_png(sheet, pictures.sheet(shape, columns=len(made) * max(1, 8 // len(made))))


class Embedder:
    """Features in which sets of pictures are compared."""

    def __init__(self, network: VGG16, tagger: Any, size: int, normalised: bool) -> None:
        self.network, self.tagger, self.size, self.normalised = network, tagger, size, normalised

    def __call__(self, given: Pictures) -> dict[str, np.ndarray]:
        grey = (np.repeat(to_grey(one)[..., None], 3, 2) for one in given)
        with torch.inference_mode():
            parts = [to_float(np.stack(given[i : i + 32])) for i in range(0, len(given), 32)]
            embedded = torch.cat([self.tagger.embed(part) for part in parts]).numpy()
            levels = torch.cat([self.tagger.stage_means(part) for part in parts]).numpy()
        return {
            "VGG16": features(iter(given), self.network, self.size, self.normalised),
            "VGG16, grey": features(grey, self.network, self.size, self.normalised),
            "embedding": embedded,
            "levels": levels,
        }


def to_grey(picture: np.ndarray) -> np.ndarray:
    return np.round(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def distances(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    return {kind: frechet(a[kind], b[kind]) for kind in a}


def landmarks(picture: np.ndarray) -> np.ndarray | None:
    """MediaPipe's mesh, (468, 2) relative to the sides; None if no face is detected."""
    from mediapipe.python import solutions

    global _mesh
    if _mesh is None:
        _mesh = solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, min_detection_confidence=0.3)
    faces = _mesh.process(picture).multi_face_landmarks
    return np.array([(p.x, p.y) for p in faces[0].landmark]) if faces else None


_mesh: Any = None


def resemblance(given: Pictures, made: Pictures, points: list[np.ndarray | None]) -> dict[str, Any]:
    off, outside, count = [], [], 0
    for result, there in zip(made, points, strict=True):
        found = landmarks(result)
        if there is None:
            continue
        count += 1
        if found is None:
            continue
        face = np.linalg.norm(there[TOP] - there[CHIN])
        away = np.linalg.norm(found[list(MESH)] - there[list(MESH)], axis=1) / face
        off.append(away.mean())
        outside.append(np.delete(away, AROUND_EYES).mean())
    slopes = [_slopes(given), _slopes(made)]
    return {
        "points": float(np.mean(off)),
        "points but eyes": float(np.mean(outside)),
        "faces found": len(off) / count,
        "edges": float((slopes[0] * slopes[1]).sum(1).mean()),
        "edges of another": float((slopes[0] * np.roll(slopes[1], 1, 0)).sum(1).mean()),
    }


def _slopes(given: Pictures) -> np.ndarray:
    """Gradients of each picture, normalised to mean 0 and length 1, (N, F)."""
    grey = F.adaptive_avg_pool2d(torch.from_numpy(np.stack([to_grey(p) for p in given])).float()[:, None], 64)
    flat: Tensor = torch.cat([grey.diff(dim=2).abs().flatten(1), grey.diff(dim=3).abs().flatten(1)], 1)
    flat = flat - flat.mean(1, keepdim=True)
    return F.normalize(flat).numpy()


def flicker(make: Callable[[np.ndarray], np.ndarray], given: Pictures, made: Pictures) -> float:
    rim = 32
    changed = []
    for picture, result in zip(given, made, strict=True):
        moved = make(np.roll(picture, MOVED, 1)).astype(float)
        there = np.roll(result, MOVED, 1).astype(float)
        changed.append(np.abs(moved - there)[:, rim:-rim].mean())
    apart = np.abs(np.stack(made).astype(float) - np.roll(np.stack(made), 1, 0)).mean()
    return float(np.mean(changed) / apart)


def speed(make: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, rounds: int = 20) -> float:
    make(picture)
    begin = time.perf_counter()
    for _ in range(rounds):
        make(picture)
    return rounds / (time.perf_counter() - begin)


def show(rows: dict[str, dict[str, Any]]) -> None:
    table = {}
    for name, row in rows.items():
        distances = {f"Fréchet, {kind}": f"{value:.4g}" for kind, value in row["frechet"].items()}
        table[name] = distances | {key: value for key, value in row.items() if key != "frechet"}
    print_table(table)


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
