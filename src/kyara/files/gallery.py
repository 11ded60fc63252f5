"""The Gallery: a folder of pictures that describes itself.

    *.png          the pictures
    gallery.csv    one row per picture: file_name, seed, attributes, score, source; best first once ranked
    index.html     the page for people: no script, nothing from outside, opens from the disk
    sheet.png      the first pictures side by side

A Gallery that someone else made is hostile until checked: a row may name only a file inside the folder.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import os
import shlex
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from kyara.files.atomic import free_folder, write_atomic
from kyara.files.errors import GalleryError

TABLE, PAGE, SHEET = "gallery.csv", "index.html", "sheet.png"
ON_SHEET, ON_PAGE = 256, 1000
"""How many pictures the sheet and the page show: a browser and a picture viewer must still open them."""
UNTAGGED = ("file_name", "seed", "score", "source", "position")
"""Columns that are no attributes of what the picture shows."""


def read_gallery(path: Path) -> list[dict[str, str]]:
    """The rows of a Gallery in its order, column -> cell, with "" for what is missing. GalleryError if the
    table is absent or garbled, or names a file outside the folder; that the files exist is not checked."""
    table, folder = path / TABLE, path.resolve()
    try:
        # Names of files need not be UTF-8; the same bytes come back when they are used as names again.
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header, *cells = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise GalleryError(f"{table}: not a readable table ({error})") from error
    if "file_name" not in header:
        raise GalleryError(f"{table}: has no column file_name; the first line must name the columns")
    rows = [dict.fromkeys(header, "") | dict(zip(header, row, strict=False)) for row in cells if row]
    for row in rows:
        name = row["file_name"]
        if not name or "\0" in name or not (path / name).resolve().is_relative_to(folder):
            raise GalleryError(f"{table}: {name!r} is not a file inside the gallery")
    return rows


class GalleryWriter:
    """Writes a Gallery picture by picture. Only a few bytes per picture stay in memory, and what an
    interrupted run leaves behind is a Gallery too, in the order of making and without a page."""

    def __init__(
        self, path: Path, columns: Sequence[str], *, sources: Iterable[str | Path] = (), force: bool = False
    ) -> None:
        """`columns` follow file_name in the table. `force` empties a folder that holds an older Gallery, but
        not if anything in `sources` lies in it."""
        for source in sources:
            if Path(source).resolve().is_relative_to(path.resolve()) and Path(source).exists():
                raise FileExistsError(f"--out {path}: holds {source}, which is needed; choose another folder")
        free_folder(path, TABLE, force=force)
        self.path = path
        self.columns = ("file_name", *columns)
        self._scores = array("d")
        self._starts = array("Q")  # where each row begins in the table
        self._table = (path / TABLE).open("w+b")
        self._table.write(_line(self.columns))

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, file_name: str, png: bytes, *, score: float | None = None, **cells: object) -> None:
        """Writes one picture and its row; `score` decides the order in which `finish` leaves the rows."""
        (self.path / file_name).write_bytes(png)
        row = {"file_name": file_name, "score": "" if score is None else f"{score:.4f}", **cells}
        self._starts.append(self._table.tell())
        self._scores.append(math.nan if score is None else score)
        self._table.write(_line([str(row.get(column, "")) for column in self.columns]))
        self._table.flush()

    def finish(
        self,
        *,
        command: str,
        sheet: Callable[[Sequence[Path]], bytes],
        about: str = "",
        keep: int | None = None,
        film: str | None = None,
    ) -> list[dict[str, str]]:
        """Orders the table best first if there are scores, deletes all but the best `keep`, writes the sheet
        and the page.

        `sheet` makes one PNG of the pictures it is given; `about` is the page's second line; `film` the name
        of an animation in the folder. Returns the first rows, as many as the page shows.
        """
        order = list(range(len(self)))
        if any(not math.isnan(score) for score in self._scores):
            order.sort(key=lambda i: -self._scores[i])  # stable: equal scores stay in the order of making
        for i in order[keep:] if keep is not None else ():
            (self.path / self._row(i)["file_name"]).unlink()
        order = order[:keep]

        def write_table(temporary: Path) -> None:
            with temporary.open("wb") as file:
                file.write(_line(self.columns))
                file.writelines(self._bytes(i) for i in order)

        first = [self._row(i) for i in order[:ON_PAGE]]
        write_atomic(self.path / TABLE, write_table)
        shown = [self.path / row["file_name"] for row in first]
        if shown:
            self._write(SHEET, sheet(shown[:ON_SHEET]))
        aspect = _aspect(shown[0]) if shown else 1.0
        html = page(
            self.path.resolve().name,
            first,
            len(order),
            about=about,
            command=command,
            aspect=aspect,
            film=film,
        )
        self._write(PAGE, html.encode("utf-8", errors="replace"))
        return first

    def _bytes(self, i: int) -> bytes:
        start = self._starts[i]
        self._table.seek(start)
        return self._table.read(self._starts[i + 1] - start if i + 1 < len(self) else -1)

    def _row(self, i: int) -> dict[str, str]:
        (cells,) = csv.reader(io.StringIO(self._bytes(i).decode("utf-8", "surrogateescape"), newline=""))
        return dict(zip(self.columns, cells, strict=True))

    def _write(self, name: str, content: bytes) -> None:
        write_atomic(self.path / name, lambda temporary: temporary.write_bytes(content))


def command_line(verb: Callable[..., object], given: Mapping[str, Any]) -> str:
    """The command that repeats a call of `verb`: its name and what differs from the defaults."""
    words = ["kyara", verb.__name__]
    for name, parameter in inspect.signature(verb).parameters.items():
        value = given[name]
        if name in ("force", "json", "dry_run") or value is None or value == parameter.default:
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY:
            words.append(os.fspath(value))
        else:
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(words)


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _aspect(png: Path) -> float:
    """Width over height, from the header that every PNG begins with."""
    with png.open("rb") as file:
        width, height = struct.unpack(">II", file.read(24)[16:])
    return float(width / height)


# --- the page


def page(
    title: str,
    rows: Sequence[Mapping[str, str]],
    total: int,
    *,
    about: str = "",
    command: str = "",
    aspect: float = 1.0,
    film: str | None = None,
) -> str:
    """index.html of a Gallery: `rows` of its `total` pictures, shown at `aspect` = width / height."""
    count = f"{total:,} picture" + ("" if total == 1 else "s")
    cut = f"the first {len(rows):,} are on this page, all of them in {TABLE}" if len(rows) < total else ""
    links = [(SHEET, "sheet")] * bool(rows) + [(TABLE, "table")]
    return _PAGE.format(
        images="'self' file:",
        style=_STYLE.replace("ASPECT", f"{aspect:.4f}"),
        title=escape(title),
        about=" · ".join(escape(part) for part in (count, about, cut) if part),
        command=escape(command),
        links=" ".join(f'<a href="{quote(name)}">{label}</a>' for name, label in links),
        film=f'<p class="film"><img src="{quote(film)}" alt="interpolation"></p>' if film else "",
        items="\n".join(_item(i, row, len(rows)) for i, row in enumerate(rows, 1)),
    )


def _item(i: int, row: Mapping[str, str], last: int) -> str:
    """One picture. Its link makes it the page's :target, which the style shows large: no script is needed."""
    file = quote(row["file_name"], errors="surrogateescape")
    hint = escape(row.get("source") or row["file_name"])
    seed = f"seed {row['seed']}" if row.get("seed") else ""
    known = [f"{key} {value}" for key, value in row.items() if value and key not in UNTAGGED]
    name = ", ".join(filter(None, [seed, *known])) or row["file_name"]
    tags = f"<p>{' · '.join(map(escape, known))}</p>" if known else ""
    return (
        f'<li><figure id="p{i}"><a class="open" href="#p{i}" title="{hint}">'
        f'<img src="{file}" alt="{escape(name)}" loading="lazy" decoding="async"></a>'
        f"<figcaption>{_bar(row.get('score', ''))}<i>{escape(seed) or hint}</i>{tags}</figcaption>"
        f'<a class="close" href="#-" aria-label="close"></a><nav>'
        f'<a href="#p{max(i - 1, 1)}">‹ previous</a><a href="{file}">open the file</a>'
        f'<a href="#p{min(i + 1, last)}">next ›</a><a href="#-">close ×</a></nav></figure></li>'
    )


def _bar(score: str) -> str:
    """A score in [0, 1] as a bar; text that is no such number is only shown."""
    try:
        share = min(max(float(score), 0.0), 1.0)
    except ValueError:
        return f"<b>{escape(score)}</b>"
    return f'<b title="score {escape(score)}"><u style="--score:{share:.1%}"></u>{share:.0%}</b>'


_STYLE = """
:root { color-scheme: light dark; --paper: #faf8f6; --ink: #2a2530; --quiet: #77707f; --card: #fff;
  --line: #e7e1de;
  --accent: #d6497a; --shade: #f7f4f2fa; }
@media (prefers-color-scheme: dark) { :root { --paper: #17151b; --ink: #eeeaf2; --quiet: #9c94a6; --card:
  #211e27;
  --line: #322d3a; --accent: #ff7fa8; --shade: #121016fa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1500px; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; background:
  var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Hiragino Sans", "Noto Sans CJK JP", sans-serif; }
h1 { margin: 0; font-size: clamp(1.6rem, 4vw, 2.4rem); line-height: 1.15; letter-spacing: -.02em;
  overflow-wrap: anywhere; }
header p { margin: .4rem 0 1rem; color: var(--quiet); overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: .2em; }
.tools { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; margin-bottom: 1.8rem; }
.tools code { flex: 1 1 22rem; padding: .55rem .8rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--card); font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere;
  user-select: all; }
.tools code::before { content: "$ "; color: var(--accent); user-select: none; }
.tools p { display: flex; gap: 1.2rem; margin: 0; }
label { cursor: pointer; } input { accent-color: var(--accent); }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 1rem; margin: 0;
  padding: 0;
  list-style: none; }
figure { margin: 0; overflow: hidden; border: 1px solid var(--line); border-radius: .8rem; background:
  var(--card); }
li figure { height: 100%; transition: transform .15s, box-shadow .15s; }
figure:not(:target):hover { transform: translateY(-3px); box-shadow: 0 8px 22px #0003; }
img { display: block; width: 100%; aspect-ratio: ASPECT; object-fit: contain; }
body:has(#crisp:checked) img { image-rendering: pixelated; }
.film { width: min(320px, 100%); margin: 0 0 1.8rem; } .film img { border-radius: .8rem; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .6rem;
  padding: .5rem .7rem .55rem; font-size: 13px; font-variant-numeric: tabular-nums; }
figcaption b { display: flex; align-items: center; gap: .45rem; font-weight: 600; }
figcaption u { width: 34px; height: 5px; border-radius: 3px;
  background: linear-gradient(90deg, var(--accent) var(--score), var(--line) 0); }
figcaption i { min-width: 0; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  font-style: normal; color: var(--quiet); }
figcaption p { flex-basis: 100%; margin: .1rem 0 0; color: var(--quiet); overflow-wrap: anywhere; }
.close, nav { display: none; }
body:has(figure:target) { overflow: hidden; }
figure:target { height: auto; position: fixed; inset: 0; z-index: 1; display: flex; flex-direction: column;
  align-items: center; justify-content: center; gap: 1rem; border: 0; border-radius: 0;
  background: var(--shade); transition: none; }
figure:target .close { display: block; position: absolute; inset: 0; }
figure:target .open { position: relative; pointer-events: none; }
figure:target img { width: min(90vw, 74vh * ASPECT); border-radius: .8rem; box-shadow: 0 10px 50px #0005; }
figure:target figcaption { position: relative; padding: 0; font-size: 1rem; justify-content: center;
  gap: .1rem 1.2rem; max-width: 90vw; text-align: center; }
figure:target nav { display: flex; flex-wrap: wrap; justify-content: center; gap: 1.4rem;
  position: relative; }
"""

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src {images}; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
<header>
<h1>{title}</h1>
<p>{about}</p>
"""
"""How every page begins: nothing runs on it, and pictures come from `images` only."""

_PAGE = (
    HEAD
    + """\
<div class="tools"><code>{command}</code>
<p>{links} <label><input type="checkbox" id="crisp"> crisp pixels</label></p></div>
</header>
{film}
<ol>
{items}
</ol>
</html>
"""
)
