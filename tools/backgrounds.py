"""Drawn pictures without faces: flat colours, patterns, landscapes, shapes and text, for tools/detector_pictures.py."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Random = np.random.RandomState
Colour = tuple[int, int, int]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!?.,&@#%"


def colour(random: Random, saturation: float = 1.0) -> Colour:
    """A random colour, light ones more often."""
    r, g, b = colorsys.hsv_to_rgb(random.rand(), random.rand() * saturation, 1 - random.rand() ** 2)
    return int(r * 255), int(g * 255), int(b * 255)


def background(random: Random, size: int) -> Image.Image:
    """A picture of size x size pixels without a face."""
    if random.rand() < 0.15:
        picture = Image.new("RGB", (size, size), "white")
    else:
        picture = KINDS[random.randint(len(KINDS))](random, size)
    if random.rand() < 0.5:
        shapes(random, picture, random.randint(1, 12))
    if random.rand() < 0.25:
        text(random, picture, random.randint(1, 4))
    if random.rand() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 4)))
    return picture


def flat(random: Random, size: int) -> Image.Image:
    return Image.new("RGB", (size, size), colour(random))


def gradient(random: Random, size: int) -> Image.Image:
    corners = np.array([colour(random) for _ in range(4)], np.uint8).reshape(2, 2, 3)
    return Image.fromarray(corners).resize((size, size), Image.Resampling.BICUBIC)


def clouds(random: Random, size: int) -> Image.Image:
    """Colour noise of several scales."""
    total = np.zeros((size, size, 3))
    for cells in (3, 6, 12, 40):
        noise = Image.fromarray(random.randint(0, 256, (cells, cells, 3)).astype(np.uint8))
        total += np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC)) * random.rand()
    return Image.fromarray((total * (255 / max(total.max(), 1))).astype(np.uint8))


def pattern(random: Random, size: int) -> Image.Image:
    """Stripes, checks, dots or pairs of dots, which are no eyes."""
    picture = flat(random, size)
    draw, step, kind, other = ImageDraw.Draw(picture), random.randint(6, 60), random.randint(5), colour(random)
    for y in range(0, size, step):
        for x in range(0, size, step):
            if kind == 0:
                draw.rectangle((x, y, x + step // 2, y + size), fill=other)
            elif kind == 1 and (x // step + y // step) % 2:
                draw.rectangle((x, y, x + step, y + step), fill=other)
            elif kind == 2:
                draw.ellipse((x, y, x + step // 2, y + step // 2), fill=other)
            elif kind == 3:
                for at in (0, step // 2):
                    draw.ellipse((x + at, y, x + at + step // 4, y + step // 4), fill=other, outline=(0, 0, 0))
            elif kind == 4:
                draw.line((x, y, x + step, y + step * random.randint(-1, 2)), fill=other, width=random.randint(1, 4))
    return picture.rotate(random.uniform(-45, 45), Image.Resampling.BILINEAR, fillcolor=colour(random))


def landscape(random: Random, size: int) -> Image.Image:
    """Sky, hills, trees or houses."""
    picture = gradient(random, size)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randint(0, 5)):
        x, y, r = random.randint(size), random.randint(size // 2), random.randint(8, 60)
        draw.ellipse((x - r, y - r // 2, x + r, y + r // 2), fill=colour(random, 0.3))
    for layer in range(random.randint(1, 5)):
        base = size * (0.35 + 0.15 * layer) + random.uniform(-20, 20)
        heights = base + np.cumsum(random.uniform(-12, 12, 17))
        outline = [(i * size / 16, float(y)) for i, y in enumerate(heights)]
        draw.polygon([*outline, (size, size), (0, size)], fill=colour(random))
        for _ in range(random.randint(0, 6)):
            x, height, width = random.randint(size), random.randint(15, 90), random.randint(6, 50)
            y = float(heights[int(x / size * 16)])
            if random.rand() < 0.5:
                draw.rectangle((x, y - height, x + width, y + 4), fill=colour(random), outline=(0, 0, 0))
                for k in range(0, width - 8, 12):
                    draw.rectangle((x + k + 3, y - height + 6, x + k + 8, y - height + 14), fill=colour(random))
            else:
                draw.rectangle((x, y - height, x + 4, y + 4), fill=colour(random))
                draw.ellipse((x - width // 2, y - height - width, x + width // 2, y - height // 2), fill=colour(random))
    return picture


KINDS: tuple[Callable[[Random, int], Image.Image], ...] = (flat, gradient, clouds, pattern, landscape, landscape)


def shapes(random: Random, picture: Image.Image, count: int) -> None:
    """Draws ellipses, polygons, curves and stars, with or without outlines."""
    draw, size = ImageDraw.Draw(picture), picture.width
    for _ in range(count):
        x, y, r = *random.randint(-20, size + 20, 2), int(np.exp(random.uniform(1.5, 4.8)))
        fill = colour(random) if random.rand() < 0.75 else None
        edge = (0, 0, 0) if random.rand() < 0.5 else colour(random)
        kind, width = random.randint(5), random.randint(1, 5)
        if kind == 0:
            draw.ellipse((x - r, y - r * random.rand() - 1, x + r, y + r), fill=fill, outline=edge, width=width)
        elif kind == 1:
            corners = random.randint(3, 7)
            around = np.sort(random.uniform(0, 2 * np.pi, corners))
            draw.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for a in around], fill=fill, outline=edge)
        elif kind == 2:
            steps = np.cumsum(random.uniform(-r / 3, r / 3, (random.randint(4, 14), 2)), 0)
            draw.line([(x + dx, y + dy) for dx, dy in steps], fill=edge, width=width, joint="curve")
        elif kind == 3:
            begin = random.randint(360)
            draw.arc((x - r, y - r, x + r, y + r), begin, begin + random.randint(30, 300), fill=edge, width=width)
        else:
            far = np.where(np.arange(10) % 2, 0.45, 1.0) * r
            around = np.arange(10) * np.pi / 5
            star = [(x + f * np.cos(a), y + f * np.sin(a)) for f, a in zip(far, around, strict=True)]
            draw.polygon(star, fill=fill, outline=edge)


def text(random: Random, picture: Image.Image, count: int) -> None:
    """Writes lines of random letters, some in a speech bubble."""
    draw, size = ImageDraw.Draw(picture), picture.width
    for _ in range(count):
        font = ImageFont.load_default(random.randint(8, 40))
        lines = ["".join(random.choice([*LETTERS], random.randint(2, 9))) for _ in range(random.randint(1, 5))]
        x, y = random.randint(0, size, 2)
        box = draw.multiline_textbbox((x, y), "\n".join(lines), font=font)
        if random.rand() < 0.5:
            draw.ellipse((box[0] - 15, box[1] - 15, box[2] + 15, box[3] + 15), fill="white", outline="black", width=2)
            draw.multiline_text((x, y), "\n".join(lines), fill="black", font=font)
        else:
            draw.multiline_text((x, y), "\n".join(lines), fill=colour(random), font=font)
