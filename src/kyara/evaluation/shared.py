"""Code shared by `kyara evaluate` and `kyara compare`: options, number formatting, and the JSON file of a result."""

from __future__ import annotations

import json
from typing import Annotated

from tyro.conf import arg

from kyara.verbs import Range, Result

FEATURES, TAGGER = "builtin", "builtin:tagger"
REALS = 10_000
MOST_PICTURES = 1_000_000
FEATURES_HELP = (
    "Feature space of distances: builtin, builtin:tagger, builtin:distortion, vgg16:PATH, sscd:PATH, dinov2 or "
    "inception:PATH; PATH#SHA256 also checks the file."
)

Features = Annotated[str, arg(help=FEATURES_HELP)]
TAGGER_HELP = (
    f"The tagger that checks attributes, or none. By default {TAGGER}, if there are attributes to check or --features "
    "uses it."
)
Tagger = Annotated[str | None, arg(help=TAGGER_HELP)]
Count = Range(4, MOST_PICTURES)
Reals = Annotated[int, arg(help="Number of real pictures, at most."), Count]
Truncation = Annotated[float, arg(help="Truncation of the generator's latents; 1 is none."), Range(0, 10)]
Size = Annotated[str | None, arg(help="Both sets are resized to this first, as 96 or 512x256 (height x width).")]
BATCH_HELP = (
    "Pictures that the networks process at once. By default 64, on a GPU up to 256, as many as its memory allows."
)
Batch = Annotated[int | None, arg(help=BATCH_HELP), Range(1, 10_000)]

FRECHET_COUNT = 2048  # Minimum number of pictures for the Fréchet distance: it is strongly biased for fewer
METRICS = {"frechet": "Fréchet distance", "kid": "KID"}  # The metrics by which models can be ranked


def format_number(value: float) -> str:
    """Four significant digits, without an exponent from 1e-4 to 1e5."""
    return f"{float(f'{value:.4g}'):g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"


def format_interval(low: float | None, high: float | None) -> str:
    """A confidence interval; an empty string if there is none."""
    return "" if low is None or high is None else f"{format_number(low)} to {format_number(high)}"


def to_json(result: Result) -> str:
    """The content of the JSON file of a result."""
    table = {name: value for name, value in result.as_json().items() if name not in ("out", "dry_run")}
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
