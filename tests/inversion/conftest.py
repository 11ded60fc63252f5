"""Statistics of the inversion tests are estimated from fewer samples than usual."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kyara.inversion import latents, pose, reverse


@pytest.fixture(autouse=True, scope="package")
def few_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "SAMPLES", 128)
        patch.setattr(pose, "SAMPLES", 64)
        patch.setattr(pose, "STEPS", 10)
        patch.setattr(reverse, "PAIRS", 8)
        yield
