"""Contrast, names and keyboard of every room, checked by axe-core."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

ROOMS = ("make", "me", "rewrite", "fill", "art", "look")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_serious_finding(tab: Any, theme: str, width: int) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed (extra `dev`)")
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    tab.emulate_media(color_scheme=theme)
    tab.set_viewport_size({"width": width, "height": 800})
    tab.wait_for_selector("#make-new:not([disabled])")
    tab.evaluate(f"() => {{ {axe} }}")
    found = []
    for room in ROOMS:
        tab.evaluate("(room) => { location.hash = room; }", room)
        tab.wait_for_selector(f"main.{room} section")
        violations = tab.evaluate("async () => (await axe.run(document)).violations")
        found += [(room, one["id"], one["nodes"][0]["target"]) for one in violations if serious(one)]
    assert not found


def serious(violation: dict[str, Any]) -> bool:
    return violation["impact"] in ("serious", "critical")
