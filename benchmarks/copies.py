"""Copies: how many altered copies of pictures are found, and how long the search takes.

    python benchmarks/copies.py found faces.zip --prefix-from f
    python benchmarks/copies.py found faces.zip --prefix-from f --reference 0 --count 150 --sscd sscd.onnx
    python benchmarks/copies.py search --rows 100000

`found` uses pictures that the descriptor was not trained on, those whose file names sort from the prefix on. The first
`count` of them are the originals, together with `reference` others, which nobody copies; each is altered in every way.
The rest are fresh pictures, without variants of known ones: one in a thousand, at least one, may be taken for a copy.
"marked as copies" are those with a copy score of 0.5 or more, as `kyara rank` marks them. The
alterations are those of Pillow, at the original size, not those of the training.
"""

from __future__ import annotations

import io
import random
import string
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import tyro
from common import held_out, machine, peak, print_table, run
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from kyara.curation.copies import MODEL, NEAREST, SHARES, Nearest, search, verified, views
from kyara.curation.placement import small
from kyara.evaluation.features import load_extractor
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.gallery_page import MARK
from kyara.files.pictures import center_crop, to_float
from kyara.models import load
from kyara.preparation.copies import correlations

Alteration = Callable[[Image.Image, random.Random], Image.Image]
VARIANT, COMPARED, SIDE = 0.9, 3, 96
"""Pictures are variants of one drawing if their grey levels correlate by this; how many neighbours are compared, and
at which size in pixels. Collections have variants with another mouth, which are not new faces."""
FALSE_ALARMS = 1000  # fresh pictures of which one may be taken for a copy
MARKED = "marked as copies"
BATCH = 64
WIDTH = 256  # of random descriptors


def crop(picture: Image.Image, chance: random.Random, area: float = 0.6) -> Image.Image:
    side = round(min(picture.size) * area**0.5)
    left, top = (chance.randint(0, length - side) for length in picture.size)
    return picture.crop((left, top, left + side, top + side))


def flip(picture: Image.Image, chance: random.Random) -> Image.Image:
    return ImageOps.mirror(picture)


def resize(picture: Image.Image, chance: random.Random) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)


def recolour(picture: Image.Image, chance: random.Random, hue: int = 8) -> Image.Image:
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(chance.uniform(0.75, 1.25))
    turned = np.array(picture.convert("HSV"))
    turned[..., 0] += np.uint8(chance.randint(-hue, hue) % 256)
    return Image.fromarray(turned, "HSV").convert("RGB")


def jpeg(picture: Image.Image, chance: random.Random, quality: int = 30) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def text(picture: Image.Image, chance: random.Random) -> Image.Image:
    made, side = picture.copy(), picture.width
    words = "".join(chance.choices(string.ascii_letters + string.digits, k=8))
    place = chance.uniform(0, 0.2) * side, chance.uniform(0, 0.8) * side
    colour = (chance.randrange(256), chance.randrange(256), chance.randrange(256))
    ImageDraw.Draw(made).text(place, words, colour, ImageFont.load_default(side * 0.2))
    return made


def several(picture: Image.Image, chance: random.Random) -> Image.Image:
    return jpeg(recolour(flip(crop(picture, chance, 0.75), chance), chance), chance, 50)


ALTERATIONS: dict[str, Alteration] = {
    "crop to 60 % of the area": crop,
    "flip": flip,
    "resize to one half": resize,
    "brightness, contrast, saturation by up to 25 %, hue by up to 11 degrees": recolour,
    "JPEG of quality 30": jpeg,
    "a word across, a fifth of the height": text,
    "crop to 75 %, flip, the same colours, JPEG of quality 50": several,
}
Describe = Callable[[Iterable[np.ndarray], bool], np.ndarray]
"""Descriptors (N, V, F) float32 of pictures (H, W, 3) uint8, or of all their views, if they are searched for."""


def by_kyara() -> Describe:
    model = load(MODEL)
    size = model.config.data.width, model.config.data.height

    @torch.inference_mode()
    def describe(pictures: Iterable[np.ndarray], searched: bool) -> np.ndarray:
        groups = in_groups(center_crop(picture, *size) for picture in pictures)
        tensors = (to_float(np.stack(group)) for group in groups)
        rows = [[model.embed(view) for view in (views(x) if searched else [x])] for x in tensors]
        return torch.cat([torch.stack(some, 1) for some in rows]).numpy()

    return describe


def by_sscd(path: Path) -> Describe:
    extractor = load_extractor(f"sscd:{path}", torch.device("cpu"))
    assert extractor.size is not None
    size = extractor.size

    def describe(pictures: Iterable[np.ndarray], searched: bool) -> np.ndarray:
        groups = in_groups(center_crop(picture, *size) for picture in pictures)
        return np.concatenate([extractor(np.stack(group))[:, None] for group in groups])

    return describe


def in_groups(pictures: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    iterator = iter(pictures)
    while group := list(islice(iterator, BATCH)):
        yield group


def altered(dataset: Dataset, chosen: list[int], alteration: Alteration) -> Iterator[np.ndarray]:
    for i in chosen:
        yield np.asarray(alteration(Image.fromarray(dataset.picture(i)), random.Random(i)))


Found = dict[str, tuple[np.ndarray, np.ndarray]]
"""Rule -> place of the nearest picture in the index, and a number that is larger for copies, (Q,) each."""


class Network:
    """Finds copies among known pictures by one network."""

    def __init__(self, name: str, describe: Describe, data: Dataset, known: list[int]) -> None:
        start = time.process_time()
        self.name, self.describe, self.originals = name, describe, data.subset(known)
        self.index = describe(map(data.picture, known), False)[:, 0].astype(np.float16)
        self.seconds = (time.process_time() - start) * 1000 / len(known)  # for 1,000 pictures of the index

    def find(self, pictures: Iterable[np.ndarray]) -> tuple[Nearest, Found]:
        """By the descriptors alone, and, for Kyara's, with the pixels, as `kyara rank` finds them."""
        some = [*pictures]
        near = search(self.describe(iter(some), True), self.index, NEAREST)
        last = near.similarity[:, -3:].mean(1)
        found: Found = {f"{self.name}, descriptors alone": (near.indices[:, 0], near.similarity[:, 0] - last / 2)}
        if self.name == MODEL:
            tensors = to_float(np.stack([center_crop(picture, SIDE, SIDE) for picture in some]))
            best, score = verified(near, small(tensors).numpy(), self.originals)
            found |= dict.fromkeys((MODEL, MARKED), (best.indices[:, 0], score))
        return near, found


def variants(data: Dataset, known: list[int], fresh: list[int], nearest: Nearest) -> np.ndarray:
    """Which fresh pictures (Q,) bool are variants of a known one: their grey levels correlate."""

    def square(i: int) -> np.ndarray:
        return center_crop(data.picture(i), SIDE, SIDE)

    others = (np.stack([square(known[j]) for j in row[:COMPARED]]) for row in nearest.indices)
    found = [correlations(square(i), some).max() >= VARIANT for i, some in zip(fresh, others, strict=True)]
    return np.array(found)


def found(
    dataset: tyro.conf.Positional[Path],
    prefix_from: str,
    count: int = 1000,
    reference: int | None = None,
    fresh: int | None = None,
    sscd: tuple[Path, ...] = (),
) -> None:
    """Prints how many altered copies are found, for each alteration.

    Args:
        dataset: Pictures, a folder or .zip.
        prefix_from: File names of held-out pictures sort from here on.
        count: Originals.
        reference: Other pictures beside the originals, by default all that are not held out.
        fresh: Fresh pictures, by default all that are held out and no originals.
        sscd: SSCD networks as ONNX to compare with.
    """
    torch.set_num_threads(1)
    data = open_dataset(dataset)
    others, unseen = held_out(data, prefix_from)
    random.Random(0).shuffle(unseen)
    random.Random(0).shuffle(others)
    known, new = [*unseen[:count], *others[:reference]], unseen[count:][:fresh]
    describers = {MODEL: by_kyara(), **{path.stem: by_sscd(path) for path in sscd}}
    networks = [Network(name, describe, data, known) for name, describe in describers.items()]
    looked = [network.find(map(data.picture, new)) for network in networks]
    related = np.any([variants(data, known, new, near) for near, _ in looked], axis=0)
    allowed = max(int((~related).sum()) // FALSE_ALARMS, 1)
    print(f"{machine()}\n{count} originals among {len(known)} pictures")
    print(f"{(~related).sum()} fresh pictures, without {related.sum()} variants of known ones; {allowed} may be found")
    rows: dict[str, dict[str, float]] = {name: {} for name in (*ALTERATIONS, "mean", "threshold", "seconds for 1,000")}
    for network, (_, fresh) in zip(networks, looked, strict=True):
        limits = {rule: float(np.sort(values[~related])[-allowed - 1]) for rule, (_, values) in fresh.items()}
        if MARKED in fresh:
            limits[MARKED] = float(np.nextafter(MARK, 0))
            print(f"{(fresh[MARKED][1][~related] >= MARK).sum()} fresh pictures are marked as copies\n")
        for alteration, function in ALTERATIONS.items():
            for rule, (where, values) in network.find(altered(data, known[:count], function))[1].items():
                rows[alteration][rule] = float(((where == np.arange(count)) & (values > limits[rule])).mean())
        for rule, limit in limits.items():
            rows["mean"][rule] = float(np.mean([rows[alteration][rule] for alteration in ALTERATIONS]))
            rows["threshold"][rule], rows["seconds for 1,000"][rule] = limit, network.seconds
    print_table(rows, "found", ".3f")


def measure_search(rows: int = 100_000, queries: int = 1000) -> None:
    """Prints the time and the memory of a search among random descriptors in a file.

    Args:
        rows: Pictures of the dataset.
        queries: Pictures that are searched.
    """
    torch.set_num_threads(1)
    chance = np.random.default_rng(0)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        index = np.lib.format.open_memmap(file.name, "w+", np.float16, (rows, WIDTH))
        for begin in range(0, rows, 10_000):
            part = chance.standard_normal((len(index[begin : begin + 10_000]), WIDTH), np.float32)
            index[begin : begin + 10_000] = part / np.linalg.norm(part, axis=1, keepdims=True)
        index.flush()
        wanted = index[:: rows // queries][:queries].astype(np.float32)[:, None].repeat(2 * len(SHARES), 1)
        index = np.load(file.name, "r")
        start = time.perf_counter(), time.process_time()
        memory = peak(lambda: search(wanted, index, NEAREST))
        wall, busy = time.perf_counter() - start[0], time.process_time() - start[1]
        print(machine())
        print(f"{queries} in {rows}: {wall:.1f} s, of processor time {busy:.1f} s; memory {memory:.0f} MiB")


def main(arguments: list[str] | None = None) -> None:
    run({"found": found, "search": measure_search}, arguments)


if __name__ == "__main__":
    main()
