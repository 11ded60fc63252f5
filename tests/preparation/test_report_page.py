"""The page of a report in Chromium: 5,000 pictures, ticks, lists, filters, keys and hostile names."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyara.files import pictures
from kyara.preparation.drop import read_list
from kyara.preparation.prepare import prepare
from kyara.preparation.report_page import page
from kyara.preparation.thumbnails import Thumbnails

MANY = 5000
HOSTILE = [
    'a,b "c".png', "Über\ncool\r.png", " 青い髪 の/子 .png", "</script><script>window.hacked=1</script>.png",
    '"><img src=x onerror=window.hacked=1>.png', "__proto__", "'\u2028`${window.hacked=1}`.png", "=1+1.png",
]  # fmt: skip
FINE = [name for name in HOSTILE if "/" not in name]  # can be the name of a file


def report(count: int) -> dict[str, Any]:
    """The content of a report.json. Of ten pictures, the fourth is a copy and the tenth cannot be read."""
    rows: list[dict[str, Any]] = []
    for i in range(count):
        row = {"file": HOSTILE[i] if i < len(HOSTILE) else f"art/{i:05d}.png", "kept": f"images/00/{i}.webp"}
        row |= {"reason": "", "detail": "", "size": [64 + i % 50, 64], "sharpness": i * 7919 % count / count}
        row |= {
            "nearest": None,
            "distance": None,
            "cut": False,
            "faces": [{"box": [0, 0, 9, 9], "score": 0.5}] * (i % 2),
        }
        if i % 10 == 3:
            row |= {"kept": None, "reason": "near duplicate", "nearest": rows[i - 1]["file"], "distance": 0.05}
        if i % 10 == 9:
            row |= {"kept": None, "reason": "unreadable", "size": None, "sharpness": None, "faces": []}
        rows.append(row)
    kept = sum(row["kept"] is not None for row in rows)
    return {"out": "<b>out", "kept": kept, "size": [64, 64], "sources": ["<i>art"], "pictures": rows}


def colour(i: int) -> tuple[int, int, int]:
    return i % 7 * 40, i % 11 * 25, i % 5 * 60


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 5,000 pictures of one colour each."""
    folder = tmp_path_factory.mktemp("many")

    def write(name: str, data: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    content, thumbnails = report(MANY), Thumbnails(write)
    places = {
        row["file"]: thumbnails.add(np.full((64, 64, 3), colour(i), np.uint8))
        for i, row in enumerate(content["pictures"])
        if row["size"]
    }
    thumbnails.finish()
    write("report.html", page(content, places, "report.thumbnails", "kyara prepare").encode())
    return folder / "report.html"


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A new tab with an empty storage. Errors and requests outside the disk fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    tab, wrong = context.new_page(), list[str]()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: None if request.url.startswith(("file:", "blob:")) else wrong.append(request.url))
    yield tab
    assert tab.evaluate("window.hacked") is None
    context.close()
    assert not wrong


def visit(tab: Any, path: Path) -> None:
    tab.goto(path.as_uri())
    tab.wait_for_selector(".cell")


def saved(tab: Any, folder: Path) -> Path:
    with tab.expect_download() as download:
        tab.click("#save")
    assert download.value.suggested_filename == "drop.csv"
    download.value.save_as(folder / "drop.csv")
    return folder / "drop.csv"


def ticked(tab: Any) -> list[str]:
    return tab.eval_on_selector_all(".cell.ticked", "cells => cells.map(cell => cell.title)")  # type: ignore[no-any-return]


def names(tab: Any) -> list[str]:
    """The files of the cells in the document, in the order of the grid."""
    by_place = "cells => cells.sort((a, b) => a.id.slice(2) - b.id.slice(2)).map(cell => cell.title)"
    return tab.eval_on_selector_all(".cell", by_place)  # type: ignore[no-any-return]


def test_it_opens_quickly_with_the_visible_rows_only(tab: Any, many: Path) -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        visit(tab, many)
        took.append(time.perf_counter() - began)
    assert min(took) < 2
    assert tab.locator(".cell").count() < 150 and tab.inner_text("#status") == "5,000 shown"
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.wait_for_selector(f"#at{MANY - 1}")
    assert tab.locator(".cell").count() < 150


def test_thumbnails_are_those_of_the_files(tab: Any, many: Path) -> None:
    visit(tab, many)
    tab.fill("#search", "00234")
    tab.wait_for_function("document.querySelectorAll('.cell').length == 1")
    tab.wait_for_timeout(300)  # the sheet is decoded
    shot = pictures.decode(tab.locator(".cell .thumb").screenshot())
    assert abs(shot[8:-8, 8:-8].astype(int) - colour(234)).max() < 12


def test_ticks_survive_a_reload_and_names_survive_the_list(tab: Any, many: Path, tmp_path: Path) -> None:
    visit(tab, many)
    for i in range(len(HOSTILE)):
        tab.click(f"#at{i}")
    tab.reload()
    tab.wait_for_selector(".cell.ticked")
    assert ticked(tab) == HOSTILE
    listed = saved(tab, tmp_path)
    assert list(read_list(listed)) == HOSTILE
    with listed.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["file_name"], *([name] for name in HOSTILE)]
    assert [tab.inner_text(f"#at{i} p") for i in (4, 5)] == HOSTILE[4:6]


def test_filter_sort_and_search(tab: Any, many: Path) -> None:
    visit(tab, many)
    rows = report(MANY)["pictures"]
    tab.select_option("#filter", "– near duplicate")
    assert tab.inner_text("#status") == "500 shown" and names(tab)[:2] == [HOSTILE[3], "art/00013.png"]
    tab.select_option("#filter", "kept")
    tab.select_option("#sort", "sharpness")
    kept = sorted((row["sharpness"], row["file"]) for row in rows if row["kept"])
    assert names(tab)[:40] == [name for _, name in kept[:40]]
    tab.click("#reverse")
    assert names(tab)[:40] == [name for _, name in kept[:-41:-1]]
    tab.select_option("#sort", "certainty of the face")
    assert tab.inner_text("#at0 .value") == "0.50"
    tab.fill("#search", "00042")
    assert names(tab) == ["art/00042.png"]
    tab.click("text=1 copy left out")
    assert names(tab) == ["art/00042.png", "art/00043.png"]


def test_keys(tab: Any, many: Path) -> None:
    visit(tab, many)
    for key in ("ArrowRight", "Space", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowRight", "Space"):
        tab.keyboard.press(key)
    columns = tab.evaluate("[...document.querySelectorAll('.cell')].filter(cell => cell.style.top == '0px').length")
    rows = [row["file"] for row in report(columns + 10)["pictures"]]
    assert ticked(tab) == [rows[1], *rows[columns + 1 : columns + 4]]
    tab.keyboard.press("Control+z")
    assert ticked(tab) == [rows[1]]
    tab.click("#at2")
    tab.click("#at5", modifiers=["Shift"])
    assert ticked(tab) == rows[1:6]
    tab.keyboard.press("End")
    tab.wait_for_selector(f"#at{MANY - 1}.cursor")
    tab.keyboard.press("Home")
    tab.wait_for_selector("#at0.cursor")
    tab.click("text=tick shown")
    assert tab.inner_text("#save") == "save list (5,000)"


def test_it_fits_a_telephone(tab: Any, many: Path) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    visit(tab, many)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate("document.getElementById('bar').offsetHeight") < 140


def test_the_list_is_taken_by_prepare_and_goes_on_in_the_next_page(tab: Any, tmp_path: Path) -> None:
    art = tmp_path / "art"
    art.mkdir()
    for i, name in enumerate([*FINE, "left.png", "also.png"]):
        name = name if name.endswith(".png") else f"{name}.png"
        random = np.random.RandomState(i).randint(0, 256, (6, 6, 3), dtype=np.uint8)
        (art / name).write_bytes(pictures.encode_png(pictures.resize(random, 64, 64)))
    files = {path.name for path in art.iterdir()}
    first = prepare(art, tmp_path / "first.zip", size="64", workers=0)
    visit(tab, first.page)
    for name in files - {"left.png", "also.png"}:
        tab.evaluate("name => [...document.querySelectorAll('.cell')].find(cell => cell.title == name).click()", name)
    listed = saved(tab, tmp_path)
    second = prepare(art, tmp_path / "second.zip", size="64", workers=0, drop=listed)
    assert second.kept == 2 and {row["file"] for row in second.left_out["dropped"]} == files - {"left.png", "also.png"}
    visit(tab, second.page)
    tab.click(".cell[title='also.png']")
    third = prepare(art, tmp_path / "third.zip", size="64", workers=0, drop=saved(tab, tmp_path))
    assert [row.file for row in third.pictures if row.kept] == ["left.png"]
    assert "drop.csv --workers 0 --force" in tab.inner_text("header")
