"""Installing extras."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kyara.files import extras


def test_the_hint_is_a_command_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "SOURCE", tmp_path / "a clone")
    assert extras.install_hint("hub") == "in Kyara's source folder, run: pip install '.[hub]'"
    (tmp_path / "a clone").mkdir()
    (tmp_path / "a clone" / "pyproject.toml").touch()
    expected = f"run: pip install -e '{tmp_path}/a clone[photo]' (Python 3.11 or 3.12)"
    assert extras.install_hint("photo") == expected


def test_every_hint_names_an_extra_that_exists() -> None:
    source = Path(extras.__file__).parents[1]
    texts = [path.read_text(encoding="utf-8") for path in source.rglob("*.py")]
    named = {extra for text in texts for extra in re.findall(r"install_hint\(['\"](\w+)['\"]\)", text)}
    project = (extras.SOURCE / "pyproject.toml").read_text(encoding="utf-8")
    assert named >= {"hub", "onnx", "video", "photo"}
    assert all(f"\n{extra} = [" in project for extra in named)
