"""Kyara's ranking against a transformers pipeline: pictures per second from files to scores, and memory.

.venv-bench/bin/python benchmarks/ranking.py [--model builtin:distortion] [--count 512] [--rounds 5]

Both score the same pictures, which the benchmark draws, from the same files with the same network and weights. They
alternate in this process and use all cores. The pipeline has the defaults of transformers: float32, and batches of 1
beside a larger batch.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleaved, machine, peak_in_fork, pick_clock, ratio, run
from PIL import Image, ImageDraw
from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor, logging, pipeline

from kyara.curation.scoring import load_scorer, measure_all, score
from kyara.curation.sources import open_pictures
from kyara.models.distortion import WHOLE

Ranker = Callable[[Path], list[float]]
"""Scores of the pictures of a folder, in the order of their names."""

BATCH = 64
TOLERANCE = 0.05
"""Largest difference of two scores of a picture that is not resized: bfloat16 against float32, for drawings of which
the recogniser is unsure. Larger pictures are resized with different filters."""
SETS = {"96 px, PNG": (96, ".png"), "96 px, WebP": (96, ".webp"), "512 px, JPEG": (512, ".jpg")}


def draw(seed: int, size: int) -> Image.Image:
    """A drawing with flat colours, outlines and enough detail for a usual file size."""
    roll = random.Random(seed)

    def colour() -> tuple[int, int, int]:
        return roll.randrange(256), roll.randrange(256), roll.randrange(256)

    picture = Image.new("RGB", (size, size), colour())
    pen = ImageDraw.Draw(picture)
    for _ in range(40):
        x, y, r = (roll.random() * size for _ in range(3))
        pen.ellipse((x - r / 4, y - r / 3, x + r / 4, y + r / 3), fill=colour(), outline=(0, 0, 0), width=size // 96)
        pen.arc((y - r / 2, x - r / 2, y + r / 2, x + r / 2), 0, 360 * roll.random(), fill=colour(), width=size // 48)
    return picture


def files(folder: Path, count: int, size: int, suffix: str) -> Path:
    """A folder of `count` pictures."""
    folder.mkdir()
    for i in range(count):
        draw(i, size).save(folder / f"{i:05}{suffix}", quality=90)
    return folder


def by_kyara(model: str) -> Ranker:
    recogniser = load_scorer(model, torch.device("cpu"))

    def measure(pictures: torch.Tensor) -> torch.Tensor:
        return score(pictures, recogniser)[:, None]

    def rank(folder: Path) -> list[float]:
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bar
            failed: dict[int, Exception] = {}
            dataset = open_pictures(folder)
            rows = measure_all(dataset, recogniser, measure, batch=BATCH, workers=os.cpu_count() or 1, failed=failed)
        assert not failed
        scores: list[float] = rows[:, 0].tolist()
        return scores

    return rank


def by_pipeline(model: str, batch: int) -> Ranker:
    recogniser = load_scorer(model, torch.device("cpu"))
    width, height = recogniser.config.data.width, recogniser.config.data.height
    if width != height:
        raise ValueError(f"--model {model}: its input is {width} x {height} pixels; the pipeline's is a square")
    numbers: Any = recogniser.config
    config = ConvNextConfig(
        patch_size=numbers.network.patch_size,
        num_stages=len(numbers.network.depths),
        depths=list(numbers.network.depths),
        hidden_sizes=list(numbers.network.widths),
        layer_scale_init_value=float(numbers.network.layer_scale),
    )
    network = ConvNextForImageClassification(config).eval()
    network.load_state_dict(recogniser.get_submodule("net_ema").state_dict())
    processor = ConvNextImageProcessor(
        size={"shortest_edge": height}, crop_pct=1.0, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    whole = network.config.id2label[WHOLE]
    classify = pipeline("image-classification", model=network, image_processor=processor, device="cpu")

    def rank(folder: Path) -> list[float]:
        answers = classify([str(path) for path in sorted(folder.iterdir())], batch_size=batch)
        return [next(guess["score"] for guess in guesses if guess["label"] == whole) for guesses in answers]

    return rank


def compare(
    builds: Mapping[str, Callable[[], Ranker]], folders: Mapping[str, Path], rounds: int, clock: Callable[[], float]
) -> None:
    """A table for each folder: speed, memory, agreement."""
    memory = {
        (title, name): peak_in_fork(lambda build=build, folder=folder: build()(folder))
        for title, folder in folders.items()
        for name, build in builds.items()
    }
    rankers = {name: build() for name, build in builds.items()}
    for title, folder in folders.items():
        scores = {name: np.array(rank(folder)) for name, rank in rankers.items()}
        seconds = interleaved({name: partial(rank, folder) for name, rank in rankers.items()}, rounds, clock)
        count = len(scores["Kyara"])
        print(f"\n{count} pictures of {title}; median of {rounds} rounds; x: how many times as fast Kyara is")
        print(f"{'':26}{'img/s':>8}{'x':>8}{'MiB':>9}{'apart':>11}")
        for name, times in seconds.items():
            apart = np.abs(scores[name] - scores["Kyara"]).max()
            row = f"{name:26}{count / statistics.median(times):8.0f}{ratio(times, seconds['Kyara']):8.2f}"
            print(f"{row}{memory[title, name]:9.0f}{apart:11.4f}", flush=True)
            assert SETS[title][0] > 96 or apart < TOLERANCE, "not the same scores"


def measure(model: str = "builtin:distortion", count: int = 512, rounds: int = 5, busy: bool = False) -> None:
    """Prints a table for each set of pictures.

    Args:
        model: A checkpoint of Kyara's recogniser.
        count: Pictures in a set; a quarter of it at 512 px.
        rounds: Rounds of the measurement.
        busy: One thread and processor time, for a machine with other load.
    """
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    clock = pick_clock(busy)
    builds = {
        "Kyara": partial(by_kyara, model),
        "pipeline, batches of 1": partial(by_pipeline, model, 1),
        f"pipeline, batches of {BATCH}": partial(by_pipeline, model, BATCH),
    }
    print(f"ranking by {model}, from files\n{machine()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folders = {
            title: files(Path(temporary) / title, count // (4 if size > 96 else 1), size, suffix)
            for title, (size, suffix) in SETS.items()
        }
        compare(builds, folders, rounds, clock)


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
