"""The preview page of a rewritten network: the same pictures before and after, and the change of each pixel."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch

from kyara.files.checkpoint import Checkpoint
from kyara.files.gallery_page import HEAD
from kyara.files.pictures import encode_webp, to_uint8
from kyara.rewriting.edit import Picture
from kyara.rewriting.rules import Rule, apply_rules
from kyara.rewriting.samples import Samples

PICTURES = 16
BLACK = 0.5  # a change, in [-1, 1], that is drawn as black
STYLE = Path(__file__).with_name("preview.css")


@torch.no_grad()
def preview_html(samples: Samples, found: Checkpoint, rules: Sequence[Rule], command: str) -> str:
    """The page, with its pictures inside: of the first seeds or some data. Leaves the rules in the network."""
    network = samples.model
    seeds = range(PICTURES) if samples.data is None else ()  # of a generator
    sample_fns = [samples.variants(Picture(seed=seed), 0) for seed in seeds] or [samples.random(PICTURES, 0)]
    with_rules, original = apply_rules(found, rules)
    pictures = []
    for weights in (original, with_rules):
        network.load_state_dict({name: weights[name] for name in original}, strict=False)
        pictures.append(torch.cat([sample_fn() for sample_fn in sample_fns]).float().clamp(-1, 1))
    before, after = pictures  # (N, 3, H, W) each
    change = (after - before).abs().mean(1, keepdim=True)  # (N, 1, H, W)
    maps = (1 - 2 * (change / BLACK).clamp(0, 1)).expand(-1, 3, -1, -1)
    rows = zip(to_uint8(before), to_uint8(after), to_uint8(maps), change.mean((1, 2, 3)).tolist(), strict=True)
    items = "\n".join(_item(i, *row) for i, row in enumerate(rows))
    listed = ", ".join(f"{rule.name} ({rule.strength:g})" for rule in rules) or "no rule"
    about = f"before, after, and the change (the darker, the larger) · {listed}"
    head = HEAD.format(images="data:", title="Rewritten", style=STYLE.read_text("utf-8").rstrip(), about=escape(about))
    return f"{head}<code>{escape(command)}</code>\n</header>\n<ol>{items}</ol>\n</html>\n"


def _item(i: int, before: np.ndarray, after: np.ndarray, change: np.ndarray, mean: float) -> str:
    images = ""
    for name, picture in (("before", before), ("after", after), ("change", change)):
        data = base64.b64encode(encode_webp(picture)).decode()
        images += f'<img src="data:image/webp;base64,{data}" alt="{name}, {i}">'
    return f"<li><figure>{images}<figcaption>{i} · mean change {mean:.3f}</figcaption></figure></li>"
