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
from measure import again, machine, peak, pick_clock, ratio, turn_about
from PIL import Image, ImageDraw
from transformers import ConvNextForImageClassification, ConvNextImageProcessor, logging, pipeline

from kyara.curation.rank import load_recogniser, open_pictures, score_all

BATCH = 64
TOLERANCE = 0.02
"""How far two scores of a picture that needs no resizing may lie apart: bfloat16 against float32."""
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


def rankers(model: str) -> dict[str, Callable[[Path], list[float]]]:
    """Each takes a folder and gives the scores of its pictures, in the order of their names."""
    recogniser = load_recogniser(model, torch.device("cpu"))
    config = recogniser.config
    if config.width != config.height:
        raise SystemExit(f"--model {model}: looks at {config.width} x {config.height}; the pipeline wants a square")

    def ours(folder: Path) -> list[float]:
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bar
            scores, unreadable = score_all(open_pictures(folder), recogniser, batch=BATCH, workers=os.cpu_count() or 1)
        assert not unreadable
        return list(scores)

    average = recogniser.get_submodule("net_ema")
    network = ConvNextForImageClassification(average.config).eval()
    network.load_state_dict(average.state_dict())
    processor = ConvNextImageProcessor(
        size={"shortest_edge": config.height}, crop_pct=1.0, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    whole = network.config.id2label[0]
    classify = pipeline("image-classification", model=network, image_processor=processor, device="cpu")

    def theirs(folder: Path, batch: int) -> list[float]:
        answers = classify([str(path) for path in sorted(folder.iterdir())], batch_size=batch)
        return [next(guess["score"] for guess in guesses if guess["label"] == whole) for guesses in answers]

    return {
        "Kyara": ours,
        "pipeline, batches of 1": partial(theirs, batch=1),
        f"pipeline, batches of {BATCH}": partial(theirs, batch=BATCH),
    }


def compare(
    contenders: Mapping[str, Callable[[Path], list[float]]],
    folder: Path,
    rounds: int,
    clock: Callable[[], float],
    peaks: str,
) -> None:
    """One set of pictures: agreement, speed, memory."""
    count = len(list(folder.iterdir()))
    scores = {name: np.array(rank(folder)) for name, rank in contenders.items()}
    seconds = turn_about({name: partial(rank, folder) for name, rank in contenders.items()}, rounds, clock)
    for name, times in seconds.items():
        apart = np.abs(scores[name] - scores["Kyara"]).max()
        row = f"{name:26}{count / statistics.median(times):8.0f}{ratio(times, seconds['Kyara']):8.2f}"
        print(f"{row}{again('--peak', name, '--set', peaks):9.0f}{apart:11.4f}")
    if (size := Image.open(next(folder.iterdir())).width) != 96:
        return print(f"{'':26}apart, because each resizes {size} px with its own filter")
    assert max(np.abs(s - scores["Kyara"]).max() for s in scores.values()) < TOLERANCE, "not the same scores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:distortion", help="a checkpoint of Kyara's recogniser")
    parser.add_argument("--count", type=int, default=512, help="pictures in a set; a quarter of it at 512 px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds: something else is running")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--set", choices=SETS, help="only this one")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    clock = pick_clock(args.busy)
    contenders = rankers(args.model)
    if not args.peak:
        print(f"ranking by {args.model}, from files\n{machine()}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in [args.set] if args.set else SETS:
            size, suffix = SETS[name]
            folder = files(Path(temporary) / name, args.count // (4 if size > 96 else 1), size, suffix)
            if args.peak:
                return print(peak(lambda folder=folder: contenders[args.peak](folder)))
            print(f"\n{len(list(folder.iterdir()))} pictures of {name}; median of {args.rounds} rounds")
            print(f"{'':26}{'img/s':>8}{'x':>8}{'MiB':>9}{'apart':>11}")
            compare(contenders, folder, args.rounds, clock, name)


if __name__ == "__main__":
    main()
