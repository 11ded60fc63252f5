"""Features of the parts of a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.perception.face_parts import describe

EXAMPLES = Path(__file__).parents[2] / "examples/characters.zip"


def test_cells_divide_the_regions() -> None:
    pictures = to_float(np.stack([*open_dataset(EXAMPLES).subset(range(4)).decode(range(4), 96, 96)]))
    with torch.inference_mode():
        one, nine = (describe(pictures, cells=cells) for cells in (1, 3))
    for part in ("eyes", "mouth", "face"):
        assert nine[part].shape == (4, 9 * one[part].shape[1])
    channels = one["mouth"].shape[1]
    assert channels == one["face"].shape[1] == one["eyes"].shape[1] // 2
    torch.testing.assert_close(nine["shape"], one["shape"])
    # The mean of equal cells is the mean of all.
    means = [x.unflatten(1, (-1, 9)).mean(2) for x in nine["mouth"].split([9 * 64, 9 * 96, 9 * 64, 9 * 64], 1)]
    torch.testing.assert_close(torch.cat(means, 1), one["mouth"], rtol=1e-4, atol=1e-4)
