"""A dataset as `kyara prepare` writes it, made at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from conftest import drawn_picture

from kyara.files.pictures import encode_png
from kyara.preparation.report import Entry, FaceEntry


def dataset(project: Path, name: str) -> None:
    """Three pictures of 96 pixels: one cut to its faces, one kept, one a copy of it; and a file that is no picture."""
    sources, images = project / f"art/{name}", project / f"{name}/images"
    for folder in (sources, images):
        folder.mkdir(parents=True)
    for i, seed in enumerate((0, 1, 1)):
        (sources / f"{i}.png").write_bytes(encode_png(drawn_picture(seed, 96)))
    (images / "1.png").write_bytes(encode_png(drawn_picture(1, 96)))
    (project / name / "metadata.csv").write_text("file_name,hair\nimages/1.png,red\n")
    faces = (
        FaceEntry("images/0.png", sharpness=0.3, nearest="1.png", distance=0.2, box=[10, 20, 30, 40], score=0.9),
        FaceEntry(None, "small", "9 pixels", box=[50, 20, 9, 9], score=0.8),
    )
    pictures = [
        Entry(file="0.png", size=(96, 96), cut=True, faces=faces),
        Entry("images/1.png", file="1.png", size=(96, 96), sharpness=0.5, nearest="0.png#1", distance=0.2),
        Entry(None, "near copy", "of 1.png", 0.4, "1.png", 0.01, file="2.png", size=(96, 96)),
        Entry(None, "unreadable", "not a picture", file="3.png"),
    ]
    report = {"sources": [f"art/{name}"], "size": [64, 64], "kept": 2, "pictures": [*map(dataclasses.asdict, pictures)]}
    (project / name / "report.json").write_text(json.dumps(report))
