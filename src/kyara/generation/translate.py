"""The verb `kyara translate`: image-to-image translation and inpainting of pictures and films."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional

from kyara import __version__, verbs
from kyara.files.atomic import result_folder, write_errors
from kyara.files.errors import PictureError
from kyara.files.film import SUFFIXES as FILMS
from kyara.files.gallery import PAGE, TABLE, GalleryWriter
from kyara.files.names import counted, printable, short_name
from kyara.files.pictures import MAX_SIDE, resize
from kyara.generation import video
from kyara.generation.inputs import Picture, Pictures, scaled

if TYPE_CHECKING:
    from torch import Tensor

    from kyara.models.base import Model

STILLS = 64  # Maximum number of frames of a film shown on the page, one per second
MOST_STYLES = 10_000


class Network(NamedTuple):
    """A network that translates pictures."""

    translate: Callable[[Sequence[Picture]], Iterator[tuple[str, np.ndarray]]]
    """Pictures of the same size -> (style's name, their translations (B, H, W, 3) uint8) per style."""
    film: Callable[[], Callable[[Sequence[Picture]], Iterator[tuple[str, np.ndarray]]]]
    """A function like `translate` for the consecutive frames of one film."""
    batched: bool  # Whether to translate several pictures at once: on a GPU, unless there are several styles


@dataclasses.dataclass(frozen=True)
class TranslateResult(verbs.Result):
    """Result of `translate`."""

    out: Path
    model: str
    pictures: int  # Number of input pictures, without films
    made: int = 0  # Number of written pictures: one per style and picture, and the stills of films
    films: Sequence[str] = ()  # File names of the written films; with `dry_run` the paths of the sources
    frames: int = 0  # Total number of frames of all films
    left_out: Sequence[tuple[str, str]] = ()  # Sources that could not be translated, and why
    warnings: Sequence[str] = ()
    dry_run: bool = False

    def __str__(self) -> str:
        of = [counted(self.pictures, "picture")] * bool(self.pictures or not self.films)
        of += [counted(len(self.films), "film")] * bool(self.films)
        if self.dry_run:
            return f"would translate {' and '.join(of)} with {printable(self.model)}, to {self.out}"
        lines = [f"{self.out}: {counted(self.made, 'picture')} by {printable(self.model)}, from {' and '.join(of)}"]
        lines += [f"{self.out / film}: a film" for film in self.films]
        lines += [f"{counted(self.frames, 'frame')} in all"] * bool(self.films)
        lines += [f"  {printable(warning)}" for warning in self.warnings]
        lines += [f"  {printable(name)}: {printable(why)}" for name, why in self.left_out[:10]]
        lines += ["  ..."] * (len(self.left_out) > 10)
        return "\n".join([*lines, f"look at {self.out / PAGE}"])


@verbs.checked
def translate(
    model: Positional[str],
    sources: verbs.Sources,
    *,
    out: verbs.Out = None,
    mask: verbs.ExistingPath | None = None,
    styles: Annotated[int | None, verbs.Range(1, MOST_STYLES)] = None,
    style: verbs.ExistingPath | None = None,
    between: Annotated[int | None, verbs.Range(1, MOST_STYLES)] = None,
    seed: verbs.Seed = 0,
    side: Annotated[int | None, verbs.Range(16, MAX_SIDE)] = None,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> TranslateResult:
    """Translate pictures with an image-to-image model, and write a Gallery of the results.

    The model determines the task: photos to drawings (drawing, cartoongan, munit, gansnroses, swapping), larger and
    cleaner drawings (upscaler), or filling holes (inpainting).

    Args:
        model: A Checkpoint: a folder, builtin:NAME or hf-hub:OWNER/NAME.
        sources: One or more pictures, folders or .zip files of pictures, or films (need the extra `video`).
        mask: Mask of the holes: a picture of the same size, white and opaque in the holes; for several pictures, a
            folder or .zip with a mask of the same name for each.
        styles: Number of random styles per picture, for a model with styles; by default its default style is used.
        style: Use the style of this drawing, or of each drawing in this folder.
        between: Number of additional styles interpolated between consecutive ones.
        seed: Seed of the random styles.
        side: First resize the shorter side to this number of pixels.
    """
    given = verbs.paths("SOURCES", sources)
    command = verbs.command_line(translate, {**locals(), "sources": given})
    _check_together(given, mask, styles, style, between, seed)
    kept: list[str | Path] = [*given, model, *([mask] if mask else []), *([style] if style else [])]
    out = result_folder(out, f"galleries/translate-{short_name(model)}", TABLE, force=force, sources=kept)
    films = [path for path in given if is_film(path)]
    pictures = Pictures([path for path in given if path not in films], mask, side) if len(films) < len(given) else None
    network, checkpoint = _load(model, device, mask, styles, style, between, seed)
    result = TranslateResult(out, model, 0 if pictures is None else len(pictures))
    opened = [(film, *video.read(film)) for film in films]  # raises for broken films before anything is written
    waiting = _opened(pictures, bool(films))
    if dry_run:
        return dataclasses.replace(result, films=[str(film) for film in films], dry_run=True)

    about = {"kyara": __version__, "translated_by": model, "checkpoint": checkpoint}
    with GalleryWriter(out, ["style", "source"], sources=kept, force=force) as gallery:
        _translate_pictures(gallery, waiting, result.pictures, network, about)
        written = [_translate_film(gallery, *film, side, network, about) for film in opened]
        names = [name for name, *_ in written]
        left_out = [] if pictures is None else pictures.left_out
        gallery.finish(command=command, about=f"by {model}", films=names, left_out=left_out)
    frames, warnings = sum(count for _, count, _ in written), [one for *_, several in written for one in several]
    warnings += [] if pictures is None else pictures.warnings[:10]
    result = dataclasses.replace(result, made=len(gallery), films=names, frames=frames)
    return dataclasses.replace(result, left_out=left_out, warnings=warnings)


def is_film(path: Path) -> bool:
    """Whether it is a file with the suffix of a film."""
    return path.is_file() and path.suffix.lower() in FILMS


def _check_together(
    sources: Sequence[Path], mask: Path | None, styles: int | None, style: Path | None, between: int | None, seed: int
) -> None:
    """Raises ValueError for conflicting options of `translate`."""
    verbs.check_number("--seed", seed, most=verbs.LAST_SEED - (styles or 1) + 1)
    if seed and not styles:
        raise ValueError(f"--seed {seed}: only applies to --styles")
    if styles and style:
        raise ValueError("--styles, --style: mutually exclusive; give one of them")
    for film in filter(is_film, sources):
        if between or (styles or 1) > 1 or (style and not style.is_file()):
            raise ValueError(f"--styles, --style, --between: {film} is a film, which supports only one style")
        if mask:
            raise ValueError(f"--mask {mask}: only applies to pictures, but {film} is a film")


def _load(
    name: str, device: str, mask: Path | None, styles: int | None, style: Path | None, between: int | None, seed: int
) -> tuple[Network, str]:
    """The translation function of the model, and its checkpoint's hash. Raises ValueError if it is no image-to-image
    model, or does not support an option."""
    from kyara import models
    from kyara.files import checkpoint
    from kyara.generation.style_choice import choose_styles
    from kyara.generation.tiles import fill_pictures, translate_pictures
    from kyara.models.base import Inpainter, StyledTranslator, Translator
    from kyara.training.runtime import pick_device

    target = pick_device(device)
    network: Model = models.load(name, target).requires_grad_(False)
    gpu = target.type == "cuda"
    found = checkpoint.read(name)
    given = styles or style or between
    if isinstance(network, Inpainter):
        if mask is None:
            raise ValueError(f"--mask: needed by {name}, which fills holes; give a mask that is white in the holes")
        if given:
            raise ValueError(f"--styles, --style, --between: {name} has no styles")
        fill = lambda pictures: iter([("", fill_pictures(network, pictures))])  # noqa: E731
        return Network(fill, lambda: fill, gpu), found.hash
    if not isinstance(network, Translator):
        raise ValueError(
            f"{name}: {found.model} is not an image-to-image model; builtin:cartoon and builtin:inpainting are"
        )
    if mask is not None:
        raise ValueError(f"--mask {mask}: {name} does not fill holes; builtin:inpainting does")
    if isinstance(network, StyledTranslator):
        choices = choose_styles(network, styles, style, between, seed)
    elif given:
        raise ValueError(f"--styles, --style, --between: {name} has only one style")
    else:
        choices = [("", network.translate)]

    def translated(
        choices: Sequence[tuple[str, Callable[[Tensor], Tensor]]], pictures: Sequence[Picture]
    ) -> Iterator[tuple[str, np.ndarray]]:
        pixels = np.stack([picture.pixels for picture in pictures])
        for label, function in choices:
            yield label, translate_pictures(function, pixels, network)

    def film() -> Callable[[Sequence[Picture]], Iterator[tuple[str, np.ndarray]]]:
        styled = isinstance(network, StyledTranslator)
        return functools.partial(translated, choices if styled else [("", network.film_fn())])

    return Network(functools.partial(translated, choices), film, gpu and len(choices) == 1), found.hash


def _opened(pictures: Pictures | None, films: bool) -> Iterator[Picture]:
    """Iterates over the pictures. Raises PictureError immediately if none can be used, unless there are films too."""
    waiting = iter(pictures or ())
    first = list(itertools.islice(waiting, 1))
    if pictures is not None and not (first or films):
        if len(pictures) == 1:
            raise PictureError(str(pictures.error))
        reasons = "; ".join(f"{name}: {why}" for name, why in pictures.left_out[:3])
        raise PictureError(f"nothing could be translated ({reasons})")
    return itertools.chain(first, waiting)


def _translate_pictures(
    gallery: GalleryWriter, pictures: Iterator[Picture], total: int, network: Network, about: Mapping[str, Any]
) -> None:
    from kyara.generation.tiles import same_size

    shown = tqdm(pictures, total=total, unit="picture", disable=None if total else True)
    for group in same_size(shown, network.batched):
        for i, (style, several) in enumerate(network.translate(group)):
            recipe = {**about, **({"style": style} if style else {})}
            for picture, made in zip(group, several, strict=True):
                name = f"{picture.name}-{i:02d}.png" if style else f"{picture.name}.png"
                gallery.add(name, made, recipe, picture.pixels, style=style, source=picture.source)


def _free_stem(folder: Path, stem: str) -> str:
    """`stem`, or with a number, so that no file of the folder has a name that its film or one of its stills may get."""
    taken = [path.name for path in folder.iterdir()]
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    ours = r"{}(\.mp4|-[0-9]{{4}}\.png)"
    return next(one for one in names if not any(re.fullmatch(ours.format(re.escape(one)), name) for name in taken))


def _translate_film(
    gallery: GalleryWriter,
    source: Path,
    info: video.Info,
    frames: Iterator[video.Frame],
    side: int | None,
    network: Network,
    about: Mapping[str, Any],
) -> tuple[str, int, list[str]]:
    """Translates every frame, keeping its time and the sound, and adds one frame per second to the table. Returns the
    film's file name, the number of frames, and warnings."""
    from kyara.generation.tiles import same_size

    gallery.flush()  # the names of its files are not free
    stem = _free_stem(gallery.path, source.stem)

    waiting: deque[tuple[float, np.ndarray]] = deque()  # times and pictures of the frames that were read in advance

    def read() -> Iterator[Picture]:
        for time, frame in tqdm(frames, total=info.frames or None, unit="frame", disable=None):
            picture = Picture(stem, source.name, frame if side is None else resize(frame, *scaled(frame, side)))
            waiting.append((time, picture.pixels))
            yield picture

    def translated() -> Iterator[video.Frame]:
        stills, next_still = 0, -math.inf
        groups = map(network.film(), same_size(read(), network.batched))
        for style, made in ((style, made) for ((style, several),) in groups for made in several):
            time, before = waiting.popleft()
            if time >= next_still and stills < STILLS:
                gallery.add(f"{stem}-{stills:04d}.png", made, about, before, style=style, source=source.name)
                stills, next_still = stills + 1, math.floor(time) + 1
            yield time, made

    file = gallery.path / f"{stem}.mp4"
    gallery.announce(file.name)
    with write_errors(file):
        return file.name, *video.write(file, info, source, translated())
