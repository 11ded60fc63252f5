"""The page that shows a rewritten network: the same pictures before and after, and what changed where."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from torch import Tensor

from kyara.files.checkpoint import Checkpoint
from kyara.files.dataset import Dataset
from kyara.files.gallery_page import HEAD
from kyara.files.pictures import encode_webp, to_uint8
from kyara.models.base import Generator, Model
from kyara.rewriting.differences import Rule, combined
from kyara.rewriting.edit import Picture
from kyara.rewriting.hosts import Hosts

SHOWN = 16
"""Pictures on the page."""
STRONGEST = 0.5
"""A change of so much, in [-1, 1], is shown as black."""


@torch.no_grad()
def before_and_after(hosts: Hosts, found: Checkpoint, rules: Sequence[Rule]) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) in [-1, 1], of the first seeds or of some of the pictures given, without any rule and with
    these."""
    network = hosts.model
    if isinstance(network, Generator):
        makes = [hosts.like(Picture(seed=seed), 0) for seed in range(SHOWN)]
    else:
        makes = [hosts.others(SHOWN, 0)]
    with_rules, original = combined(found, rules)
    shown = []
    for weights in (original, with_rules):
        for name in original:
            network.get_parameter(name).copy_(weights[name])
        shown.append(torch.cat([make() for make in makes]).float().clamp(-1, 1))
    return shown[0], shown[1]


def preview_page(network: Model, found: Checkpoint, rules: Sequence[Rule], given: Dataset | None, command: str) -> str:
    """The page as HTML, everything inside."""
    before, after = before_and_after(Hosts(network, str(found.path), given), found, rules)
    changed = (after - before).abs().mean(1, keepdim=True)  # (N, 1, H, W)
    maps = (1 - 2 * (changed / STRONGEST).clamp(0, 1)).expand(-1, 3, -1, -1)
    rows = zip(to_uint8(before), to_uint8(after), to_uint8(maps), changed.mean((1, 2, 3)).tolist(), strict=True)
    items = "\n".join(_item(i, *row) for i, row in enumerate(rows))
    about = ", ".join(f"{rule.name} ({rule.strength:g})" for rule in rules) or "no rule"
    about = f"before, after, and what changed: the darker, the more · {about}"
    head = HEAD.format(images="data:", title="Rewritten", style=_STYLE, about=escape(about))
    return f"{head}<code>{escape(command)}</code>\n</header>\n<ol>{items}</ol>\n</html>\n"


def _item(i: int, before: np.ndarray, after: np.ndarray, changed: np.ndarray, mean: float) -> str:
    pictures = zip(("before", "after", "what changed"), (before, after, changed), strict=True)
    images = "".join(f'<img src="{_uri(picture)}" alt="{name}, {i}">' for name, picture in pictures)
    return f"<li><figure>{images}<figcaption>{i} · mean change {mean:.3f}</figcaption></figure></li>"


def _uri(picture: np.ndarray) -> str:
    return "data:image/webp;base64," + base64.b64encode(encode_webp(picture)).decode()


_STYLE = """body{font:15px/1.5 system-ui;margin:2rem;background:Canvas;color:CanvasText}
ol{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
figure{margin:0}img{width:32%;image-rendering:auto;border-radius:4px;margin-right:1%}
figcaption{opacity:.7;font-size:.85em}code{opacity:.7}"""
