"""Does a conditional generator show what it is asked to, and when one attribute changes, what else does?

    python benchmarks/attributes.py builtin:anime --tagger runs/judge

The tagger that judges must have been trained on other pictures than the generator, and than the tagger that labelled
those. Asked for what the data show, as often as they do. Prints for each attribute the share of pictures that show it,
with its 95% interval and for each value; then the same seeds with that attribute alone changed: how often the new value
shows, how often the judge still says the same about the other attributes, and LPIPS (VGG16) of the two pictures, whole
and outside what was to change, beside that of two seeds. Outside the eyes is all but a box around them; outside
the hair is a box of the lower face, which bangs and strands also cross.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from vgg16 import archive

from kyara.evaluation import metrics
from kyara.files.pictures import center_crop, to_float, to_uint8
from kyara.generation.sampler import load_generator
from kyara.labels.tagger import Tagger, load_tagger
from kyara.models.base import Generator, latents
from kyara.perception.vgg16 import VGG16, read_weights

BATCH = 32
Box = tuple[float, float, float, float]
"""Top, bottom, left, right, as shares of the sides."""
EYES: Box = (0.42, 0.72, 0.12, 0.88)
LOWER_FACE: Box = (0.62, 0.92, 0.3, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--tagger", required=True)
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--changed", type=int, default=256, help="how many of them are changed, too")
    parser.add_argument("--truncation", type=float, default=1.0)
    options = parser.parse_args()
    generator = load_generator(options.checkpoint, torch.device("cpu"))
    judge, network = load_tagger(options.tagger), VGG16(read_weights(archive()))
    attributes, drawn = generator.config.data.attributes, generator.draw(range(options.count))
    asked = [{name: int(labels[seed]) for name, labels in drawn.items()} for seed in range(options.count)]
    pictures = make(generator, asked, options.truncation)
    told = tell(judge, pictures)
    print(f"{options.checkpoint}, {options.count} seeds, truncation {options.truncation:g}, judged by {options.tagger}")
    for name, values in attributes.items():
        print(f"{name}: shown by {share(told, asked, name, values, judge)}")
        for i, value in enumerate(values):
            chosen = [n for n, labels in enumerate(asked) if labels[name] == i]
            if chosen:
                part = {name: told[name][chosen]}
                print(f"    {value:8} {share(part, [asked[n] for n in chosen], name, values, judge)} of {len(chosen)}")
    few = min(options.changed, options.count - 1)
    for name, values in attributes.items():
        others = [other for other in attributes if other != name]
        change(generator, judge, network, asked[: few + 1], pictures[: few + 1], told, name, values, others, options)


def change(
    generator: Generator,
    judge: Tagger,
    network: VGG16,
    asked: Sequence[Mapping[str, int]],
    before: Tensor,
    told: Mapping[str, Tensor],
    name: str,
    values: Sequence[str],
    others: Sequence[str],
    options: argparse.Namespace,
) -> None:
    """Prints what happens to pictures (N + 1, 3, H, W) when one attribute becomes that of the next one that differs."""
    labels = [each[name] for each in asked]
    new = [next((b for b in labels[i + 1 :] + labels if b != labels[i]), labels[i]) for i in range(len(labels))]
    wanted = [{**each, name: label} for each, label in zip(asked, new, strict=True)]
    after = make(generator, wanted, options.truncation)
    now = tell(judge, after)
    n = len(asked) - 1
    kept = [(now[o].argmax(1) == told[o][: n + 1].argmax(1)).float().mean() for o in others if o in now]
    outside = OUTSIDE.get(name)
    same, other = lpips(network, before[:-1], after[:-1]), lpips(network, before[:-1], before[1:])
    print(f"{name} changed, {n + 1} seeds: the new one shows in {share(now, wanted, name, values, judge)}")
    if kept:
        print(f"    the judge says the same of {', '.join(others)} in {float(torch.stack(kept).mean()):.3f}")
    print(f"    LPIPS of the two {same:.3f}; of two seeds {other:.3f}")
    if outside is not None:
        same = lpips(network, before[:-1], outside(before[:-1], after[:-1]))
        other = lpips(network, before[:-1], outside(before[:-1], before[1:]))
        print(f"    outside the {name} {same:.3f}; of two seeds {other:.3f}")


@torch.inference_mode()
def make(generator: Generator, asked: Sequence[Mapping[str, int]], truncation: float) -> Tensor:
    """The picture of seeds 0, 1, ... that shows what is asked, as a file would hold it, (N, 3, H, W)."""
    parts = []
    for start in range(0, len(asked), BATCH):
        some = asked[start : start + BATCH]
        labels = {name: torch.tensor([each[name] for each in some]) for name in some[0]}
        z = latents(range(start, start + len(some)), generator.z_dim)
        parts.append(to_float(np.stack(to_uint8(generator.sample(z, truncation=truncation, labels=labels)))))
    return torch.cat(parts)


def tell(judge: Tagger, pictures: Tensor) -> dict[str, Tensor]:
    """What the judge sees, (N, V) for each attribute."""
    fitted = np.stack([center_crop(picture, *judge.size) for picture in to_uint8(pictures)])
    parts = [judge.probabilities(to_float(fitted[i : i + BATCH])) for i in range(0, len(fitted), BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def share(
    told: Mapping[str, Tensor], asked: Sequence[Mapping[str, int]], name: str, values: Sequence[str], judge: Tagger
) -> str:
    """How often the judge says what was asked; a value that it does not know never shows."""
    known = list(judge.attributes[name])
    labels = [known.index(values[each[name]]) if values[each[name]] in known else len(known) for each in asked]
    found = metrics.accuracy(told[name].numpy(), np.array(labels))
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


OUTSIDE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eyes": lambda before, after: paste(after, before, EYES),
    "hair": lambda before, after: paste(before, after, LOWER_FACE),
}
"""The first pictures with what lies outside the attribute's place taken from the second."""


def paste(onto: Tensor, source: Tensor, box: Box) -> Tensor:
    top, bottom, left, right = (
        round(share * side) for share, side in zip(box, np.repeat(onto.shape[2:], 2).tolist(), strict=True)
    )
    out = onto.clone()
    out[:, :, top:bottom, left:right] = source[:, :, top:bottom, left:right]
    return out


@torch.inference_mode()
def lpips(network: VGG16, a: Tensor, b: Tensor) -> float:
    pairs = zip(a.split(BATCH), b.split(BATCH), strict=True)
    return float(torch.cat([network.distance(x, y) for x, y in pairs]).mean())


if __name__ == "__main__":
    main()
