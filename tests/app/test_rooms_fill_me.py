"""The rooms Fill and Me in a browser, from click to file on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kyara
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode

Server = tuple[str, Path]


def until(tab: Any, expression: str, argument: Any = None) -> None:
    """Waits until a function of the page is true."""
    tab.wait_for_function(expression, arg=argument)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated person on a wider background, as a photo."""
    folder = tmp_path_factory.mktemp("person")
    kyara.generate("builtin:photo", seeds="4", truncation=0.7, rank="none", out=folder / "made", device="cpu")
    photo = Image.new("RGB", (260, 220), (170, 180, 175))
    photo.paste(Image.open(folder / "made/seed0004.png").resize((192, 192), Image.Resampling.BICUBIC), (30, 28))
    photo.save(folder / "me.png")
    return folder / "me.png"


def test_fill(tab: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = server
    picture = folder / "galleries/drawn/seed0007.png"
    if not picture.exists():
        kyara.generate("builtin:anime", seeds="7", rank="none", out=picture.parent, device="cpu")
    tab.click("nav a:text-is('Fill')")
    tab.wait_for_selector("#fill-from option[value='galleries/drawn']", state="attached")
    tab.select_option("#fill-from", "galleries/drawn")
    tab.click(".strip button[aria-label='seed0007.png']")
    until(tab, "() => document.querySelector('.painting img').src.includes('seed0007')")
    box = tab.locator(".painting").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.7)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=4)
    tab.mouse.up()
    tab.click("#fill:not([disabled])")
    tab.wait_for_selector("#filled:not([hidden])")
    until(tab, "() => document.querySelector('#filled img[alt=\"the filled picture\"]').naturalWidth === 64")
    tab.click("#keep-fill")
    until(tab, "() => document.querySelector('#command').textContent.includes('--mask')")
    tab.wait_for_selector("#kept:has-text('It is in galleries/fill-seed0007.')")
    words = tab.inner_text("#command").split()
    assert words[:4] == ["kyara", "translate", "builtin:inpainting", "galleries/drawn/seed0007.png"]
    monkeypatch.chdir(folder)
    mask = Path(words[words.index("--mask") + 1])
    kyara.translate(words[2], words[3], mask=mask, out=tmp_path / "cli", device="cpu")
    kept = decode(folder / "galleries/fill-seed0007/seed0007.png")
    assert np.array_equal(kept, decode(tmp_path / "cli/seed0007.png"))
    painted = decode(mask)[:, :, 0] > 127
    assert painted[44, 20:38].all() and not painted[:36].any()
    assert np.array_equal(kept[~painted], decode(picture)[~painted]) and not np.array_equal(kept, decode(picture))
    tab.click("#continue-fill")  # the result is the next picture, without a mask
    tab.wait_for_selector("#filled[hidden]", state="attached")
    tab.wait_for_selector("#fill[disabled]", state="attached")


def test_painting_by_keyboard(tab: Any) -> None:
    tab.click("nav a:text-is('Fill')")
    until(tab, "() => document.querySelector('.painting canvas')?.width === 256")
    tab.focus(".painting")
    tab.keyboard.press("ArrowLeft")
    assert tab.is_disabled("#fill")
    tab.keyboard.press("Space")
    tab.keyboard.press("Shift+ArrowDown")
    tab.wait_for_selector("#fill:not([disabled])")
    for _ in range(2):
        tab.keyboard.press("Control+z")
    tab.wait_for_selector("#fill[disabled]", state="attached")


def test_a_late_answer_does_not_replace_a_later_picture(tab: Any) -> None:
    tab.click("nav a:text-is('Fill')")
    until(tab, "() => document.querySelector('.painting canvas')?.width === 256")
    tab.focus(".painting")
    tab.keyboard.press("Space")
    late: list[Any] = []
    tab.route("**/api/fill/try", lambda route: late.append(route))
    tab.click("#fill:not([disabled])")
    until(tab, "() => document.querySelector('.panel.right [role=status]').textContent.startsWith('Filling')")
    tab.click(".strip button[aria-label='seed 5']")
    until(tab, "() => document.querySelector('.painting img').src.includes('seed=5')")
    with tab.expect_response("**/api/fill/try"):
        late[0].continue_()
    tab.focus(".painting")
    tab.keyboard.press("Space")
    tab.wait_for_selector("#fill:not([disabled])")
    assert tab.locator("#filled").is_hidden()


def test_me(tab: Any, server: Server, person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = server
    tab.click("nav a:text-is('Me')")
    tab.set_input_files("#photo-file", str(person))
    tab.wait_for_selector("#face-1[aria-pressed=true]")
    tab.click("#me-chips fieldset:has-text('hair') button:text-is('pink')")
    tab.click("#propose:not([disabled])")
    until(tab, "() => document.querySelector('#command').textContent.startsWith('kyara avatar')")
    command = tab.inner_text("#command")
    tab.click("#cartoon")
    until(tab, "() => document.querySelector('#command').textContent.includes('builtin:cartoon')")
    tab.click("nav a:text-is('Look')")  # what is done meanwhile is there when the room is opened again
    tab.click("nav a:text-is('Me')")
    tab.wait_for_selector("#proposals button:nth-child(8)", timeout=300_000)
    tab.wait_for_selector("#cartoon-result:not([hidden])", timeout=300_000)
    words = command.split()
    out = folder / words[words.index("--out") + 1]
    monkeypatch.chdir(folder)
    kyara.avatar(words[2], where="hair=pink", out=tmp_path / "cli", device="cpu")
    row = read_gallery(out)[0]
    assert row["hair"] == "pink"
    assert "gender" in tab.inner_text("#read") and "chosen" in tab.inner_text("#read")
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*.png"))
    assert files == sorted(str(file.relative_to(tmp_path / "cli")) for file in (tmp_path / "cli").rglob("*.png"))
    for name in files:
        assert np.array_equal(decode(out / name), decode(tmp_path / "cli" / name)), name
    assert (folder / "galleries/cartoon-me/me.png").is_file()
    tab.click("#proposals button:nth-child(2)")
    tab.click("#take-over")
    tab.wait_for_selector("#about-one:has-text('other1.png')")
    before = tab.get_attribute(".panel.right .stage img", "src")
    tab.click("#change fieldset:has-text('hair') button:text-is('blue')")
    until(tab, "(before) => document.querySelector('.panel.right .stage img').getAttribute('src') !== before", before)


def test_photos_without_a_face_and_a_webcam(tab: Any, tmp_path: Path) -> None:
    Image.new("RGB", (240, 180), (40, 160, 90)).save(tmp_path / "meadow.jpg")
    tab.click("nav a:text-is('Me')")
    tab.set_input_files("#photo-file", str(tmp_path / "meadow.jpg"))
    tab.wait_for_selector("#no-face:has-text('No face was found')")
    assert tab.is_disabled("#propose")
    tab.check("#aligned")
    tab.wait_for_selector("#propose:not([disabled])")
    tab.uncheck("#aligned")
    tab.click("#webcam")
    assert "camera" in tab.wait_for_selector("#toasts p.error").inner_text()  # refused
    tab.context.grant_permissions(["camera"])
    tab.click("#webcam")
    tab.click("#shoot:not([disabled])")
    until(tab, "() => document.querySelector('.photo img')?.src.includes('webcam')")
    tab.wait_for_selector("dialog.webcam", state="detached")
    tab.wait_for_selector("#no-face:has-text('No face was found')")  # the browser's test picture


def leaves(tab: Any) -> bool:
    """Whether the page may be left without a warning."""
    return bool(tab.evaluate("() => dispatchEvent(new Event('beforeunload', { cancelable: true }))"))


def test_refused_files_are_messages_and_masks_are_not_lost(tab: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    tab.click("nav a:text-is('Fill')")
    until(tab, "() => document.querySelector('.painting canvas')?.width === 256")
    tab.set_input_files("#fill-file", str(tmp_path / "text.png"))
    tab.wait_for_selector("#toasts p.error")  # and no error of the page, which the tab would report
    assert leaves(tab)
    tab.focus(".painting")
    tab.keyboard.press("Space")
    tab.wait_for_selector("#fill:not([disabled])")
    assert not leaves(tab)
    tab.route("**/api/fill/try", lambda route: route.fulfill(status=400, json={"error": "no memory"}))
    tab.click("#fill")
    tab.wait_for_selector("#toasts p.error:has-text('no memory')")
    tab.keyboard.press("Control+z")
