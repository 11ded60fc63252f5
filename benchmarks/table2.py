"""Table 2 of Sawada et al.: real drawings against generated ones, told apart by a threshold on a score.

    python benchmarks/table2.py characters.zip --checkpoint runs/00000-stylegan2-characters --brisque
    python benchmarks/table2.py faces.zip --generated generated.zip --prefix-from 8 --paper runs/paper

Five draws of real and generated pictures; precision, recall, F1 (macro averages, as in the paper) and accuracy with the
standard deviation over the draws, and a 95 % interval of the mean (Student's t). Scores that are no probabilities, such
as BRISQUE (Mittal et al. 2012, PyPI brisque 0.2.0 with libsvm-official and opencv-python-headless), get the threshold
with the best accuracy on a sixth draw, which is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import tyro
from common import held_out, print_table, run
from torch import Tensor

from kyara.curation.judging import judge_all
from kyara.curation.scoring import load_scorer
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.pictures import to_float, to_uint8, write_png
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.models.base import Generator

CPU = torch.device("cpu")
DRAWS = 5
T_95 = 2.776  # Student's t for 4 degrees of freedom
THRESHOLDS = (0.5, 0.3)  # of the paper
BEST = "best on another draw"

Scores = dict[str, np.ndarray]  # Name -> scores (N,), higher is more real
Measures = dict[str, float]


def by_kyara(pictures: Dataset, paper: str | None) -> Scores:
    """By quality, by both, and by another checkpoint of the recogniser."""
    scorer = load_scorer("builtin:distortion", CPU)
    options = {"judge": None, "batch": None, "workers": 2, "failed": {}}
    judged = judge_all(pictures, scorer, by="both", check_style=False, **options)
    assert judged.parts is not None
    found = {"Kyara, quality": judged.parts[:, 0], "Kyara, quality and content": np.array(judged.scores)}
    if paper:
        other = judge_all(pictures, load_scorer(paper, CPU), by="quality", check_style=False, **options)
        found["paper's variant"] = np.array(other.scores)
    return found


@torch.inference_mode()
def by_discriminator(pictures: Dataset, model: Generator) -> np.ndarray:
    """Probabilities (N,) of the discriminator of a generator."""
    size = model.config.data.width, model.config.data.height
    read = torch.from_numpy(np.stack([*pictures.decode(range(len(pictures)), *size, 0)]))
    found = [model.get_submodule("d")(to_float(part), _unknown(model, len(part))) for part in read.split(32)]
    logits = [one[0] if isinstance(one, tuple) else one for one in found]  # some also predict the labels
    return torch.cat(logits).flatten().sigmoid().numpy()


def _unknown(model: Generator, count: int) -> Tensor | None:
    """Unknown labels (B, A) for a conditional discriminator."""
    attributes = len(model.config.data.attributes)
    return torch.full((count, attributes), -1) if attributes else None


def by_brisque(pictures: Dataset) -> np.ndarray:
    """Negative BRISQUE (N,): its 0 is natural, 100 is distorted."""
    from brisque import BRISQUE

    measure: Callable[[np.ndarray], float] = BRISQUE().score
    return -np.array([measure(pictures.picture(i)) for i in range(len(pictures))])


def measures(real: np.ndarray, made: np.ndarray) -> Measures:
    """Macro averages over both classes, from whether the pictures (N,) of each class are taken for real."""
    hits, false = real.sum(), made.sum()
    misses, right = len(real) - hits, len(made) - false
    precision = [hits / max(hits + false, 1), right / max(right + misses, 1)]
    recall = [hits / len(real), right / len(made)]
    f1 = [2 * p * r / max(p + r, 1e-9) for p, r in zip(precision, recall, strict=True)]
    accuracy = (hits + right) / (len(real) + len(made))
    return {"precision": np.mean(precision), "recall": np.mean(recall), "F1": np.mean(f1), "accuracy": accuracy}


def best_threshold(real: np.ndarray, made: np.ndarray) -> float:
    """The threshold with the best accuracy."""
    tried = np.unique(np.concatenate([real, made]))
    return float(tried[np.argmax([(real >= t).sum() + (made < t).sum() for t in tried])])


def summary(found: list[Measures]) -> dict[str, str]:
    """Mean and standard deviation of each measure, and the interval of the means of F1 and accuracy."""
    row = {}
    for name in found[0]:
        values = np.array([one[name] for one in found])
        deviation = values.std(ddof=1)
        row[name] = f"{values.mean():.3f} ± {deviation:.3f}"
        if name in ("F1", "accuracy"):
            half = T_95 * deviation / DRAWS**0.5
            row[f"{name}, 95 %"] = f"{values.mean() - half:.3f} to {values.mean() + half:.3f}"
    return row


def rows(real: Scores, made: Scores, each: int) -> dict[str, dict[str, str]]:
    """The rows of the table. The draws share no picture."""
    table = {}
    for name in real:
        parts = [[scores[name][i * each : (i + 1) * each] for i in range(DRAWS + 1)] for scores in (real, made)]
        last = best_threshold(parts[0][-1], parts[1][-1])
        thresholds = {str(t): t for t in THRESHOLDS} if name != "BRISQUE" else {}
        for title, threshold in {**thresholds, BEST: last}.items():
            pairs = zip(parts[0][:DRAWS], parts[1][:DRAWS], strict=True)
            table[f"{name} @ {title}"] = summary([measures(a >= threshold, b >= threshold) for a, b in pairs])
    return table


def generated_by(model: Generator, count: int, folder: Path) -> Dataset:
    """Pictures of the first `count` seeds, as files."""
    folder.mkdir(parents=True)
    made = (picture for pictures, _ in sample_seeds(model, range(count)) for picture in to_uint8(pictures))
    for i, picture in enumerate(made):
        write_png(folder / f"{i:06d}.png", picture)
    return open_dataset(folder)


def measure(
    drawings: tyro.conf.Positional[Path],
    generated: Path | None = None,
    checkpoint: str | None = None,
    paper: str | None = None,
    brisque: bool = False,
    prefix_from: str = "",
    each: int = 100,
    out: Path = Path("generated"),
) -> None:
    """Prints the table.

    Args:
        drawings: Real drawings that the recognisers were not trained on.
        generated: Generated pictures.
        checkpoint: Or a generator that makes them, with its discriminator: a run folder.
        paper: Another checkpoint of the recogniser, such as the paper's variant (preset paper).
        brisque: With BRISQUE.
        prefix_from: File names of the real drawings sort from here on.
        each: Real and generated pictures in a draw.
        out: Folder for the pictures of --checkpoint.
    """
    if (generated is None) == (checkpoint is None):
        raise ValueError("give either --generated or --checkpoint")
    everything, count = open_dataset(drawings), each * (DRAWS + 1)
    kept = held_out(everything, prefix_from)[1]
    model = load_generator(checkpoint, CPU) if checkpoint else None
    made = generated_by(model, count, out) if model else open_dataset(generated)  # type: ignore[arg-type]
    if min(len(kept), len(made)) < count:
        raise ValueError(f"--each {each}: needs {count} real and generated pictures; found {len(kept)} and {len(made)}")
    chosen = np.random.RandomState(0).permutation(kept)[:count].tolist()
    sets = everything.subset(chosen), made.subset(np.random.RandomState(1).permutation(len(made))[:count].tolist())
    real, fake = (by_kyara(pictures, paper) for pictures in sets)
    for scores, pictures, seed in ((real, sets[0], 2), (fake, sets[1], 3)):
        if model is not None and hasattr(model, "d"):
            scores["its discriminator"] = by_discriminator(pictures, model)
        if brisque:
            scores["BRISQUE"] = by_brisque(pictures)
        scores["random"] = np.random.RandomState(seed).rand(count)
    table: Mapping[str, Mapping[str, str]] = rows(real, fake, each)
    print_table(table, f"{DRAWS} x {each} real, {each} generated")


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
