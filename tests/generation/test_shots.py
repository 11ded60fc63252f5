"""Shots: seeds and interpolations as texts."""

from __future__ import annotations

import pytest

from kyara.generation.shots import interpolation, parse_seeds, seed_text


def test_an_interpolation_touches_every_key_seed() -> None:
    shots = interpolation("3-8-12", 5)
    assert [(shot["seeds"], shot["position"]) for shot in shots] == [
        ([3, 8], 0.0), ([3, 8], 0.5), ([8, 12], 0.0), ([8, 12], 0.5), ([8, 12], 1.0)
    ]  # fmt: skip
    assert len(interpolation("3-8-12-3", 8)) == 8
    for text in ("3", "3-", "a-b", "3-3", "3-99999999999", "3-8-8"):
        with pytest.raises(ValueError, match="--interpolate"):
            interpolation(text, 5)


def test_seeds_are_parsed() -> None:
    assert parse_seeds("0-35,77") == [range(36), range(77, 78)]
    assert parse_seeds(" 5 , 1 - 3 ") == [range(5, 6), range(1, 4)]
    assert parse_seeds("0-4294967295") == [range(2**32)]  # no list of them
    for text in ("", ",", "1,,2", "a", "-3", "5-2", "1.5", "4294967296", "1-2-3", "٣", "9" * 5000):
        with pytest.raises(ValueError, match="--seeds"):
            parse_seeds(text)
    for text in ("99999999999999999999", "4294967296", "1-4294967296", "9" * 5000):
        with pytest.raises(ValueError, match="is larger than 4294967295"):
            parse_seeds(text)
    for text in ("1,1", "0-5,3", "7,0-9"):
        with pytest.raises(ValueError, match="given twice"):
            parse_seeds(text)


def test_seed_text_is_the_inverse_of_parse_seeds() -> None:
    seeds = [0, 1, 2, 7, 9, 10]
    assert seed_text(seeds) == "0-2,7,9-10"
    assert [seed for part in parse_seeds(seed_text(seeds)) for seed in part] == seeds
