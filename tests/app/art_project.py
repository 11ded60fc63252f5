"""A dataset as `kyara prepare` writes it, made at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import drawn_picture

from kyara.files.gallery import GalleryWriter
from kyara.files.pictures import encode_png
from kyara.perception.features import builtin_hash
from kyara.preparation.report import Entry, FaceEntry
from kyara.training.log import FEATURES


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


def dataset_and_run(project: Path) -> None:
    """The dataset `scenes`, and a run, if they are not there yet."""
    if (project / "scenes").exists():
        return
    dataset(project, "scenes")
    run = project / "runs/mine"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"model": "stylegan2"}')
    rows = [
        {"nimg": i, "loss/g": 1.0, "loss/d": 2.0, "score/frechet": 3.0, FEATURES: builtin_hash()} for i in (0, 1000)
    ]
    (run / "stats.jsonl").write_text("\n".join(map(json.dumps, rows)))


def gallery(project: Path, name: str, seeds: Sequence[int] = (1,)) -> None:
    """A gallery of drawn pictures."""
    with GalleryWriter(project / "galleries" / name, ["seed"]) as writer:
        for seed in seeds:
            writer.add(f"seed{seed:04d}.png", drawn_picture(seed), {}, seed=seed)
        writer.finish(command="kyara generate", about="drawn")


def enter(tab: Any, room: str) -> None:
    tab.click(f"nav a:text-is('{room}')")
