"""What each loss of CartoonGAN is worth on faces: the same training without each one in turn.

    python benchmarks/ablation.py photos.zip drawings.zip held.zip --out ablation --init runs/content/snapshots/000003

    python benchmarks/ablation.py photos.zip drawings.zip held.zip --out b --init runs/plain/snapshots/000001 --afresh

Afresh, no filters begin the drawing, no other networks enlarge and draw eyes, and the losses are those of the report
alone: what the network draws is what the losses make it draw.

All runs begin with the same checkpoint, see the same pictures in the same order, and are as long. Of every result, on
photos that no run has seen, it is measured how far it is from what each loss asks for (the loss itself, unweighted),
what it keeps of the photos and how drawn it looks (cartoon.py). A loss earns its keep if what it asks for gets worse
without it, or the drawings do. `seconds` is processor time for a thousand pictures. The page shows the same people by
each run: photos of its own making (`kyara generate builtin:photo`), so that it can be published.
"""

from __future__ import annotations

import base64
import io
import json
import time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from cartoon import Eyes, Pictures, distances, kept, landmarks
from PIL import Image
from scipy import stats
from vgg16 import archive

from kyara import generate, models
from kyara.files.dataset import open_dataset
from kyara.files.pictures import center_crop, decode, encode_png, sheet, to_float
from kyara.generation.tiles import translate_picture
from kyara.models.base import Batch
from kyara.models.cartoongan import model as cartoongan
from kyara.perception.vgg16 import VGG16, read_weights
from kyara.training.train import train

WEIGHTS = {
    "adversarial": 2.5, "content": 0.5, "style": 0.5, "grayscale": 0.5, "colour": 0.5, "chrominance": 5.0,
    "landmark": 0.3, "eyes": 0.25, "flat": 0.5, "cel": 2.0, "tv": 0.1, "warp": 1.0, "gaze": 0.3,
    "d_smooth": 1.0,
}  # fmt: skip
"""With every loss, where cels are corrected."""
SETTINGS: dict[str, Any] = {
    "losses.content_kimg": 0, "optimizer.lr": 4e-4, "optimizer.ema_ramp": 0.2, "network.freeze_batch_norm": "yes",
    "network.d_relief": "yes",
}  # fmt: skip
AFRESH = {
    "adversarial": 1.0, "content": 10.0, "style": 0.5, "grayscale": 0.5, "colour": 5.0, "landmark": 1.0, "tv": 1.0,
    "d_smooth": 1.0,
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "losses.chrominance": 0, "losses.cel": 0, "losses.content_kimg": 0, "losses.gaze": 0, "optimizer.lr": 4e-4,
    "optimizer.ema_ramp": 0.2, "network.filtered": "no", "network.d_relief": "no", "network.d_colours": "yes",
    "network.enlarge_eyes": 0, "network.ink": 0,
}  # fmt: skip
EVERYTHING, WITHOUT = 5, 3
"""Runs with every loss, and without one, that differ in nothing but their seeds."""
STRONGER = ("content", "style", "grayscale", "landmark", "eyes", "flat", "tv")
"""What is also tried at ten times its weight, because a short run without it shows little."""
SHOWN = 8


def runs(afresh: bool) -> dict[str, tuple[dict[str, Any], int]]:
    """What each is called, its settings and its seed."""
    losses, settings = (AFRESH, PLAIN) if afresh else (WEIGHTS, SETTINGS)
    every = {**{f"losses.{name}": weight for name, weight in losses.items()}, **settings}
    made: dict[str, tuple[dict[str, Any], int]] = {}

    def add(name: str, changes: dict[str, Any], seeds: int) -> None:
        made.update({f"{name}, seed {seed}" if seed else name: ({**every, **changes}, seed) for seed in range(seeds)})

    add("everything", {}, EVERYTHING)
    for name in losses:  # once is enough where the other table repeats it
        add(f"without {name}", {f"losses.{name}": 0}, WITHOUT if afresh or name not in AFRESH else 1)
    for name in [name for name in STRONGER if name in losses]:
        add(f"ten times {name}", {f"losses.{name}": 10 * losses[name]}, 1)
    if afresh:  # content holds the points as well: what their own loss does is seen where it has to do it alone
        add("without content and landmark", {"losses.content": 0, "losses.landmark": 0}, WITHOUT)
    else:
        add("without relief", {"network.d_relief": "no"}, 1)
    return made


def main(
    photos: tyro.conf.Positional[Path],
    drawings: tyro.conf.Positional[Path],
    held: tyro.conf.Positional[Path],
    *,
    out: Path,
    init: str,
    kimg: float = 1.0,
    size: int = 96,
    limit: int = 100,
    weights: Path | None = None,
    afresh: bool = False,
) -> None:
    """Trains what is not trained yet, measures, writes ablation.json and index.html.

    Args:
        photos: Photos to train on.
        drawings: Drawings to train on.
        held: Photos that no run has seen.
        out: Folder of all runs.
        init: The checkpoint that all begin with.
        kimg: How long each is, in thousands of photos.
        size: Pixels of a side.
        limit: How many of the photos in `held` are measured on.
        weights: VGG16's, as an archive; downloaded if not given.
        afresh: The network draws afresh, by the losses of the report alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = out / "ablation.json"
    rows: dict[str, dict[str, Any]] = json.loads(done.read_text()) if done.exists() else {}
    people, art = open_dataset(held), open_dataset(drawings)
    given: Pictures = [*people.decode(range(min(limit, len(people))), size, size)]
    real: Pictures = [*art.decode(range(0, len(art), max(1, len(art) // 500)), size, size)]
    see = Eyes(VGG16(read_weights(weights or archive())), models.load("builtin:tagger"), 64, True)
    wanted, points = see(real), [landmarks(picture) for picture in given]
    shown = _people(out / "people", size)
    for name, (settings, seed) in runs(afresh).items():
        if name in rows:
            continue
        run = out / name
        seconds = time.process_time()
        train(
            "cartoongan", photos=photos, drawings=drawings, out=run, init=init, size=str(size), kimg=kimg, snap=kimg,
            augment="none", workers=0, seed=seed,
            set=",".join(f"{key}={value}" for key, value in settings.items()),
        )  # fmt: skip
        if not (run / "seconds").exists():
            (run / "seconds").write_text(f"{(time.process_time() - seconds) / kimg:.1f}")
        network = models.load(run / "snapshots" / f"{int(kimg * 1000) // 1000:06d}").requires_grad_(False)
        made = [translate_picture(network.translate, picture, network) for picture in given]
        rows[name] = {
            **asked(network, given, real),
            **kept(given, made, points),
            **{f"Fréchet, {kind}": value for kind, value in distances(see(made), wanted).items()},
            "seconds": float((run / "seconds").read_text()),
        }
        picture = sheet([translate_picture(network.translate, one, network) for one in shown], columns=SHOWN)
        (run / "shown.png").write_bytes(encode_png(picture))
        done.write_text(json.dumps(rows, indent=2))
    (out / "index.html").write_text(page(rows, out, shown), encoding="utf-8")
    print(table(rows))


@torch.no_grad()
def asked(network: Any, given: Pictures, real: Pictures) -> dict[str, float]:
    """What every loss of the preset asks for, by this network's results: each loss as it stands without its weight."""
    ones = {name: 1.0 for name in WEIGHTS if name not in ("adversarial", "eyes", "d_smooth")}
    ones["gaze"] = float(network.config.losses.gaze > 0)
    config = network.config.replace(losses={"content_kimg": 0.0, "adversarial": 0.0, "eyes": 0.0, **ones})
    judge = cartoongan.Model(config).eval()
    judge.g.load_state_dict(network.g_ema.state_dict())
    judge.eye_sizes.copy_(network.eye_sizes)
    found: dict[str, list[float]] = {}
    for i in range(0, len(given) - 7, 8):
        batch = Batch(to_float(np.stack(real[i : i + 8])), photos=to_float(np.stack(given[i : i + 8])))
        for name, value in judge.losses("g", batch).items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(found.get(name, [np.nan]))) for name in ones}


def _people(folder: Path, size: int) -> Pictures:
    if not folder.exists():
        generate("builtin:photo", seeds="2,4,6,7,18,24,25,30", truncation=0.85, rank="none", out=folder)
    return [center_crop(decode(path), size, size) for path in sorted(folder.glob("seed*.png"))]


def effects(rows: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Of everything that is left out or stronger: what that changes in what the loss itself asks for, and then in which
    other measures all its runs are on one side of all runs with every loss, by Student's t of p < 0.005, the surest
    first. Where content is left out as well, the runs without content are what is compared with."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, row in rows.items():
        groups.setdefault(name.partition(", seed")[0], []).append(row)
    found = {}
    for name, group in groups.items():
        base = groups["without content" if "content and" in name else "everything"]
        own, told = "", []
        for column in [c for c in base[0] if c != "seconds" and np.isfinite(base[0][c] * group[0][c])]:
            there, usual = (np.array([row[column] for row in some]) for some in (group, base))
            squares = sum(float(((some - some.mean()) ** 2).sum()) for some in (there, usual))
            free = max(len(there) + len(usual) - 2, 1)
            score = (there.mean() - usual.mean()) / max(
                (squares / free * (1 / len(there) + 1 / len(usual))) ** 0.5, 1e-9
            )
            chance = 2 * float(stats.t.sf(abs(score), free))
            words = f"{column} {there.mean() / usual.mean() - 1:+.0%}"
            if name.split()[-1] == column:
                own = f"itself {words.rpartition(' ')[2]} (p = {chance:.2g})"
            elif chance < 0.005 and (there.min() > usual.max() or there.max() < usual.min()):
                told.append((chance, words))
        if group is not groups["everything"]:
            found[name] = [one for one in (own, *(words for _, words in sorted(told))) if one] or ["nothing"]
    return found


def table(rows: dict[str, dict[str, Any]]) -> str:
    columns = list(rows["everything"])
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{row[c]:.3g}" for c in columns) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def page(rows: dict[str, dict[str, Any]], out: Path, shown: Pictures) -> str:
    """One file: every run's drawings of the same people, and its numbers."""

    def picture(png: bytes) -> str:
        jpeg = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").save(jpeg, "JPEG", quality=88)
        return f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}">'

    columns = list(rows["everything"])
    head = "".join(f"<th>{escape(column)}" for column in columns)
    body = "".join(
        f"<tr><th>{escape(name)}" + "".join(f"<td>{row[column]:.3g}" for column in columns)
        for name, row in rows.items()
    )
    found = "".join(f"<tr><th>{escape(name)}<td>{escape(', '.join(told))}" for name, told in effects(rows).items())
    drawn = "".join(f"<h2>{escape(name)}</h2>" + picture((out / name / "shown.png").read_bytes()) for name in rows)
    style = "body{font:15px/1.5 system-ui;margin:2rem}table{border-collapse:collapse}"
    style += (
        "td,th{padding:.2rem .6rem;text-align:right;vertical-align:top}.words td{text-align:left}th{white-space:nowrap}"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>CartoonGAN without each loss</title>'
        f"<style>{style}</style><h1>CartoonGAN without each loss</h1>"
        "<p>What changes in what the loss itself asks for, by Student's t; and whatever else is sure. Below: the same"
        " people by each run, and all numbers.</p>"
        f"<table class=words>{found}</table>"
        f"<h2>the people</h2>{picture(encode_png(sheet(shown, columns=SHOWN)))}{drawn}"
        f"<h2>all numbers</h2><table><tr><th>{head}{body}</table></html>"
    )


if __name__ == "__main__":
    tyro.cli(main)
