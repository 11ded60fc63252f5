"""The page of a generator: seeds as in NumPy, and in Chromium without a network the pictures of `kyara generate`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from needs import need_program
from PIL import Image
from small import ATTRIBUTES, CARD, COUNTS, Exported, export_once, need_exporter, small

from kyara.files import pictures
from kyara.files.checkpoint import WEIGHTS, Checkpoint
from kyara.generation.exporting.card import Card, read_card
from kyara.generation.exporting.export import MARKS
from kyara.generation.exporting.page import RECIPE, SEEDS, page
from kyara.generation.exporting.runtime import ARCHIVE, Runtime, read_runtime
from kyara.generation.recipe import read_like
from kyara.models.base import Generator
from kyara.nn.label_table import LabelTable, exclusions

ROOT = Path(__file__).parents[3]
NODE = """
const seeds = require(process.argv[1]), given = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify({
  z: given.seeds.map((seed) => [...seeds.latent(seed, 701)]),
  labels: given.draws.map(([fixed, seed]) => seeds.drawLabels(given.table, fixed, seed)),
}));
"""


def in_node(**given: Any) -> dict[str, Any]:
    command = [need_program("node", package="Node.js"), "-e", NODE, str(SEEDS)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_latents_are_those_of_numpy() -> None:
    seeds = [0, 7, 12345, 2**31, 2**32 - 1]
    found = in_node(seeds=seeds, draws=[], table={})["z"]
    for seed, z in zip(seeds, found, strict=True):
        assert np.array_equal(np.float32(z), np.random.RandomState(seed).randn(701).astype(np.float32))


def test_labels_are_those_of_generate() -> None:
    """With a table in which blue hair excludes eyes, and combinations that never occur."""
    table, random = LabelTable(ATTRIBUTES, COUNTS), np.random.RandomState(0)
    assert exclusions(table.rows, table.counts) == []  # one row of (2, 1)
    table = LabelTable(ATTRIBUTES, COUNTS[:-1])
    found = exclusions(table.rows, table.counts)
    assert found == [(1, 0, 2)]
    draws = [([draw(random, 3), draw(random, 2)], 7919 * i) for i in range(200)]
    rows = [list(row) for row in COUNTS[:-1]]
    made = in_node(seeds=[], draws=draws, table={"rows": rows, "exclusions": found})["labels"]
    for (fixed, seed), labels in zip(draws, made, strict=True):
        given = {name: label for name, label in zip(ATTRIBUTES, fixed, strict=True) if label is not None}
        assert labels == list(table.draw(given, seed).values())


def test_a_png_receives_a_recipe(tmp_path: Path) -> None:
    picture = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    script = """const { withRecipe } = require(process.argv[1]);
        const { png, recipe } = JSON.parse(require("fs").readFileSync(0));
        process.stdout.write(withRecipe(Uint8Array.from(png), recipe));"""
    given = json.dumps({"png": [*pictures.encode_png(picture)], "recipe": {"model": "é\u3042", "seed": 3}})
    command = [need_program("node", package="Node.js"), "-e", script, str(RECIPE)]
    (tmp_path / "it.png").write_bytes(
        subprocess.run(command, input=given.encode(), capture_output=True, check=True).stdout
    )
    assert pictures.read_recipe(tmp_path / "it.png") == {"model": "é\u3042", "seed": 3}
    with Image.open(tmp_path / "it.png") as image:  # Pillow checks the CRC of every chunk
        assert np.array_equal(np.asarray(image), picture)


def draw(random: np.random.RandomState, values: int) -> int | None:
    return int(random.randint(values)) if random.rand() < 0.5 else None


def test_the_page_is_one_file_and_escapes_the_card(tmp_path: Path) -> None:
    generator = small()
    assert isinstance(generator, Generator)
    generator.checkpoint = Checkpoint(tmp_path, "stylegan2", {}, {})
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    text = page(
        "<i>faces", generator, b"model", Card(CARD, "x</ul>", ("<script>alert(1)</script>",)), Runtime(b"", b"")
    )
    assert "<title>&lt;i&gt;faces</title>" in text and "<script>alert" not in text and "<b>generator" not in text
    assert MARKS[".html"].search(text.encode())  # by which --force knows it
    assert "default-src 'none'; img-src 'none'; script-src 'sha256-" in text
    assert "http" not in text.replace("http-equiv", "").replace("https://www.apache.org/licenses/LICENSE-2.0", "")


def test_the_archive_is_checked(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"a\.tgz: not the package onnxruntime-web 1\.30\.0 .*npm pack"):
        read_runtime(tmp_path / "a.tgz")
    (tmp_path / "package" / "dist").mkdir(parents=True)
    (tmp_path / "package/dist/ort.wasm.bundle.min.mjs").write_text("alert(1)")
    packed = shutil.make_archive(str(tmp_path / "b"), "gztar", tmp_path, "package")
    with pytest.raises(ValueError, match=r"its ort\.wasm\.bundle\.min\.mjs is not that of onnxruntime-web 1\.30\.0"):
        read_runtime(Path(packed))


@pytest.fixture(scope="module")
def exported() -> Exported:
    need_exporter()
    return export_once()


@pytest.fixture(scope="module")
def tab(browser: Any, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of the exported generator, ready. Without a network; errors and requests fail the test."""
    if not (ROOT / ARCHIVE).is_file():
        pytest.skip(f"needs {ARCHIVE}; run in the source folder: npm pack onnxruntime-web@1.30.0")
    file, card = tmp_path_factory.mktemp("page") / "faces.html", read_card(exported.generator.checkpoint)
    content = page("faces", exported.generator, exported.result.out.read_bytes(), card, read_runtime(ROOT / ARCHIVE))
    file.write_text(content, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, offline=True)
    tab, wrong = context.new_page(), list[str]()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: None if request.url.startswith(("file:", "blob:")) else wrong.append(request.url))
    tab.goto(file.as_uri())
    tab.wait_for_selector("body[data-ready]", timeout=120_000)
    yield tab
    context.close()
    assert not wrong


def idle(tab: Any, seed: int) -> None:
    tab.wait_for_selector(f"#grid[aria-busy=false] li:first-child[data-seed='{seed}']")


def expected(generator: Generator, seed: int, fixed: dict[str, int], truncation: float) -> np.ndarray:
    """The picture of `kyara generate`, (3, H, W)."""
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, generator.z_dim)).float()
    labels = {name: torch.tensor([label]) for name, label in generator.label_table.draw(fixed, seed).items()}
    return generator.sample(z, truncation=truncation, labels=labels)[0].numpy()


def test_numbers_are_those_of_generate(tab: Any, exported: Exported) -> None:
    script = """async ([seed, fixed, truncation]) =>
        Array.from(await kyara.compute(seed, kyara.drawLabels(fixed, seed), truncation))"""
    for seed, fixed, truncation in ((7, {}, 0.7), (4_000_000_000, {"hair": 2}, 1.0), (1, {"hair": 1, "eyes": 0}, 0.3)):
        given = [fixed.get(name) for name in ATTRIBUTES]
        made = np.array(tab.evaluate(script, [seed, given, truncation])).reshape(3, 8, 8)
        assert np.abs(made - expected(exported.generator, seed, fixed, truncation)).max() < 1e-3


def test_a_saved_picture_is_that_of_generate(tab: Any, exported: Exported, tmp_path: Path) -> None:
    tab.select_option("select[name=attribute0]", label="blonde")
    tab.fill("#seed", "41")
    tab.press("#seed", "Enter")
    idle(tab, 41)
    assert tab.inner_text("li:nth-child(3) figcaption p").startswith("hair blonde")
    with tab.expect_download() as download:
        tab.click("li:nth-child(3) .save")
    assert download.value.suggested_filename == "faces-seed0043.png"
    download.value.save_as(tmp_path / "it.png")
    recipe = read_like(tmp_path / "it.png")
    assert recipe.checkpoint == exported.generator.checkpoint.hash and (recipe.model, recipe.truncation) == (
        "faces",
        0.7,
    )
    assert recipe.shot["seed"] == 43 and recipe.shot["labels"]["hair"] == "blonde"
    made = pictures.decode(tmp_path / "it.png").astype(int)
    wanted = pictures.to_uint8(torch.from_numpy(expected(exported.generator, 43, {"hair": 1}, 0.7))[None])[0]
    assert np.abs(made - wanted).max() <= 1


def test_keys_and_buttons(tab: Any) -> None:
    tab.fill("#seed", "5")
    tab.press("#seed", "Enter")
    idle(tab, 5)
    tab.press("#after", "Enter")
    idle(tab, 17)
    tab.press("#before", "Space")
    idle(tab, 5)
    tab.focus("#truncation")
    tab.keyboard.press("Home")
    tab.wait_for_function("document.getElementById('psi').textContent == '0.00'")
    tab.select_option("#count", "24")
    tab.wait_for_selector("#grid[aria-busy=false] li:nth-child(24)[data-seed='28']")
    assert tab.locator("#grid li").count() == 24
    assert tab.get_attribute("li:first-child canvas", "aria-label").startswith("seed 5, hair ")


def test_the_licence_is_shown_and_it_fits_a_telephone(tab: Any) -> None:
    shown = tab.inner_text("footer")
    assert "by Someone. Please credit Someone" in shown and "cc-by-4.0" in shown
    assert "ONNX Runtime" in tab.text_content("footer") and "Microsoft Corporation" in tab.text_content("footer")
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
