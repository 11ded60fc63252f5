"""The page of a Gallery, index.html: no script, nothing from outside, opens from the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from urllib.parse import quote

from kyara.files.names import counted

TABLE, PAGE, SHEET = "gallery.csv", "index.html", "sheet.png"
UNTAGGED = ("file_name", "seed", "score", "source", "position")
"""Columns that are not attributes of what the picture shows."""
LOCAL = "'self' file:"
"""Where a page in a folder gets its pictures from."""
VIDEOS = (".mp4", ".webm")
"""Films that a browser plays in a <video>; others are animated pictures."""


def page(
    title: str,
    rows: Sequence[Mapping[str, str]],
    total: int,
    *,
    about: str = "",
    command: str = "",
    aspect: float = 1.0,
    films: Sequence[str] = (),
) -> str:
    """index.html of a Gallery: `rows` of its `total` pictures, shown at `aspect` = width / height, and players of the
    `films` in the folder."""
    cut = f"the first {len(rows):,} are on this page, all of them in {TABLE}" if len(rows) < total else ""
    links = [(SHEET, "sheet")] * bool(rows) + [(TABLE, "table")]
    return _PAGE.format(
        images=LOCAL + (f"; media-src {LOCAL}" if any(map(_is_video, films)) else ""),
        style=_STYLE.replace("ASPECT", f"{aspect:.4f}"),
        title=escape(title),
        about=" · ".join(escape(part) for part in (counted(total, "picture"), about, cut) if part),
        command=escape(command),
        links=" ".join(f'<a href="{quote(name)}">{label}</a>' for name, label in links),
        film="\n".join(map(_player, films)),
        items="\n".join(_item(i, row, len(rows)) for i, row in enumerate(rows, 1)),
    )


def _is_video(film: str) -> bool:
    return PurePath(film).suffix in VIDEOS


def _player(film: str) -> str:
    name = quote(film, errors="surrogateescape")
    if _is_video(film):
        return f'<p class="film"><video src="{name}" controls loop playsinline preload="metadata"></video></p>'
    return f'<p class="film"><img src="{name}" alt="interpolation"></p>'


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
