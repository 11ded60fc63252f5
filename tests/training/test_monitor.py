"""What is reported about a run that has gone wrong, and what is not."""

from __future__ import annotations

import dataclasses

import torch

from kyara.training.monitor import PATIENCE, WARM_UP, CollapseMonitor


def test_a_discriminator_that_has_won_is_reported_once() -> None:
    monitor = CollapseMonitor()
    messages = [monitor.discriminator(1.0, -1.0, WARM_UP) for _ in range(PATIENCE + 5)]
    assert [message is not None for message in messages].count(True) == 1
    assert "classifies every picture correctly" in str(messages[PATIENCE - 1])
    assert monitor.discriminator(0.5, -0.5, WARM_UP) is None
    assert [monitor.discriminator(1.0, -1.0, WARM_UP) for _ in range(PATIENCE)][-1] is not None


def test_samples_that_have_collapsed_are_reported() -> None:
    torch.manual_seed(0)
    reals = torch.randn(16, 3, 8, 8)
    same = reals[:1].repeat(16, 1, 1, 1)
    assert CollapseMonitor().diversity(same, reals, WARM_UP)[1] is not None
    assert CollapseMonitor().diversity(torch.randn(16, 3, 8, 8), reals, WARM_UP)[1] is None


def test_nothing_is_reported_while_a_run_warms_up() -> None:
    """Samples of a healthy network hardly differ at first, and its discriminator is right about all of them."""
    monitor, reals = CollapseMonitor(), torch.randn(16, 3, 8, 8)
    messages = [monitor.discriminator(1.0, -1.0, nimg) for nimg in range(0, WARM_UP, WARM_UP // (2 * PATIENCE))]
    assert len(messages) >= 2 * PATIENCE and not any(messages)
    ratio, message = monitor.diversity(torch.zeros_like(reals), reals, WARM_UP - 1)
    assert ratio == 0 and message is None
    rows, conditions = torch.zeros(2, 6, 3, 8, 8), [("hair", "black"), ("hair", "blue")]
    assert monitor.values(rows, conditions, reals, WARM_UP - 1) == ({"hair=black": 0.0, "hair=blue": 0.0}, None)
    assert monitor.discriminator(1.0, -1.0, WARM_UP) is not None  # the readings before count


def test_the_state_is_restored() -> None:
    monitor = CollapseMonitor()
    for _ in range(PATIENCE - 1):
        monitor.discriminator(1.0, -1.0, WARM_UP)
    other = CollapseMonitor(**dataclasses.asdict(monitor))
    assert other.discriminator(1.0, -1.0, WARM_UP) is not None


def test_values_that_have_collapsed_are_named() -> None:
    torch.manual_seed(0)
    reals, base = torch.randn(16, 3, 8, 8), torch.randn(1, 6, 3, 8, 8)
    conditions = [("hair", "black"), ("hair", "blue"), ("hair", "red"), ("eyes", "green")]
    rows = base + torch.randn(4, 6, 3, 8, 8)

    def values(rows: torch.Tensor) -> tuple[dict[str, float], str | None]:
        return CollapseMonitor().values(rows, conditions, reals, WARM_UP)

    spread, message = values(rows)
    assert message is None and list(spread) == ["hair=black", "hair=blue", "hair=red", "eyes=green"]
    assert all(0.8 < share < 2 for share in spread.values())
    same = rows.clone()
    same[1] = same[1, :1]
    spread, message = values(same)
    assert spread["hair=blue"] == 0
    assert message is not None and message.startswith("the samples of hair=blue have collapsed")
    ignored = rows.clone()
    ignored[2] = ignored[0]
    _, message = values(ignored)
    assert message is not None and message.startswith("hair=black, hair=red: the same latents give the same pictures")
    small = base.repeat(4, 1, 1, 1, 1)  # eyes are small: a few pixels that change are a difference
    small[:3, :, :, 2, 2] += torch.arange(3)[:, None, None]
    assert values(small)[1] is None


def test_values_without_effect_are_found_in_large_pictures() -> None:
    """They are compared at a smaller size."""
    torch.manual_seed(0)
    reals, rows = torch.randn(2, 3, 8, 8), torch.randn(2, 2, 3, 8, 8)
    large = torch.nn.functional.interpolate(rows.flatten(1, 2), size=(600, 600)).unflatten(1, (2, 3))
    conditions = [("hair", "black"), ("hair", "blue")]
    assert CollapseMonitor().values(large, conditions, reals, WARM_UP)[1] is None
    _, message = CollapseMonitor().values(large[:1].expand(2, -1, -1, -1, -1), conditions, reals, WARM_UP)
    assert message is not None and "hair=black, hair=blue: the same latents give the same pictures" in message
