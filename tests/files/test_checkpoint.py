"""Checkpoints on disk: whole or not at all, and nothing believed that was not checked."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch

from kyara.files import checkpoint, hub
from kyara.files.checkpoint import config_text, read, write
from kyara.files.errors import CheckpointError


def written(folder: Path) -> Path:
    write(folder, model="dcgan", config={"width": 8}, weights={"a": torch.ones(3)}, card="# card", about={"kimg": 1})
    return folder


def test_round_trip(tmp_path: Path) -> None:
    found = read(written(tmp_path / "c"))
    assert (found.model, found.config, found.about) == ("dcgan", {"width": 8}, {"kimg": 1})
    assert torch.equal(found.weights()["a"], torch.ones(3))
    assert len(found.hash) == 16
    half = tmp_path / "half"
    write(half, model="x", config={}, weights={"a": torch.ones(3).half()}, card="", about={})
    assert read(half).weights()["a"].dtype == torch.float32
    assert read(half).hash != found.hash


def test_rows_of_numbers_are_lines() -> None:
    content = {"rows": [[0, -1, 12], [1, 2, 3]], "betas": (0.0, 1e-05), "names": ["a", "1"], "none": [], "t": "[\n1]"}
    text = config_text(content)
    assert json.loads(text) == json.loads(json.dumps(content))
    assert "\n    [0, -1, 12],\n    [1, 2, 3]\n" in text and '"betas": [0.0, 1e-05],\n' in text


def test_builtin_checkpoints_are_small_and_honest() -> None:
    total = 0
    for name in checkpoint.builtin_names():
        found = read(f"builtin:{name}")
        assert found.weights()
        card = (found.path / "README.md").read_text(encoding="utf-8")
        assert "licence" in card.lower() and "trained" in card.lower()
        assert not (found.path / "training.pt").exists()
        total += sum(p.stat().st_size for p in found.path.iterdir())
    assert {"anime", "distortion"} <= set(checkpoint.builtin_names())
    assert total < 60e6  # bytes


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"model": 3, "config": {}}', '{"model": "dcgan", "config": []}', "null", "[" * 100_000],
    ids=range(8),
)
def test_garbled_descriptions(tmp_path: Path, content: str) -> None:
    written(tmp_path / "c")
    (tmp_path / "c" / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read(tmp_path / "c")


def test_a_misspelled_builtin_is_suggested() -> None:
    with pytest.raises(CheckpointError, match=r"^builtin:anme: .*; did you mean builtin:anime\? there are: anime, "):
        read("builtin:anme")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read(tmp_path)
    with pytest.raises(CheckpointError, match=r"runs.mine: does not exist"):
        read(tmp_path / "runs" / "mine")
    (tmp_path / "faces.zip").touch()
    with pytest.raises(CheckpointError, match=r"not a checkpoint .* kyara train stylegan2 .*faces\.zip"):
        read(tmp_path / "faces.zip")
    with pytest.raises(CheckpointError, match=r"builtin:nothing: no such built-in checkpoint; there are: anime, "):
        read("builtin:nothing")
    written(tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read(tmp_path / "c").weights()
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="first snapshot"):
        read(tmp_path / "c")


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("trapped",)


def test_no_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "training.pt"
    state.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match=r"training\.pt"):
        checkpoint.load_training(state)
    torch.save({"trap": Trap()}, state)
    with pytest.raises(CheckpointError):
        checkpoint.load_training(state)
    assert not (tmp_path / "trapped").exists()


def test_hub_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a hub would answer, and what is said when there is none."""
    written(tmp_path / "snapshot")

    class Hub:
        asked: tuple[str, list[str]]

        @classmethod
        def snapshot_download(cls, name: str, allow_patterns: list[str]) -> str:
            cls.asked = name, allow_patterns
            if name == "gone/away":
                raise ConnectionError("no route")
            return str(tmp_path / "snapshot")

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)  # type: ignore[arg-type]
    assert read("hf-hub:someone/faces").model == "dcgan"
    assert Hub.asked == ("someone/faces", ["config.json", "model.safetensors", "README.md"])
    with pytest.raises(CheckpointError, match="hf-hub:gone/away: download failed"):
        read("hf-hub:gone/away")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="pip install"):
        hub.download("someone/faces", checkpoint.FILES)


def test_config_is_readable_by_people(tmp_path: Path) -> None:
    described = json.loads((written(tmp_path / "c") / "config.json").read_text())
    assert described == {"model": "dcgan", "config": {"width": 8}, "kimg": 1}
