"""From an edit to a rule: lessons are made of its examples, one of the two memories learns them, and what came of it is
measured on pictures that were not part of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kyara.files.pictures import to_uint8
from kyara.models.base import Model
from kyara.models.projector import Model as Projector
from kyara.nn.activations import ActivationCache, Cut
from kyara.rewriting.edit import Edit, Example, cropped, overlay
from kyara.rewriting.hosts import Hosts
from kyara.rewriting.lessons import SEEN, SURE, Lesson, Search, forget, is_there, rimmed, teach
from kyara.rewriting.linear import LinearMemory
from kyara.rewriting.nonlinear import Difference, Settings, fast, learn

Memory = Literal["nonlinear", "linear"]
LAYERS = 3
"""Convolutions in a nonlinear memory, where there are so many."""
TOGETHER = 8
"""Pictures in a lesson."""
KNOWN = 16
"""Random pictures whose keys are the old rules of a linear memory."""
FIRST, FRESH = 1000, 2000
"""Seeds of the random pictures that lessons are found in, and of those that are measured on."""
MEASURED = 32


@dataclass(frozen=True)
class Teacher:
    """A network, where its memory is, and how it is taught."""

    hosts: Hosts
    projector: Projector
    memory: Memory = "nonlinear"
    layers: int | None = None
    """Convolutions in a nonlinear memory; `LAYERS` if None, or as many as there are."""
    spread: int = 384
    """Other pictures in which the place is looked for. A few are learned by heart, and all others change."""
    rank: int = 1
    """Of a linear memory's change."""
    settings: Settings = field(default_factory=Settings)
    variants: int = 5
    """Of each example, in other colours."""

    @property
    def model(self) -> Model:
        return self.hosts.model

    @property
    def depth(self) -> int:
        """Convolutions in the memory."""
        return 1 if self.memory == "linear" else self.layers or min(LAYERS, self.projector.config.generator.layer + 1)

    @property
    def cut(self) -> Cut:
        """ValueError if there are not so many layers."""
        last = self.projector.config.generator.layer
        if not 1 <= self.depth <= last + 1:
            raise ValueError(
                f"--layers {self.depth}: the memory ends at layer {last}; 1 to {last + 1} of them can be taken"
            )
        return self._cut(self.depth)

    @property
    def single(self) -> Cut:
        """The last layer alone: what a linear memory is, and what things are erased from."""
        return self._cut(1)

    def _cut(self, layers: int) -> Cut:
        spans, last = self.model.memories(), self.projector.config.generator.layer
        return Cut(self.model, spans[last - layers + 1], spans[last])

    def others(self, cut: Cut, count: int, seed: int, edit: Edit | None = None) -> list[ActivationCache]:
        """Random pictures, cut open. Of an inpainter every second lesson is filled where the edit's pictures are: it is
        there that something is to be learned."""
        holes = None if edit is None else self.hosts.holes([example.host for example in edit.examples])
        opened = []
        for at in range(0, count, TOGETHER):
            there = holes if at % (2 * TOGETHER) else None
            opened.append(cut.open(self.hosts.others(min(TOGETHER, count - at), seed + at, there)))
        return opened


@dataclass
class Taught:
    """What came of an edit."""

    difference: Difference
    seconds: float
    lessons: list[Lesson]
    found: float
    """Share of the other pictures in which the place was surely found."""
    measured: dict[str, float]


def overlays_of(edit: Edit, hosts: Hosts) -> list[Tensor | None]:
    """What each example lays over its host's picture, (4, H, W); None where it shall be erased. ValueError if a mask or
    a source does not fit: whatever can be wrong with an edit is found here, before any work."""
    return [_overlay(example, hosts) for example in edit.examples]


def _overlay(example: Example, hosts: Hosts) -> Tensor | None:
    mask = hosts.mask(example.mask, example.host, example.where)
    hosts.like(example.host, 0)
    if example.source is None:
        return None
    rgba = example.source.rgba
    if rgba is None:  # the model's own
        with torch.inference_mode():
            own = to_uint8(hosts.like(example.source, 0)())[0]
        rgba = np.concatenate([own, np.full((*own.shape[:2], 1), 255, np.uint8)], 2)
    return _tensor(overlay(cropped(rgba, example.box, f"{example.where}, source"), mask), hosts.device)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device).movedim(2, 0)


def teach_rule(teacher: Teacher, edit: Edit) -> Taught:
    """What has to be added to the weights for the network to follow the edit."""
    hosts = teacher.hosts
    overlays = overlays_of(edit, hosts)
    began = time.perf_counter()
    with torch.inference_mode(False), fast(next(teacher.model.parameters())):
        cut = teacher.cut
        others = teacher.others(cut, max(teacher.spread, TOGETHER), FIRST, edit)
        memory = None
        if teacher.memory == "linear" or any(laid is None for laid in overlays):
            memory = LinearMemory(teacher.single, teacher.others(teacher.single, KNOWN, FIRST))
        search = search_of(teacher, cut, edit, overlays, others)
        given, found, share = lessons_of(teacher, cut, edit, overlays, others, memory, search)
        if not any(bool((lesson.goal != lesson.host.value).any()) for lesson in given):
            nothing = {name: torch.zeros_like(weight) for name, weight in cut.weights(given[0].host).items()}
            return Taught(nothing, time.perf_counter() - began, given, share, {"shown": 1.0, "elsewhere": 0.0})
        if teacher.memory == "linear":
            assert memory is not None
            difference = memory.solve(given, memory.directions(given, teacher.rank))
        else:
            difference = learn(cut, given + found, teacher.settings)
        seconds = time.perf_counter() - began
        measured = _measure(teacher.model, difference, search, teacher.others(cut, MEASURED, FRESH, edit))
    return Taught(difference, seconds, given + found, share, measured)


def search_of(
    teacher: Teacher, cut: Cut, edit: Edit, overlays: Sequence[Tensor | None], others: Sequence[ActivationCache]
) -> Search | None:
    """What finds the place of a rule; None if nothing is laid anywhere, or is there already."""
    opened = [(cut.open(teacher.hosts.like(e.host, 0)), laid) for e, laid in zip(edit.examples, overlays, strict=True)]
    examples = [(host, laid) for host, laid in opened if laid is not None and _asks(host, laid)]
    return Search(examples, others) if examples else None


def _asks(host: ActivationCache, laid: Tensor) -> bool:
    return bool((laid[3] > SEEN).any()) and not is_there(host, laid)


def lessons_of(
    teacher: Teacher,
    cut: Cut,
    edit: Edit,
    overlays: Sequence[Tensor | None],
    others: Sequence[ActivationCache],
    memory: LinearMemory | None,
    search: Search | None,
) -> tuple[list[Lesson], list[Lesson], float]:
    """Of the examples and their variants, and of other pictures in which the same place was found; and in what share of
    these it was."""
    given = []
    for example, laid in zip(edit.examples, overlays, strict=True):
        host = cut.open(teacher.hosts.like(example.host, teacher.variants))
        if laid is None:
            assert memory is not None
            mask = torch.from_numpy(teacher.hosts.mask(example.mask, example.host, example.where)).to(host.picture)
            masks = mask.expand(len(host.picture), 1, -1, -1)
            single = memory.cut.open(teacher.hosts.like(example.host, teacher.variants))
            given.append(forget(host, masks, memory.erased(single, masks)))
            continue
        if is_there(host, laid):
            laid = torch.zeros_like(laid)
        given.append(teach(host, laid.expand(len(host.picture), -1, -1, -1), teacher.projector))
    if not teacher.spread or search is None:
        return given, [], 0.0
    found, sure = [], []
    for host in others:
        laid, alike = search(host)
        sure.append(alike >= SURE)
        found.append(teach(host, laid, teacher.projector, sure=sure[-1]))
    return given, found, float(torch.cat(sure).float().mean())


def _measure(
    model: Model, difference: Difference, search: Search | None, fresh: Sequence[ActivationCache]
) -> dict[str, float]:
    """On fresh pictures: how much of the new pattern is shown where it belongs, 0 none and 1 all, if its place is found
    in any; and how much pixels in [-1, 1] change elsewhere."""
    shown, missing, changes, far, everywhere = 0.0, 0.0, 0.0, 0.0, list[float]()
    for host in fresh:
        with added(model, difference), torch.no_grad():
            after = host.redraw()[0].float()
        before = host.picture.float()
        changed = (after - before).abs().mean(1, keepdim=True)
        everywhere.append(float(changed.mean()))
        if search is None:
            continue
        laid, alike = search(host)
        there = (alike >= SURE)[:, None, None, None]
        alpha, wanted = laid[:, 3:] * there, before.lerp(laid[:, :3], laid[:, 3:])
        shown += float(((after - wanted).abs() * alpha).sum())
        missing += float(((before - wanted).abs() * alpha).sum())
        rest = (1 - rimmed(laid[:, 3:])) * there
        changes, far = changes + float((changed * rest).sum()), far + float(rest.sum())
    if not missing:  # erased, or nowhere found: what should be inside is not known
        return {"elsewhere": float(np.mean(everywhere))}
    return {"elsewhere": changes / far, "shown": 1 - shown / missing}


@contextmanager
def added(model: Model, difference: Difference) -> Iterator[None]:
    """Differences stand in the weights while the context lasts, and not a bit of them after it."""
    weights = {name: model.get_parameter(name) for name in difference}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.add_(difference[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])
