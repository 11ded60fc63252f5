"""How often a conditional generator shows its labels, and what else changes when one attribute changes.

    python benchmarks/attributes.py builtin:anime --tagger runs/judge

The tagger must have been trained on other pictures than the generator and than the tagger that labelled those. Labels
are drawn as they occur in the training data. Prints for each attribute the share of pictures that show it, with its 95%
interval and for each value; then, for the same seeds with that attribute alone changed: how often the new value shows,
how often the tagger's answer for the other attributes stays the same, and LPIPS (VGG16) of the two pictures, whole and
outside the region of the attribute, beside that of two seeds. Outside the eyes is everything but a box around them;
outside the hair is a box of the lower face, which bangs and strands also cross.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import tyro
from common import load_vgg16, lpips, run
from torch import Tensor

from kyara.evaluation import metrics
from kyara.files.pictures import center_crop, to_float, to_uint8
from kyara.generation.sampler import load_generator, sample
from kyara.labels.tagger import Tagger, load_tagger
from kyara.models.base import Generator, latents
from kyara.perception.vgg16 import VGG16

BATCH = 32
Box = tuple[float, float, float, float]
"""Top, bottom, left, right, relative to the sides."""
Labels = Sequence[Mapping[str, int]]
"""For each picture attribute -> index of its value."""
EYES: Box = (0.42, 0.72, 0.12, 0.88)
LOWER_FACE: Box = (0.62, 0.92, 0.3, 0.7)


def measure(
    checkpoint: tyro.conf.Positional[str], tagger: str, count: int = 2048, changed: int = 256, truncation: float = 1.0
) -> None:
    """Prints all shares and distances.

    Args:
        checkpoint: The generator.
        tagger: The tagger that judges.
        count: Number of pictures.
        changed: For how many of them each attribute is changed.
        truncation: 1 is none.
    """
    generator, judge, network = load_generator(checkpoint, torch.device("cpu")), load_tagger(tagger), load_vgg16()
    drawn = generator.draw(range(count))
    labels = [{name: int(values[seed]) for name, values in drawn.items()} for seed in range(count)]
    pictures = pictures_of(generator, labels, truncation)
    tagged = tag(judge, pictures)
    print(f"{checkpoint}, {count} seeds, truncation {truncation:g}, judged by {tagger}")
    for name, values in generator.config.data.attributes.items():
        print(f"{name}: shown by {share(tagged, labels, name, values, judge)}")
        for i, value in enumerate(values):
            chosen = [n for n, each in enumerate(labels) if each[name] == i]
            if chosen:
                part = {name: tagged[name][chosen]}
                print(f"    {value:8} {share(part, [labels[n] for n in chosen], name, values, judge)} of {len(chosen)}")
    few = min(changed, count - 1) + 1
    for name in generator.config.data.attributes:
        new = change(labels[:few], name)
        report_change(
            pictures[:few], pictures_of(generator, new, truncation), tagged, new, name, generator, judge, network
        )


def change(labels: Labels, name: str) -> list[dict[str, int]]:
    """The labels with the value of one attribute taken from the next picture where it differs."""
    old = [each[name] for each in labels]
    new = [next((b for b in old[i + 1 :] + old if b != old[i]), old[i]) for i in range(len(old))]
    return [{**each, name: label} for each, label in zip(labels, new, strict=True)]


def report_change(
    before: Tensor,
    after: Tensor,
    tagged: Mapping[str, Tensor],
    labels: Labels,
    name: str,
    generator: Generator,
    judge: Tagger,
    network: VGG16,
) -> None:
    """Prints what changes between pictures (N + 1, 3, H, W) and those with other `labels` for one attribute."""
    now, attributes = tag(judge, after), generator.config.data.attributes
    others = [other for other in attributes if other != name]
    kept = [(now[o].argmax(1) == tagged[o][: len(before)].argmax(1)).float().mean() for o in others if o in now]
    shows = share(now, labels, name, attributes[name], judge)
    print(f"{name} changed, {len(before)} seeds: the new value shows in {shows}")
    if kept:
        print(f"    the tagger's answer for {', '.join(others)} stays in {float(torch.stack(kept).mean()):.3f}")

    def distances(region: Callable[[Tensor, Tensor], Tensor]) -> str:
        pairs = (before[:-1], after[:-1]), (before[:-1], before[1:])
        same, other = (float(lpips(network, a, region(a, b), BATCH).mean()) for a, b in pairs)
        return f"{same:.3f}; of two seeds {other:.3f}"

    print(f"    LPIPS of the two {distances(lambda a, b: b)}")
    if name in OUTSIDE:
        print(f"    outside the {name} {distances(OUTSIDE[name])}")


def pictures_of(generator: Generator, labels: Labels, truncation: float) -> Tensor:
    """Pictures of seeds 0, 1, ... with these labels, rounded to uint8, (N, 3, H, W)."""
    tensors = {name: torch.tensor([each[name] for each in labels]) for name in labels[0]}
    z = latents(range(len(labels)), generator.z_dim)
    return to_float(np.stack(to_uint8(sample(generator, z, tensors, truncation=truncation))))


def tag(judge: Tagger, pictures: Tensor) -> dict[str, Tensor]:
    """The tagger's probabilities, (N, V) for each attribute."""
    fitted = np.stack([center_crop(picture, *judge.size) for picture in to_uint8(pictures)])
    parts = [judge.probabilities(to_float(fitted[i : i + BATCH])) for i in range(0, len(fitted), BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def share(tagged: Mapping[str, Tensor], labels: Labels, name: str, values: Sequence[str], judge: Tagger) -> str:
    """How often the tagger agrees with the label; a value that it does not know counts as wrong."""
    known = list(judge.attributes[name])
    wanted = [known.index(values[each[name]]) if values[each[name]] in known else len(known) for each in labels]
    found = metrics.accuracy(tagged[name].numpy(), np.array(wanted))
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


OUTSIDE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eyes": lambda before, after: paste(after, before, EYES),
    "hair": lambda before, after: paste(before, after, LOWER_FACE),
}
"""The first pictures, with everything outside the region of the attribute taken from the second."""


def paste(onto: Tensor, source: Tensor, box: Box) -> Tensor:
    sides = np.repeat(onto.shape[2:], 2).tolist()
    top, bottom, left, right = (round(share * side) for share, side in zip(box, sides, strict=True))
    out = onto.clone()
    out[:, :, top:bottom, left:right] = source[:, :, top:bottom, left:right]
    return out


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
