"""Shots: the inputs of each picture, planned from seeds before any network is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import Any

from kyara.verbs import LAST_SEED

Shot = dict[str, Any]
"""The inputs of one picture, as stored in its recipe: {"seed": 3}, {"seeds": [3, 8], "position": 0.25} or
{"latent": "..."} (see `styles.pack`); for a model with attributes also {"labels": {"hair": "silver"}}, and if the head
is turned {"turn": 12.0}."""

COUNT = 16
DIGITS = 10  # of a seed at most
TURN, MOST_TURN = "turn", 25  # key of the angle, and the largest one in degrees: with more, parts would be folded


def choose_seeds(count: int | None, seeds: str | None, seed: int | None) -> list[range]:
    """The seeds given by --count, --seeds and --seed. Raises ValueError if they contradict each other."""
    if seeds is None:
        first, many = 0 if seed is None else seed, COUNT if count is None else count
        if first + many - 1 > LAST_SEED:
            raise ValueError(f"--seed {first}: with --count {many}, seeds would exceed {LAST_SEED}")
        return [range(first, first + many)]
    ranges = parse_seeds(seeds)
    if count is not None and count != (total := sum(map(len, ranges))):
        raise ValueError(f"--count {count}: conflicts with the {total} of --seeds {seeds}; leave one of them out")
    return ranges


def parse_seeds(text: str) -> list[range]:
    """Parses numbers and inclusive ranges such as "0-35,77". Raises ValueError if malformed."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
        if not match:
            raise ValueError(f"--seeds {text}: {part!r} is neither a number nor a range; write 0-35,77")
        numbers = match[1], match[2] or match[1]
        if any(len(number) > DIGITS or int(number) > LAST_SEED for number in numbers):
            raise ValueError(f"--seeds {text}: {part!r} is larger than {LAST_SEED}")
        first, last = map(int, numbers)
        if first > last:
            raise ValueError(f"--seeds {text}: {part!r} must be ascending; write {last}-{first}")
        ranges.append(range(first, last + 1))
    for before, after in pairwise(sorted(ranges, key=lambda r: r.start)):
        if after.start < before.stop:
            raise ValueError(f"--seeds {text}: seed {after.start} is given twice; give each once")
    return ranges


def seed_text(seeds: Iterable[int]) -> str:
    """Ascending seeds as text: 0-3,7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and parts[-1][1] == seed - 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def from_seeds(ranges: Iterable[range]) -> Iterator[Shot]:
    """Yields a shot for each seed, lazily."""
    return ({"seed": number} for number in chain(*ranges))


def interpolation(text: str, frames: int) -> list[Shot]:
    """`frames` evenly spaced shots along the seeds of a text such as "3-8-12", ends included."""
    if not re.fullmatch(r"[0-9]{1,10}(-[0-9]{1,10})+", text) or max(keys := [*map(int, text.split("-"))]) > LAST_SEED:
        raise ValueError(f"--interpolate {text}: give two or more seeds, such as 3-8 or 3-8-12")
    if any(a == b for a, b in pairwise(keys)):
        raise ValueError(f"--interpolate {text}: two consecutive seeds are equal")
    shots: list[Shot] = []
    for i in range(frames):
        leg, position = divmod(i * (len(keys) - 1), frames - 1)
        if leg == len(keys) - 1:  # the end of the last leg, not the beginning of one more
            leg, position = leg - 1, frames - 1
        shots.append({"seeds": keys[leg : leg + 2], "position": position / (frames - 1)})
    return shots


def turned(shot: Shot, degrees: float) -> Shot:
    """The shot with the head turned by an angle, see `perception.turning`; 0 is as the generator draws it."""
    straight = {key: value for key, value in shot.items() if key != TURN}
    return {**straight, TURN: degrees} if degrees else straight


def angle_of(shot: Shot) -> float:
    """The angle by which the head of a shot is turned, in degrees."""
    return float(shot.get(TURN, 0.0))


def batched(shots: Iterable[Shot], size: int) -> Iterator[list[Shot]]:
    """The shots in lists of `size`; the last one may be shorter."""
    remaining = iter(shots)
    while group := list(islice(remaining, size)):
        yield group


def file_name(shot: Shot, i: int) -> str:
    """File name of the i-th picture."""
    if "latent" in shot:
        return "latent.png"
    return f"seed{shot['seed']:04d}.png" if "seed" in shot else f"frame{i:04d}.png"


def cells(shot: Shot) -> dict[str, object]:
    """The cells of a picture's row in the table."""
    labels = shot.get("labels", {})
    if "latent" in shot:
        return labels
    if "seed" in shot:
        return {"seed": shot["seed"], **labels}
    return {"seed": "-".join(map(str, shot["seeds"])), "position": f"{shot['position']:.4f}", **labels}
