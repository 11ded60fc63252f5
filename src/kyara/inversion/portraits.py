"""Drawing people by what was read from their photos: from photos to the files of a Gallery."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kyara.curation.scoring import load_scorer
from kyara.files import checkpoint
from kyara.files.gallery import GalleryWriter
from kyara.files.names import counted, printable
from kyara.files.pictures import encode_png
from kyara.generation import styles
from kyara.generation.character import TAGGER, is_character
from kyara.generation.upscaling import Upscaling
from kyara.inversion.inverter import recipe_of, square_side
from kyara.inversion.photos import Photo, Photos
from kyara.inversion.proposals import Proposals, Proposer
from kyara.inversion.proposals_page import Person, write_page
from kyara.inversion.reading import Reading, Trait, read
from kyara.inversion.sheet_rows import SheetRows
from kyara.labels.tagger import load_tagger
from kyara.nn import conditioning
from kyara.training.runtime import pick_device

PROPOSALS, ON_SHEET = 8, 3  # drawings of each person; how many of them are on the contact sheet


@dataclass(frozen=True)
class Written:
    """What `Portraits.write` has written."""

    count: int  # people
    seconds: float  # of reading and drawing
    warnings: Sequence[str]
    people: Mapping[str, Sequence[Trait]]  # by the name of the character's file


class Portraits:
    """Draws people. ValueError if the generator lacks what is wanted, or a network is of another kind."""

    def __init__(
        self,
        child: str,
        reader: str,
        rank: str,
        where: Mapping[str, str],
        turn: float | None,
        upscaler: str | None,
        device: str,
    ) -> None:
        """`where` are labels and `turn` is the angle of the head that replace what is read."""
        place = pick_device(device)
        self.name, self.child = child, styles.load_styled(child, place)
        self.attributes = self.child.config.data.attributes
        if not self.attributes:
            hint = "give a generator trained with --attributes, or --method reverse"
            raise ValueError(f"--child {printable(child)}: is not conditioned on attributes; {hint}")
        self.side = square_side(self.child, child)
        found = conditioning.find(where, self.attributes, printable(child))
        self.where = {name: self.attributes[name][i] for name, i in found.items()}  # without synonyms
        self.turn, self.reader = turn, load_tagger(reader, place)
        judge = load_tagger(TAGGER, place) if is_character(child) else None
        self.proposer = Proposer(self.child, load_scorer(rank, place), self.reader, judge)
        self.upscaling = Upscaling(upscaler, place) if upscaler else None
        self.recipe = recipe_of(child, checkpoint.read(child).hash, place)
        if self.upscaling:
            self.recipe |= self.upscaling.recipe

    def open_photos(self, sources: Sequence[Path], frame: str | None, face: int | None) -> Photos:
        """The photos, to be cropped to the size of the drawings or of the reader, whichever is larger."""
        return Photos(sources, frame, face, max(self.side, *self.reader.size))

    def write(self, photos: Photos, out: Path, keep_photos: bool, command: str, force: bool) -> Written:
        """Writes the Gallery."""
        rows, people, seconds, read_traits = SheetRows(), list[Person](), 0.0, dict[str, Sequence[Trait]]()
        batches, columns = photos.batches(1, out), [*self.attributes, "score", "source"]
        with GalleryWriter(out, columns, sources=[self.name, *photos.paths], force=force) as gallery:
            (gallery.path / "steps").mkdir(exist_ok=True)
            for (photo,) in batches:
                start = time.perf_counter()
                reading, proposals = self.draw(photo)
                seconds += time.perf_counter() - start
                person = self._write_person(gallery, photo, reading, proposals, keep_photos)
                people.append(person)
                read_traits[f"{photo.name}.png"] = reading.traits
                rows.add(
                    f"{photo.name}.png",
                    proposals.scores[0],
                    [photo.picture] * keep_photos + [*proposals.pictures[:ON_SHEET]],
                )
            gallery.finish(command=command, sheet=rows.png)
        about = f"{counted(len(people), 'photo')}, drawn by {self.name}"
        write_page(out, people, photos.failures, command=command, about=about)
        return Written(len(people), seconds, [w for person in people for w in person.warnings], read_traits)

    def draw(self, photo: Photo) -> tuple[Reading, Proposals]:
        """What was read from a photo, and its proposals."""
        reading = read(photo.picture, self.reader, self.attributes, self.where, self.name, self.turn)
        seed = zlib.crc32(photo.picture.tobytes())  # the same photo, the same characters
        proposals = self.proposer.propose(photo.picture, reading, seed, PROPOSALS)
        if self.upscaling:
            drawn = torch.from_numpy(proposals.pictures).to(self.upscaling.device)
            proposals.pictures = self.upscaling(drawn).cpu().numpy()
        return reading, proposals

    def _write_person(
        self, gallery: GalleryWriter, photo: Photo, reading: Reading, proposals: Proposals, keep_photo: bool
    ) -> Person:
        """Writes the best drawing as a picture of the Gallery, and everything else into its folder `steps`."""

        def write(kind: str, content: bytes) -> str:
            name = f"steps/{photo.name}-{kind}.png"
            (gallery.path / name).write_bytes(content)
            return name

        recipes: list[dict[str, Any]] = [{**self.recipe, **shot} for shot in proposals.shots]
        drawn = [shot["labels"] for shot in proposals.shots]
        best, *others = map(encode_png, proposals.pictures, recipes)
        gallery.add(f"{photo.name}.png", best, score=proposals.scores[0], source=photo.source, **drawn[0])
        files = [f"{photo.name}.png", *(write(f"other{i}", png) for i, png in enumerate(others, 1))]
        about = differences(drawn)
        picture = write("photo", encode_png(photo.picture)) if keep_photo else None
        return Person(photo.name, picture, [*zip(files, about, strict=True)], reading.traits, photo.warnings)


def differences(drawn: Sequence[Mapping[str, str]]) -> list[str]:
    """The labels of each drawing that are not those of all drawings, such as "bangs side, hair length short"."""
    common = set.intersection(*(set(labels.items()) for labels in drawn))
    return [
        ", ".join(f"{name} {label}".replace("_", " ") for name, label in labels.items() if (name, label) not in common)
        for labels in drawn
    ]
