"""The ways of computing one filter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from kyara.nn import filters

CALLS = {
    "blur by 1": (False, False, (1, 1)),
    "blur by 2": (False, False, (2, 2)),
    "down": (False, True, (1, 1)),
    "up": (True, False, (2, 1)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("size", [(8, 6), (2, 2)])
def test_shifts_and_sums(call: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    expected = filters._convolved(x, *CALLS[call], 4.0)
    assert torch.allclose(filters._shifted(x, *CALLS[call], 4.0), expected, atol=1e-12)


INTERPRETED = """
import torch
from kyara.nn import filters, fused_filter
filters.fused_filter = fused_filter
for channels in (3, 40):
    for call in {calls}:
        x = torch.randn(2, channels, 8, 6)
        expected, found = filters._convolved(x, *call, 4.0), filters._fused(x, *call, 4.0)
        assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-6), call
"""


def test_the_triton_kernel_interpreted() -> None:
    """Without a GPU, where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton, which PyTorch for CUDA on Linux includes; run: pip install triton")
    script = INTERPRETED.format(calls=list(CALLS.values()))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
