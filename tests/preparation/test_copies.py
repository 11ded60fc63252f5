"""What is a copy of a drawing, and what is another one of the same character."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from kyara.files import pictures
from kyara.preparation import duplicates
from kyara.preparation.duplicates import (
    AHEAD,
    COMPARED,
    OUTLINE,
    SIMILAR,
    Impression,
    Seen,
    impression,
    outline_distance,
)

SIZE, HAIR, EYES = 512, (110, 70, 55), (60, 90, 200)


def sprite(
    mouth: str = "closed",
    eyes: str = "open",
    hair: tuple[int, int, int] = HAIR,
    iris: tuple[int, int, int] = EYES,
    blush: bool = False,
) -> Image.Image:
    """A drawn head and shoulders. The mouth is 30 pixels wide, an iris 26."""
    image = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle([150, 360, 362, 512], fill=(70, 90, 150), outline=(10, 10, 10), width=3)
    draw.ellipse([120, 60, 392, 400], fill=hair, outline=(10, 10, 10), width=3)
    draw.ellipse([165, 140, 347, 385], fill=(250, 225, 205), outline=(10, 10, 10), width=3)
    for x in (150, 200, 250, 300):
        draw.polygon([(x, 110), (x + 70, 110), (x + 30, 215)], fill=hair, outline=(30, 20, 20))
    for x in (210, 302):
        if eyes == "open":
            draw.ellipse([x - 20, 235, x + 20, 290], fill=(255, 255, 255), outline=(10, 10, 10), width=3)
            draw.ellipse([x - 13, 242, x + 13, 288], fill=iris)
        else:
            draw.arc([x - 20, 250, x + 20, 290], 200, 340, fill=(10, 10, 10), width=4)
        if blush:
            draw.ellipse([x - 22, 305, x + 22, 322], fill=(245, 170, 160))
    if mouth == "open":
        draw.ellipse([241, 330, 271, 352], fill=(170, 50, 60), outline=(10, 10, 10), width=2)
    else:
        draw.arc([241, 320, 271, 345], 20, 160, fill=(120, 30, 30), width=3)
    return image


def fitted(image: Image.Image, size: int = 256) -> np.ndarray:
    return np.ascontiguousarray(pictures.center_crop(np.array(image.convert("RGB")), size, size))


def recompressed(image: Image.Image, quality: int = 50) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def shifted(image: Image.Image, x: int, y: int) -> Image.Image:
    moved = Image.new("RGB", image.size, (255, 255, 255))
    moved.paste(image, (x, y))
    return moved


Change = Callable[[Image.Image], Image.Image]
COPIES: dict[str, Change] = {
    "half": lambda p: p.resize((256, 256), Image.Resampling.BICUBIC),
    "odd size": lambda p: p.resize((423, 423), Image.Resampling.BILINEAR),
    "small and jpeg": lambda p: recompressed(p.resize((256, 256)), 70),
    "jpeg": lambda p: recompressed(p, 30),
    "shifted": lambda p: shifted(p, 15, -12),
    "cropped": lambda p: p.crop((20, 6, 500, 486)),
    "rotated": lambda p: p.rotate(2.5, Image.Resampling.BICUBIC, fillcolor="white"),
    "mirrored": lambda p: recompressed(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.15),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.8),
    "contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.85),
    "pale": lambda p: ImageEnhance.Color(p).enhance(0.8),
    "colourful": lambda p: ImageEnhance.Color(p).enhance(1.2),
    "warm": lambda p: Image.fromarray(np.clip(np.array(p) * [1.05, 1, 0.94], 0, 255).astype(np.uint8)),
    "all of it": lambda p: recompressed(shifted(ImageEnhance.Contrast(p).enhance(1.1), 5, 8).resize((300, 300)), 60),
}
OTHERS = {
    "mouth": {"mouth": "open"}, "eyes": {"eyes": "closed"}, "blush": {"blush": True}, "iris": {"iris": (70, 160, 80)},
    "hair": {"hair": (90, 60, 150)}, "blonde": {"hair": (240, 215, 140)}, "grey": {"hair": (160, 160, 170)},
}  # fmt: skip


def is_copy(image: Image.Image, of: Image.Image, size: int = 256) -> bool:
    seen = Seen("near")
    seen.add(impression(fitted(of, size)))
    found = seen.find(impression(fitted(image, size)))
    assert found in (None, ("near duplicate", 0), ("exact duplicate", 0))
    return found is not None


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_a_drawing(kind: str) -> None:
    assert is_copy(COPIES[kind](sprite()), sprite())
    assert is_copy(sprite(), COPIES[kind](sprite()))  # in any order


@pytest.mark.parametrize("shape", [(256, 384), (384, 256)])
def test_turned_copies_of_any_shape(shape: tuple[int, int]) -> None:
    both = [np.array(COPIES["rotated"](sprite())), np.array(sprite())]
    one, other = (impression(np.ascontiguousarray(pictures.center_crop(p, *shape))) for p in both)
    seen = Seen("near")
    seen.add(one)
    assert seen.find(other) == ("near duplicate", 0)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("size", [128, 256])
def test_another_expression_or_colour_is_no_copy(kind: str, size: int) -> None:
    other = sprite(**OTHERS[kind])  # type: ignore[arg-type]
    assert not is_copy(other, sprite(), size) and not is_copy(recompressed(other, 90), recompressed(sprite(), 90), size)
    assert not is_copy(other.transpose(Image.Transpose.FLIP_LEFT_RIGHT), sprite(), size)


def test_the_original_is_found_among_expressions() -> None:
    """Twenty expressions are nearly as similar as a copy; the copy is found, and its original named."""
    seen = Seen("near")
    for i in range(20):
        image = sprite("open" if i % 2 else "closed", iris=(60 + 9 * i, 200 - 9 * i, 12 * i))
        one = impression(fitted(image))
        assert seen.find(one) is None
        seen.add(one)
    copy = recompressed(sprite("open", iris=(60 + 9 * 13, 200 - 9 * 13, 12 * 13)), 80)
    assert seen.find(impression(fitted(copy))) == ("near duplicate", 13)


def test_other_shapes_and_sizes() -> None:
    for shape in ((512, 256), (48, 32), (64, 200)):
        make = lambda image: np.ascontiguousarray(pictures.center_crop(np.array(image), *shape))  # noqa: E731, B023
        seen = Seen("near")
        seen.add(impression(make(sprite())))
        assert seen.find(impression(make(recompressed(sprite(), 90)))) == ("near duplicate", 0)
        assert seen.find(impression(make(sprite(hair=(90, 60, 150))))) is None


# Speed


def outlines(random: np.random.RandomState, count: int) -> list[Impression]:
    """Impressions in groups of similar ones, a third of them with exactly the outline of another, or its mirror."""
    shape = OUTLINE, OUTLINE, 3
    groups, made = random.normal(size=(4, *shape)), []
    for i in range(count):
        outline = groups[random.randint(4)] + random.normal(size=shape) * 0.4
        if i and random.rand() < 0.33:
            outline = made[random.randint(i)].outline[:, :: random.choice([1, -1])]
        outline = (outline / np.linalg.norm(outline)).astype(np.float32)
        made.append(Impression(bytes([i // 256, i % 256]), outline, b""))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_what_is_compared_is_what_sorting_all_would_give(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    *known, one = outlines(np.random.RandomState(seed), 501)
    seen, compared, sorted_ = Seen("near"), [], []
    for other in known:
        seen.add(other)

    def argsort(values: np.ndarray, kind: Literal["stable"]) -> np.ndarray:
        sorted_.append(len(values))
        return values.argsort(kind=kind)

    with monkeypatch.context() as patch:
        patch.setattr(np, "argsort", argsort)
        patch.setattr(pictures, "decode", lambda data: np.zeros((32, 32, 3), np.uint8))
        patch.setattr(Seen, "_detail", lambda self, position: compared.append(position))
        patch.setattr(duplicates, "are_copies", lambda picture, others: np.zeros(len(others), bool))
        assert seen.find(one) is None
    expected: list[int] = []
    for step in (1, -1):
        cosines = seen.outlines[:500] @ one.outline[:, ::step].ravel()
        likely = np.argsort(-cosines, kind="stable")[:COMPARED]
        expected += likely[cosines[likely] >= SIMILAR].tolist()
    assert compared == expected and len(expected) >= COMPARED and max(sorted_) < 300
    distances = outline_distance(one.outline, seen.outlines[:500])
    assert seen.nearest(one) == (distances.argmin(), distances.min())


def test_find_and_nearest_share_what_they_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    computed: list[int] = []
    cosines = duplicates._cosines
    monkeypatch.setattr(duplicates, "_cosines", lambda *given: computed.append(len(given[1])) or cosines(*given))
    seen = Seen("near")
    for i, one in enumerate(map(impression, noise)):
        assert seen.find(one) is None
        nearest = seen.nearest(one)
        seen.add(one)
        assert nearest != seen.nearest(one) == (i, pytest.approx(0, abs=1e-6))  # also of what was just added
    assert computed == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_pictures_that_are_expected_together_have_the_same_outcome() -> None:
    """Also if the original of a copy is among them, and if some of them are not added."""
    random, made = np.random.RandomState(0), []
    for i in range(3 * AHEAD):
        picture = random.randint(0, 256, (6, 6, 3), dtype=np.uint8)
        if i % 3 == 2:
            picture = made[random.randint(i)][:, :: random.choice([1, -1])]
        made.append(picture)
    smooth = [Image.fromarray(np.ascontiguousarray(one)).resize((64, 64), Image.Resampling.BICUBIC) for one in made]
    ones = [impression(np.array(recompressed(one, random.randint(80, 95)))) for one in smooth]
    outcomes = []
    for ahead in (0, AHEAD, 10):
        seen, found = Seen("near"), []
        for i, one in enumerate(ones):
            if ahead and i % ahead == 0:
                seen.expect(ones[i : i + ahead])
            copy, nearest = seen.find(one), seen.nearest(one)
            found.append((copy, nearest and nearest[0], nearest and round(nearest[1], 4)))
            if copy is None:
                seen.add(one)
        outcomes.append(found)
    assert outcomes[0] == outcomes[1] == outcomes[2] and sum(copy is not None for copy, *_ in outcomes[0]) > 10
