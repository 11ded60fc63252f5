"""What `kyara prepare --force` replaces, and what is there while it does."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from kyara.files import pictures
from kyara.preparation.prepare import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "art").mkdir()
    for i in range(3):
        blobs = np.random.RandomState(i).randint(0, 256, (6, 6, 3), dtype=np.uint8)
        (tmp_path / "art" / f"{i}.png").write_bytes(pictures.encode_png(pictures.resize(blobs, 64, 64)))
    return tmp_path / "art"


@pytest.mark.parametrize("report", [None, '{"kept": 1, "pictures": 3, "left_out": []}', "[" * 100_000, "{"])
def test_force_replaces_only_what_prepare_wrote(folder: Path, tmp_path: Path, report: str | None) -> None:
    """A forgotten OUT makes the last source the output; ranked galleries have a report.json too."""
    with zipfile.ZipFile(tmp_path / "more-art.zip", "w") as archive:
        archive.writestr("thesis.docx", "mine")
    (tmp_path / "ranked").mkdir()
    (tmp_path / "ranked" / "a.png").write_bytes(b"mine")
    if report is not None:
        (tmp_path / "more-art.zip.report.json").write_text(report)
        (tmp_path / "ranked" / "report.json").write_text(report)
    for name in ("more-art.zip", "ranked"):
        for force in (False, True):
            with pytest.raises(FileExistsError) as refused:
                prepare(folder, tmp_path / name, size="32", force=force)
            assert "choose" in str(refused.value) and "add --force" not in str(refused.value)
    with pytest.raises(FileExistsError, match=r"more-art\.zip: exists, but .*if it is a source, give the output"):
        prepare(folder, tmp_path / "more-art.zip", force=True)
    assert zipfile.ZipFile(tmp_path / "more-art.zip").namelist() == ["thesis.docx"]
    assert (tmp_path / "ranked" / "a.png").exists()


def test_a_zip_never_lacks_its_report(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between both, a run could otherwise not go on: --force replaces no .zip without a report."""
    out, replace = tmp_path / "out.zip", Path.replace
    missing: list[Path] = []

    def replacing(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        missing.extend([target] if out.exists() and not (tmp_path / "out.zip.report.json").is_file() else [])
        return moved

    monkeypatch.setattr(Path, "replace", replacing)
    prepare(folder, out, size="32")
    prepare(folder, out, size="32", force=True)
    assert not missing and out.is_file()
