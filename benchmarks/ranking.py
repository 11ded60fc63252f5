"""Kyara's ranking against a transformers pipeline: pictures per second from files to scores, and memory.

.venv-bench/bin/python benchmarks/ranking.py [--model builtin:distortion] [--count 512] [--rounds 5]

Both score the same pictures, which the benchmark draws, from the same files with the same network and weights, turn
about in this process, with every core. The pipeline is as transformers makes it: float32, batches of 1 unless told
otherwise.
"""

from __future__ import annotations

import argparse
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

import numpy as np
import torch
from measure import machine, peak_alone, pick_clock, ratio, turn_about
from PIL import Image, ImageDraw
from transformers import ConvNextForImageClassification, ConvNextImageProcessor, logging, pipeline

from kyara.curation.rank import load_recogniser, open_pictures, score_all
from kyara.models.distortion import WHOLE

Ranker = Callable[[Path], list[float]]
"""Takes a folder and gives the scores of its pictures, in the order of their names."""

BATCH = 64
TOLERANCE = 0.05
"""How far two scores of a picture that needs no resizing may lie apart: bfloat16 against float32, on drawings that the
recogniser is unsure of. Larger ones each resizes with its own filter."""
SETS = {"96 px, PNG": (96, ".png"), "96 px, WebP": (96, ".webp"), "512 px, JPEG": (512, ".jpg")}


def draw(seed: int, size: int) -> Image.Image:
    """Something like a drawn face: flat colours, outlines, and detail enough for files of a usual length."""
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
    recogniser = load_recogniser(model, torch.device("cpu"))

    def rank(folder: Path) -> list[float]:
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bar
            scores, unreadable = score_all(open_pictures(folder), recogniser, batch=BATCH, workers=os.cpu_count() or 1)
        assert not unreadable
        return list(scores)

    return rank


def by_pipeline(model: str, batch: int) -> Ranker:
    recogniser = load_recogniser(model, torch.device("cpu"))
    width, height = recogniser.config.data.width, recogniser.config.data.height
    if width != height:
        raise SystemExit(f"--model {model}: looks at {width} x {height} pixels, and the pipeline at squares")
    average = recogniser.get_submodule("net_ema")
    network = ConvNextForImageClassification(average.config).eval()
    network.load_state_dict(average.state_dict())
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
        (title, name): peak_alone(lambda build=build, folder=folder: build()(folder))
        for title, folder in folders.items()
        for name, build in builds.items()
    }
    rankers = {name: build() for name, build in builds.items()}
    for title, folder in folders.items():
        scores = {name: np.array(rank(folder)) for name, rank in rankers.items()}
        seconds = turn_about({name: partial(rank, folder) for name, rank in rankers.items()}, rounds, clock)
        count = len(scores["Kyara"])
        print(f"\n{count} pictures of {title}; median of {rounds} rounds; x: how many times as fast Kyara is")
        print(f"{'':26}{'img/s':>8}{'x':>8}{'MiB':>9}{'apart':>11}")
        for name, times in seconds.items():
            apart = np.abs(scores[name] - scores["Kyara"]).max()
            row = f"{name:26}{count / statistics.median(times):8.0f}{ratio(times, seconds['Kyara']):8.2f}"
            print(f"{row}{memory[title, name]:9.0f}{apart:11.4f}", flush=True)
            assert SETS[title][0] > 96 or apart < TOLERANCE, "not the same scores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:distortion", help="a checkpoint of Kyara's recogniser")
    parser.add_argument("--count", type=int, default=512, help="pictures in a set; a quarter of it at 512 px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds: something else is running")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    clock = pick_clock(args.busy)
    builds = {
        "Kyara": partial(by_kyara, args.model),
        "pipeline, batches of 1": partial(by_pipeline, args.model, 1),
        f"pipeline, batches of {BATCH}": partial(by_pipeline, args.model, BATCH),
    }
    print(f"ranking by {args.model}, from files\n{machine()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folders = {
            title: files(Path(temporary) / title, args.count // (4 if size > 96 else 1), size, suffix)
            for title, (size, suffix) in SETS.items()
        }
        compare(builds, folders, args.rounds, clock)


if __name__ == "__main__":
    main()
