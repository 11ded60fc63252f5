"""How often a conditional generator shows its labels, and what else changes when one attribute changes.

    python benchmarks/attributes.py builtin:character --tagger runs/judge
    python benchmarks/attributes.py builtin:character --tagger runs/judge --confirm builtin:character-tagger

The tagger must have been trained on other pictures than the generator and than the tagger that labelled those. Labels
are drawn as they occur in the training data. Prints for each attribute the share of pictures that show it, with its 95%
interval and for each value; then, for the same seeds with that attribute alone changed: how often the new value shows,
how often the tagger's answer for each other attribute stays the same, and LPIPS (VGG16) of the two pictures, whole and
outside the region of the attribute, beside that of two seeds. Outside the eyes is everything but a box around them;
outside the hair is a box of the lower face, which bangs and strands also cross. With --confirm, the second number of an
attribute is of the pictures in which that tagger sees its label, as `kyara generate --where` keeps them.
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
from kyara.nn.conditioning import UNKNOWN
from kyara.perception.vgg16 import VGG16

BATCH = 32
Box = tuple[float, float, float, float]
"""Top, bottom, left, right, relative to the sides."""
Labels = Sequence[Mapping[str, int]]
"""For each picture attribute -> index of its value."""
EYES: Box = (0.42, 0.72, 0.12, 0.88)
LOWER_FACE: Box = (0.62, 0.92, 0.3, 0.7)


def measure(
    checkpoint: tyro.conf.Positional[str],
    tagger: str,
    confirm: str | None = None,
    count: int = 2048,
    changed: int = 256,
    truncation: float = 1.0,
) -> None:
    """Prints all shares and distances.

    Args:
        checkpoint: The generator.
        tagger: The tagger that judges.
        confirm: A tagger that confirms the attributes, other than the one that judges.
        count: Number of pictures.
        changed: For how many of them each attribute is changed; 0 for none.
        truncation: 1 is none.
    """
    generator, judge = load_generator(checkpoint, torch.device("cpu")), load_tagger(tagger)
    drawn = generator.draw(range(count))
    labels = [{name: int(values[seed]) for name, values in drawn.items()} for seed in range(count)]
    pictures = pictures_of(generator, range(count), labels, truncation)
    tagged = tag(judge, pictures)
    confirmed = None if confirm is None else (confirmer := load_tagger(confirm), tag(confirmer, pictures))
    print(f"{checkpoint}, {count} seeds, truncation {truncation:g}, judged by {tagger}")
    attributes = {name: values for name, values in generator.config.data.attributes.items() if name in tagged}
    for name, values in attributes.items():
        print(f"{name}: shown by {share(tagged, labels, name, values, judge)}")
        if confirmed is not None and name in confirmed[1]:
            chosen = agreeing(*confirmed, labels, name, values)
            part = {name: tagged[name][chosen]}
            shown = share(part, [labels[n] for n in chosen], name, values, judge)
            print(f"    confirmed {len(chosen)}, of these {shown}")
        for i, value in enumerate(values):
            chosen = [n for n, each in enumerate(labels) if each[name] == i]
            if chosen:
                part = {name: tagged[name][chosen]}
                print(f"    {value:8} {share(part, [labels[n] for n in chosen], name, values, judge)} of {len(chosen)}")
    few, network = min(changed, count), load_vgg16() if changed else None
    for name in attributes if network is not None else ():
        pairs = change(labels, name, generator)[:few]
        seeds = [seed for seed, _ in pairs]
        before = {each: tagged[each][seeds] for each in tagged}, [labels[seed] for seed in seeds]
        after = pictures_of(generator, seeds, [new for _, new in pairs], truncation)
        report_change(name, pictures[seeds], after, before, [new for _, new in pairs], generator, judge, network)


def change(labels: Labels, name: str, generator: Generator) -> list[tuple[int, dict[str, int]]]:
    """Seeds whose label is known, each with labels in which it is that of the next seed where it differs. As in
    `kyara generate --like`, eyes that open get a colour, and the colour of eyes that close is unknown."""
    table, old = generator.label_table, [each[name] for each in labels]
    known = [seed for seed, label in enumerate(old) if label != UNKNOWN]
    pairs = []
    for seed in known:
        value = next(old[s] for s in known[known.index(seed) :] + known if old[s] != old[seed])
        pairs.append((seed, table.change(labels[seed], {name: value}, seed)))
    return pairs


def report_change(
    name: str,
    before: Tensor,
    after: Tensor,
    was: tuple[Mapping[str, Tensor], Labels],
    labels: Labels,
    generator: Generator,
    judge: Tagger,
    network: VGG16,
) -> None:
    """Prints what changes between pictures (N, 3, H, W), of which `was` has the tagger's answers and the labels, and
    those with other `labels` for one attribute."""
    now, attributes = tag(judge, after), generator.config.data.attributes
    shows = share(now, labels, name, attributes[name], judge)
    print(f"{name} changed, {len(before)} seeds: the new value shows in {shows}")
    for other in [other for other in attributes if other != name and other in now]:
        same = [
            i for i, pair in enumerate(zip(was[1], labels, strict=True)) if pair[0][other] == pair[1][other] != UNKNOWN
        ]
        stays = (now[other].argmax(1) == was[0][other].argmax(1))[same].float().mean()
        print(f"    the tagger's answer for {other} stays in {float(stays):.3f} of the {len(same)} whose label stays")

    def distances(region: Callable[[Tensor, Tensor], Tensor]) -> str:
        pairs = (before[:-1], after[:-1]), (before[:-1], before[1:])
        same, other = (float(lpips(network, a, region(a, b), BATCH).mean()) for a, b in pairs)
        return f"{same:.3f}; of two seeds {other:.3f}"

    print(f"    LPIPS of the two {distances(lambda a, b: b)}")
    if name in OUTSIDE:
        print(f"    outside the {name} {distances(OUTSIDE[name])}")


def pictures_of(generator: Generator, seeds: Sequence[int], labels: Labels, truncation: float) -> Tensor:
    """Pictures of seeds with these labels, rounded to uint8, (N, 3, H, W)."""
    tensors = {name: torch.tensor([each[name] for each in labels]) for name in labels[0]}
    z = latents(seeds, generator.z_dim)
    return to_float(np.stack(to_uint8(sample(generator, z, tensors, truncation=truncation))))


def tag(judge: Tagger, pictures: Tensor) -> dict[str, Tensor]:
    """The tagger's probabilities, (N, V) for each attribute."""
    fitted = np.stack([center_crop(picture, *judge.size) for picture in to_uint8(pictures)])
    parts = [judge.probabilities(to_float(fitted[i : i + BATCH])) for i in range(0, len(fitted), BATCH)]
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def agreeing(
    confirmer: Tagger, tagged: Mapping[str, Tensor], labels: Labels, name: str, values: Sequence[str]
) -> list[int]:
    """Indices of the pictures for which a tagger's most likely value is the label."""
    seen, known = tagged[name].argmax(1).tolist(), confirmer.attributes[name]
    return [n for n, each in enumerate(labels) if each[name] != UNKNOWN and known[seen[n]] == values[each[name]]]


def share(tagged: Mapping[str, Tensor], labels: Labels, name: str, values: Sequence[str], judge: Tagger) -> str:
    """How often the tagger agrees with the labels that are known; a value that it does not know counts as wrong."""
    known, shown = list(judge.attributes[name]), [n for n, each in enumerate(labels) if each[name] != UNKNOWN]
    values = [values[labels[n][name]] for n in shown]
    wanted = [known.index(value) if value in known else len(known) for value in values]
    found = metrics.accuracy(tagged[name][shown].numpy(), np.array(wanted))
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
