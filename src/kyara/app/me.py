"""The room Me: the faces in a photo, and the commands that draw them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kyara import verbs
from kyara.app.make import Maker
from kyara.app.project import STATE, UPLOADS, ProjectError, word
from kyara.app.rewrites import Rewrites
from kyara.files.errors import PictureError
from kyara.files.film import SUFFIXES, load_av
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode
from kyara.generation import video
from kyara.generation.translate import is_film
from kyara.inversion.avatar import REPORT
from kyara.preparation import detect

FRAME = "photo"  # detector of `kyara avatar`
PEOPLE = "builtin:photo"  # generator of the example
CARTOON = "builtin:cartoon"
SIDE, FILM_SIDE = "512", "384"  # of a cartoon; the frames of a film are smaller, since each takes seconds
MOST_STAYS = 6
"""Layers of the generator of photos that still draw a character; with more of them the result is a photo."""
NO_FACE = (
    "No face was found in this photo. Use one in which the face is larger, evenly lit and seen from the front; or tick "
    "that it is cropped to the face already."
)


class Me:
    """Photos of people, uploaded to the project."""

    def __init__(self, maker: Maker) -> None:
        self.maker, self.painter, self.project = maker, maker.painter, maker.project

    def example(self, seed: int) -> dict[str, Any]:
        """Saves the picture of a generated person: its path and size."""
        png = Rewrites(self.maker).picture(PEOPLE, seed)
        path = f"{STATE}/{UPLOADS}/person{seed:04d}.png"
        if not self.project.path(path).exists():
            self.project.save_upload(path, png)
        height, width = decode(png).shape[:2]
        return {"path": path, "width": width, "height": height}

    def faces(self, path: str) -> dict[str, Any]:
        """The faces in a photo, the largest first, numbered as `kyara avatar --face`: boxes as left, top, right and
        bottom in pixels; `problem` is a sentence if there is none."""
        file = self.project.existing(path)
        picture = decode(file, file.name)
        detector = detect.load(FRAME)
        found = sorted(self.painter.call(lambda: detector(picture)), key=lambda box: -box.area)
        boxes = [[box.left, box.top, box.right, box.bottom] for box in found]
        return {"path": path, "faces": boxes, "problem": "" if boxes else NO_FACE}

    def photo(self, path: str) -> dict[str, Any]:
        """The path and size of a photo or a film that was used before."""
        file = self.project.existing(path)
        film = is_film(file)
        picture = next(video.read(file)[1])[1] if film else decode(file, file.name)
        return {"path": path, "width": picture.shape[1], "height": picture.shape[0], "film": film}

    def draw(
        self, path: str, child: str, face: int, aligned: bool, where: Mapping[str, str], stays: int | None, pose: bool
    ) -> tuple[list[str], str]:
        """The command that draws proposals, and its Gallery. `child` is "" for the generator of the verb, `face` a
        number from `faces`, or 0. `stays` is the number of layers, the coarse ones first, that the generator of photos
        draws, and `pose` turns the head as in the photo; None draws a new character with what is read."""
        self.project.existing(path)
        out = self.project.free("galleries", f"avatar-{Path(path).stem}")
        words = ["avatar", word(path), *(self._reverse(child, stays, pose) if stays is not None else [])]
        words += ["--child", word(self.project.model(child))] if child else []
        words += ["--aligned"] if aligned else ["--face", str(face)] if face > 1 else []
        words += ["--where", verbs.where_text(verbs.parse_where(where))] if where else []
        return [*words, "--out", out], out

    def _reverse(self, child: str, stays: int, pose: bool) -> list[str]:
        """The options that draw the face itself, as near to the photo as they can."""
        words = ["--method", "reverse", "--space", "w+", "--start", "encoder"]
        words += ["--colours", "labels"] if not child or self.maker.about(child)["attributes"] else []
        words += ["--blend", str(stays)] if stays else []
        return [*words, "--pose"] if pose else words

    def cartoon(self, path: str) -> tuple[list[str], str]:
        """The command that draws the whole photo or film as a cartoon, and its Gallery."""
        side = FILM_SIDE if is_film(self.project.existing(path)) else SIDE
        out = self.project.free("galleries", f"cartoon-{Path(path).stem}")
        return ["translate", CARTOON, word(path), "--side", side, "--out", out], out

    def film_file(self, name: str) -> Path:
        """A new file for an uploaded film, hidden until it is complete. ProjectError if it is none by its name,
        ValueError if the extra `video` is missing."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise ProjectError(f"{name}: not a film, by its ending; {', '.join(sorted(SUFFIXES))} are")
        load_av()
        return self.project.state(UPLOADS, f".{secrets.token_hex(8)}{suffix}")

    def save_film(self, name: str, file: Path) -> dict[str, Any]:
        """Keeps a film that is complete, after reading its first frame: its path and size. ProjectError if it is no
        film."""
        try:
            height, width = next(video.read(file)[1])[1].shape[:2]
        except PictureError as error:
            raise ProjectError(str(error).replace(str(file), name)) from error
        with self.project.naming:
            path = self.project.free(f"{STATE}/{UPLOADS}", Path(name).stem, file.suffix)
            file.rename(self.project.path(path))
        return {"path": path, "width": width, "height": height}

    def film(self, path: str) -> Path:
        """A film of the project. ProjectError if it is something else."""
        file = self.project.existing(path)
        if not is_film(file):
            raise ProjectError(f"{path}: not a film")
        return file

    def proposals(self, out: str) -> dict[str, Any]:
        """The files of a Gallery of `draw`: all drawings, the best first; the cropped photo; what was read from it, as
        name, value, certainty and note; and what is known about the best drawing."""
        folder = self.project.existing(out)
        if not (rows := read_gallery(folder)):
            raise ProjectError(f"{out}: has no drawings; draw the photo again")
        row = rows[0]
        name = row["file_name"]
        others, photos = (
            [self.project.relative(file) for file in sorted(folder.glob(f"steps/{Path(name).stem}-{kind}.png"))]
            for kind in ("other*", "photo")
        )
        people = json.loads((folder / REPORT).read_text("utf-8")).get("people", {})
        about = {key: row[key] for key in ("score", "kept") if row.get(key)}
        read, photo = people.get(name, []), next(iter(photos), "")
        return {"out": out, "drawings": [f"{out}/{name}", *others], "photo": photo, "read": read, **about}
