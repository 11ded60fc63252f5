"""The verb `kyara translate`: pictures become other pictures."""

from __future__ import annotations

import functools
import itertools
import json as json_format
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from kyara import __version__, models
from kyara.files import checkpoint, pictures
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.errors import PictureError
from kyara.files.gallery import PAGE, GalleryWriter
from kyara.files.names import printable
from kyara.files.pictures import decode, encode_png, to_float, to_uint8
from kyara.generation import video
from kyara.models.base import Inpainter, Model, StyledTranslator, Translator, latents
from kyara.training.runtime import has_bfloat16, pick_device
from kyara.verbs import command_line

TILE = 768
"""Pixels of the side of a part of a large picture, its rim not counted."""
WHOLE = 1024
"""Pixels of the longer side that a model which looks at the whole picture is shown at most."""
HOLE = 128
"""Grey level from which a mask marks a hole."""
STILLS = 64
"""Frames of a film that the page shows at most, one for each second."""


@dataclass(frozen=True)
class Job:
    """A picture to translate."""

    name: str
    source: str
    picture: np.ndarray
    """(H, W, 3) uint8."""
    hole: np.ndarray | None = None
    """(H, W) bool."""


@dataclass(frozen=True)
class Made:
    """What became of it, once for each style."""

    job: Job
    picture: np.ndarray
    style: str = ""


def translate(
    model: Positional[str],
    source: Positional[Path],
    *,
    out: Path,
    mask: Path | None = None,
    styles: int | None = None,
    style: Path | None = None,
    between: int | None = None,
    seed: int = 0,
    side: int | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Turn pictures into other pictures, and write a Gallery of them.

    What is done depends on the model: photos become drawings (cartoongan, munit), holes are filled (inpainting).

    Args:
        model: A Checkpoint: a folder, builtin:NAME or hf-hub:OWNER/NAME.
        source: The source: a picture, a folder or a .zip of them, or a film (needs the extra `video`).
        out: Folder of the new Gallery.
        mask: What to fill, white in a picture of the same size; for a folder, a folder with a mask of the same name for
            each picture.
        styles: So many random styles of each picture, of a model that knows several; without this its default one.
        style: Its style instead: a drawing, or a folder of them.
        between: Also so many styles between each one and the next.
        seed: The random styles follow from it.
        side: Bring the shorter side to so many pixels first.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older Gallery at --out.
        dry_run: Say what would be done, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Gallery.
    """
    source, out = Path(source), Path(out)  # from Python, texts will do
    mask, style = mask and Path(mask), style and Path(style)
    command = command_line(translate, locals())
    target = pick_device(device)
    network = load_translator(model, target)
    for option, number, least in (("--side", side, 16), ("--styles", styles, 1), ("--between", between, 1)):
        if number is not None and number < least:
            raise ValueError(f"{option} {number}: must be {least} or more")
    film = source.is_file() and source.suffix.lower() in video.SUFFIXES
    if film and (between or (styles or 1) > 1 or (style and not style.is_file())):
        raise ValueError(f"--styles, --style, --between: {source} is a film, which is drawn in one style")
    if seed and not styles:
        raise ValueError(f"--seed {seed}: only goes with --styles")
    make = choose(network, model, mask, styles, style, between, seed)
    report: dict[str, Any] = {"out": str(out), "model": model}
    if film and mask:
        raise ValueError(f"--mask {mask}: goes with pictures, and {source} is a film")
    given = None if film else Pictures(source, mask, side)
    report |= {"film": source.name} if given is None else {"pictures": len(given)}
    if dry_run:
        what = source.name if given is None else f"{len(given):,} pictures"
        print(json_format.dumps(report) if json else f"would translate {what} by {model}, to {out}")
        return out

    about: dict[str, Any] = {"kyara": __version__, "translated_by": model, "checkpoint": checkpoint.read(model).hash}
    frames = video.read(source) if given is None else iter(())
    info = next(frames, None)  # a broken film is an error before the folder is begun
    kept = [path for path in (source, mask, style, model) if path]
    with GalleryWriter(out, ["style", "source"], sources=kept, force=force) as gallery:
        if given is None:
            assert isinstance(info, video.Info)
            report |= _film(gallery, source, info, frames, side, make, about)
        else:
            _pictures(gallery, given, make, about)
            report |= {"made": len(gallery), "left_out": [list(one) for one in given.failures]}
        if not len(gallery):
            raise PictureError(f"{source}: nothing in it could be translated: {report.get('left_out')}")
        gallery.finish(command=command, sheet=_sheet, about=f"by {model}")
    print(json_format.dumps(report) if json else _summary(report))
    return out


Maker = Callable[[Job], Iterator[Made]]


def load_translator(name: str, device: torch.device) -> Model:
    """ValueError if the Checkpoint makes no pictures from pictures."""
    network = models.load(name, device)
    if not isinstance(network, Translator | Inpainter):
        kind = checkpoint.read(name).model
        raise ValueError(f"{name}: a {kind} makes no pictures from pictures; builtin:cartoon and builtin:inpainting do")
    return network.requires_grad_(False)


def choose(
    network: Model,
    name: str,
    mask: Path | None,
    styles: int | None,
    style: Path | None,
    between: int | None,
    seed: int,
) -> Maker:
    """What the model does with a picture. ValueError names an option that it cannot follow."""
    if isinstance(network, Inpainter):
        if mask is None:
            raise ValueError(f"--mask: {name} fills holes; give a picture that is white where they are")
        if styles or style or between:
            raise ValueError(f"--styles, --style, --between: {name} knows no styles")
        return lambda job: iter([Made(job, fill(network, job))])
    if mask is not None:
        raise ValueError(f"--mask {mask}: {name} fills no holes; builtin:inpainting does")
    assert isinstance(network, Translator)
    if not isinstance(network, StyledTranslator):
        if styles or style or between:
            raise ValueError(f"--styles, --style, --between: {name} knows one style only")
        return lambda job: iter([Made(job, whole_or_tiles(network.translate, job.picture, network))])
    if styles and style:
        raise ValueError("--styles, --style: random styles or those of drawings, not both")
    found = list(_found_styles(network, styles, style, seed))
    if between:
        if len(found) < 2:
            raise ValueError(f"--between {between}: needs two styles or more: --styles N, or a folder as --style")
        found = list(_and_between(found, between))

    def several(job: Job) -> Iterator[Made]:
        for label, code in found:
            styled = functools.partial(network.translate, styles=code)
            yield Made(job, whole_or_tiles(styled, job.picture, network), label)

    return several


def _found_styles(
    network: StyledTranslator, styles: int | None, style: Path | None, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Names of styles, and the styles (1, S)."""
    device = next(network.parameters()).device
    if style is None:
        if styles is None:
            yield "", torch.zeros(1, network.style_dim, device=device)
        for i in range(seed, seed + (styles or 0)):
            yield f"{i}", latents([i], network.style_dim).to(device)
        return
    drawings = [style] if style.is_file() and style.suffix.lower() in pictures.SUFFIXES else open_dataset(style)
    for i in range(len(drawings)):
        name = style.name if isinstance(drawings, list) else drawings.names[i]
        picture = decode(style) if isinstance(drawings, list) else drawings.picture(i)
        size = network.config.width, network.config.height  # those that it learned styles from
        with torch.inference_mode():
            yield name, network.style_of(to_float(pictures.center_crop(picture, *size)[None]).to(device))


def _and_between(found: list[tuple[str, Tensor]], count: int) -> Iterator[tuple[str, Tensor]]:
    for (a, first), (b, second) in itertools.pairwise(found):
        yield a, first
        for i in range(1, count + 1):
            yield f"{a} to {b}, {i}/{count + 1}", torch.lerp(first, second, i / (count + 1))
    yield found[-1]


# --- pictures


class Pictures:
    """Pictures of a file, a folder or a .zip, each with its mask if there are masks. A single one that cannot be used
    is an error at once."""

    def __init__(self, source: Path, mask: Path | None, side: int | None) -> None:
        self.source, self.mask, self.side = source, mask, side
        self.failures: list[tuple[str, str]] = []
        self.dataset: Dataset | None = None
        self.only: Job | None = None
        if source.is_file() and source.suffix.lower() in pictures.SUFFIXES:
            if mask is not None and mask.is_dir():
                raise ValueError(f"--mask {mask}: is a folder, {source} one picture; name its mask")
            self.only = self._job(source.stem, source.name, decode(source), mask)
            return
        self.dataset = open_dataset(source)
        if mask is not None and not mask.is_dir():
            raise ValueError(f"--mask {mask}: is one picture, {source} are many; give a folder with a mask for each")

    def __len__(self) -> int:
        return 1 if self.dataset is None else len(self.dataset)

    def __iter__(self) -> Iterator[Job]:
        """What cannot be used is in `failures` afterwards."""
        if self.only is not None:
            yield self.only
        if self.dataset is None:
            return
        taken: set[str] = set()
        for i, name in enumerate(self.dataset.names):
            try:
                picture = self.dataset.picture(i)
                job = self._job(_free(Path(name).stem, taken), name, picture, self._mask_of(name))
            except (PictureError, ValueError) as error:
                self.failures.append((name, str(error)))
                continue
            yield job

    def _mask_of(self, name: str) -> Path | None:
        if self.mask is None:
            return None
        stem = Path(name).stem
        found = [path for path in sorted(self.mask.glob("*")) if path.stem == stem]
        if not found:
            raise ValueError(f"{self.mask}: has no mask called {stem}")
        return found[0]

    def _job(self, name: str, source: str, picture: np.ndarray, mask: Path | None) -> Job:
        hole = None
        if mask is not None:
            marked = decode(mask)
            if marked.shape != picture.shape:
                sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (marked, picture))
                raise ValueError(f"--mask {mask}: it and {source} are of different sizes, {sizes} pixels")
            hole = marked.max(2) >= HOLE
        if self.side is not None:
            width, height = scaled(picture, self.side)
            picture = pictures.resize(picture, width, height)
            if hole is not None:
                levels = pictures.resize(np.repeat(hole[..., None], 3, 2).astype(np.uint8) * 255, width, height)
                hole = levels[..., 0] >= HOLE
        return Job(name, source, picture, hole)


def scaled(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height of the picture with its shorter side brought to `side`."""
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _free(stem: str, taken: set[str]) -> str:
    """The name, or the name and a number if another picture took it."""
    name = next(n for n in itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2))) if n not in taken)
    taken.add(name)
    return name


def _pictures(gallery: GalleryWriter, given: Pictures, make: Maker, about: dict[str, Any]) -> None:
    for job in tqdm(given, total=len(given), unit="picture", disable=None):
        for i, made in enumerate(make(job)):
            name = f"{job.name}-{i:02d}.png" if made.style else f"{job.name}.png"
            recipe = about | ({"style": made.style} if made.style else {})
            gallery.add(name, encode_png(made.picture, recipe), style=made.style, source=job.source)


@torch.inference_mode()
def fill(network: Inpainter, job: Job) -> np.ndarray:
    """The picture (H, W, 3) with its holes filled; the rest stays as it is, to the bit."""
    assert job.hole is not None
    device = next(network.parameters()).device
    hole = torch.from_numpy(job.hole)[None, None].to(device)
    filled = to_uint8(network.fill(to_float(job.picture[None]).to(device), hole))[0]
    return np.where(job.hole[..., None], filled, job.picture)


@torch.inference_mode()
def whole_or_tiles(function: Callable[[Tensor], Tensor], picture: np.ndarray, network: Translator) -> np.ndarray:
    """What becomes of a picture (H, W, 3) uint8 of any size. A large one is translated in parts with a rim as wide as
    the network sees, so that no seam is left; or smaller, if the network looks at it as a whole."""
    height, width = picture.shape[:2]
    device = next(network.parameters()).device
    bfloat16 = has_bfloat16(device)

    def one(part: np.ndarray) -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return to_uint8(function(to_float(part[None]).to(device)))[0]

    rim, longest = network.receptive_field, max(height, width)
    if rim is None and longest > WHOLE:
        small = pictures.resize(picture, max(1, width * WHOLE // longest), max(1, height * WHOLE // longest))
        return pictures.resize(one(small), width, height)
    if rim is None or longest <= TILE + 2 * rim:
        return one(picture)
    made = np.empty_like(picture)
    for y, x in itertools.product(range(0, height, TILE), range(0, width, TILE)):
        top, left = max(0, y - rim), max(0, x - rim)
        part = one(picture[top : y + TILE + rim, left : x + TILE + rim])
        made[y : y + TILE, x : x + TILE] = part[y - top : y - top + TILE, x - left : x - left + TILE]
    return made


# --- films


def _film(
    gallery: GalleryWriter,
    source: Path,
    info: video.Info,
    frames: Iterator[video.Info | np.ndarray],
    side: int | None,
    make: Maker,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Every frame, as a film of the same speed and with the same sound, and a picture of each second."""
    name = f"{source.stem}.mp4"
    count, stills = 0, 0
    with video.Writer(gallery.path / name, info, source) as film:
        for frame in tqdm(frames, total=info.frames or None, unit="frame", disable=None):
            assert isinstance(frame, np.ndarray)
            picture = frame if side is None else pictures.resize(frame, *scaled(frame, side))
            made = next(make(Job(source.stem, source.name, picture)))
            film.add(made.picture)
            if count % max(1, round(info.fps)) == 0 and stills < STILLS:
                still = f"{source.stem}-{stills:04d}.png"
                gallery.add(still, encode_png(made.picture, about), style=made.style, source=source.name)
                stills += 1
            count += 1
    return {"film": name, "frames": count, **({"warnings": film.warnings} if film.warnings else {})}


def _sheet(made: Any) -> bytes:
    return encode_png(pictures.sheet([pictures.resize(p, *fit(p, 256)) for p in map(decode, made)]))


def fit(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height of the picture with its longer side at most `side`."""
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _summary(report: dict[str, Any]) -> str:
    out = Path(report["out"])
    if "frames" in report:
        lines = [f"{out / report['film']}: {report['frames']:,} frames"]
    else:
        lines = [f"{out}: {report['made']:,} pictures of {report['pictures']:,}"]
    lines += [f"  {printable(warning)}" for warning in report.get("warnings", [])]
    lines += [f"  {printable(name)}: {printable(why)}" for name, why in report.get("left_out", [])[:10]]
    return "\n".join([*lines, f"look at {out / PAGE}"])
