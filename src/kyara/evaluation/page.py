"""The page of a comparison: a single file without scripts that loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from kyara.evaluation.chart import COLOURS, Curve, Interval, interval_chart, line_chart
from kyara.evaluation.scores import format_number
from kyara.files.gallery_page import HEAD
from kyara.files.pictures import encode_webp, resize

SIDE = 128
"""Longest side of a picture on the page, in pixels, at most."""
STRIP, SHEET = 12, 36
"""Seeds shown of each model side by side, and in its own section."""
STYLE = Path(__file__).with_name("compare.css")

Table = Mapping[str, Any]


def page(title: str, table: Table, sheets: Mapping[str, Mapping[int, np.ndarray]]) -> str:
    """The page as HTML. `table` is the content of comparison.json, `sheets` model -> seed -> picture (H, W, 3)."""
    measured = [model for model in table["models"] if not model["error"]]
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
        style=STYLE.read_text(encoding="utf-8"),
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
    mark = ' <i class="mark">untrained</i>' if model["untrained"] else ""
    return f'<span class="dot k{colour % COLOURS}"></span>{escape(model["name"])}{mark}'


# --- all models together


def _ranking(table: Table, measured: Sequence[Table], colours: Mapping[str, int]) -> str:
    by = table["ranked_by"]
    rows = []
    for place, model in enumerate(measured, 1):
        score, training = model["scores"][by], model["training"]
        cells = [
            f'<td class="place">{"–" if model["untrained"] else place}</td>',
            f"<th>{_label(model, colours[model['name']])}</th>",
            f"<td>{escape(model['model'])}</td>",
            f'<td class="main">{format_number(score["value"])}{_between(score)}</td>',
            f"<td>{_length(training)}</td>" if "kimg" in training else "<td>–</td>",
            f"<td>{duration(training['seconds'])}</td>" if "seconds" in training else "<td>–</td>",
            f"<td>{training['images_per_second']:.0f}</td>" if "seconds" in training else "<td>–</td>",
            f"<td>{model['parameters'] / 1e6:.2f} M</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    what = "Fréchet distance" if by == "frechet" else "KID"
    heads = ["", "model", "architecture", f"{what} ↓", "kimg", "training time", "images/s", "parameters"]
    head = "".join(f"<th>{text}</th>" for text in heads)
    rows_ = [_interval(model["name"], model["scores"][by], colours[model["name"]]) for model in measured]
    rows_ += [_interval("real pictures", table["real"][by], COLOURS - 1)] if table["real"] else []
    chart = interval_chart(rows_, what, "lower is better; the line is the 95% confidence interval")
    return f'<div class="scroll"><table class="ranking"><tr>{head}</tr>{"".join(rows)}</table></div>{chart}'


def _length(training: Table) -> str:
    """kimg of the checkpoint, and of the whole run if it was trained longer."""
    own, run = f"{training['kimg']:.4g}", f"{training['trained_kimg']:.4g}"
    return own if own == run else f"{own} of {run}"


def _interval(name: str, score: Table, colour: int) -> Interval:
    value, low, high = score["value"], score["low"], score["high"]
    return Interval(name, colour, value, value if low is None else low, value if high is None else high)


def _between(score: Table) -> str:
    return (
        ""
        if score["low"] is None
        else f"<small>{format_number(score['low'])} to {format_number(score['high'])}</small>"
    )


def duration(seconds: float) -> str:
    """Seconds in hours and minutes."""
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
        trained = [found[m["name"]] for m in measured if m["name"] in found and not m["untrained"]]
        best = _best(trained) if len(found) > 1 and trained else None
        cells = []
        for model in measured:
            one = found.get(model["name"])
            wins = best is not None and one and one["value"] == best and not model["untrained"]
            mark = ' class="best"' if wins else ""
            cells.append(f"<td{mark}>{format_number(one['value'])}{_between(one)}</td>" if one else "<td>–</td>")
        real = table["real"].get(name)
        cells.append(f'<td class="quiet">{format_number(real["value"])}</td>' if real else '<td class="quiet">–</td>')
        arrow = {"lower": "↓", "higher": "↑", "near 1": "→ 1"}[score["better"]]
        hint = f"{score['features']}, {score['resizer']}, {score['pictures']:,} pictures"
        hint += f" against {score['reals']:,}" if score["reals"] else ""
        sub = ' class="sub"' if score["what"].startswith(" ") else ""
        name_ = f'<th scope="row"{sub} title="{escape(hint)}">{escape(score["what"])} <i>{arrow}</i></th>'
        lines_.append(f"<tr>{name_}{''.join(cells)}</tr>")
    return f'<div class="scroll"><table class="matrix">{"".join(lines_)}</table></div>'


def _best(scores: Sequence[Table]) -> float:
    values, better = [float(score["value"]) for score in scores], scores[0]["better"]
    if better == "near 1":
        return min(values, key=lambda value: abs(value - 1))
    return min(values) if better == "lower" else max(values)


def _overlays(models: Sequence[Table], colours: Mapping[str, int]) -> str:
    wanted = {
        "score/frechet": "Fréchet distance during training, of 512 pictures ↓",
        "score/diversity": "diversity, relative to the real pictures",
    }
    wanted |= {"img/s": "images per second"}
    charts = []
    for key, what in wanted.items():
        curves = [Curve(m["name"], colours[m["name"]], m["curves"][key]) for m in models if key in m["curves"]]
        charts.append(line_chart(curves, "kimg", what))
    return f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""


# --- one model


def _model(model: Table, images: Mapping[int, str], colour: int) -> str:
    head = f"<h2>{_label(model, colour)} <i>{escape(model['model'])}</i></h2>"
    error = f'<p class="broken"><b>Not measured.</b> {escape(model["error"])}</p>' if model["error"] else ""
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
        line_chart(_own(model, "loss/"), "kimg", "losses"),
        line_chart(
            [Curve(n, i, model["curves"][n]) for i, n in enumerate(SIGNS) if n in model["curves"]], "kimg", LOGITS
        ),
    ]
    charts = f'<div class="charts">{"".join(own)}</div>' if any(own) else ""
    left = (sheet if shown else "") + extremes
    settings = f"<details><summary>settings</summary>{_settings(model)}</details>" if model["config"] else ""
    return f'<section class="model">{head}{error}{left}{charts}{settings}</section>'


SIGNS, LOGITS = ("real_sign", "fake_sign"), "mean signs of the discriminator's logits"


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
        f"{table['resizer']}. The tooltip of a score's name gives its features and the number of pictures.",
        f"Each model made {table['draws']} × {table['count']:,} pictures at truncation {table['truncation']:g}, each "
        f"draw with other seeds. They are compared with {data['count']:,} pictures of fingerprint "
        f"{data['fingerprint']}. A value is the mean over draws, with Student's 95% interval within the range of the "
        "score.",
        "The column of real pictures compares some of them with the others: the best that a model can reach.",
        "Scores are comparable only with the same features, sizes and counts. All of them are in comparison.json.",
    ]
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text)


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
