"""The page of a comparison: a single HTML file without scripts or external resources."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from kyara.evaluation.chart import COLOURS, Curve, Interval, interval_chart, line_chart
from kyara.evaluation.runs import SHEET, merged_names
from kyara.evaluation.shared import METRICS, format_interval, format_number
from kyara.files.gallery_page import HEAD
from kyara.files.names import counted
from kyara.files.pictures import encode_jpeg, resize

SIDE = 128  # Maximum length of the longer side of a picture on the page, in pixels
QUALITY = 90  # of their JPEG files: they are looked at, not measured, and a page of many models is sent
STRIP = 12  # Number of seeds shown of each model in one row; its sheet has the others
STYLE, REST, METHOD = (
    Path(__file__).with_name(name).read_text("utf-8") for name in ("compare.css", "compare.html", "method.txt")
)
CURVES = {
    "score/frechet": "Fréchet distance during training, of 512 pictures ↓",
    "score/diversity": "diversity, relative to the real pictures",
    "img/s": "images per second",
}
SIGNS, LOGITS = ("real_sign", "fake_sign"), "mean signs of the discriminator's logits"

Table = Mapping[str, Any]


def page(title: str, table: Table, sheets: Mapping[str, Mapping[int, np.ndarray]]) -> str:
    """The page as HTML. `table` is the content of comparison.json, `sheets` model -> seed -> picture (H, W, 3)."""
    groups = [{**group, "colour": i} for i, group in enumerate(table["groups"])]
    colours = {name: group["colour"] for group in groups for name in group["runs"]}
    models = [
        {**model, "colour": colours.get(model["name"], len(groups)), "images": _images(sheets.get(model["name"], {}))}
        for model in table["models"]
    ]
    measured, data = [model for model in models if not model["error"]], table["data"]
    real = f"{data['path'].replace(chr(92), '/').rpartition('/')[2]} ({data['count']:,})"
    about = counted(len(measured), "model"), f"{table['draws']} × {table['count']:,} pictures each", f"against {real}"
    curves = [(what, [_curve(m["name"], m["colour"], m, key) for m in models]) for key, what in CURVES.items()]
    strips = (f'<div class="strip"><p>{_label(m)}</p><div>{_pictures(m, range(STRIP))}</div></div>' for m in measured)
    several = any(len(group["runs"]) > 1 for group in groups)
    shared = "<p>Runs that differ only in their seed have the same colour.</p>" if several else ""
    method = "".join(f"<p>{escape(line.format(**table))}</p>" for line in METHOD.splitlines())
    body = [
        f'<p class="verdict">{escape(table["verdict"])}</p>',
        _section("Ranking", _ranking(table, groups)) if groups else "",
        _section("The same seeds", "".join(strips)),
        _section("Scores", _matrix(table, groups)) if groups else "",
        _section("Training", _charts(curves) + shared),
        *map(_model, models),
        _section("How this was measured", method),
    ]
    return (HEAD + REST).format(
        images="data:",
        title=escape(title),
        about=" · ".join(map(escape, about)),
        command=escape(table["command"]),
        style=STYLE,
        body="\n".join(filter(None, body)),
    )


def _images(pictures: Mapping[int, np.ndarray]) -> dict[int, str]:
    return {seed: _uri(picture) for seed, picture in pictures.items()}


def _uri(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = resize(picture, max(1, round(width * scale)), max(1, round(height * scale)))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(small, QUALITY)).decode()


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _label(model: Table) -> str:
    mark = ' <i class="mark">untrained</i>' if model["untrained"] else ""
    return f'<span class="dot k{model["colour"] % COLOURS}"></span>{escape(model["name"])}{mark}'


def _value(score: Table) -> str:
    interval = format_interval(score["low"], score["high"])
    return format_number(score["value"]) + (f"<small>{interval}</small>" if interval else "")


def _curve(name: str, colour: int, model: Table, key: str) -> Curve:
    return Curve(name, colour, model["curves"].get(key, ()))


def _charts(charts: Iterable[tuple[str, Sequence[Curve]]]) -> str:
    drawn = "".join(line_chart(curves, "kimg", title) for title, curves in charts)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _ranking(table: Table, groups: Sequence[Table]) -> str:
    by, what = table["ranked_by"], METRICS[table["ranked_by"]]
    rows = []
    for place, group in enumerate(groups, 1):
        training, score = group["training"], group["scores"][by]
        timed = "seconds" in training
        cells = [
            group["model"],
            _length(training) if "kimg" in training else "–",
            duration(training["seconds"]) if timed else "–",
            f"{training['images_per_second']:.0f}" if timed else "–",
            f"{group['parameters'] / 1e6:.2f} M",
        ]
        architecture, *others = (f"<td>{escape(cell)}</td>" for cell in cells)
        each = score.get("runs", {}).items()
        trainings = ", ".join(f"{escape(run)} {format_number(value)}" for run, value in each)
        name = _label(group) + (f"<small>{trainings}</small>" if trainings else "")
        first = f'<td class="place">{"–" if group["untrained"] else place}</td><th>{name}</th>{architecture}'
        rows.append(f'<tr>{first}<td class="main">{_value(score)}</td>{"".join(others)}</tr>')
    heads = ["", "model", "architecture", f"{what} ↓", "kimg", "training time", "images/s", "parameters"]
    head = "".join(f"<th>{text}</th>" for text in heads)
    intervals = [_interval(group["name"], group["scores"][by], group["colour"]) for group in groups]
    if real := table["real"].get(by):
        intervals.append(_interval("real pictures", real, COLOURS - 1))
    chart = interval_chart(intervals, what, "lower is better; the line is the 95% confidence interval")
    return f'<div class="scroll"><table class="ranking"><tr>{head}</tr>{"".join(rows)}</table></div>{chart}'


def _length(training: Table) -> str:
    """kimg of the checkpoint, and of the whole run if that was longer."""
    own, run = f"{training['kimg']:.4g}", f"{training['trained_kimg']:.4g}"
    return own if own == run else f"{own} of {run}"


def _interval(name: str, score: Table, colour: int) -> Interval:
    value, low, high = score["value"], score["low"], score["high"]
    return Interval(name, colour, value, value if low is None else low, value if high is None else high)


def duration(seconds: float) -> str:
    """Seconds in hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _pictures(model: Table, seeds: Iterable[int], scores: Mapping[int, float] | None = None) -> str:
    items = []
    for seed in seeds:
        if image := model["images"].get(seed):
            hint = f"seed {seed}" + (f", score {scores[seed]:.2f}" if scores else "")
            items.append(f'<img src="{image}" alt="{hint}" title="{hint}">')
    return "".join(items)


def _matrix(table: Table, groups: Sequence[Table]) -> str:
    head = "".join(f'<th scope="col">{_label(group)}</th>' for group in groups)
    lines = [f'<tr><th></th>{head}<th scope="col">real pictures</th></tr>']
    for name in merged_names(group["scores"] for group in groups):
        scores = [group["scores"].get(name) for group in groups]
        found = [score for score in scores if score]
        trained = [score for score, group in zip(scores, groups, strict=True) if score and not group["untrained"]]
        best = _best(trained)
        cells = []
        for score in scores:
            opening = '<td class="best">' if score and score is best else "<td>"
            cells.append(f"{opening}{_value(score) if score else '–'}</td>")
        real, score = table["real"].get(name), found[0]
        cells.append(f'<td class="quiet">{format_number(real["value"]) if real else "–"}</td>')
        arrow = {"lower": "↓", "higher": "↑", "near 1": "→ 1", "neither": ""}[score["better"]]
        hint = f"{score['features']}, {score['resizer']}, {score['pictures']:,} pictures"
        hint += f" against {score['reals']:,}" if score["reals"] else ""
        sub = ' class="sub"' if score["what"].startswith(" ") else ""
        label = f'<th scope="row"{sub} title="{escape(hint)}">{escape(score["what"])} <i>{arrow}</i></th>'
        lines.append(f"<tr>{label}{''.join(cells)}</tr>")
    return f'<div class="scroll"><table class="matrix">{"".join(lines)}</table></div>'


def _best(scores: Sequence[Table]) -> Table | None:
    """The score that is better than all others; None if the next one is as good, or within its interval."""
    if len(scores) < 2 or scores[0]["better"] == "neither":
        return None
    distance = {"near 1": lambda x: abs(x - 1), "lower": float, "higher": lambda x: -x}[scores[0]["better"]]
    best, following, *_ = sorted(scores, key=lambda score: distance(score["value"]))
    value, low, high = following["value"], best["low"], best["high"]
    within = low is not None and high is not None and low <= value <= high
    return None if within or distance(value) == distance(best["value"]) else best


def _model(model: Table) -> str:
    head = f"<h2>{_label(model)} <i>{escape(model['model'])}</i></h2>"
    if model["error"]:
        head += f'<p class="broken"><b>Not measured.</b> {escape(model["error"])}</p>'
    figures = _figure("sheet", f"seeds {STRIP} to {SHEET - 1}", _pictures(model, range(STRIP, SHEET)))
    for what in ("best", "worst"):
        if scores := dict(model[what]):
            score = model["scores"]["rank_score"]
            judged = f"{what} of {score['pictures'] * len(score['draws']):,} by kyara rank"
            low, high = f"{min(scores.values()):.2f}", f"{max(scores.values()):.2f}"
            caption = f"{judged}, score {low if low == high else f'{low} to {high}'}"
            figures += _figure("row", caption, _pictures(model, scores, scores))
    losses = [name for name in sorted(model["curves"]) if name.startswith("loss/")]
    own = [("losses", [_curve(name.removeprefix("loss/"), i, model, name) for i, name in enumerate(losses)])]
    own += [(LOGITS, [_curve(name, i, model, name) for i, name in enumerate(SIGNS)])]
    settings = f"<details><summary>settings</summary>{_settings(model)}</details>" if model["config"] else ""
    return f'<section class="model">{head}{figures}{_charts(own)}{settings}</section>'


def _figure(kind: str, caption: str, pictures: str) -> str:
    figure = f'<figure class="{kind}"><figcaption>{caption}</figcaption><div>{pictures}</div></figure>'
    return figure if pictures else ""


def _settings(model: Table) -> str:
    about = {key: value for key, value in model["about"].items() if key != "scores"}
    parts = [("checkpoint", model["checkpoint"]), ("path", model["path"]), *_flat(model["config"]), *_flat(about)]
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in parts)
    return f'<table class="settings">{rows}</table>'


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            long = isinstance(value, list | tuple) and len(value) > 24
            found.append((f"{prefix}{key}", f"{len(value)} entries" if long else value))
    return found
