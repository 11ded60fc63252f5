"""Inference on a GPU: a seed's picture depends on nothing else, --like repeats it, and the verbs agree with the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture

import kyara
from kyara import models
from kyara.curation import scoring
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, encode_png, quantise, read_recipe, write_png
from kyara.generation import sampler
from kyara.models.base import Generator, Scorer, latents
from kyara.training.inference import fit_batch, move, start_copy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and PyTorch for CUDA")

CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return sampler.load_generator("builtin:anime", CUDA)


def made(generator: Generator, seeds: range, **options: Any) -> torch.Tensor:
    z = latents(seeds, generator.z_dim)
    return quantise(sampler.sample(generator, z, generator.draw(seeds), truncation=0.7, **options)).int()


def test_a_seed_alone_is_the_one_in_a_batch(generator: Generator) -> None:
    """To the bit: the batch is padded to the same size, and the kernels are the same."""
    whole = made(generator, range(64))
    for seed in (0, 17, 63):
        assert torch.equal(made(generator, range(seed, seed + 1))[0], whole[seed]), seed


def test_other_batch_sizes_differ_by_a_level(generator: Generator) -> None:
    whole = made(generator, range(64))
    for batch in (1, 8, 32):
        assert (made(generator, range(64), batch=batch) - whole).abs().max() <= 1, batch


def test_settings_for_speed_change_nothing(generator: Generator) -> None:
    """A training run in the same process, or the user, may have set them."""
    plain = made(generator, range(8))
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    cudnn.benchmark = cudnn.allow_tf32 = products.allow_tf32 = True
    try:
        assert torch.equal(made(generator, range(8)), plain)
        assert cudnn.benchmark and cudnn.allow_tf32 and products.allow_tf32
    finally:
        cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = before


@pytest.mark.parametrize("options", [{"seeds": "0-99"}, {"seeds": "77", "mirror": True, "truncation": 1.0}])
def test_like_makes_the_very_same_picture(tmp_path: Path, options: dict[str, Any]) -> None:
    out = kyara.generate(out=tmp_path / "old", device="cuda", **options).out
    recipe = read_recipe(out / "seed0077.png") or {}
    assert recipe["computed"]["device"] == torch.cuda.get_device_name() and recipe["computed"]["batch"] >= 1
    result = kyara.generate(like=out / "seed0077.png", out=tmp_path / "new", device="cuda")
    assert result.identical, str(result)


def test_like_repeats_the_batch_size(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the recipe, also where more or less memory is free than there was."""
    monkeypatch.setattr(sampler, "GPU_BATCH", 4)
    old = kyara.generate(seeds="5", upscale="none", out=tmp_path / "old", device="cuda").out / "seed0005.png"
    assert (read_recipe(old) or {})["computed"]["batch"] == 4
    monkeypatch.undo()
    new = kyara.generate(like=old, out=tmp_path / "new", device="cuda")
    assert new.identical and (read_recipe(new.out / "seed0005.png") or {})["computed"]["batch"] == 4


def test_like_on_the_cpu_says_where_the_picture_was_made(tmp_path: Path) -> None:
    old = kyara.generate(seeds="5", out=tmp_path / "old", device="cuda").out / "seed0005.png"
    result = kyara.generate(like=old, out=tmp_path / "new", device="cpu")
    assert result.like_device == torch.cuda.get_device_name()
    assert result.difference is not None and result.difference <= 2


def test_a_batch_fits_the_memory() -> None:
    def run(count: int) -> None:
        torch.empty(count, 64 * 2**20, dtype=torch.uint8, device=CUDA).zero_()

    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    batch = fit_batch(run, CUDA, cpu=8, most=2**20)
    assert batch & (batch - 1) == 0 and free / 5 <= batch * 64 * 2**20 <= free / 1.9
    assert fit_batch(run, CUDA, cpu=8, most=2) == 2
    with pytest.raises(torch.OutOfMemoryError):
        fit_batch(lambda count: torch.empty(count, 2 * free, dtype=torch.uint8, device=CUDA), CUDA, cpu=8, most=4)


def test_copies_arrive_whole() -> None:
    pictures = torch.randint(0, 256, (64, 96, 96, 3), dtype=torch.uint8)
    waits = [start_copy(move(pictures + i, CUDA)) for i in range(8)]  # all in flight at once
    assert all(torch.equal(wait()[0], pictures + i) for i, wait in enumerate(waits))
    there = pictures.cuda()
    assert move(there, CUDA) is there


def test_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(70):
        write_png(tmp_path / "in" / f"{i:02d}.png", drawn_picture(i, 64))
    outs = {
        name: kyara.rank(tmp_path / "in", out=tmp_path / name, **options).out
        for name, options in {
            "cpu": {"device": "cpu"}, "gpu": {"device": "cuda"}, "few": {"device": "cuda", "batch": 7}
        }.items()
    }  # fmt: skip
    scores = {k: {row["source"]: float(row["score"]) for row in read_gallery(out)} for k, out in outs.items()}
    for name in ("gpu", "few"):
        assert scores[name].keys() == scores["cpu"].keys()
        assert all(abs(scores[name][key] - value) <= 0.03 for key, value in scores["cpu"].items())


def test_a_scorer_of_another_size_sees_the_same(generator: Generator) -> None:
    scorer = scoring.load_scorer("builtin:distortion", CUDA)
    assert isinstance(scorer, Scorer)
    pictures = quantise(sampler.sample(generator, latents(range(8), generator.z_dim)))
    there = scoring.score_pictures(pictures, scorer)
    cpu = models.load("builtin:distortion")
    assert isinstance(cpu, Scorer)
    assert np.allclose(there, scoring.score_pictures(pictures.cpu(), cpu), atol=0.03)


def test_translating_together_is_translating_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kyara.generation import tiles

    (tmp_path / "in").mkdir()
    for i in range(6):
        (tmp_path / "in" / f"{i}.png").write_bytes(encode_png(drawn_picture(i, 64 if i < 4 else 80)))
    together = kyara.translate("builtin:cartoon", tmp_path / "in", out=tmp_path / "together", device="cuda").out
    monkeypatch.setattr(tiles, "PIXELS", 1)
    alone = kyara.translate("builtin:cartoon", tmp_path / "in", out=tmp_path / "alone", device="cuda").out
    assert read_gallery(together) == read_gallery(alone)
    for row in read_gallery(alone):
        a, b = (decode(out / row["file_name"]).astype(int) for out in (alone, together))
        assert np.abs(a - b).mean() < 1  # bfloat16


def test_evaluate_and_tag_agree_with_the_cpu(tmp_path: Path) -> None:
    kyara.generate(count=48, rank="none", out=tmp_path / "faces", device="cuda")
    found = [kyara.evaluate(str(tmp_path / "faces"), device=device).scores for device in ("cpu", "cuda")]
    for a, b in zip(*found, strict=True):
        assert a.name == b.name and a.value == pytest.approx(b.value, rel=0.05, abs=0.03)
