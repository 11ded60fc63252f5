"""The web page of a Gallery, index.html, without external resources: static, or with a slider between each picture and
the one that it was made from."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path, PurePath
from urllib.parse import quote

from kyara.files.names import counted, printable

TABLE, PAGE, SHEET = "gallery.csv", "index.html", "sheet.png"
PART = "score_"  # Prefix of the columns with the parts of a score
PART_COLUMNS = tuple(PART + part for part in ("quality", "eyes", "mouth", "face", "shape"))
UNFAMILIAR = "unfamiliar"  # Column: "yes" if the style is unfamiliar, so that the score only means an order
COPY, COPY_OF = "copy", "copy_of"  # Columns: 0 to 1, from `MARK` on a copy of the picture `copy_of` of a dataset
MARK = 0.5
LISTED = 20  # Maximum number of files that are left out on a page
UNTAGGED = ("file_name", "seed", "score", "source", "position", *PART_COLUMNS, UNFAMILIAR, COPY, COPY_OF)
"""Columns that are no attributes."""
LOCAL = "'self' file:"  # Content-Security-Policy source of the pictures of a local page
VIDEOS = (".mp4", ".webm")  # Suffixes of videos embedded with <video>; others are animated pictures
BASE_STYLE, GALLERY_STYLE, HEAD, _REST, _SCRIPT = (
    Path(__file__).with_name(name).read_text("utf-8")
    for name in ("page.css", "gallery.css", "page_head.html", "gallery.html", "slider.js")
)
"""BASE_STYLE has the colours, texts and tools that pages share, GALLERY_STYLE the pictures, which enlarge. HEAD starts
every page; its Content-Security-Policy forbids scripts and allows pictures from `images` only, which may go on with
further directives."""


def page(
    title: str,
    rows: Sequence[Mapping[str, str]],
    total: int,
    *,
    about: str = "",
    command: str = "",
    aspect: float = 1.0,
    films: Sequence[str] = (),
    before: Mapping[str, bytes] | None = None,
    beside: Mapping[str, Sequence[bytes]] | None = None,
    left_out: Sequence[tuple[str, str]] = (),
) -> str:
    """index.html of a Gallery: the first `rows` of `total` pictures, shown with aspect ratio `aspect` = width / height,
    and players for the `films` in the folder. `before`: file name -> the picture that it was made from, as JPEG.
    `beside`: file name -> the picture that is shown beside it, as JPEG, and possibly a strip of further ones.
    `left_out` are names and reasons."""
    before, beside = before or {}, beside or {}
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = LOCAL + " data:" * bool(before or beside) + (f"; script-src 'sha256-{allowed}'" if before else "")
    cut = f"the first {len(rows):,} are on this page, all of them in {TABLE}" if len(rows) < total else ""
    links = [(SHEET, "sheet")] * bool(rows) + [(TABLE, "table")]
    return (HEAD + _REST).format(
        images=policy + (f"; media-src {LOCAL}" if any(map(_is_video, films)) else ""),
        style=BASE_STYLE + GALLERY_STYLE.replace("ASPECT", f"{aspect:.4f}"),
        title=escape(title),
        about=" · ".join(escape(part) for part in (counted(total, "picture"), about, cut) if part),
        command=escape(command),
        links=" ".join(f'<a href="{quote(name)}">{label}</a>' for name, label in links),
        left_out=left_out_list(left_out),
        film="\n".join(map(_player, films)),
        items="\n".join(
            _item(i, row, len(rows), before.get(row["file_name"]), beside.get(row["file_name"], ()))
            for i, row in enumerate(rows, 1)
        ),
        pairs=" class=pairs" if before or beside else "",
        script=f"<script>{_SCRIPT}</script>" if before else "",
    )


def left_out_list(entries: Sequence[tuple[str, str]]) -> str:
    """The files that are not in a result, and why, as a list that a reader of the page can close; empty if none is."""
    if not entries:
        return ""
    lines = [f"<li>{escape(printable(f'{name}: {reason}'))}</li>" for name, reason in entries[:LISTED]]
    lines += [f"<li>and {len(entries) - LISTED:,} more</li>"] * (len(entries) > LISTED)
    return f"<details open><summary>left out: {len(entries):,}</summary><ul>{''.join(lines)}</ul></details>\n"


def _is_video(film: str) -> bool:
    return PurePath(film).suffix in VIDEOS


def _player(film: str) -> str:
    name = quote(film, errors="surrogateescape")
    if _is_video(film):
        return f'<p class="film"><video src="{name}" controls loop playsinline preload="metadata"></video></p>'
    return f'<p class="film"><img src="{name}" alt="interpolation"></p>'


def _item(i: int, row: Mapping[str, str], last: int, before: bytes | None, beside: Sequence[bytes]) -> str:
    """One picture. Its link makes it the CSS :target, which is shown enlarged without a script."""
    file = quote(row["file_name"], errors="surrogateescape")
    hint = escape(row.get("source") or row["file_name"])
    seed = f"seed {row['seed']}" if row.get("seed") else ""
    known = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if value and key not in UNTAGGED]
    name = ", ".join(filter(None, [seed, *known])) or row["file_name"]
    lines = (" ".join(f"<span>{escape(note)}</span>" for note in notes) for notes in (known, _parts(row)))
    tags = "".join(f"<p>{line}</p>" for line in lines if line) + _copy(row)
    image = f'<img src="{file}" alt="{escape(name)}" loading="lazy" decoding="async">'
    shown = f'<a class="open" href="#p{i}" title="{hint}">{image}</a>'
    if beside:
        near, *strip = (_embedded(jpeg, kind) for jpeg, kind in zip(beside, ("beside", "strip"), strict=False))
        shown = f'<a class="open two" href="#p{i}" title="{hint}">{image}{near}</a>{"".join(strip)}'
    if before is not None:
        photo = _embedded(before, "before")
        slider = '<input type="range" min="0" max="100" value="50" aria-label="before and after">'
        shown = f'<div class="open pair">{image}{photo}<hr>{slider}</div>'
        tags += f'<a href="#p{i}">enlarge</a>'
    return (
        f'<li><figure id="p{i}">{shown}'
        f"<figcaption>{_score(row)}<i>{escape(seed) or hint}</i>{tags}</figcaption>"
        f'<a class="close" href="#-" aria-label="close"></a><nav>'
        f'<a href="#p{max(i - 1, 1)}">‹ previous</a><a href="{file}">open the file</a>'
        f'<a href="#p{min(i + 1, last)}">next ›</a><a href="#-">close ×</a></nav></figure></li>'
    )


def _embedded(jpeg: bytes, kind: str) -> str:
    return f'<img class="{kind}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" alt="{kind}">'


def _copy(row: Mapping[str, str]) -> str:
    """The nearest picture of a dataset, and whether this one is a copy of it."""
    if not row.get(COPY_OF):
        return ""
    marked = float(row[COPY]) >= MARK
    # Cut, not rounded: what is not marked must not show the score from which pictures are marked.
    text = f"{'copy of' if marked else 'nearest'} {row[COPY_OF]} · {row[COPY][:4]}"
    return f"<p{' class=copy' * marked}>{escape(text)}</p>"


def _score(row: Mapping[str, str]) -> str:
    if row.get(UNFAMILIAR):
        return '<b title="scores are not calibrated for this style; use the order">unfamiliar style</b>'
    return _bar(row.get("score", ""))


def _parts(row: Mapping[str, str]) -> list[str]:
    """The parts of the score, such as "eyes 0.31"."""
    if row.get(UNFAMILIAR):
        return []
    shown = {key.removeprefix(PART): row[key] for key in PART_COLUMNS if row.get(key)}
    return [f"{part} {float(value):.2f}" for part, value in shown.items()]


def _bar(score: str) -> str:
    """A score in [0, 1] as a bar; other text is shown as is."""
    try:
        share = min(max(float(score), 0.0), 1.0)
    except ValueError:
        return f"<b>{escape(score)}</b>"
    return f'<b title="score {escape(score)}"><u style="--score:{share:.1%}"></u>{share:.0%}</b>'
