"""Options that `kyara evaluate` and `kyara compare` share."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import arg

from kyara.verbs import Range

FEATURES = "builtin:tagger"
REALS = 10_000
MOST_PICTURES = 1_000_000
FEATURES_HELP = (
    "Features that distances are measured in: builtin:tagger, builtin:distortion, vgg16:PATH, sscd:PATH, dinov2 or "
    "inception:PATH; PATH#SHA256 also checks the file."
)

Features = Annotated[str, arg(help=FEATURES_HELP)]
Tagger = Annotated[str, arg(help="The tagger that checks attributes, or none.")]
Count = Range(4, MOST_PICTURES)
Reals = Annotated[int, arg(help="Number of real pictures, at most."), Count]
Truncation = Annotated[float, arg(help="Truncation of the generator's latents; 1 is none."), Range(0, 10)]
Size = Annotated[str | None, arg(help="Both sets are resized to this first, as 96 or 512x256 (height x width).")]
Batch = Annotated[int, arg(help="Pictures that the networks process at once."), Range(1, 10_000)]
