"""Options that `kyara evaluate` and `kyara compare` share, and their checks."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import arg

from kyara.verbs import check_number, check_text

FEATURES = "builtin:tagger"
REALS = 10_000
MOST_PICTURES = 1_000_000

Features = Annotated[
    str,
    arg(
        help="Features that distances are measured in: builtin:tagger, builtin:distortion, vgg16:PATH, sscd:PATH, "
        "dinov2 or inception:PATH; PATH#SHA256 also checks the file."
    ),
]
Tagger = Annotated[str, arg(help="The tagger that checks attributes, or none.")]
Reals = Annotated[int, arg(help="Number of real pictures, at most.")]
Truncation = Annotated[float, arg(help="Truncation of the generator's latents; 1 is none.")]
Size = Annotated[str | None, arg(help="Both sets are resized to this first, as 96 or 512x256 (height x width).")]
Batch = Annotated[int, arg(help="Pictures that the networks process at once.")]


def check(
    *, features: str, tagger: str, reals: int, least_reals: int, truncation: float, batch: int, workers: int
) -> None:
    """ValueError if one of the shared options makes no sense."""
    check_text("--features", features)
    check_text("--tagger", tagger)
    check_number("--reals", reals, least=least_reals, most=MOST_PICTURES)
    check_number("--truncation", truncation, least=0, most=10)
    check_number("--batch", batch, least=1, most=10_000)
    check_number("--workers", workers, least=0, most=1000)
