"""Cuts labelled illustrations to a dataset for `kyara train detector`.

    python tools/detector_crops.py LABELLED... --add composed.zip --out pictures.zip

A folder LABELLED has the pictures in `pictures` and a row for each face in `boxes.csv`, see
`benchmarks/face_detector.py`; pictures without a row have no face. Each picture gives several crops of 320 px at random
sizes and places. Doubtful faces (`ignore` is 1) and faces that a crop cuts off are blurred, so that nothing is learned
from them; the other faces stay sharp.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import itertools
import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from kyara.files import face_boxes, pictures
from kyara.files.atomic import write_atomic
from kyara.files.dataset import open_dataset

SIDE = 320  # pixels of a crop
SMALLEST, LARGEST = 16, 220  # longer side of the face that a crop shows, in its pixels, before limits
ENLARGED = 2.2  # maximum scale of a picture
SEEN, CUT = 0.6, 0.02  # shares of a face inside a crop: with at least SEEN it is one, with less than CUT it is outside
TRIALS = 12  # random crops until none cuts a face off

Random = np.random.RandomState
Made = tuple[bytes, list[list[float]], str]  # an encoded picture, the numbers of its faces, and its extension


def read(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """File name -> the faces and the doubtful ones of a picture, (N, 4) each: x0, y0, x1, y1."""
    rows: dict[str, tuple[list[list[float]], list[list[float]]]] = defaultdict(lambda: ([], []))
    with (folder / "boxes.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[key]) for key in ("x", "y", "width", "height"))
            rows[row["file_name"]][row.get("ignore", "0") == "1"].append([x, y, x + width, y + height])
    names = sorted(path.name for path in (folder / "pictures").iterdir() if path.is_file())
    if missing := sorted(set(rows) - set(names)):
        raise SystemExit(f"{folder}/boxes.csv: {folder}/pictures has no {', '.join(missing[:3])}")
    return {name: tuple(np.array(boxes).reshape(-1, 4) for boxes in rows[name]) for name in names}  # type: ignore[misc]


def window(random: Random, size: np.ndarray, faces: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale of a picture of `size` (width, height), and the corner of a crop in the scaled picture."""
    if len(faces):
        face = faces[random.randint(len(faces))]
        longer = (face[2:] - face[:2]).max()
        scale = math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST))) / longer
        scale = float(np.clip(scale, 0.45 * SIDE / size.max(), ENLARGED))
        inner = min(longer * scale / 2, SIDE / 2 - 1)
        corner = (face[:2] + face[2:]) / 2 * scale - random.uniform(inner, SIDE - inner, 2)
    else:
        scale = min(math.exp(random.uniform(math.log(0.8), math.log(3.2))) * SIDE / size.max(), ENLARGED)
        corner = random.uniform(0, 1, 2) * (size * scale - SIDE)
    room = size * scale - SIDE
    return scale, np.clip(corner, np.minimum(room, 0), np.maximum(room, 0)).round()


def shares(boxes: np.ndarray) -> np.ndarray:
    """The share of each box (N, 4) that is inside a crop."""
    inside = boxes.clip(0, SIDE)
    return (inside[:, 2:] - inside[:, :2]).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)


def blur(canvas: Image.Image, box: np.ndarray, faces: np.ndarray) -> None:
    """Blurs a box and its surroundings, except `faces` (N, 4)."""
    kept = [(canvas.crop(place), place) for place in faces.round().astype(int).clip(0, SIDE).tolist()]
    margin = 0.25 * (box[2:] - box[:2])
    left, top, right, bottom = np.concatenate([box[:2] - margin, box[2:] + margin]).clip(0, SIDE).astype(int).tolist()
    if right > left and bottom > top:
        part = canvas.crop((left, top, right, bottom))
        canvas.paste(part.filter(ImageFilter.GaussianBlur(max(part.size) / 4)), (left, top))
    for face, place in kept:
        canvas.paste(face, place[:2])


def cut(random: Random, picture: Image.Image, faces: np.ndarray, doubtful: np.ndarray) -> Made:
    """One crop."""
    for _ in range(TRIALS):
        scale, corner = window(random, np.array(picture.size), faces)
        there = faces * scale - np.tile(corner, 2)
        seen = shares(there)
        if not ((seen > CUT) & (seen < SEEN)).any():
            break
    canvas = Image.new("RGB", (SIDE, SIDE), tuple(random.randint(0, 256, 3).tolist()))
    start, stop = (
        np.array(n, float) for n in (np.maximum(corner, 0), np.minimum(corner + SIDE, np.array(picture.size) * scale))
    )
    width, height = np.maximum((stop - start).round(), 1).astype(int).tolist()
    by = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    shown = tuple(np.concatenate([start, stop]) / scale)
    canvas.paste(picture.resize((width, height), by, shown), tuple((start - corner).astype(int).tolist()))
    for box in (*(doubtful * scale - np.tile(corner, 2)), *there[(seen > CUT) & (seen < SEEN)]):
        blur(canvas, box, there[seen >= SEEN])
    data = io.BytesIO()
    canvas.save(data, "WEBP", quality=92, method=2)
    kept = there[seen >= SEEN]
    return data.getvalue(), np.concatenate([kept[:, :2], kept[:, 2:] - kept[:, :2]], 1).round(2).tolist(), ".webp"


def crops(folder: Path, each: int, seed: int) -> Iterator[Made]:
    """The crops of all pictures of a folder: `each`, two more for every further face up to three, and two thirds of
    that without a face."""
    random = Random(seed)
    for name, (faces, doubtful) in read(folder).items():
        picture = Image.fromarray(pictures.decode(folder / "pictures" / name))
        count = each + 2 * min(len(faces) - 1, 3) if len(faces) else max(2, each * 2 // 3)
        for _ in range(count):
            yield cut(random, picture, faces, doubtful)


def added(path: Path, limit: int) -> Iterator[Made]:
    """The first pictures of another dataset with the column `boxes`."""
    dataset = open_dataset(path)
    if not any(dataset.box_cells):
        raise SystemExit(
            f"{path}: the metadata has no column `boxes`; give a dataset such as detector_pictures.py makes"
        )
    for i in range(min(limit, len(dataset))):
        face_boxes.parse(dataset.box_cells[i], dataset.location(i))  # or an error that names the row
        yield dataset.read(i), json.loads(dataset.box_cells[i]), Path(dataset.names[i]).suffix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, nargs="+", help="folders with pictures/ and boxes.csv")
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="datasets with the column boxes")
    parser.add_argument("--limit", type=int, default=1_000_000, help="maximum number of pictures from each of --add")
    parser.add_argument("--each", type=int, default=6, help="crops of a picture with one face")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the .zip to write")
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"--out {options.out}: exists already; give another name")
    sources = [crops(folder, options.each, options.seed) for folder in options.labelled]
    sources += [added(path, options.limit) for path in options.add]
    write_atomic(options.out, functools.partial(write, itertools.chain(*sources)))
    print(f"{options.out}: {len(open_dataset(options.out))} pictures")


def write(made: Iterable[Made], path: Path) -> None:
    """Writes the pictures and their table to a .zip."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file_name", "boxes"])
    with zipfile.ZipFile(path, "w") as archive:
        for number, (data, faces, extension) in enumerate(made):
            archive.writestr(name := f"images/{number:06d}{extension}", data)
            rows.writerow([name, json.dumps(faces)])
        archive.writestr("metadata.csv", table.getvalue())


if __name__ == "__main__":
    main()
