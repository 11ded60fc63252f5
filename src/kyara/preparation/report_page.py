"""The page report.html: every source picture of `kyara prepare`, to choose those that are left out next time.

One file with its own script, beside the folder of thumbnails. It works from the disk and loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kyara.files.archive import THUMBNAILS
from kyara.files.gallery_page import BASE_STYLE, HEAD, LOCAL
from kyara.files.names import counted
from kyara.preparation.drop import LIST
from kyara.preparation.report import DROPPED, encodable, face_name
from kyara.preparation.thumbnails import COLUMNS, GAP, SLOT, Place

_STYLE, _REST, _SCRIPT = (
    Path(__file__).with_name(name).read_text("utf-8") for name in ("report.css", "report.html", "report.js")
)


def page(report: Mapping[str, Any], places: Mapping[str, Place], folder: str, command: str) -> str:
    """report.html for the content of a report.json. `places`: file -> place of its thumbnail in `folder`, which is
    beside the page. `command` repeats the run without the pictures in the list that the page saves."""
    pictures = report["pictures"]
    height, width = report["size"]
    about = (
        f"{report['kept']:,} pictures from {counted(len(pictures), 'file')}",
        f"{height}x{width} pixels",
        "from " + ", ".join(report["sources"]),
    )
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return (HEAD + _REST).format(
        images=f"{LOCAL}; script-src 'sha256-{allowed}'",  # no other script, whatever the names of files contain
        title=escape(encodable(Path(report["out"]).name)),
        style=BASE_STYLE + _STYLE,
        about=" · ".join(escape(encodable(part)) for part in about),
        command=escape(encodable(command)),
        folder=escape(encodable(folder)),
        data=_data(pictures, places, folder),
        script=_SCRIPT,
    )


def _data(pictures: Sequence[Mapping[str, Any]], places: Mapping[str, Place], folder: str) -> str:
    """The data of the script as JSON that is safe inside <script>."""
    outcomes = [outcome for picture in pictures for outcome in _outcomes(picture)]
    reasons = list(dict.fromkeys(["", *(outcome["reason"] for outcome in outcomes)]))
    index = {outcome["file"]: i for i, outcome in enumerate(outcomes)}
    rows = [
        [
            outcome["file"],
            reasons.index(outcome["reason"]),
            outcome["detail"],
            outcome["size"],
            outcome["sharpness"],
            outcome["score"],
            index.get(outcome["nearest"]),
            outcome["distance"],
            places.get(outcome["file"]),
            outcome["kept"],
        ]
        for outcome in outcomes
    ]
    data = {
        "id": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16],
        "list": LIST,
        "dropped": DROPPED,
        "folder": quote(folder, errors="surrogateescape"),
        "linked": folder == THUMBNAILS,  # inside the Dataset's folder, whose pictures a link can open
        "sheet": {"columns": COLUMNS, "slot": SLOT, "gap": GAP},
        "reasons": reasons,
        "rows": rows,
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _outcomes(picture: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The picture or, if it was cut, each of its faces; the size of a face is that of its box."""
    faces = picture["faces"]
    if not picture["cut"]:
        yield {**picture, "score": max((face["score"] for face in faces), default=None)}
        return
    for i, face in enumerate(faces):
        yield {**face, "file": face_name(picture["file"], i), "size": face["box"][:1:-1]}
