"""Positions of eyes, nose, mouth and chin of drawn faces, by animeface: for benchmarks/avatar.py.

    python -m venv .venv-drawn && .venv-drawn/bin/pip install animeface==2.0.3 'pillow<12' 'numpy<2'
    .venv-drawn/bin/python benchmarks/drawn_faces.py FOLDER... --out points.json

It needs an environment of its own: with Pillow 12 and later animeface silently finds nothing. Points are relative to
the side; a picture without a detected face has null.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import animeface
from PIL import Image

SIZE, MARGIN = 192, 48
"""animeface finds most faces at this size with a white margin; 128 to 384 were tried."""


def points(path: Path) -> dict[str, list[float]] | None:
    canvas = Image.new("RGB", (SIZE + 2 * MARGIN,) * 2, "white")
    canvas.paste(Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    found = animeface.detect(canvas)
    if not found:
        return None
    face = max(found, key=lambda one: one.likelihood)

    def place(x: float, y: float) -> list[float]:
        return [(x - MARGIN) / SIZE, (y - MARGIN) / SIZE]

    def middle(part: object) -> list[float]:
        box = part.pos  # type: ignore[attr-defined]
        return place(box.x + box.width / 2, box.y + box.height / 2)

    eyes = sorted([middle(face.left_eye), middle(face.right_eye)])  # left in the picture first
    colour = face.hair.color
    return {
        "eyes": eyes[0] + eyes[1],
        "nose": place(face.nose.pos.x, face.nose.pos.y),
        "mouth": middle(face.mouth),
        "chin": place(face.chin.pos.x, face.chin.pos.y),
        "hair": [colour.r, colour.g, colour.b],
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    files = [path for folder in options.folders for path in sorted(folder.glob("*.png"))]
    found = {str(path): points(path) for path in files if path.name != "sheet.png"}
    options.out.write_text(json.dumps(found))
    print(f"{options.out}: {sum(value is not None for value in found.values())} of {len(found)} faces found")


if __name__ == "__main__":
    main()
