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
    --objects, --views  pictures without any face: single things, best with transparency, and backgrounds
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import multiprocessing
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from backgrounds import Random, background, colour, shapes
from blending import mask, put
from face_labels import Face, Labelled, in_scenes, label
from PIL import Image

from kyara.files import pictures
from kyara.files.dataset import Dataset, open_dataset

SIDE = 320  # pixels of the pictures that are made
FRAME = np.array([0, 0, SIDE, SIDE])
BODY_HEAD = (0.2, 0.06, 0.8, 0.54)  # where the head of a body is: left, top, right, bottom, in shares of the picture
LOWER = 0.62  # below this share of its height a bust or a body has no face
SMALLEST, LARGEST = 10, 230  # height of a pasted face


@dataclass
class Sources:
    """The labelled pictures of all kinds."""

    faces: list[Labelled] = field(default_factory=list)  # by dataset
    wholes: Labelled = field(default_factory=list)
    bodies: list[tuple[Dataset, int]] = field(default_factory=list)  # the lower part of these has no face
    objects: list[tuple[Dataset, int]] = field(default_factory=list)
    views: list[tuple[Dataset, int]] = field(default_factory=list)


def resized(picture: Image.Image, scale: float) -> Image.Image:
    sides = (max(4, round(side * scale)) for side in picture.size)
    return picture.resize((next(sides), next(sides)), Image.Resampling.BICUBIC)


def paste(
    random: Random, canvas: Image.Image, piece: Image.Image, face: Face | None, taken: list[np.ndarray]
) -> Face | None:
    """Pastes a piece at a random place, size and angle, where it covers no face. Returns where its face is now, None if
    it has none or there was no room."""
    wanted = math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST)))
    base = 2 * np.linalg.norm(face.down) if face is not None else piece.height * 0.6
    small = resized(piece, float(min(wanted / base, 2.6, 1.25 * canvas.width / piece.width)))
    ratio = np.diag([small.width / piece.width, small.height / piece.height])
    here = None if face is None else face.mapped(ratio, np.zeros(2))
    cover = mask(random, small.size, None if here is None else here.box())
    if small.mode == "RGBA" and random.rand() < 0.8:
        small, cover = small.convert("RGB"), small.getchannel("A")
    small = small.convert("RGB")
    if random.rand() < 0.5:
        small, cover = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (small, cover))
        here = here and here.mapped(np.diag([-1.0, 1.0]), np.array([small.width, 0.0]))
    limit = random.choice([10, 50, 180], p=[0.7, 0.25, 0.05])
    angle = math.radians(random.normal(0, limit) if limit == 10 else random.uniform(-limit, limit))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned, cover = (p.rotate(-math.degrees(angle), Image.Resampling.BILINEAR, expand=True) for p in (small, cover))
    here = here and here.mapped(turn, np.array(turned.size) / 2 - turn @ (np.array(small.size) / 2))
    for _ in range(8):
        at = np.array([int(random.uniform(-0.25, 1) * SIDE - 0.2 * side) for side in turned.size])
        there = here and here.mapped(np.eye(2), at)
        free = all(overlap(np.concatenate([at, at + turned.size]), box) < 0.05 for box in taken)
        if free and (there is None or overlap(FRAME, there.box()) > 0.75):
            put(random, canvas, turned, cover, (int(at[0]), int(at[1])), tilted=abs(angle) > 0.02)
            return there
    return None


def overlap(area: np.ndarray, box: np.ndarray) -> float:
    """The share of a box that is inside an area."""
    sides = (np.minimum(area[2:], box[2:]) - np.maximum(area[:2], box[:2])).clip(0)
    return float(sides.prod() / (box[2:] - box[:2]).prod())


def open_picture(dataset: Dataset, i: int) -> Image.Image:
    return Image.fromarray(dataset.picture(i))


def without_face(random: Random, sources: Sources) -> Image.Image:
    """A piece with no face: an object, or a part of a bust, a body or a view, or drawn."""
    kind = random.rand()
    if sources.objects and kind < 0.5:
        dataset, i = sources.objects[random.randint(len(sources.objects))]
        return Image.fromarray(pictures.decode_rgba(dataset.read(i), dataset.names[i]))
    if sources.bodies and kind < 0.8:
        picture = open_picture(*sources.bodies[random.randint(len(sources.bodies))])
        side, top = min(picture.height * (1 - LOWER), picture.width), LOWER * picture.height
        return square(random, picture.crop((0, int(top), *picture.size)), side * random.uniform(0.4, 1))
    if sources.views and kind < 0.9:
        return square(random, view(random, sources), random.uniform(20, 200))
    piece = background(random, 96)
    shapes(random, piece, random.randint(4, 14))
    return piece


def square(random: Random, picture: Image.Image, side: float) -> Image.Image:
    """A random square of a picture."""
    whole = max(4, int(min(side, *picture.size)))
    x, y = (random.randint(n - whole + 1) for n in picture.size)
    return picture.crop((x, y, x + whole, y + whole))


def view(random: Random, sources: Sources) -> Image.Image:
    """A background: a part of one of the views, or drawn."""
    if not sources.views or random.rand() < 0.6:
        return background(random, SIDE)
    picture = open_picture(*sources.views[random.randint(len(sources.views))])
    return square(random, picture, min(picture.size) * random.uniform(0.4, 1)).resize((SIDE, SIDE))


def whole(random: Random, sources: Sources) -> tuple[Image.Image, list[Face]]:
    """A whole picture, cropped at random or with a margin, as large as all others."""
    dataset, i, faces = sources.wholes[random.randint(len(sources.wholes))]
    picture = open_picture(dataset, i)
    scale = SIDE / min(picture.size) * math.exp(random.uniform(math.log(0.35), math.log(1.7)))
    picture = picture.resize(
        (max(8, round(picture.width * scale)), max(8, round(picture.height * scale))), Image.Resampling.BICUBIC
    )
    canvas = view(random, sources) if random.rand() < 0.6 else Image.new("RGB", (SIDE, SIDE), colour(random, 0.2))
    at = np.array([int(random.uniform(min(0, SIDE - side), max(0, SIDE - side))) for side in picture.size])
    canvas.paste(picture, tuple(at.tolist()))
    there = [face.mapped(np.eye(2) * scale, at) for face in faces]
    seen = [overlap(FRAME, face.box()) for face in there]
    if any(0.02 < share < 0.6 for share in seen):  # half a face is neither one nor none
        return whole(random, sources)
    return canvas, [face for face, share in zip(there, seen, strict=True) if share >= 0.6]


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
        canvas = view(random, sources)
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
    for kind, found in (("objects", sources.objects), ("views", sources.views)):
        for path in getattr(options, kind):
            dataset = open_dataset(path)
            found += [(dataset, i) for i in range(len(dataset))]
    return sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in ("faces", "busts", "bodies", "scenes", "objects", "views"):
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
