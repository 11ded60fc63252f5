"""The room Me: the faces in a photo, and the commands that draw them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kyara import verbs
from kyara.app.make import Maker
from kyara.app.project import STATE, UPLOADS
from kyara.app.rewrites import Rewrites
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode
from kyara.inversion.avatar import REPORT
from kyara.preparation import detect

FRAME = "photo"  # detector of `kyara avatar`
PEOPLE = "builtin:photo"  # generator of the example
CARTOON = ("builtin:cartoon", "--side", "512")
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

    def draw(self, path: str, face: int, aligned: bool, where: Mapping[str, str], child: str) -> tuple[list[str], str]:
        """The command that draws proposals, and its Gallery. `face` is a number from `faces`, or 0."""
        self.project.existing(path)
        out = self.project.free("galleries", f"avatar-{Path(path).stem}")
        words = ["avatar", path, "--child", self.project.model(child)] if child else ["avatar", path]
        words += ["--aligned"] if aligned else ["--face", str(face)] if face > 1 else []
        words += ["--where", verbs.where_text(verbs.parse_where(where))] if where else []
        return [*words, "--out", out], out

    def cartoon(self, path: str) -> tuple[list[str], str]:
        """The command that draws the whole photo as a cartoon, and its Gallery."""
        self.project.existing(path)
        out = self.project.free("galleries", f"cartoon-{Path(path).stem}")
        model, *options = CARTOON
        return ["translate", model, path, *options, "--out", out], out

    def proposals(self, out: str) -> dict[str, Any]:
        """The files of a Gallery of `draw`: all drawings, the best first; the cropped photo; what was read from it, as
        name, value, certainty and note; and what is known about the best drawing."""
        folder = self.project.existing(out)
        row = read_gallery(folder)[0]
        name = row["file_name"]
        others, photos = (
            [self.project.relative(file) for file in sorted(folder.glob(f"steps/{Path(name).stem}-{kind}.png"))]
            for kind in ("other*", "photo")
        )
        people = json.loads((folder / REPORT).read_text("utf-8")).get("people", {})
        about = {key: row[key] for key in ("score", "kept") if row.get(key)}
        read, photo = people.get(name, []), next(iter(photos), "")
        return {"out": out, "drawings": [f"{out}/{name}", *others], "photo": photo, "read": read, **about}
