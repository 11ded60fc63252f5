"""Ranking: how likely each picture is whole and not distorted, by a recogniser (Sawada et al.)."""

from __future__ import annotations

import json as json_format
import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from kyara.files.atomic import write_atomic
from kyara.files.checkpoint import Checkpoint
from kyara.files.dataset import open_dataset
from kyara.files.gallery import TABLE, GalleryWriter, read_gallery
from kyara.files.names import printable
from kyara.files.pictures import PNG_SIGNATURE, center_crop, decode, encode_png, pad_to, sheet, to_float
from kyara.files.workers import ahead
from kyara.models import load
from kyara.models.base import Config
from kyara.training.runtime import has_bfloat16, pick_device
from kyara.verbs import command_line

REPORT = "report.json"
CELL = 256
"""Longest side of a picture on the contact sheet, in pixels."""


class Recogniser(Protocol):
    """A model that says how likely a picture is whole."""

    config: Config
    checkpoint: Checkpoint

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def scores(self, pictures: Tensor) -> Tensor: ...


class Pictures(Protocol):
    """What is ranked: a Dataset or a Gallery."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def attributes(self) -> Mapping[str, Sequence[str]]: ...

    @property
    def ignored(self) -> Sequence[tuple[str, str]]: ...

    def read(self, i: int) -> bytes: ...

    def picture(self, i: int, at_least: int | None = None) -> np.ndarray: ...


def rank(
    pictures: Positional[Path],
    *,
    out: Path | None = None,
    model: str = "builtin:distortion",
    keep: int | None = None,
    threshold: float | None = None,
    batch: int = 64,
    workers: int | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Score pictures and write a Gallery of them, best first.

    The score is the recogniser's probability that a picture is whole and not distorted, 0 to 1. The pictures
    themselves are only read: the Gallery holds copies. What cannot be read is listed on the screen and in
    report.json.

    Args:
        pictures: A Gallery, or a Dataset of any form: a folder, class sub-folders, a .zip.
        out: Folder of the new Gallery; by default PICTURES-ranked, beside the pictures.
        model: The recogniser: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        keep: Copy only the best N.
        threshold: Copy only pictures that score at least this, 0 to 1.
        batch: Pictures the network looks at together.
        workers: Threads that decode pictures; by default one per processor core.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older Gallery at --out.
        dry_run: Say what would be done, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Gallery.
    """
    pictures, out = Path(pictures), None if out is None else Path(out)  # from Python, texts will do
    command = command_line(rank, locals())
    for option, number in (("--keep", keep), ("--batch", batch), ("--workers", workers)):
        if number is not None and number < 1:
            raise ValueError(f"{option} {number}: must be 1 or more")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold {threshold}: scores are probabilities; give a number from 0 to 1")
    source = open_pictures(pictures)
    recogniser = load_recogniser(model, pick_device(device))
    out = out or default_out(pictures)
    report: dict[str, Any] = {"out": str(out), "pictures": len(source.names)}
    report |= {"model": model, "checkpoint": recogniser.checkpoint.hash}
    if dry_run:
        print(json_format.dumps(report) if json else f"would rank {len(source.names):,} pictures into {out}")
        return out

    threads = workers or os.cpu_count() or 1
    kept = [name for name in source.attributes if name not in ("file_name", "score", "source")]
    with GalleryWriter(out, [*kept, "score", "source"], sources=[pictures, model], force=force) as written:
        scores, unreadable = score_all(source, recogniser, batch=batch, workers=threads)
        chosen = best(scores, keep=keep, threshold=threshold)
        digits = max(4, len(str(len(chosen))))
        for i, png in ahead(lambda i: _png(source, i), chosen, threads, depth=4 * threads):
            if isinstance(png, Exception):
                unreadable[i] = str(png)
                continue
            written.add(
                f"{len(written) + 1:0{digits}d}-{_tame(source.names[i])}.png",
                png,
                score=scores[i],
                source=(pictures / source.names[i]).as_posix(),
                **{name: source.attributes[name][i] for name in kept},
            )
        report["kept"] = len(written)
        first = written.finish(command=command, sheet=contact_sheet, about=f"best first by {model}")

    left_out = [*source.ignored, *((source.names[i], unreadable[i]) for i in sorted(unreadable))]
    report["left_out"] = [
        {"file_name": name, "reason": why.removeprefix(f"{pictures / name}: ")} for name, why in left_out
    ]
    text = json_format.dumps(report, indent=2) + "\n"
    write_atomic(out / REPORT, lambda temporary: temporary.write_text(text))
    print(json_format.dumps(report | {"best": first[:1]}) if json else _summary(report))
    return out


def open_pictures(path: Path) -> Pictures:
    """The Gallery or Dataset at `path`. A Gallery brings its seeds and attributes along."""
    return Gallery.open(path) if (path / TABLE).is_file() else open_dataset(path)


@dataclass(frozen=True)
class Gallery:
    """A Gallery, to be read like a Dataset."""

    path: Path
    names: list[str]
    attributes: dict[str, list[str]]
    ignored: tuple[tuple[str, str], ...] = ()

    @classmethod
    def open(cls, path: Path) -> Gallery:
        rows = read_gallery(path)
        columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        return cls(path, columns.pop("file_name", []), columns)

    def read(self, i: int) -> bytes:
        return (self.path / self.names[i]).read_bytes()

    def picture(self, i: int, at_least: int | None = None) -> np.ndarray:
        return decode(self.path / self.names[i], at_least=at_least)


def load_recogniser(name: str, device: torch.device) -> Recogniser:
    """The recogniser of a Checkpoint. ValueError if the model there does not score pictures."""
    model = load(name, device)
    if not hasattr(model, "scores"):
        raise ValueError(f"{name}: this model does not score pictures; builtin:distortion does")
    return cast(Recogniser, model)


def fit(picture: np.ndarray, recogniser: Recogniser) -> np.ndarray:
    """A picture (H, W, 3) uint8 at the size the recogniser was trained at, cropped to that aspect around the
    centre. Both verbs go through here, so a picture has one score wherever it is asked for."""
    return center_crop(picture, recogniser.config.data.width, recogniser.config.data.height)


@torch.inference_mode()
def score(pictures: Tensor, recogniser: Recogniser) -> Tensor:
    """The probability that each of `pictures`, (B, 3, H, W) in [-1, 1], is whole: (B,) float32 on the CPU. In
    bfloat16 where the processor computes in it: two to three times as fast, and within 0.02 of float32 (on faces)."""
    device = next(recogniser.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
        return recogniser.scores(pictures.to(device)).float().cpu()


def score_all(
    source: Pictures, recogniser: Recogniser, *, batch: int, workers: int
) -> tuple[array[float], dict[int, str]]:
    """The score of every picture, NaN if it cannot be read, and why not by its number. Threads decode ahead
    of the network, at most two batches: memory does not grow with the number of pictures."""
    scores = array("d", [float("nan")]) * len(source.names)
    unreadable: dict[int, str] = {}
    device = next(recogniser.parameters()).device
    numbers: list[int] = []
    waiting: list[np.ndarray] = []

    def look() -> None:
        together = torch.from_numpy(np.stack(waiting)).to(device)  # (B, H, W, 3) uint8
        for i, value in zip(numbers, score(to_float(together), recogniser).tolist(), strict=True):
            scores[i] = value
        numbers.clear()
        waiting.clear()

    enough = 2 * max(
        recogniser.config.data.width, recogniser.config.data.height
    )  # twice as fine: Lanczos does the rest
    decoded = ahead(lambda i: fit(source.picture(i, enough), recogniser), range(len(scores)), workers, 2 * batch)
    for i, picture in tqdm(decoded, total=len(scores), unit="picture", disable=None):
        if isinstance(picture, Exception):
            unreadable[i] = str(picture)
            continue
        numbers.append(i)
        waiting.append(picture)
        if len(waiting) == batch:
            look()
    if waiting:
        look()
    return scores, unreadable


def best(scores: Sequence[float], *, keep: int | None = None, threshold: float | None = None) -> list[int]:
    """The numbers of the pictures that have a score, best first; equal scores stay in their order."""
    lowest = 0.0 if threshold is None else threshold
    order = sorted((i for i, value in enumerate(scores) if value >= lowest), key=lambda i: -scores[i])
    return order[:keep]


def contact_sheet(files: Sequence[Path]) -> bytes:
    """One PNG with the pictures of `files` side by side, each fitted into the shape of the first."""
    height, width = decode(files[0]).shape[:2]
    scale = min(1.0, CELL / max(height, width))
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    return encode_png(sheet([pad_to(decode(file), *cell) for file in files]))


def default_out(pictures: Path) -> Path:
    """PICTURES-ranked, beside the pictures."""
    whole = pictures if pictures.name not in ("", "..") else pictures.resolve()
    name = whole.stem if whole.suffix.lower() == ".zip" else whole.name
    return whole.with_name(f"{name}-ranked")


def _png(source: Pictures, i: int) -> bytes:
    """The picture as a PNG file: as it stands if it is one, with the recipe it may carry."""
    content = source.read(i)
    return content if content.startswith(PNG_SIGNATURE) else encode_png(source.picture(i))


def _tame(name: str) -> str:
    """The stem of a file's name without what a shell, a browser or another system would stumble over."""
    return re.sub(r"[^\w-]+", "-", Path(name).stem)[:60].strip("-") or "picture"


def _summary(report: Mapping[str, Any]) -> str:
    out, failures = report["out"], report["left_out"]
    lines = [f"{out}: {report['kept']:,} of {report['pictures']:,} pictures, best first by {report['model']}"]
    if failures:
        lines.append(f"left out, as {Path(out) / REPORT} lists: {len(failures):,}")
        lines += [f"  {printable(entry['file_name'])}: {printable(entry['reason'])}" for entry in failures[:10]]
        lines += ["  ..."] * (len(failures) > 10)
    lines.append(f"look at {Path(out) / 'index.html'}")
    return "\n".join(lines)
