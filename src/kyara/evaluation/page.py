"""The page of a comparison: everything inside one file, no script, nothing from outside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from kyara.evaluation.chart import COLOURS, Curve, Whisker, lines, whiskers
from kyara.evaluation.report import number
from kyara.files.gallery_page import HEAD
from kyara.files.pictures import encode_webp, resize

SIDE = 128
"""Longest side of a picture on the page, in pixels; larger ones are made smaller."""
STRIP, SHEET = 12, 36
"""Seeds shown of all models together, and of each by itself."""

Table = Mapping[str, Any]


def page(title: str, table: Table, sheets: Mapping[str, Mapping[int, np.ndarray]]) -> str:
    """The page as HTML. `table` is what comparison.json holds; `sheets` model -> seed -> picture (H, W, 3) uint8."""
    measured = [model for model in table["models"] if not model["broken"]]
    colours = {model["name"]: i for i, model in enumerate(table["models"])}
    images = {name: {seed: _uri(picture) for seed, picture in some.items()} for name, some in sheets.items()}
    count = f"{len(measured)} model" + ("" if len(measured) == 1 else "s")
    about = [count, f"{table['draws']} × {table['count']:,} pictures each", f"against {_real(table)}"]
    body = [
        f'<p class="verdict">{escape(table["verdict"])}</p>',
        _section("Ranking", _ranking(table, measured, colours)) if measured else "",
        _section("The same seeds", _strips(measured, images, colours)) if measured else "",
        _section("Scores", _matrix(table, measured, colours)) if measured else "",
        _section("Training", _overlays(table["models"], colours)),
        *(_model(model, images.get(model["name"], {}), colours[model["name"]]) for model in table["models"]),
        _section("How this was measured", _method(table)),
    ]
    return _PAGE.format(
        images="data:",
        title=escape(title),
        about=" · ".join(map(escape, about)),
        command=escape(table["command"]),
        style=_STYLE,
        body="\n".join(filter(None, body)),
    )


def _real(table: Table) -> str:
    data = table["data"]
    return f"{data['path'].replace(chr(92), '/').rpartition('/')[2]} ({data['count']:,})"


def _uri(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = resize(picture, max(1, round(width * scale)), max(1, round(height * scale)))
    return "data:image/webp;base64," + base64.b64encode(encode_webp(small)).decode()


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _label(model: Table, colour: int) -> str:
    return f'<span class="dot k{colour % COLOURS}"></span>{escape(model["name"])}'


# --- all models together


def _ranking(table: Table, measured: Sequence[Table], colours: Mapping[str, int]) -> str:
    by = table["ranked_by"]
    rows = []
    for place, model in enumerate(measured, 1):
        score, training = model["scores"][by], model["training"]
        cells = [
            f'<td class="place">{place}</td><th>{_label(model, colours[model["name"]])}</th>',
            f"<td>{escape(model['model'])}</td>",
            f'<td class="main">{number(score["value"])}{_between(score)}</td>',
            f"<td>{_length(training)}</td>" if "kimg" in training else "<td>–</td>",
            f"<td>{duration(training['seconds'])}</td>" if "seconds" in training else "<td>–</td>",
            f"<td>{training['images_per_second']:.0f}</td>" if "seconds" in training else "<td>–</td>",
            f"<td>{model['parameters'] / 1e6:.2f} M</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    what = "Fréchet distance" if by == "frechet" else "kernel distance"
    heads = ["", "model", "architecture", f"{what} ↓", "kimg", "trained in", "images/s", "weights"]
    head = "".join(f"<th>{text}</th>" for text in heads)
    dots = [_whisker(model, by, colours[model["name"]]) for model in measured]
    dots += [_whisker({"name": "real pictures", "scores": table["real"]}, by, COLOURS - 1)] if table["real"] else []
    chart = whiskers(dots, what, "lower is better; the line is where the true value lies, 95 times in 100")
    return f'<div class="scroll"><table class="ranking"><tr>{head}</tr>{"".join(rows)}</table></div>{chart}'


def _length(training: Table) -> str:
    """How far the snapshot that is shown had come, and the whole run if that went on."""
    shown, whole = f"{training['kimg']:.4g}", f"{training['trained_kimg']:.4g}"
    return shown if shown == whole else f"{shown} of {whole}"


def _whisker(model: Table, by: str, colour: int) -> Whisker:
    score = model["scores"][by]
    value = score["value"]
    low, high = score["low"], score["high"]
    return Whisker(model["name"], colour, value, value if low is None else low, value if high is None else high)


def _between(score: Table) -> str:
    return "" if score["low"] is None else f"<small>{number(score['low'])} to {number(score['high'])}</small>"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _strips(measured: Sequence[Table], images: Mapping[str, Mapping[int, str]], colours: Mapping[str, int]) -> str:
    rows = []
    for model in measured:
        pictures = _pictures(images.get(model["name"], {}), range(STRIP))
        rows.append(f'<div class="strip"><p>{_label(model, colours[model["name"]])}</p><div>{pictures}</div></div>')
    return "".join(rows)


def _pictures(images: Mapping[int, str], seeds: Iterable[int], scores: Mapping[int, float] | None = None) -> str:
    items = []
    for seed in seeds:
        if seed in images:
            hint = f"seed {seed}" + (f", whole {scores[seed]:.0%}" if scores and seed in scores else "")
            items.append(f'<img src="{images[seed]}" alt="{hint}" title="{hint}">')
    return "".join(items)


def _matrix(table: Table, measured: Sequence[Table], colours: Mapping[str, int]) -> str:
    rows = dict.fromkeys(name for model in measured for name in model["scores"])
    head = "".join(f'<th scope="col">{_label(model, colours[model["name"]])}</th>' for model in measured)
    lines_ = [f'<tr><th></th>{head}<th scope="col">real pictures</th></tr>']
    for name in rows:
        found = {model["name"]: model["scores"][name] for model in measured if name in model["scores"]}
        score = next(iter(found.values()))
        best = _best(found) if len(found) > 1 else None
        cells = []
        for model in measured:
            one = found.get(model["name"])
            mark = ' class="best"' if best is not None and one and one["value"] == best else ""
            cells.append(f"<td{mark}>{number(one['value'])}{_between(one)}</td>" if one else "<td>–</td>")
        real = table["real"].get(name)
        cells.append(f'<td class="quiet">{number(real["value"])}</td>' if real else '<td class="quiet">–</td>')
        arrow = {"lower": "↓", "higher": "↑", "near 1": "→ 1"}[score["better"]]
        hint = f"{score['features']}, {score['resizer']}, {score['pictures']:,} pictures"
        hint += f" against {score['reals']:,}" if score["reals"] else ""
        name_ = f'<th scope="row" title="{escape(hint)}">{escape(score["what"])} <i>{arrow}</i></th>'
        lines_.append(f"<tr>{name_}{''.join(cells)}</tr>")
    return f'<div class="scroll"><table class="matrix">{"".join(lines_)}</table></div>'


def _best(found: Mapping[str, Table]) -> float:
    values = [float(score["value"]) for score in found.values()]
    better = next(iter(found.values()))["better"]
    if better == "near 1":
        return min(values, key=lambda value: abs(value - 1))
    return min(values) if better == "lower" else max(values)


def _overlays(models: Sequence[Table], colours: Mapping[str, int]) -> str:
    wanted = {
        "score/frechet": "Fréchet distance while training, of 512 pictures ↓",
        "score/diversity": "diversity, of the reals'",
    }
    wanted |= {"img/s": "images per second"}
    charts = []
    for key, what in wanted.items():
        curves = [Curve(m["name"], colours[m["name"]], m["curves"][key]) for m in models if key in m["curves"]]
        charts.append(lines(curves, "kimg", what))
    return f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""


# --- one model


def _model(model: Table, images: Mapping[int, str], colour: int) -> str:
    head = f"<h2>{_label(model, colour)} <i>{escape(model['model'])}</i></h2>"
    broken = f'<p class="broken"><b>Not measured.</b> {escape(model["broken"])}</p>' if model["broken"] else ""
    shown = _pictures(images, range(SHEET))
    sheet = f'<figure class="sheet"><figcaption>seeds 0 to {SHEET - 1}</figcaption><div>{shown}</div></figure>'
    extremes = ""
    for what in ("best", "worst"):
        scores = dict(model[what])
        row = _pictures(images, scores, scores)
        if not row:
            continue
        judged = f"{what} of {_judged(model):,} by builtin:distortion, whole with {_range(scores.values())}"
        extremes += f'<figure class="row"><figcaption>{judged}</figcaption><div>{row}</div></figure>'
    own = [
        lines(_own(model, "loss/"), "kimg", "losses"),
        lines([Curve(n, i, model["curves"][n]) for i, n in enumerate(SIGNS) if n in model["curves"]], "kimg", LOGITS),
    ]
    charts = f'<div class="charts">{"".join(own)}</div>' if any(own) else ""
    left = (sheet if shown else "") + extremes
    settings = f"<details><summary>settings</summary>{_settings(model)}</details>" if model["config"] else ""
    return f'<section class="model">{head}{broken}{left}{charts}{settings}</section>'


SIGNS, LOGITS = ("real_sign", "fake_sign"), "how sure the discriminator is: mean signs of its logits"


def _own(model: Table, prefix: str) -> list[Curve]:
    found = sorted(name for name in model["curves"] if name.startswith(prefix))
    return [Curve(name.removeprefix(prefix), i, model["curves"][name]) for i, name in enumerate(found)]


def _judged(model: Table) -> int:
    score = model["scores"]["whole"]
    return int(score["pictures"]) * len(score["draws"])


def _range(scores: Iterable[float]) -> str:
    values = sorted(scores)
    low, high = f"{values[0]:.0%}", f"{values[-1]:.0%}"
    return low if low == high else f"{low} to {high}"


def _settings(model: Table) -> str:
    parts = [("checkpoint", model["checkpoint"]), ("path", model["path"])]
    parts += _flat(model["config"]) + _flat({k: v for k, v in model["about"].items() if k != "scores"})
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in parts)
    return f'<table class="settings">{rows}</table>'


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and len(value) > 24:
            found.append((f"{prefix}{key}", f"{len(value)} entries"))
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _method(table: Table) -> str:
    features, data = table["features"], table["data"]
    text = [
        f"Distances are measured in features of {features['name']} (weights {features['hash']}), pictures at "
        f"{table['resizer']}. Point at the name of a score for what it was measured in and from how many pictures.",
        f"Each model made {table['draws']} × {table['count']:,} pictures at truncation {table['truncation']:g}, of "
        f"other seeds each time, compared with {data['count']:,} pictures of fingerprint {data['fingerprint']}. A "
        "value is the mean over draws, with Student's 95% interval.",
        "Real pictures score against the other real ones: better than that no model can honestly be.",
        "Numbers compare only with those of the same features, sizes and counts. comparison.json has all of them.",
    ]
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text)


_STYLE = """
:root { color-scheme: light dark; --paper: #faf8f6; --ink: #2a2530; --quiet: #77707f; --card: #fff; --line: #e7e1de;
  --accent: #d6497a; --wash: #d6497a14; --c0: #d6497a; --c1: #3b82c4; --c2: #2f9e6e; --c3: #c9861a; --c4: #8a5bd6;
  --c5: #1a9fa8; --c6: #b3543a; --c7: #7d8590; }
@media (prefers-color-scheme: dark) { :root { --paper: #17151b; --ink: #eeeaf2; --quiet: #9c94a6; --card: #211e27;
  --line: #322d3a; --accent: #ff7fa8; --wash: #ff7fa81c; --c0: #ff7fa8; --c1: #6fb1ee; --c2: #5cc99a; --c3: #eab04f;
  --c4: #b392f0; --c5: #4fc9d1; --c6: #e08a6d; --c7: #a3abb5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Hiragino Sans", "Noto Sans CJK JP", sans-serif; }
h1 { margin: 0; font-size: clamp(1.6rem, 4vw, 2.4rem); line-height: 1.15; letter-spacing: -.02em;
  overflow-wrap: anywhere; }
h2 { margin: 0 0 .9rem; font-size: 1.25rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 i, figcaption i { font-style: normal; font-weight: 400; font-size: .9em; color: var(--quiet); }
header p { margin: .4rem 0 1rem; color: var(--quiet); }
.tools { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; }
.tools code { flex: 1 1 22rem; padding: .55rem .8rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--card); font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere;
  user-select: all; }
.tools code::before { content: "$ "; color: var(--accent); user-select: none; }
label { cursor: pointer; } input { accent-color: var(--accent); }
section { margin-top: 2.6rem; }
.verdict { margin: 1.6rem 0 0; padding: 1rem 1.3rem; border-left: 4px solid var(--accent);
  border-radius: 0 .8rem .8rem 0; background: var(--wash); font-size: 1.1rem; line-height: 1.45;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .8rem; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  font-size: 14px; }
tr:last-child > * { border-bottom: 0; }
th { font-weight: 600; } th i { font-style: normal; color: var(--quiet); font-weight: 400; }
tr:first-child th { color: var(--quiet); font-size: 13px; font-weight: 500; }
.ranking th, .ranking td:nth-child(3) { text-align: left; }
.ranking tr:first-child th:nth-child(n+4) { text-align: right; }
.place { color: var(--quiet); width: 1rem; } .ranking tr:nth-child(2) .place { color: var(--accent); font-weight: 700; }
.main { font-weight: 700; }
small { display: block; color: var(--quiet); font-weight: 400; font-size: 12px; line-height: 1.3; }
.matrix th[scope=row] { position: sticky; left: 0; background: var(--card); text-align: left; font-weight: 500;
  white-space: normal; min-width: 11rem; max-width: 19rem; line-height: 1.3; }
.best { background: var(--wash); font-weight: 700; } .quiet { color: var(--quiet); }
.dot { display: inline-block; width: .7em; height: .7em; margin-right: .5em; border-radius: 50%;
  background: var(--k); }
.k0 { --k: var(--c0); } .k1 { --k: var(--c1); } .k2 { --k: var(--c2); } .k3 { --k: var(--c3); }
.k4 { --k: var(--c4); } .k5 { --k: var(--c5); } .k6 { --k: var(--c6); } .k7 { --k: var(--c7); }
figure { margin: 0; } figcaption { margin-bottom: .5rem; font-size: 13px; color: var(--quiet); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 1rem; }
.chart { padding: .9rem 1rem .7rem; border: 1px solid var(--line); border-radius: .8rem; background: var(--card);
  max-width: 760px; }
.scroll + .chart { margin-top: 1rem; }
.model .charts { margin-top: 1rem; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--quiet); } svg .y, svg .name, svg .axis { text-anchor: end; } svg .x { text-anchor: middle; }
svg .name, svg .value { font-size: 13px; } svg .name { fill: var(--ink); } svg .value { font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 1; }
polyline { fill: none; stroke: var(--k); stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
circle { fill: var(--k); } .span { stroke: var(--k); stroke-width: 3; stroke-linecap: round; opacity: .45; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .4rem 0 0; padding: 0; list-style: none;
  font-size: 12px; color: var(--quiet); overflow-wrap: anywhere; }
.legend li::before { content: ""; display: inline-block; width: 1em; height: 3px; margin: 0 .4em .25em 0;
  border-radius: 2px; background: var(--k); }
.strip { display: grid; grid-template-columns: 9rem 1fr; gap: 0 1rem; align-items: center; margin-bottom: .5rem; }
.strip p { margin: 0; font-size: 14px; font-weight: 600; overflow-wrap: anywhere; }
.strip div, .row div { display: grid; gap: 5px; }
.strip div { grid-template-columns: repeat(12, 1fr); } .row div { grid-template-columns: repeat(8, 1fr); }
.sheet div { display: grid; gap: 5px; grid-template-columns: repeat(12, 1fr); }
.sheet, .row { margin-bottom: 1rem; }
.row { max-width: 830px; }
img { display: block; width: 100%; border-radius: .4rem; background: var(--line); }
body:has(#crisp:checked) img { image-rendering: pixelated; }
.model { padding-top: 1.6rem; border-top: 1px solid var(--line); }
.broken { padding: .8rem 1.1rem; border: 1px solid var(--accent); border-radius: .8rem; background: var(--wash);
  overflow-wrap: anywhere; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--accent); }
.settings { width: auto; max-width: 100%; margin-top: .5rem; }
.settings th, .settings td { padding: .2rem 1.2rem .2rem 0; text-align: left; font-size: 13px; white-space: normal;
  overflow-wrap: anywhere; }
.settings tr:first-child th { color: inherit; font-weight: 600; }
@media (max-width: 640px) { .strip { grid-template-columns: 1fr; } .strip div, .sheet div
  { grid-template-columns: repeat(6, 1fr); } .row div { grid-template-columns: repeat(4, 1fr); } }
"""

_PAGE = (
    HEAD
    + """\
<div class="tools"><code>{command}</code>
<label><input type="checkbox" id="crisp"> crisp pixels</label></div>
</header>
{body}
</html>
"""
)
