"""Schedules of the learning rate."""

from __future__ import annotations

import math

import pytest

from kyara.nn.configs import AdamWConfig, CosineConfig, OptimizerConfig


def test_the_learning_rate_is_constant_by_default() -> None:
    assert {OptimizerConfig().lr_scale(progress) for progress in (0.0, 0.3, 1.0, 2.0)} == {1.0}


def test_it_falls_over_the_last_share_of_the_run() -> None:
    decaying = OptimizerConfig(decay=0.2)
    assert [decaying.lr_scale(progress) for progress in (0.0, 0.8)] == [1.0, 1.0]
    assert decaying.lr_scale(0.9) == pytest.approx(0.5)
    assert decaying.lr_scale(1.0) == decaying.lr_scale(1.3) == 0.0


def test_it_rises_over_the_first_share_of_the_run() -> None:
    rising = OptimizerConfig(warmup=0.1)
    assert 0 < rising.lr_scale(0.0) < rising.lr_scale(0.05) < rising.lr_scale(0.1) == rising.lr_scale(1.0) == 1.0


@pytest.mark.parametrize("config", [CosineConfig(), AdamWConfig()])
def test_a_cosine_begins_where_the_warm_up_ends(config: OptimizerConfig) -> None:
    for progress in (0.05, 0.3, 0.5, 0.9, 1.0):
        expected = 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95))
        assert config.lr_scale(progress) == pytest.approx(expected)


def test_shares_may_add_up_to_the_whole_run() -> None:
    both = OptimizerConfig(warmup=1.0, decay=1.0)
    assert both.lr_scale(0.5) == pytest.approx(0.5, abs=1e-3)
    assert both.lr_scale(1.0) == 1.0
