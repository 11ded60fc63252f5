"""Composes a dataset for `kyara train detector`: pictures with the column `boxes`.

    python tools/detector_pictures.py --faces faces.zip photos.zip --busts busts.zip --bodies bodies.zip \\
        --scenes scenes.zip --count 10000 --out pictures.zip

Faces, cut from their pictures in several ways, are pasted at all sizes and angles into drawn backgrounds, and so are
pieces without a face, so that the edge of what was pasted says nothing. Busts, bodies and scenes are also taken whole.
The box of a face, from hairline to chin and from cheek to cheek, follows from its landmarks (`builtin:landmarks`);
pictures whose landmarks are not plausible, or others in the mirrored picture, are left out. Every picture follows from
--seed and its number.

    --faces   each picture is mainly a face
    --busts   head and shoulders; the lower part has no face
    --bodies  whole figures of 4:5 whose head is in the upper half of the middle
    --scenes  a column `boxes` with x,y,width,height of each face in shares of the picture, separated by ;
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import multiprocessing
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from backgrounds import Random, background, colour, shapes
from PIL import Image, ImageFilter

from kyara.files.dataset import Dataset, open_dataset
from kyara.perception import landmarks

SIDE = 320  # pixels of the pictures that are made
BODY_HEAD = (0.2, 0.06, 0.8, 0.54)  # where the head of a body is: left, top, right, bottom, in shares of the picture
LOWER = 0.62  # below this share of its height a bust or a body has no face
SMALLEST, LARGEST = 10, 230  # height of a pasted face
MIRROR = [1, 0, 2, 4, 3]  # order of the points after mirroring
UNSURE = 0.07  # maximum mean difference of landmarks in the mirrored picture, in units of the height from eyes to chin


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


@dataclass
class Sources:
    """The labelled pictures of all kinds: (dataset, index of the picture, its faces)."""

    faces: list[list[tuple[Dataset, int, list[Face]]]] = field(default_factory=list)  # by dataset
    wholes: list[tuple[Dataset, int, list[Face]]] = field(default_factory=list)
    bodies: list[tuple[Dataset, int]] = field(default_factory=list)  # the lower part of these has no face


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


def label(dataset: Dataset, indices: Sequence[int], region: tuple[float, ...]) -> list[tuple[Dataset, int, list[Face]]]:
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


def in_scenes(dataset: Dataset) -> list[tuple[Dataset, int, list[Face]]]:
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


def poisson(patch: np.ndarray, under: np.ndarray) -> np.ndarray:
    """The patch (H, W, 3) with its own gradients and the border of what is under it (Perez et al. 2003): it is shifted
    by the harmonic function with their difference on the border, which is solved for by sine transforms."""
    off = under - patch
    inner = np.zeros_like(off[1:-1, 1:-1])
    inner[0] += off[0, 1:-1]
    inner[-1] += off[-1, 1:-1]
    inner[:, 0] += off[1:-1, 0]
    inner[:, -1] += off[1:-1, -1]
    h, w = inner.shape[:2]
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) for n in (h, w))
    spectrum = sine(sine(inner, 0), 1) / (rows[:, None, None] + columns[None, :, None])
    off[1:-1, 1:-1] = sine(sine(spectrum, 0), 1) * (4 / ((h + 1) * (w + 1)))
    return patch + off


def sine(x: np.ndarray, axis: int) -> np.ndarray:
    """The discrete sine transform of the first kind, twice of which is (n + 1) / 2 times the identity."""
    n = x.shape[axis]
    padded = np.moveaxis(np.zeros((2 * n + 2, *np.moveaxis(x, axis, 0).shape[1:])), 0, 0)
    padded[1 : n + 1] = np.moveaxis(x, axis, 0)
    return np.moveaxis(-np.fft.fft(padded, axis=0).imag[1 : n + 1], 0, axis)


def mask(random: Random, size: tuple[int, int], inside: np.ndarray | None) -> Image.Image:
    """How much of a piece of `size` is pasted: all, with soft edges, or an ellipse around the box `inside`."""
    kind, made = random.randint(4), Image.new("L", size, 0)
    if kind == 0:
        return Image.new("L", size, 255)
    soft = max(1, int(min(size) * random.uniform(0.02, 0.15)))
    if kind == 1 or inside is None:
        made.paste(255, (soft, soft, size[0] - soft, size[1] - soft))
    else:
        y, x = np.mgrid[: size[1], : size[0]]
        centre, half = (inside[:2] + inside[2:]) / 2, (inside[2:] - inside[:2]) / 2 * random.uniform(1.15, 1.9)
        made = Image.fromarray(
            (((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 1).astype(np.uint8) * 255
        )
    return made.filter(ImageFilter.GaussianBlur(soft / 2)) if kind != 3 else made


def paste(
    random: Random, canvas: Image.Image, piece: Image.Image, face: Face | None, taken: list[np.ndarray]
) -> Face | None:
    """Pastes a piece at a random place, size and angle, where it covers no face. Returns where its face is now, None if
    it has none or there was no room."""
    wanted = math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST)))
    base = 2 * np.linalg.norm(face.down) if face is not None else piece.height * 0.6
    scale = float(min(wanted / base, 2.6, 1.25 * canvas.width / piece.width))
    angle = math.radians(
        random.choice([random.normal(0, 10), random.uniform(-50, 50), random.uniform(-180, 180)], p=[0.75, 0.2, 0.05])
    )
    small = piece.resize(
        (max(4, round(piece.width * scale)), max(4, round(piece.height * scale))), Image.Resampling.BICUBIC
    )
    ratio = np.diag([small.width / piece.width, small.height / piece.height])
    here = face.mapped(ratio, np.zeros(2)) if face is not None else None
    covers = mask(random, small.size, here.box() if here is not None else None)
    if random.rand() < 0.5:
        small, covers = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (small, covers))
        here = here.mapped(np.diag([-1.0, 1.0]), np.array([small.width, 0.0])) if here is not None else None
    turned, cover = (p.rotate(-math.degrees(angle), Image.Resampling.BILINEAR, expand=True) for p in (small, covers))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array(turned.size) / 2 - turn @ (np.array(small.size) / 2)
    here = here.mapped(turn, middle) if here is not None else None
    for _ in range(8):
        x, y = (
            int(random.uniform(-0.25, 1) * side - 0.2 * other)
            for side, other in zip(canvas.size, turned.size, strict=True)
        )
        area = np.array([x, y, x + turned.width, y + turned.height])
        there = here.mapped(np.eye(2), np.array([x, y])) if here is not None else None
        if any(overlap(area, box) > 0.05 for box in taken) or (
            there is not None and overlap(np.array([0, 0, SIDE, SIDE]), there.box()) < 0.75
        ):
            continue
        put(random, canvas, turned, cover, (x, y), tilted=abs(angle) > 0.02)
        return there
    return None


def put(
    random: Random, canvas: Image.Image, piece: Image.Image, cover: Image.Image, at: tuple[int, int], *, tilted: bool
) -> None:
    """Pastes a piece, sometimes with the border of what it covers."""
    x0, y0, x1, y1 = max(at[0], 0), max(at[1], 0), min(at[0] + piece.width, SIDE), min(at[1] + piece.height, SIDE)
    if not tilted and random.rand() < 0.4 and min(x1 - x0, y1 - y0) > 8:
        under = np.asarray(canvas.crop((x0, y0, x1, y1)), np.float64)
        patch = np.asarray(piece.crop((x0 - at[0], y0 - at[1], x1 - at[0], y1 - at[1])), np.float64)
        canvas.paste(Image.fromarray(poisson(patch, under).clip(0, 255).astype(np.uint8)), (x0, y0))
    else:
        canvas.paste(piece, at, cover)


def overlap(area: np.ndarray, box: np.ndarray) -> float:
    """The share of a box that is inside an area."""
    sides = (np.minimum(area[2:], box[2:]) - np.maximum(area[:2], box[:2])).clip(0)
    return float(sides.prod() / (box[2:] - box[:2]).prod())


def open_picture(dataset: Dataset, i: int) -> Image.Image:
    return Image.fromarray(dataset.picture(i))


def without_face(random: Random, sources: Sources) -> Image.Image:
    """A piece with no face: of a bust, a body or a scene, or drawn."""
    if sources.bodies and random.rand() < 0.6:
        picture = open_picture(*sources.bodies[random.randint(len(sources.bodies))])
        side = int(min(picture.height * (1 - LOWER), picture.width) * random.uniform(0.4, 1))
        x, y = (
            random.randint(picture.width - side + 1),
            random.randint(int(picture.height * LOWER), picture.height - side + 1),
        )
        return picture.crop((x, y, x + side, y + side))
    piece = background(random, 96)
    shapes(random, piece, random.randint(4, 14))
    return piece


def whole(random: Random, sources: Sources) -> tuple[Image.Image, list[Face]]:
    """A whole picture, cropped at random or with a margin, as large as all others."""
    dataset, i, faces = sources.wholes[random.randint(len(sources.wholes))]
    picture = open_picture(dataset, i)
    scale = SIDE / min(picture.size) * math.exp(random.uniform(math.log(0.35), math.log(1.7)))
    picture = picture.resize(
        (max(8, round(picture.width * scale)), max(8, round(picture.height * scale))), Image.Resampling.BICUBIC
    )
    canvas = background(random, SIDE) if random.rand() < 0.6 else Image.new("RGB", (SIDE, SIDE), colour(random, 0.2))
    at = np.array([int(random.uniform(min(0, SIDE - side), max(0, SIDE - side))) for side in picture.size])
    canvas.paste(picture, tuple(at.tolist()))
    return canvas, [face.mapped(np.eye(2) * scale, at) for face in faces]


def close_up(random: Random, sources: Sources) -> tuple[Image.Image, list[Face]]:
    """A face that fills the picture."""
    pack = sources.faces[random.randint(len(sources.faces))]
    dataset, i, faces = pack[random.randint(len(pack))]
    picture, box = open_picture(dataset, i), faces[0].box()
    side = max(box[2:] - box[:2]) * random.uniform(1.0, 1.6)
    left, top = (box[:2] + box[2:]) / 2 - side / 2 + random.uniform(-0.1, 0.1, 2) * side
    made = picture.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        (side / SIDE, 0, left, 0, side / SIDE, top),
        Image.Resampling.BICUBIC,
        fillcolor=colour(random),
    )
    scale = SIDE / side
    return made, [faces[0].mapped(np.eye(2) * scale, -np.array([left, top]) * scale)]


def compose(seed: int, number: int, sources: Sources) -> tuple[bytes, list[list[float | None]]]:
    """The picture with this number, as WebP, and its faces."""
    random = Random([seed, number])
    kind, faces = random.rand(), list[Face]()
    if kind < 0.3 and sources.wholes:
        canvas, faces = whole(random, sources)
    elif kind < 0.38:
        canvas, faces = close_up(random, sources)
    else:
        canvas = background(random, SIDE)
    taken = [face.box() for face in faces]
    several = random.randint(1, 7) if kind >= 0.52 else 0  # between: a picture without faces
    for turn in random.permutation([True] * several + [False] * random.randint(0, 4 if kind >= 0.38 else 2)):
        pack = sources.faces[random.randint(len(sources.faces))]
        dataset, i, labelled = pack[random.randint(len(pack))]
        piece, face = (open_picture(dataset, i), labelled[0]) if turn else (without_face(random, sources), None)
        pasted = paste(random, canvas, piece, face, taken)
        if pasted is not None:
            faces.append(pasted)
            taken.append(pasted.box())
    data = io.BytesIO()
    canvas.save(data, "WEBP", quality=88, method=2)
    return data.getvalue(), [face.numbers() for face in faces]


_sources: Sources
_seed: int


def _start(seed: int, sources: Sources) -> None:
    global _sources, _seed
    torch.set_num_threads(1)
    _sources, _seed = sources, seed


def _compose(number: int) -> tuple[bytes, list[list[float | None]]]:
    return compose(_seed, number, _sources)


def gather(options: argparse.Namespace) -> Sources:
    """Labels the pictures of all datasets."""
    sources, random = Sources(), Random(options.seed)
    for kind, region in (("faces", (0, 0, 1, 1)), ("busts", (0.1, 0.02, 0.9, 0.82)), ("bodies", BODY_HEAD)):
        for path in getattr(options, kind):
            dataset = open_dataset(path)
            chosen = random.permutation(len(dataset))[: options.limit].tolist()
            found = label(dataset, chosen, region)
            print(f"{path}: {len(found)} of {len(chosen)} pictures have plausible landmarks", flush=True)
            if kind == "faces":
                sources.faces.append(found)
            else:
                sources.wholes += found
                sources.bodies += [(dataset, i) for i in chosen]
    for path in options.scenes:
        sources.wholes += in_scenes(open_dataset(path))
    return sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in ("faces", "busts", "bodies", "scenes"):
        parser.add_argument(f"--{kind}", type=Path, nargs="*", default=[], help="datasets, folders or .zip")
    parser.add_argument("--out", type=Path, required=True, help="the .zip to write")
    parser.add_argument("--count", type=int, default=10_000, help="number of pictures")
    parser.add_argument("--limit", type=int, default=1500, help="maximum number of pictures from each dataset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if not options.faces:
        raise SystemExit("--faces: give at least one dataset of faces")
    sources, table = gather(options), io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file_name", "boxes"])
    context = multiprocessing.get_context("spawn")
    with (
        zipfile.ZipFile(options.out, "w") as archive,
        context.Pool(options.jobs, _start, (options.seed, sources)) as pool,
    ):
        for number, (data, faces) in enumerate(pool.imap(_compose, range(options.count), chunksize=8)):
            archive.writestr(name := f"images/{number:06d}.webp", data)
            rows.writerow([name, json.dumps(faces)])
        archive.writestr("metadata.csv", table.getvalue())
    print(f"{options.out}: {options.count} pictures")


if __name__ == "__main__":
    main()
