"""The verb `kyara tag`: what it fills, what it leaves alone, and what stays when it is interrupted."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_files import fill

import kyara
from kyara import models
from kyara.files import cache, checkpoint, pictures, shards
from kyara.files.dataset import Dataset, open_dataset
from kyara.labels.attributes import Label, read_labels, write_labels
from kyara.labels.results import CompletionResult
from kyara.labels.tagger import CheckpointTagger, load_tagger
from kyara.labels.task import TagTask, predicted
from kyara.models.tagger import PRESETS, Model

BRIGHT = {"tone": ("dark", "light"), "kind": ("a", "b", "c")}


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Checkpoint that really tells dark pictures from light ones: trained here, in seconds."""
    folder = tmp_path_factory.mktemp("tagger")
    torch.manual_seed(0)
    model = Model(PRESETS["tiny"].replace(data={"attributes": BRIGHT}, augment={"brightness": 0.0}))
    optimizer = torch.optim.Adam(model.net.parameters(), 3e-3)
    for _ in range(30):
        label = torch.randint(2, (16,))
        real = torch.rand(16, 3, 32, 32) * 0.3 + (label * 1.2 - 0.9)[:, None, None, None]
        batch = models.base.Batch(real.clamp(-1, 1), labels={"tone": label, "kind": torch.full((16,), -1)})
        sum(model.losses("train", batch).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.net_ema.load_state_dict(model.net.state_dict())
    model.temperatures[1] = 4.0  # never very sure of the kind, about which it learned nothing
    config = dataclasses.asdict(model.config)
    checkpoint.write(folder, model="tagger", config=config, weights=models.stored(model), card="", about={})
    return folder


def png(value: int) -> bytes:
    return pictures.encode_png(np.full((40, 30, 3), value, np.uint8))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve pictures, the even ones dark; what some of them are is said already, two are damaged."""
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.csv", "file_name,tone,note\n00.png,light,mine\n01.png,,\n")
        for i in range(12):
            archive.writestr(f"{i:02d}.png", png(240 if i % 2 else 15))
        archive.writestr("12.png", b"no picture")
        archive.writestr("13.png", png(240)[:-40])
    return path


def run(faces: Path, **options: Any) -> dict[str, Any]:
    return kyara.tag(faces, **options).as_json()


def test_it_fills_what_is_unknown_and_nothing_else(faces: Path, tagger: Path) -> None:
    dataset = open_dataset(faces)
    write_labels(
        dataset, [Label("02.png", "tone", "light", None, "person"), Label("04.png", "tone", "", None, "person")]
    )
    before = {name: zipfile.ZipFile(faces).read(name) for name in dataset.names}
    report = run(faces, model=str(tagger), attributes="tone", threshold=0.6, batch=4, workers=2)
    after = open_dataset(faces)
    assert (
        after.attributes["tone"] == ["light", "light", "light", "light", "", "light"] + ["dark", "light"] * 3 + [""] * 2
    )
    assert after.attributes["note"][0] == "mine" and "kind" not in after.attributes
    by = {label.file_name: label for label in read_labels(after) if label.attribute == "tone"}
    assert [by[f"{i:02d}.png"].by for i in (0, 2, 4)] == ["source", "person", "person"]
    assert by["06.png"].by == f"tagger:{tagger}" and 0.6 <= (by["06.png"].probability or 0) <= 1
    assert report["attributes"]["tone"] == {"filled": 9, "unknown": 3, "values": {"light": 6, "dark": 3}}
    assert [entry["file_name"] for entry in report["left_out"]] == ["12.png", "13.png"]
    assert {name: zipfile.ZipFile(faces).read(name) for name in dataset.names} == before
    again = run(faces, model=str(tagger), attributes="tone", threshold=0.6)
    assert again["attributes"]["tone"]["filled"] == 0


def test_the_threshold_holds(faces: Path, tagger: Path) -> None:
    report = run(faces, model=str(tagger), attributes="kind", threshold=0.99)
    assert report["attributes"]["kind"] == {"filled": 0, "unknown": 14, "values": {}}
    assert "kind" not in open_dataset(faces).attributes
    report = run(faces, model=str(tagger), threshold=0.0)
    assert report["attributes"]["kind"]["filled"] == 12 and report["attributes"]["tone"]["filled"] == 11


def test_again_asks_about_guesses_only(faces: Path, tagger: Path) -> None:
    wrong = [Label("06.png", "tone", "light", 0.9, "tagger:old"), Label("08.png", "tone", "light", None, "person")]
    write_labels(open_dataset(faces), wrong)
    run(faces, model=str(tagger), attributes="tone")
    assert open_dataset(faces).attributes["tone"][6] == "light"
    run(faces, model=str(tagger), attributes="tone", again=True)
    assert [open_dataset(faces).attributes["tone"][i] for i in (0, 6, 8)] == ["light", "dark", "light"]


def test_a_dry_run_changes_nothing(faces: Path, tagger: Path) -> None:
    before = faces.read_bytes()
    report = run(faces, model=str(tagger), dry_run=True)
    assert report["attributes"] == {"tone": {"unknown": 13}, "kind": {"unknown": 14}}
    assert faces.read_bytes() == before


def task(dataset: Dataset, tagger: Path, *, batch: int, workers: int) -> TagTask:
    return TagTask(dataset, str(tagger), None, focus=False, device="cpu", batch=batch, threads=workers)


def test_memory_is_bounded(faces: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more pictures in hand than three batches and what the threads hold, however many there are."""
    held, most = 0, 0
    fit, probabilities = CheckpointTagger.fit, CheckpointTagger.probabilities

    def counted(self: CheckpointTagger, picture: np.ndarray) -> np.ndarray:
        nonlocal held, most
        held += 1
        most = max(most, held)
        return fit(self, picture)

    def done(self: CheckpointTagger, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal held
        held -= len(pictures)
        return probabilities(self, pictures)

    monkeypatch.setattr(CheckpointTagger, "fit", counted)
    monkeypatch.setattr(CheckpointTagger, "probabilities", done)
    dataset = open_dataset(faces)
    many = task(dataset.subset([i % 12 for i in range(200)]), tagger, batch=4, workers=2)
    assert not np.isnan(many.measure(many.load(), range(200)).values).any()
    assert held == 0 and most <= 3 * 4 + 3


def test_the_order_of_pictures_does_not_matter(faces: Path, tagger: Path) -> None:
    dataset = open_dataset(faces).subset(range(12))
    forwards, backwards = task(dataset, tagger, batch=5, workers=3), dataset.subset(range(11, -1, -1))
    once = forwards.measure(forwards.load(), range(12)).values
    alone = task(backwards, tagger, batch=1, workers=1).measure(forwards.load(), range(12)).values[::-1]
    np.testing.assert_array_equal(once[:, 0], [0, 1] * 6)  # dark, light
    np.testing.assert_array_equal(alone[:, 0], once[:, 0])
    np.testing.assert_allclose(alone[:, 1], once[:, 1], atol=0.02)


# --- many pictures


def tables(faces: Path) -> tuple[str, str]:
    with zipfile.ZipFile(faces) as archive:
        return archive.read("metadata.csv").decode(), archive.read("labels.csv").decode()


def test_an_interrupted_run_goes_on(faces: Path, tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With several shards nothing is tagged twice, and the tables are those of one shard."""
    before = faces.read_bytes()
    whole = run(faces, model=str(tagger), batch=2)
    expected = tables(faces)
    faces.write_bytes(before)
    monkeypatch.setattr(shards, "SHARD", 4)
    probabilities, tagged = CheckpointTagger.probabilities, 0

    def dies(self: CheckpointTagger, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal tagged
        tagged += len(pictures)
        if tagged == 10:  # in the third shard
            raise KeyboardInterrupt
        return probabilities(self, pictures)

    monkeypatch.setattr(CheckpointTagger, "probabilities", dies)
    with pytest.raises(KeyboardInterrupt):
        run(faces, model=str(tagger), batch=2)
    assert faces.read_bytes() == before  # nothing is written before all are tagged
    kept = sorted(path.name for path in cache.folder().glob("shards/tags-*/*.npz"))
    assert kept == ["shard-000000.npz", "shard-000001.npz"]
    tagged = 100
    assert run(faces, model=str(tagger), batch=2) == whole and tagged == 104  # the other two are unreadable
    assert tables(faces) == expected and not (cache.folder() / "shards").exists()


def test_another_tagger_begins_anew(faces: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, loaded = open_dataset(faces), load_tagger(tagger)
    monkeypatch.setattr(shards, "SHARD", 4)
    runner, failed = shards.Runner(faces.parent / "pieces"), dict[int, str]()
    first = dict(predicted(task(dataset, tagger, batch=2, workers=1), runner, loaded, failed))
    assert list(first) == [*range(12)] and list(failed) == [12, 13]

    def refused(self: TagTask, *_: Any) -> shards.Rows:
        raise AssertionError("tagged again")

    monkeypatch.setattr(TagTask, "measure", refused)
    assert dict(predicted(task(dataset, tagger, batch=2, workers=1), runner, loaded, {})) == first
    loaded.hash = "another"
    with pytest.raises(AssertionError, match="tagged again"):
        dict(predicted(task(dataset, tagger, batch=2, workers=1), runner, loaded, {}))


def test_a_changed_picture_is_tagged_again(tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the same size in a folder, where nothing but its time tells."""
    monkeypatch.setattr(shards, "SHARD", 2)
    fill(tmp_path / "faces", {f"{i}.png": png(20).ljust(999, b"\0") for i in range(4)})
    runner, loaded = shards.Runner(tmp_path / "pieces"), load_tagger(tagger)

    def tones() -> list[str]:
        found = predicted(task(open_dataset(tmp_path / "faces"), tagger, batch=2, workers=1), runner, loaded, {})
        return [prediction["tone"][0] for _, prediction in found]

    assert tones() == ["dark"] * 4
    fill(tmp_path / "faces", {"1.png": png(230).ljust(999, b"\0")})
    assert tones() == ["dark", "light", "dark", "dark"]


def test_ray_writes_the_same_tables(faces: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(shards, "SHARD", 4)
    before, found = faces.read_bytes(), {}
    for engine in ("local", "ray"):
        faces.write_bytes(before)
        report = run(faces, model=str(tagger), engine=engine, batch=2, workers=1)
        found[engine] = tables(faces), report
    assert found["local"] == found["ray"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": "hat"}, "--attributes hat.*tone, kind"),
        ({"attributes": " , "}, "--attributes"),
        ({"attributes": ""}, "--attributes"),
        ({"threshold": 1.5}, "--threshold"),
        ({"threshold": -1}, "--threshold"),
        ({"threshold": float("nan")}, "--threshold"),
        ({"target": 0.9}, "--target: needs --complete"),
        ({"values": "a,b"}, "--values: needs --complete"),
        ({"answers": Path(__file__)}, "--answers: needs --complete"),
        ({"answers": Path("a.csv")}, "--answers a.csv: no such file"),
        ({"complete": "hat", "answers": Path(__file__).parent}, "--answers .*: is a folder"),
        ({"complete": "hat", "threshold": 0.5}, "--threshold: cannot be combined with --complete"),
        ({"complete": "hat", "again": True}, "--again: cannot be combined with --complete"),
        ({"complete": ""}, "--complete"),
        ({"complete": "source"}, "--complete"),
        ({"complete": "points"}, "--complete 'points': not a valid attribute name"),
        ({"complete": "boxes"}, "--complete 'boxes': not a valid attribute name"),
        ({"complete": "hat", "values": "yes"}, "--values"),
        ({"complete": "hat", "values": ","}, "--values"),
        ({"complete": "hat", "values": "yes,?"}, "--values"),
        ({"complete": "hat", "questions": -1}, "--questions"),
        ({"complete": "hat", "questions": 2**40}, "--questions"),
        ({"complete": "hat", "target": 0.2}, "--target"),
        ({"complete": "hat", "target": float("nan")}, "--target"),
        ({"complete": "hat", "target": float("inf")}, "--target"),
        ({"model": ""}, "--model"),
        ({"model": "builtin:distortion"}, "builtin:distortion: a distortion, but a tagger is needed"),
        ({"batch": 0}, "--batch"),
        ({"processes": 2}, "--processes 2: needs --engine ray"),
        ({"engine": "dask"}, "--engine dask: must be one of local, ray"),
        ({"complete": "hat", "engine": "ray"}, "--engine: cannot be combined with --complete"),
        ({"kind": "clip"}, "--kind clip: must be one of wd"),
        ({"batch": 2**40}, "--batch"),
        ({"workers": 0}, "--workers"),
        ({"workers": 10**6}, "--workers"),
        ({"device": "cuda:77"}, "--device"),
        ({"model": "builtin:nobody"}, "no such built-in"),
    ],
)
def test_mistakes_are_named(faces: Path, tagger: Path, options: dict[str, Any], message: str) -> None:
    before = faces.read_bytes()
    with pytest.raises(ValueError, match=message):
        kyara.tag(faces, **{"model": str(tagger), **options})
    assert faces.read_bytes() == before


def test_the_summary(faces: Path, tagger: Path, capsys: Any) -> None:
    shown = str(kyara.tag(str(faces), model=str(tagger), attributes="tone"))  # type: ignore[arg-type]
    assert "14 pictures" in shown and "tone: filled in 11, left unknown 2" in shown
    assert "12.png" in shown and "light 6, dark 5" in shown
    assert "kind: 14 unknown" in str(kyara.tag(faces, model=str(tagger), attributes="kind", dry_run=True))
    assert capsys.readouterr().out == ""


def test_the_tables_go_to_the_root_of_a_zip(tmp_path: Path, tagger: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(4):
            archive.writestr(f"images/{i}.png", png(240 if i % 2 else 15))
    kyara.tag(path, model=str(tagger), attributes="tone")
    with zipfile.ZipFile(path) as archive:
        assert {"metadata.csv", "labels.csv"} <= set(archive.namelist())
        assert archive.read("metadata.csv").decode().splitlines()[:2] == ["file_name,tone", "images/0.png,dark"]
    dataset = open_dataset(path)
    assert dataset.attributes == {"tone": ["dark", "light"] * 2}
    assert [label.by for label in read_labels(dataset)] == [f"tagger:{tagger}"] * 4


def test_tables_inside_of_images_are_still_read_and_updated(tmp_path: Path, tagger: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/metadata.csv", "file_name,tone\n0.png,light\n")
        archive.writestr("images/0.png", png(15))
        archive.writestr("images/1.png", png(15))
    kyara.tag(path, model=str(tagger), attributes="tone")
    assert set(zipfile.ZipFile(path).namelist()) == {
        f"images/{name}" for name in ("0.png", "1.png", "metadata.csv", "labels.csv")
    }
    assert open_dataset(path).attributes == {"tone": ["light", "dark"]}


def test_complete_gets_the_options(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("kyara.labels.complete")
    calls: list[Any] = []

    def complete(dataset: Any, attribute: str, **options: Any) -> CompletionResult:
        calls.append((len(dataset), attribute, options))
        return CompletionResult(dataset.path, attribute, [], 14, 3)

    monkeypatch.setattr(module, "complete", complete)
    found = run(faces, complete="hat", values="yes,no", questions=7, workers=1, device="cpu")
    assert (found["attribute"], found["unknown"]) == ("hat", 3)
    options = {"values": ["yes", "no"], "questions": 7, "workers": 1, "device": "cpu", "tagger": "builtin:tagger"}
    assert calls == [(14, "hat", options)]
    result = kyara.tag(faces, complete="tone", dry_run=True)
    assert str(result) == "would ask about tone: 13 of 14 unknown" and len(calls) == 1


def test_mistakes_are_refused_before_torch_is_imported(faces: Path) -> None:
    code = (
        "import sys, kyara\n"
        "try: kyara.tag(sys.argv[1], threshold=2)\n"
        "except ValueError as error: print(error, 'torch' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code, faces], capture_output=True, text=True)
    assert shown.stdout.startswith("--threshold 2: ") and shown.stdout.endswith(" False\n"), shown.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names that are not UTF-8 exist on Linux only")
def test_a_name_that_cannot_be_stored_is_left_out(tmp_path: Path, tagger: Path) -> None:
    for name in ("a.png", " b.png", "caf\udce9.png"):
        (tmp_path / name).write_bytes(png(240))
    report = run(tmp_path, model=str(tagger), attributes="tone", threshold=0.6, workers=1)
    assert open_dataset(tmp_path).attributes["tone"].count("light") == 1 == report["attributes"]["tone"]["filled"]
    assert {one["file_name"] for one in report["left_out"]} == {" b.png", "caf\udce9.png"}
    assert {one["reason"] for one in report["left_out"]} == {
        "this name cannot be stored in metadata.csv; rename the file"
    }
    result = kyara.tag(tmp_path, complete="hat", values="yes,no", model="none", workers=1)
    assert isinstance(result, CompletionResult) and result.questions is not None
    assert set(result.left_out) == {" b.png", "caf\udce9.png"} and "\n1,a.png,\n" in result.questions[1].read_text()


def test_what_cannot_be_written_is_refused_before_pictures_are_read(
    faces: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces.write_bytes(b"data before the .zip" + faces.read_bytes())
    monkeypatch.setattr(Dataset, "read", lambda *_: pytest.fail("a picture was read"))
    for options in ({"model": str(tagger)}, {"complete": "hat", "model": "none"}):
        with pytest.raises(ValueError, match=r"faces\.zip: there is data before the \.zip; pack it again"):
            kyara.tag(faces, workers=1, **options)
