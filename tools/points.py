"""Makes a dataset for `kyara train landmarks`: the pictures of others, with the column `points` that a detector fills.

    python tools/points.py photos.zip --by mediapipe --out pointed-photos.zip         (pip install 'kyara[photo]')
    python tools/points.py faces.zip --by animeface --out pointed-faces.zip           (see benchmarks/drawn_faces.py)

Twelve points, in the order of `kyara.models.landmarks.NAMES`. Pictures in which no face is found are left out. Imports
nothing of Kyara: animeface needs an environment of its own.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MESH = (33, 159, 133, 145, 362, 386, 263, 374, 1, 61, 291, 152)
"""Points of MediaPipe's face mesh: what is left in the picture first."""
SIZE, MARGIN = 192, 48
"""animeface finds faces best of this size, with white around them."""
SIDE = 128
"""Pixels of the pictures that are written."""


def by_mediapipe() -> Callable[[Image.Image], np.ndarray | None]:
    from mediapipe.python import solutions

    mesh = solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, min_detection_confidence=0.3)

    def find(picture: Image.Image) -> np.ndarray | None:
        faces = mesh.process(np.asarray(picture)).multi_face_landmarks
        return np.array([(faces[0].landmark[i].x, faces[0].landmark[i].y) for i in MESH]) if faces else None

    return find


def by_animeface() -> Callable[[Image.Image], np.ndarray | None]:
    import animeface

    def find(picture: Image.Image) -> np.ndarray | None:
        canvas = Image.new("RGB", (SIZE + 2 * MARGIN,) * 2, "white")
        canvas.paste(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), (MARGIN, MARGIN))
        face = max(animeface.detect(canvas), key=lambda one: one.likelihood, default=None)
        if face is None:
            return None
        points = []
        for eye in sorted((face.left_eye.pos, face.right_eye.pos), key=lambda box: box.x):
            middle = eye.x + eye.width / 2, eye.y + eye.height / 2
            points += [(eye.x, middle[1]), (middle[0], eye.y), (eye.x + eye.width, middle[1])]
            points += [(middle[0], eye.y + eye.height)]
        mouth = face.mouth.pos
        points += [(face.nose.pos.x, face.nose.pos.y)]
        points += [(mouth.x + side * mouth.width, mouth.y + mouth.height / 2) for side in (0, 1)]
        points += [(face.chin.pos.x, face.chin.pos.y)]
        return (np.array(points) - MARGIN) / SIZE

    return find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a .zip with square pictures")
    parser.add_argument("--by", required=True, choices=("mediapipe", "animeface"))
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--limit", type=int, help="only so many pictures, the first by name")
    options = parser.parse_args()
    find = by_mediapipe() if options.by == "mediapipe" else by_animeface()
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["file_name", "points"])
    with zipfile.ZipFile(options.data) as source, zipfile.ZipFile(options.out, "w") as made:
        names = sorted(n for n in source.namelist() if n.endswith((".png", ".webp", ".jpg")) and "sheet" not in n)
        count = 0
        for name in names[: options.limit]:
            picture = Image.open(io.BytesIO(source.read(name))).convert("RGB")
            points = find(picture)
            if points is None:
                continue
            small = io.BytesIO()
            picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(small, "WEBP", quality=92)
            file_name = f"images/{options.data.stem}-{Path(name).stem}.webp"
            made.writestr(file_name, small.getvalue())
            rows.writerow([file_name, " ".join(f"{share:.4f}" for share in points.flatten())])
            count += 1
        made.writestr("metadata.csv", table.getvalue())
    print(f"{options.out}: {count} of {len(names[: options.limit])}")


if __name__ == "__main__":
    main()
