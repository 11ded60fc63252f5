"""The score of `kyara rank` as a score of sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from standins import small_networks  # noqa: F401

from kyara.curation.scoring import load_scorer
from kyara.evaluation.evaluate import UNFAMILIAR, evaluate
from kyara.evaluation.ranking import RankScore
from kyara.files.dataset import open_dataset
from kyara.files.pictures import resize

EXAMPLES = Path(__file__).parents[2] / "examples/characters.zip"
SIZE = (64, 64)


@pytest.fixture(scope="module")
def ranker() -> RankScore:
    return RankScore(load_scorer("builtin:distortion", torch.device("cpu")), SIZE, open_dataset(EXAMPLES))


@pytest.fixture(scope="module")
def others() -> list[np.ndarray]:
    """Real pictures that the Judge does not know."""
    dataset = open_dataset(EXAMPLES)
    return [resize(dataset.picture(i), *SIZE) for i in range(1, 64, 2)]


def mean(ranker: RankScore, pictures: list[np.ndarray]) -> float:
    return float(ranker(pictures)[:, 0].mean())


def test_whatever_is_worse_to_the_eye_has_a_lower_score(ranker: RankScore, others: list[np.ndarray]) -> None:
    random = np.random.RandomState(0)
    middle = np.mean(others, 0)

    def noisy(picture: np.ndarray, deviation: float) -> np.ndarray:
        return (picture + random.randn(*picture.shape) * deviation).clip(0, 255).astype(np.uint8)

    real = mean(ranker, others)
    assert real > 0.75
    for worse in (
        [noisy(picture, 40) for picture in others],
        [resize(resize(picture, 12, 12), *SIZE) for picture in others],  # blurred
        [noisy(middle, 20) for _ in others],  # as a fully connected GAN draws
        [noisy(np.full_like(middle, 128), 60) for _ in others],
    ):
        assert mean(ranker, worse) < real - 0.3


def test_real_pictures_are_judged_by_others(ranker: RankScore, others: list[np.ndarray]) -> None:
    assert ranker.of_reals is not None and len(ranker.of_reals) == 100
    assert ranker.of_reals[: len(others)].mean() == pytest.approx(mean(ranker, others), abs=0.03)


@pytest.fixture(scope="module")
def often(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 real pictures, each of them four times."""
    folder, dataset = tmp_path_factory.mktemp("often"), open_dataset(EXAMPLES)
    for i in range(160):
        (folder / f"{i:03}.png").write_bytes(dataset.read(i // 4 * 2))
    return folder


def test_copies_of_real_pictures_say_nothing(ranker: RankScore, others: list[np.ndarray], often: Path) -> None:
    """Their distance to each other, 0, would make all others unlike them."""
    reals = open_dataset(often)
    copies, once = (RankScore(ranker.scorer, SIZE, reals.subset(chosen)) for chosen in (range(160), range(0, 160, 2)))
    assert copies.judge is not None and once.judge is not None
    assert len(copies.judge.reference.known["face"]) == len(once.judge.reference.known["face"]) == 40
    assert mean(copies, others) == pytest.approx(mean(once, others), abs=1e-3) and mean(copies, others) > 0.75
    assert RankScore(ranker.scorer, SIZE, reals.subset(range(76))).judge is None  # 19 different pictures


def test_few_real_pictures_are_not_compared_with(ranker: RankScore) -> None:
    few = RankScore(ranker.scorer, SIZE, open_dataset(EXAMPLES).subset(range(39)))
    assert few.judge is None and few.of_reals is None
    assert few.unfamiliar(np.array([2.0, 0.5])) and not ranker.unfamiliar(np.array([2.0, 0.5]))


def test_unreadable_real_pictures_do_not_count(ranker: RankScore, tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i:02}.png").write_bytes(open_dataset(EXAMPLES).read(i) if i > 3 else b"not a picture")
    assert RankScore(ranker.scorer, SIZE, open_dataset(tmp_path)).judge is None


def test_without_readable_others_real_pictures_have_no_score(ranker: RankScore, tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"{i:02}.png").write_bytes(open_dataset(EXAMPLES).read(i) if i % 2 == 0 else b"not a picture")
    some = RankScore(ranker.scorer, SIZE, open_dataset(tmp_path))
    assert some.judge is not None and some.of_reals is None


def test_the_resolution_of_real_pictures_says_nothing(ranker: RankScore, others: list[np.ndarray]) -> None:
    """Real pictures of 128 pixels are compared with at the size of the others."""
    small, large = ranker.judge, RankScore(ranker.scorer, (128, 128), ranker.reals).judge
    assert small is not None and large is not None
    assert not torch.allclose(small.reference.known["face"], large.reference.known["face"], atol=0.1)


@pytest.mark.usefixtures("small_networks")
def test_without_real_pictures_an_unfamiliar_style_is_said(tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(np.random.RandomState(i).randint(0, 255, (64, 64, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    found = evaluate(str(tmp_path))
    assert UNFAMILIAR in found.warnings and {"rank_score"} <= {score.name for score in found.scores}
    assert f"warning: {UNFAMILIAR}" in str(found)
