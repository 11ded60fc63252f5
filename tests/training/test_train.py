"""The verb: every option is checked before any work, and the result says what was done."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from kyara import models
from kyara.files.dataset import open_dataset
from kyara.models import vae
from kyara.training.runtime import has_bfloat16, make_fabric, pick_device, pick_precision
from kyara.training.train import TrainResult, train

NUMBERS = [name for name, kind in get_type_hints(train).items() if {int, float} & {kind, *get_args(kind)}]
NONSENSE: list[float] = [-1, -8, -0.5, math.nan, math.inf, -math.inf, 10**30]
ZERO_IS_FINE = {"kimg", "patience", "seed", "workers", "augment_target"}


def refuse(faces: Path, run: Path, **options: Any) -> str:
    """The sentence with which the command is refused. Nothing is written."""
    with pytest.raises((ValueError, OSError)) as caught:
        train("dcgan", faces, out=run, **{"preset": "tiny", **options})
    assert not run.exists()
    assert "\n" not in str(caught.value) and type(caught.value) in (ValueError, FileExistsError)
    return str(caught.value)


def test_all_numbers_are_known() -> None:
    assert set(NUMBERS) == {
        "kimg", "snap", "patience", "batch", "micro_batch", "augment_target", "tune_layers", "layer_lr_multiplier",
        "seed", "devices", "workers",
    }  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_make_no_sense_are_refused(name: str, faces: Path, tmp_path: Path) -> None:
    values = [value for value in NONSENSE if not (name == "augment_target" and -1 <= value <= 1)]
    for value in values + [0] * (name not in ZERO_IS_FINE):
        assert refuse(faces, tmp_path / "run", **{name: value}).startswith(f"--{name.replace('_', '-')} ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"micro_batch": 3}, "--micro-batch 3: must divide --batch 8"),
        ({"micro_batch": 16}, "--micro-batch 16: must divide --batch 8"),
        ({"devices": 3, "device": "cpu"}, "--batch 8: must be a multiple of --devices 3"),
        ({"set": "optimizer.lr=nan"}, "--set optimizer.lr=nan: must be a finite number"),
        ({"set": "optimizer.lr=-1"}, "--set optimizer.lr=-1.0: must be"),
        ({"set": "optimizer.batch=0"}, "--batch 0"),
        ({"set": "optimizer.betas=0.5"}, "--set optimizer.betas=0.5: must be of type tuple[float, float]"),
        ({"set": "optimizer.betas=0.5/0.9/0.99"}, "--set optimizer.betas=0.5/0.9/0.99: must be of type tuple["),
        ({"set": "optimizer.betas=1/2"}, "optimizer.betas: must be two numbers from 0 to below 1"),
        ({"set": "network.channels=0"}, "--set network.channels=0: dcgan cannot be built (a layer has no weights)"),
        ({"set": "network.channels=0", "dry_run": True}, "--set network.channels=0: dcgan cannot be built"),
        ({"set": "optimizer.warmup=2"}, "optimizer.warmup=2.0: is a share of the run; must be from 0 to 1"),
        ({"set": "optimizer.decay=1.5"}, "optimizer.decay=1.5: is a share of the run; must be from 0 to 1"),
        ({"set": "speed=3"}, "--set speed=3: no such hyperparameter"),
        ({"preset": ""}, "--preset"),
        ({"size": "0"}, "--size 0"),
        ({"size": "99999"}, "--size 99999"),
        ({"device": "meta"}, "--device meta: not a device"),
        ({"device": "cuda:99"}, "--device cuda:99: not usable here"),
        ({"device": ""}, "--device"),
        ({"init": ""}, "--init: is empty"),
        ({"of": "builtin:anime"}, "--of builtin:anime: dcgan is not trained on another model"),
        ({"layer": "3"}, "--layer 3: needs --of"),
        ({"augment_target": 0.6, "augment": "none"}, "--augment-target 0.6: needs --augment ada, not none"),
        ({"augment_target": 0.5, "augment": "diffaugment"}, "--augment-target 0.5: needs --augment ada, not diff"),
        ({"attributes": "mood"}, "--attributes mood"),
        ({"tune_layers": 1}, "need --init"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], message: str, faces: Path, tmp_path: Path
) -> None:
    assert message in refuse(faces, tmp_path / "run", **options)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("stylegan2", "network.wavelets=9", "network.wavelets=9: must be at most 3 for pictures of 32 pixels"),
        ("stylegan2", "network.wavelets=4", "network.wavelets=4: must be at most 3"),
        ("gansnroses", "network.wavelets=9", "network.wavelets=9: must be at most 3"),
        ("stylegan2", "network.channel_max=0", "--set network.channel_max=0: stylegan2 cannot be built"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(
    model: str, changes: str, message: str, faces: Path, tmp_path: Path, dry_run: bool
) -> None:
    data = {"photos": faces, "drawings": faces} if model == "gansnroses" else {"data": faces}
    with pytest.raises(ValueError, match=re.escape(message)):
        train(model, **data, out=tmp_path / "run", preset="tiny", workers=0, set=changes, dry_run=dry_run)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_stored_run_with_such_numbers_can_be_read() -> None:
    """They were accepted by older versions."""
    config = {"optimizer": {"warmup": 2.0}, "data": {"width": 32, "height": 32}, "network": {"wavelets": 4}}
    assert models.build("stylegan2", config).config.optimizer.warmup == 2.0


def test_a_file_is_no_run_folder(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="not a run"):
        train("dcgan", faces, out=tmp_path / "file", preset="tiny")


def test_the_target_of_ada_has_a_default(faces: Path, tmp_path: Path) -> None:
    for given, expected in (None, 0.6), (0.25, 0.25), (0.0, 0.0):
        planned = train("dcgan", faces, out=tmp_path / "run", preset="tiny", augment_target=given, dry_run=True)
        assert planned.settings["training"]["augment_target"] == expected
    plain = train("dcgan", faces, out=tmp_path / "run", preset="tiny", augment="none", dry_run=True)
    assert plain.settings["training"]["augment_target"] == 0.6  # earlier runs can be resumed


def test_a_misspelled_model_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys, kyara\n"
        "try: kyara.train('stylgan2', 'faces')\n"
        "except ValueError as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("'stylgan2': no such model; did you mean stylegan2? there are: acgan, ")


def test_data_without_a_model_are_named(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    with pytest.raises(ValueError, match=r"faces: is no model; give one before the data: kyara train stylegan2 "):
        train(str(tmp_path / "faces"))


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"micro_batch": 1}, "--micro-batch 1"),
        ({"batch": 1}, "--batch 1"),
        ({"batch": 2, "devices": 2, "device": "cpu"}, "--batch 2 --devices 2"),
    ],
)
def test_a_model_that_needs_two_pictures_refuses_one(
    options: dict[str, Any], given: str, faces: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{given}: this model cannot learn from 1 alone; it needs 2"):
        train("mlp", faces, out=tmp_path / "run", preset="tiny", workers=0, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"augment": "ada"}, "augment"),
        ({"augment_colour": False}, "augment-colour"),
        ({"augment_target": 0.5}, "augment-target"),
    ],
)
def test_a_model_without_a_discriminator_has_no_augmentation_of_its_input(
    options: dict[str, Any], given: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a run was begun with these options: their values are its settings."""
    how: dict[str, Any] = {"out": tmp_path / "run", "preset": "tiny", "workers": 0, "kimg": 0, **options}
    with pytest.raises(ValueError, match=f"^--{given}: vae has no discriminator whose input is augmented; leave"):
        train("vae", faces, **how)
    assert not (tmp_path / "run").exists()
    with monkeypatch.context() as before:
        before.setattr(vae.Model, "augments", True)
        train("vae", faces, **how)
    assert train("vae", faces, **how).finished


def test_a_forecast_measures_and_writes_nothing(faces: Path, tmp_path: Path) -> None:
    made = train("mlp", faces, out=tmp_path / "run", preset="tiny", workers=0, kimg=5000, forecast=True)
    assert re.fullmatch(r"about [\d.]+ (minutes|hours|days) for 5000 kimg, at [\d.e+]+ pictures a second", str(made))
    assert not (tmp_path / "run").exists()


def test_the_result_says_what_was_done(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = train("mlp", faces, out=tmp_path / "run", preset="tiny", workers=0, kimg=0.1, dry_run=True)
    assert planned.dry_run and not planned.out.exists()
    shown = json.loads(str(planned))
    assert shown["config"]["optimizer"]["batch"] == 8 and shown["training"]["seed"] == 0
    done = train("mlp", faces, out=tmp_path / "run", preset="tiny", workers=0, kimg=0.1)
    assert isinstance(done, TrainResult) and done.settings == planned.settings
    assert str(done) == f"done: {tmp_path / 'run'}\nuse it with: kyara generate {tmp_path / 'run'}"
    assert done.as_json()["out"] == str(tmp_path / "run") and done.as_json()["finished"]
    assert capsys.readouterr().out == ""


def test_fabric_uses_the_device_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("lightning_fabric.Fabric", lambda **options: given.append(options))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    make_fabric(torch.device("cuda:1"))
    make_fabric(torch.device("cuda"), devices=4)
    assert [one["devices"] for one in given] == [[1], 4]
    with pytest.raises(ValueError, match="--devices 2: --device cuda:1 is one device"):
        make_fabric(torch.device("cuda:1"), devices=2)
    with pytest.raises(ValueError, match="--devices 5: there are 4 CUDA devices"):
        make_fabric(torch.device("cuda"), devices=5)


@pytest.mark.parametrize(
    ("capabilities", "able"), [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]
)
def test_there_is_one_test_of_bfloat16(
    capabilities: dict[str, bool], able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    cpu = pick_device("cpu")
    assert has_bfloat16(cpu) is able and pick_precision("auto", cpu) == ("bf16" if able else "32")
    assert pick_precision("32", cpu) == "32" and pick_precision("bf16", cpu) == "bf16"


def test_float32_is_float32() -> None:
    make_fabric(torch.device("cpu"))
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32


@pytest.mark.filterwarnings("error::UserWarning")
def test_one_picture_is_enough_and_has_no_diversity(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    picture = open_dataset(faces).read(0)
    (tmp_path / "one" / "a.png").write_bytes(picture)
    run = train("mlp", tmp_path / "one", out=tmp_path / "run", preset="tiny", workers=0, kimg=0.02, snap=0.02).out
    for name in ("stats.jsonl", "config.json"):
        text = (run / name).read_text()
        assert "NaN" not in text and "diversity" not in text
