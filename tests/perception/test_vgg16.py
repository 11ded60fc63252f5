"""VGG16 and LPIPS with random weights."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara.perception.vgg16 import ArrayUnpickler, read_weights


def test_kernels_are_read_as_height_width_in_out(vgg16: Any) -> None:
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    seen = ((x - vgg16.shift) / vgg16.scale)[0].movedim(0, -1).numpy()  # (H, W, 3)
    layer = vgg16.source["VGG16_0"]["Conv_0"]
    at = np.einsum("hwi,hwio->o", seen[4:7, 8:11], layer["kernel"]) + layer["bias"]  # around (5, 9)
    first: Tensor = vgg16.blocks[0][0]((x - vgg16.shift) / vgg16.scale)
    np.testing.assert_allclose(first[0, :, 5, 9].numpy(), np.maximum(at, 0), atol=1e-5)
    assert [tuple(maps.shape[1:]) for maps in vgg16(x)] == [
        (64, 16, 16),
        (128, 8, 8),
        (256, 4, 4),
        (512, 2, 2),
        (512, 1, 1),
    ]


def test_lpips_is_nothing_to_itself_and_positive_otherwise(vgg16: Any) -> None:
    a, b = torch.rand(2, 2, 3, 16, 16).unbind()
    assert vgg16.distance(a, a).tolist() == [0, 0]
    assert (vgg16.distance(a, b) > 0).all()


def test_weights_may_hold_arrays_only() -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        ArrayUnpickler(io.BytesIO(pickle.dumps(Hostile()))).load()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps({"VGG16_0": {}}))
    with pytest.raises(ValueError, match=r"sha256 \w+, expected"):
        read_weights(tmp_path / "vgg16.ckpt")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "vgg16.ckpt", "vgg16.ckpt")
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(tmp_path / "other.tar.gz")
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(tmp_path / "absent")
