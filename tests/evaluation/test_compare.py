"""kyara compare on models trained here, and on what is no model at all."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from standins import small_networks  # noqa: F401

from kyara import models
from kyara.evaluation import runs as runs_module
from kyara.evaluation.chart import Curve, Interval, interval_chart, line_chart, thin, ticks
from kyara.evaluation.compare import compare, rank, verdict
from kyara.evaluation.groups import groups
from kyara.evaluation.metrics import mean_of_draws, wilson
from kyara.evaluation.page import _best, duration, page
from kyara.evaluation.runs import (
    SHEET,
    ModelReport,
    combined,
    merged_names,
    read_stats,
    score_draws,
    short_names,
    shown_pictures,
    training_speed,
)
from kyara.evaluation.scores import Score
from kyara.evaluation.sets import GeneratedSet
from kyara.evaluation.shared import format_number
from kyara.files import checkpoint
from kyara.files.pictures import write_png
from kyara.generation import sampler
from kyara.generation.sampler import load_generator
from kyara.perception.features import builtin_hash
from kyara.training.train import train

pytestmark = pytest.mark.usefixtures("small_networks")
VOID = ("meta", "img", "input")
FEW: dict[str, Any] = {"count": 12, "draws": 2, "workers": 0}


@pytest.fixture(scope="module")
def runs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs, one whose weights are damaged, and a folder that is no run."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        kimg = 0.4 if seed else 0.26
        train("dcgan", faces, out=folder / f"run{seed}", kimg=kimg, seed=seed, preset="tiny", workers=0, precision="32")
    shutil.copytree(folder / "run0", folder / "damaged")
    weights = folder / "damaged" / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])
    (folder / "empty").mkdir()
    return folder


class Reader(HTMLParser):
    """Everything that the page would fetch or run, and whether what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object", "base")
        self.sources += [v or "" for k, v in attributes if k in ("src", "href", "action", "srcset", "poster")]
        assert not [k for k, _ in attributes if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_page_says_which_model_serves_best(runs: Path, faces: Path, tmp_path: Path) -> None:
    paths = [str(runs / name) for name in ("run0", "damaged", "run1", "empty")]
    out = tmp_path / "comparison"
    result = compare(tuple(paths), data=faces, out=out, **FEW)
    table = json.loads((out / "comparison.json").read_text())
    html = (out / "index.html").read_text()
    text = str(result)

    # Ranked by the score that says something about so few, the broken last and with the reason.
    order = [model["name"] for model in table["models"]]
    assert set(order[:2]) == {"run0", "run1"} and order[2:] == ["damaged", "empty"]
    first, second = (model["scores"]["kid"]["value"] for model in table["models"][:2])
    assert table["ranked_by"] == "kid" and first <= second
    assert "safetensors" in table["models"][2]["error"] and "no config.json" in table["models"][3]["error"]
    assert re.search(rf"\({order[0]}\) (is the best|ranks first): KID", table["verdict"])
    assert "training lengths differ: 0.3 to 0.4" in table["verdict"] and "2 of 4 could not" in table["verdict"]
    assert table["verdict"] in text and "empty" in text
    assert table["command"].startswith(f"kyara compare {paths[0]} {paths[1]} {paths[2]} {paths[3]} --data {faces}")

    # Numbers with their intervals over draws, and all that they depend on.
    model = table["models"][0]
    kid = model["scores"]["kid"]
    assert len(kid["draws"]) == 2 and kid["low"] < kid["value"] < kid["high"]
    assert (kid["pictures"], kid["reals"]) == (12, 64) and kid["features"] and kid["resizer"]
    assert table["real"]["precision"]["value"] > 0
    for one in table["models"][:2]:
        for score in one["scores"].values():
            lowest, highest = score["range"]
            assert score["low"] is None or (lowest is None or score["low"] >= lowest)
            assert score["high"] is None or (highest is None or score["high"] <= highest)
    assert model["training"]["seconds"] > 0 and model["training"]["images_per_second"] > 0
    assert len(model["best"]) == 8 and model["best"][0][1] >= model["worst"][0][1]
    assert {seed for seed, _ in model["best"]} <= set(range(24))
    network = models.load(runs / model["name"])
    assert model["parameters"] == sum(p.numel() for p in network.g_ema.parameters())
    assert model["config"]["network"]["channels"] == 4 and model["about"]["training"]["seed"] in (0, 1)
    damaged = table["models"][2]
    assert damaged["curves"]["score/frechet"] and not damaged["scores"]  # what there is of it is shown

    # A single file.
    shown = Reader(html)
    assert shown.open == []
    assert shown.sources and all(source.startswith("data:image/jpeg;base64,") for source in shown.sources)
    assert "default-src 'none'; img-src data:" in html and "prefers-color-scheme: dark" in html
    assert "url(" not in html and "@import" not in html
    assert html.count("<img") == 2 * (36 + 8 + 8) and "<polyline" in html and "<circle" in html
    assert [p.name for p in sorted(out.iterdir())] == ["comparison.json", "index.html"]


def test_real_pictures_are_measured_like_models_or_not_at_all(runs: Path, faces: Path, tmp_path: Path) -> None:
    """The Fréchet distance, precision and recall depend on the numbers of pictures."""
    few = {**FEW, "draws": 1, "count": 17}  # more than a quarter of 64
    result = compare((str(runs / "run0"),), data=faces, out=tmp_path / "out", **few)
    assert {*result.real} == {"kid", "rank_score"}
    table = {**result.as_json(), "ranked_by": "frechet"}
    assert "real pictures" in page("x", table, {"run0": {}})


def test_the_best_and_worst_pictures_are_made_together(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(runs / "run0")
    pictures = GeneratedSet(path, load_generator(path, torch.device("cpu")), 4)
    model, calls = ModelReport("run0", path, best=[(70, 0.9), (3, 0.8)], worst=[(99, 0.1)]), []
    sample = sampler.sample
    monkeypatch.setattr(sampler, "sample", lambda *a, **k: calls.append(1) or sample(*a, **k))
    shown = shown_pictures(model, pictures)
    assert [*shown] == [*range(SHEET), 70, 99] and len(calls) == 5  # batches of 8
    [(alone, _)] = GeneratedSet(path, pictures.generator, 1, first=99)
    assert np.array_equal(shown[99], alone)


@pytest.mark.parametrize("dry_run", [True, False])
def test_too_few_real_pictures(runs: Path, tmp_path: Path, dry_run: bool) -> None:
    data = tmp_path / "few"
    data.mkdir()
    for seed in range(7):
        write_png(data / f"{seed}.png", drawn_picture(seed))
    with pytest.raises(ValueError, match=r"few: has 7 real pictures; give 8 or more"):
        compare((str(runs / "run0"),), data=data, out=tmp_path / "out", dry_run=dry_run, **FEW)


def test_a_dry_run_names_what_cannot_be_measured_and_writes_nothing(runs: Path, faces: Path, tmp_path: Path) -> None:
    paths = [str(runs / name) for name in ("run0", "damaged", "empty")]
    result = compare(tuple(paths), data=faces, out=tmp_path / "out", dry_run=True, **FEW)
    assert not (tmp_path / "out").exists() and result.dry_run and result.data["count"] == 64
    assert [bool(model.error) for model in result.models] == [False, True, True]
    text = str(result)
    assert text.startswith("would compare 1 model, 2 × 12 pictures each, with 64 real ones, into")
    assert "run0: can be measured" in text and "safetensors" in text and "look at" not in text
    with pytest.raises(ValueError, match="no run could be read"):
        compare((str(runs / "empty"),), data=faces, dry_run=True, **FEW)


def test_out_is_never_lost(runs: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError("the disk is full")

    run = (str(runs / "run0"),)
    few: dict[str, Any] = {**FEW, "draws": 1, "data": faces}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "novel.txt").write_text("once")
    for force in (False, True):
        with pytest.raises(FileExistsError, match="contains other files"):
            compare(run, out=tmp_path / "other", force=force, **few)
    with pytest.raises(FileExistsError, match="contains the input"):
        compare(run, out=runs, force=True, **few)
    out = tmp_path / "out"
    compare(run, out=out, **few)
    before = (out / "comparison.json").read_text()
    assert "One draw" not in before  # there is nothing to compare with
    with pytest.raises(FileExistsError, match="add --force"):
        compare(run, out=out, **few)
    with pytest.raises(ValueError, match="no run could be read"):
        compare((str(runs / "empty"),), out=out, force=True, **few)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr("kyara.evaluation.compare.write_text", full)
        compare(run, out=out, force=True, **few)
    assert (out / "comparison.json").read_text() == before  # what fails takes nothing away
    compare(run, out=out, force=True, **few)


def test_two_at_once_keep_both_results(
    runs: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done first, and has written into the folder that both saw free at the start."""
    monkeypatch.chdir(tmp_path)
    first = tmp_path / "comparisons" / "00000-compare-faces"

    def late(found: Any, by: str) -> Any:
        first.mkdir(parents=True)
        (first / "comparison.json").write_text('{"models": []}')
        return rank(found, by)

    monkeypatch.setattr("kyara.evaluation.compare.rank", late)
    result = compare((str(runs / "run0"),), data=faces, **{**FEW, "draws": 1})
    assert (first / "comparison.json").read_text() == '{"models": []}'
    assert result.out.name == "00001-compare-faces" and f"look at {result.out}" in str(result)
    assert (result.out / "comparison.json").is_file()


def test_hostile_names_and_settings_are_only_text(runs: Path, faces: Path, tmp_path: Path) -> None:
    evil = tmp_path / "<script>alert(1)<" / "b>"
    shutil.copytree(runs / "run0", evil)
    described = json.loads((evil / "config.json").read_text())
    described["init"] = "<img src=x onerror=alert(1)>"
    described["data"] = "not a table"
    (evil / "config.json").write_text(json.dumps(described))
    strange = tmp_path / "strange"
    shutil.copytree(runs / "run0", strange)
    (strange / "config.json").write_text('{"model": "dcgan", "config": {"data": {"attributes": 3, "width": "x"}}}')
    runs_ = (str(evil), str(strange), str(runs / "run1"))
    out = tmp_path / "out"
    compare(runs_, data=faces, out=out, **{**FEW, "draws": 1})
    shown = Reader((out / "index.html").read_text())
    assert all(source.startswith("data:image/jpeg") for source in shown.sources)
    assert json.loads((out / "comparison.json").read_text())["models"][-1]["error"]


def test_curves_survive_a_log_that_was_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "stats.jsonl"
    log.write_text(
        '{"nimg": 0, "score/frechet": 9}\n{"nimg": 1000, "img/s": 50.0, "loss/d": NaN}\n[1]\nnull\n'
        '{"nimg": 3000, "img/s": 100.0, "loss/d": 1, "text": "x"}\n'
        f'{{"nimg": 3000, "score/frechet": 8, "score/diversity": 1, "features": "{builtin_hash()}"}}\n{{"nimg": 40'
    )
    rows = read_stats(log)
    assert rows.pop() == {"nimg": 3000, "score/frechet": 8, "score/diversity": 1}
    assert rows[0] == {"nimg": 0}  # a distance in unknown features is not drawn beside others
    assert [row["nimg"] for row in rows] == [0, 1000, 3000]
    assert "loss/d" not in rows[1] and "text" not in rows[2]
    assert training_speed(rows) == {"seconds": 40, "images_per_second": 75, "trained_kimg": 3}
    assert training_speed([*rows, {"nimg": 3200, "score/diversity": 1}])["trained_kimg"] == 3.2  # of the last snapshot
    assert read_stats(tmp_path / "none") == [] and training_speed([]) == {}


def test_short_names_are_unique() -> None:
    assert short_names(["runs/a", "runs/b/", "runs/a/snapshots/000200"]) == ["a", "b", "a/000200"]
    assert short_names(["x/a", "y/a", "builtin:anime"]) == ["x/a", "y/a", "builtin:anime"]
    runs = ["a/snapshots/c", "a/c", "x/c"]  # their short names would be a/c, a/c and x/c
    assert short_names(runs) == runs
    with pytest.raises(ValueError, match="given twice"):
        short_names(["a", "a"])


def test_interval_over_draws_is_students() -> None:
    found = mean_of_draws([1.0, 2.0, 6.0])  # mean 3, deviation 7^.5
    assert found == pytest.approx((3, 3 - 4.303 * (7 / 3) ** 0.5, 3 + 4.303 * (7 / 3) ** 0.5))
    assert mean_of_draws([4.0]) == (4, None, None)


def test_charts() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10] and ticks(0.011, 0.052, 4) == [0.02, 0.04] and ticks(3, 3) == [3]
    many = [(float(x), float("nan") if x % 7 == 0 else 1.0) for x in range(5000)]
    assert len(thin(many)) <= 240 and all(y == 1 for _, y in thin(many))
    drawn = line_chart([Curve("<a>", 0, [(0, 1), (1, 2)]), Curve("dot", 1, [(0, 1)])], "kimg", "a & b")
    points = re.findall(r'points="([^"]+)"', drawn)
    assert len(points) == 1 and "<a>" not in drawn and "a &amp; b" in drawn
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in points[0].split())
    assert x0 < x1 and y0 > y1  # up is more
    assert line_chart([], "kimg", "nothing") == ""
    Reader(drawn + interval_chart([Interval("m", 0, 1, 0.5, 1.5), Interval("n", 1, 2, 2, 2)], "distance", "<"))


def test_durations() -> None:
    assert [duration(s) for s in (20, 90, 3600, 9000)] == ["0 min", "2 min", "1 h 00 min", "2 h 30 min"]


def test_no_label_of_a_chart_is_cut() -> None:
    name = "a-run-with-a-name-that-is-wider-than-the-chart-" * 4 + "end"
    drawn = interval_chart([Interval(name, 0, -0.0001236, -0.01, 2)], "KID", "")
    assert f"<span>{name}</span>" in drawn and "<b>-0.0001236</b>" in drawn  # text of the page, which the browser wraps
    narrow = line_chart([Curve("c", 0, [(0, 1.0e-5), (1, 1.4e-5)])], "kimg", "loss")
    for x, text in re.findall(r'class="y" x="([0-9.]+)"[^>]*>([^<]+)<', narrow):
        assert float(x) >= 6.6 * len(text)


def scored(name: str, kid: float, kimg: float, model: str = "dcgan", **settings: Any) -> ModelReport:
    score = {"value": kid, "low": kid - 0.1, "high": kid + 0.1, "draws": [kid], "range": (None, None)}
    training = {"kimg": kimg, "trained_kimg": max(kimg, 1.0), "seconds": 60 * kid}
    about = {"training": settings} if settings else {}
    return ModelReport(
        name, name, model=model, scores={"kid": score}, training=training, untrained=kimg == 0, about=about
    )


def test_trainings_that_differ_only_in_their_seed_are_one_group() -> None:
    found = groups(
        [
            scored("b1", 3, 1, seed=1, batch=8),
            scored("a", 1, 1),  # its seed is unknown
            scored("b0", 2, 1, seed=0, batch=8),
            scored("other batch", 2, 1, seed=2, batch=16),
            scored("b0 again", 2, 1, seed=0, batch=8),
            scored("longer", 2, 5, seed=3, batch=8),
            scored("v", 9, 1, model="vae", seed=0, batch=8),
            ModelReport("broken", "broken", error="no", about={"training": {"seed": 4, "batch": 8}}),
            scored("b2", 7, 1, seed=2, batch=8),
        ]
    )
    assert [group.runs for group in found] == [
        ["b0", "b1", "b2"],
        ["a"],
        ["other batch"],
        ["b0 again"],
        ["longer"],
        ["v"],
    ]
    group = found[0]
    assert group.name == "dcgan (3 seeds)" and group.training["seconds"] == 240
    kid, deviation = group.scores["kid"], 7.0**0.5  # of 2, 3 and 7
    assert kid["runs"] == {"b0": 2, "b1": 3, "b2": 7} and kid["value"] == 4
    assert kid["high"] - 4 == pytest.approx(4.303 * deviation / 3**0.5)
    assert found[1].scores["kid"]["high"] == 1.1  # of the draws

    two = groups(
        [scored(name, 1, 1, seed=seed, batch=b) for b in (1, 2) for seed, name in ((0, f"x{b}"), (1, f"y{b}"))]
    )
    assert [group.name for group in two] == ["x1 (2 seeds)", "x2 (2 seeds)"]


def test_only_equal_settings_are_a_group() -> None:
    run, snapshot, rewritten = (scored(name, 1, 1, seed=seed) for seed, name in enumerate(("run", "snap", "rules")))
    run.curves["img/s"] = [(1.0, 1.0)]  # a snapshot has none
    rewritten.about["rewritten"] = {"root": "x"}
    other, same = scored("other", 1, 1, seed=3), scored("same", 1, 1, seed=4)
    other.about["data"], same.about["data"] = ({"name": name, "fingerprint": "f"} for name in ("a.zip", "b.zip"))
    found = groups([run, snapshot, rewritten, other, same])
    assert [group.runs for group in found] == [["run"], ["snap"], ["rules"], ["other", "same"]]


def test_the_verdict_says_what_an_interval_covers() -> None:
    seeds = [scored(f"s{seed}", 2 + seed, 1, seed=seed) for seed in (0, 1)]
    ranked = rank(groups([*seeds, scored("alone", 9, 1, model="vae")]), "kid")
    assert verdict(ranked, seeds, "kid").endswith("Only one of them covers the variation between trainings.")


@pytest.mark.parametrize("name", ["precision", "copies", "accuracy/hair", "accuracy/hair=red"])
@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_equal_shares_are_not_known_exactly(name: str, value: float) -> None:
    """Of draws, and of trainings."""
    score = {"value": value, "pictures": 40, "reals": 90, "range": (0.0, 1.0)}
    assert combined(name, [score] * 3) == wilson(value, 120)
    trainings = [scored(str(seed), 1, 1, seed=seed) for seed in (0, 1)]
    for one in trainings:
        one.scores[name] = {**score, "low": value, "high": value, "draws": [value] * 3}
    found = groups(trainings)[0].scores[name]
    assert (found["value"], found["low"], found["high"]) == wilson(value, 240)


def test_covered_reals_are_no_more_than_there_are() -> None:
    score = {"value": 0.5, "pictures": 40, "reals": 90, "range": (0.0, 1.0)}
    assert combined("recall", [score] * 3) == wilson(0.5, 90)
    wide = [{**score, "value": value} for value in (0.1, 0.9)]
    assert combined("recall", wide) == (0.5, 0, 1)  # Student's is wider


def test_kid_is_at_least_zero_unless_its_estimate_is_not() -> None:
    scores = [{"value": value, "range": (None, None)} for value in (9000.0, 11700.0)]
    assert combined("kid", scores).low == 0
    scores = [{"value": value, "range": (None, None)} for value in (-0.02, 0.01)]
    assert (combined("kid", scores).low or 0) < -0.02


def test_no_score_is_lost_that_the_first_one_lacks() -> None:
    assert merged_names([["a", "d"], ["a", "b", "c", "d"], ["d", "e", "b"]]) == ["a", "b", "c", "d", "e"]
    trainings = [scored(str(seed), 1, 1, seed=seed) for seed in (0, 1)]
    trainings[1].scores = {"accuracy/x": {**trainings[1].scores["kid"], "pictures": 4}, **trainings[1].scores}
    assert [*groups(trainings)[0].scores] == ["accuracy/x", "kid"]


def test_a_draw_may_have_a_score_that_the_first_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rare label is not in every draw."""
    names = iter([["kid"], ["accuracy/hair=red", "kid"]])
    outputs = SimpleNamespace(ranked=[0.5])
    kept = {"better": "higher", "features": "", "resizer": "", "reals": 0, "low": 0.1, "high": 0.9, "what": ""}
    monkeypatch.setattr(runs_module, "run_networks", lambda *_, **__: outputs)
    monkeypatch.setattr(
        runs_module, "all_scores",
        lambda *_: [Score(name=name, value=0.5, pictures=4, range=(0.0, 1.0), **kept) for name in next(names)],  # type: ignore[arg-type]
    )  # fmt: skip
    model = ModelReport("m", "m")
    pictures = GeneratedSet("m", None, 4)  # type: ignore[arg-type]
    score_draws(model, pictures, None, SimpleNamespace(size=(1, 1), batch=1), 2)  # type: ignore[arg-type]
    assert [*model.scores] == ["accuracy/hair=red", "kid"]
    rare = model.scores["accuracy/hair=red"]
    assert (rare["low"], rare["high"], rare["draws"]) == (0.1, 0.9, [0.5])  # of its only draw


@pytest.mark.parametrize(
    ("better", "values", "best"),
    [
        ("lower", (1.0, 2.0), 0),
        ("higher", (1.0, 2.0), 1),
        ("near 1", (1.2, 0.3), 0),
        ("lower", (1.0, 1.05), None),  # within the interval
        ("lower", (1.0, 1.0, 3.0), None),
        ("near 1", (1.5, 0.5), None),
        ("neither", (1.0, 2.0), None),
        ("lower", (1.0,), None),
    ],
)
def test_only_a_winner_is_bold(better: str, values: tuple[float, ...], best: int | None) -> None:
    scores = [{"value": x, "low": x - 0.1, "high": x + 0.1, "better": better} for x in values]
    assert _best(scores) is (None if best is None else scores[best])
    alone = [{**score, "low": None, "high": None} for score in scores]  # without intervals
    assert _best(alone) is (alone[0] if values == (1.0, 1.05) else None if best is None else alone[best])


def test_the_first_is_not_the_best_if_it_may_be_chance() -> None:
    close = [scored("a", 2, 1), scored("b", 2.15, 1)]
    text = verdict(rank(groups(close), "kid"), close, "kid")
    assert text.startswith("dcgan (a) ranks first: KID 2 (1.9 to 2.1), followed by dcgan (b) with 2.15")
    assert text.endswith("The intervals overlap: the difference may be random.")
    text = verdict(groups(close[:1]), close[:1], "kid")
    assert text == "Only one trained model was measured: dcgan (a), KID 2 (1.9 to 2.1)."


def test_numbers_have_no_exponent_up_to_a_hundred_thousand() -> None:
    shown = [format_number(x) for x in (10350.4, -1860.2, 99994.0, 12.3456, 0.00012344, 0.0, 1.0, 1e5, 2.06e-17)]
    assert shown == ["10350", "-1860", "99990", "12.35", "0.0001234", "0", "1", "1.00e+05", "2.06e-17"]


def test_seeds_share_a_row_of_the_page(runs: Path, faces: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(runs / "run0", again)
    described = json.loads((again / "config.json").read_text())
    described["training"]["seed"] = 7
    (again / "config.json").write_text(json.dumps(described))
    paths = (str(again), str(runs / "run0"), str(runs / "run1"))
    result = compare(paths, data=faces, out=tmp_path / "out", **{**FEW, "draws": 1})
    group = next(group for group in result.groups if len(group.runs) == 2)
    assert group.runs == ["run0", "again"] and len(result.groups) == 2 and len(result.models) == 3
    kid = group.scores["kid"]
    assert {*kid["runs"].values()} == {kid["value"]} and kid["low"] == kid["high"] == kid["value"]  # equal weights
    assert "dcgan (2 seeds): " in str(result) and str(result).count("run0") == 0
    html = (tmp_path / "out" / "index.html").read_text()
    assert f"<small>run0 {kid['value']:.4g}, again {kid['value']:.4g}</small>" in html
    assert html.count('<tr><td class="place">') == 2 and html.count('<section class="model">') == 3


def test_an_untrained_model_is_never_the_best() -> None:
    broken = ModelReport("c", "c", error="no")
    ranked = rank(groups([scored("new", 0.2, 0), scored("a", 3, 1), scored("b", 2, 1), broken]), "kid")
    assert [group.name for group in ranked] == ["b", "a", "new"]
    models = [scored("b", 2, 1), scored("a", 3, 1), scored("new", 0.2, 0), broken]
    text = verdict(ranked, models, "kid")
    assert text.startswith("dcgan (b) is the best: KID 2 ") and "followed by dcgan (a)" in text
    assert "dcgan (new) is untrained (0 kimg) and does not take part in the ranking. 1 of 4 could not" in text
    assert verdict(ranked[2:], models[2:], "kid").startswith("No model that could be measured is trained.")


def test_a_run_of_no_length_is_marked_untrained(runs: Path, faces: Path, tmp_path: Path) -> None:
    untrained = tmp_path / "zero"
    shutil.copytree(runs / "run0", untrained)
    described = json.loads((untrained / "config.json").read_text())
    described["kimg"] = 0
    (untrained / "config.json").write_text(json.dumps(described))
    result = compare((str(untrained), str(runs / "run1")), data=faces, out=tmp_path / "out", **{**FEW, "draws": 1})
    assert [(model.name, model.untrained) for model in result.models] == [("run1", False), ("zero", True)]
    html = (tmp_path / "out" / "index.html").read_text()
    assert html.count('<i class="mark">untrained</i>') == 4 and '<td class="place">–</td>' in html
    assert "-  (untrained)" not in str(result) and "- (untrained) zero" in str(result)
    assert 'class="best"' not in html and "Only one trained model was measured: dcgan (run1)" in result.verdict


def test_without_out_a_numbered_folder_is_made(runs: Path, faces: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    few: dict[str, Any] = {**FEW, "draws": 1, "count": 4, "data": faces}
    results = [compare((str(runs / "run0"),), **few) for _ in range(2)]
    assert [str(result.out) for result in results] == [f"comparisons/0000{i}-compare-faces" for i in range(2)]
    assert "--out" not in results[0].command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3}, "--count 3: must be from 4"),
        ({"draws": 0}, "--draws 0: must be from 1"),
        ({"reals": 7}, "--reals 7: must be from 8"),
        ({"batch": -1}, "--batch -1"),
        ({"truncation": float("inf")}, "--truncation .*: must be a finite number"),
        ({"tagger": ""}, "--tagger: is empty"),
        ({"out": ""}, "--out: is empty"),
        ({"size": "0"}, "--size 0: not a size"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str, faces: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compare(("builtin:anime",), data=faces, **options)
    with pytest.raises(ValueError, match="RUNS: give at least one run"):
        compare((), data=faces)
