"""Nothing that a verb makes changes unless it is meant to: `python -m tests.recorded.record` says so."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from . import record
from .cases import CASES, Given


@pytest.fixture
def given(
    tmp_path: Path,
    faces: Path,
    tagged_faces: Path,
    pointed_faces: Path,
    contoured_faces: Path,
    boxed_faces: Path,
    photos: Path,
) -> Given:
    torch.manual_seed(0)
    np.random.seed(0)
    return Given(tmp_path, faces, tagged_faces, pointed_faces, contoured_faces, boxed_faces, photos)


@pytest.mark.parametrize("name", CASES)
def test_the_same_comes_out(name: str, given: Given) -> None:
    found = record.describe(CASES[name](given), given.folder)
    if os.environ.get(record.RECORDING):
        record.keep(name, found)
        return
    recorded = record.read()
    changed = record.differences(found, recorded["cases"][name], exact=recorded["machine"] == record.machine())
    assert not changed, "\n".join([f"{name} makes something else than before", *changed])


def test_every_case_is_recorded() -> None:
    assert record.read()["cases"].keys() == CASES.keys()


def test_the_smallest_difference_is_seen(tmp_path: Path) -> None:
    one, other = np.zeros(9, np.float32), np.zeros(9, np.float32)
    other[4] = 1e-30
    a, b, c = (record.describe({"x": x}, tmp_path) for x in (one, other, one + 1))
    assert record.differences(a, b, exact=True) and not record.differences(a, b, exact=False)
    assert record.differences(a, c, exact=False) and not record.differences(a, a, exact=True)
    before, after = ({name: torch.ones(3), "z.0": torch.zeros(2)} for name in ("g.a", "net.b"))
    assert not record.differences(*(record.describe({"x": x}, tmp_path) for x in (before, after)), exact=True)
