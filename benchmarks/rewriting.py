"""Errors of rewriting inside and outside a mask.

    python benchmarks/rewriting.py edits --repeats 3 --sheets docs/images
    python benchmarks/rewriting.py sweep
    python benchmarks/rewriting.py together
    python benchmarks/rewriting.py files docs/edits

`edits` prints table 2 of Re-Generator for five patterns that no training face has (patterns.py). Each is taught with
three examples, placed by `builtin:landmarks`, and evaluated on 16 other seeds. The reference has the pattern pasted at
the landmarks of each picture:

    inside       LPIPS to the reference inside the pattern, shifted by at most two pixels to the best match; relative to
                 that before the edit
    outside      LPIPS to the picture before the edit, everywhere else

`sweep` teaches one pattern with other weights p of old rules and q of new ones.

`together` puts two rules into one network and prints how much of the effect of each remains.

`files` writes the first edit of each pattern: pictures, and JSON that names them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import machine, print_table, run
from judging import Judge, Made, part_of_example, shown, write_sheet
from patterns import PATTERNS
from PIL import Image
from torch import Tensor

from kyara import models
from kyara.nn.activations import restored
from kyara.perception.lpips import load_perceptual
from kyara.rewriting.edit import Picture, read_edit
from kyara.rewriting.learning import RuleTrainer, added, example_batches, learn_rule, overlays_of
from kyara.rewriting.lessons import TrainingBatch
from kyara.rewriting.linear import LinearMemory, bounding_box
from kyara.rewriting.samples import Samples
from kyara.rewriting.settings import Settings

JUDGED = [Picture(seed=seed) for seed in range(200, 216)]
TAUGHT = 10
"""First seed of the examples, three for each repeat."""


def edits(
    *,
    of: str = "builtin:anime",
    projector: str = "builtin:projector",
    repeats: int = 3,
    only: str = "",
    methods: str = "",
    sheets: Path | None = None,
    json_out: Path | None = None,
    steps: int | None = None,
) -> None:
    """Teaches every pattern with every method and prints a table.

    Args:
        of: The generator.
        projector: Its projector.
        repeats: Repeats, each with three other examples; slow methods are run once.
        only: Patterns, such as gears,glasses; by default all.
        methods: Methods; by default all.
        sheets: Folder for pictures of the evaluated seeds before and after.
        json_out: File for all numbers.
        steps: Overrides the steps of the nonlinear memory and of fine-tuning.
    """
    network = models.load(of).requires_grad_(False)
    hosts, finder = Samples(network, of), models.load(projector).requires_grad_(False)
    rows: list[dict[str, Any]] = []
    print(machine(), flush=True)
    for pattern in [one for one in PATTERNS if not only or one in only.split(",")]:
        judge = Judge(pattern, hosts, JUDGED)
        after: dict[str, Tensor] = {}
        for repeat in range(repeats):
            edit = read_edit(example_edit(pattern, hosts, repeat))
            for method, teach in METHODS.items():
                if (methods and method not in methods.split(",")) or (repeat and method in ONCE):
                    continue
                began = time.perf_counter()
                made = teach(RuleTrainer(hosts, finder), edit, steps)
                seconds = time.perf_counter() - began
                picture = judge.shown(made)
                row = {"pattern": pattern, "method": method, "repeat": repeat, "seconds": seconds}
                row |= {"inside": judge.inside(picture), "outside": judge.outside(picture)}
                row |= {"peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
                rows.append(row)
                after.setdefault(method, picture)
                print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
        if sheets:
            write_sheet(sheets / f"rewriting-{pattern.replace(' ', '-')}.jpg", [judge.before, *after.values()])
    show(rows)
    if json_out:
        json_out.write_text(json.dumps(rows, indent=1))


def sweep(
    *,
    of: str = "builtin:anime",
    projector: str = "builtin:projector",
    pattern: str = "gears",
    p: str = "0,1,3",
    q: str = "0,0.3,1,3",
    steps: int | None = None,
) -> None:
    """Teaches one pattern with other weights and prints the errors inside and outside.

    Args:
        of: The generator.
        projector: Its projector.
        pattern: The pattern.
        p: Weights of old rules.
        q: Weights of new ones.
        steps: Overrides the steps.
    """
    hosts = Samples(models.load(of).requires_grad_(False), of)
    teacher = RuleTrainer(hosts, models.load(projector).requires_grad_(False))
    judge, edit = Judge(pattern, hosts, JUDGED), read_edit(example_edit(pattern, hosts, 0))
    print("| inside / outside | " + " | ".join(f"q = {one}" for one in q.split(",")) + " |")
    print("|---" * (1 + len(q.split(","))) + "|")
    for kept in p.split(","):
        made = [judge.shown(by_nonlinear(p=float(kept), q=float(new))(teacher, edit, steps)) for new in q.split(",")]
        cells = [f"{judge.inside(picture):.3f} / {judge.outside(picture):.3f}" for picture in made]
        print(f"| p = {kept} | " + " | ".join(cells) + " |", flush=True)


def together(
    *,
    of: str = "builtin:anime",
    projector: str = "builtin:projector",
    one: str = "flower",
    others: str = "glasses,gears,eye patch,cat eyes",
    steps: int | None = None,
) -> None:
    """Teaches a network one rule and then another, and prints the effect of each when the other is present, relative to
    its effect alone: the reduction of the error inside. (The other rule also changes it a little.)

    Args:
        of: The generator.
        projector: Its projector.
        one: A pattern.
        others: Patterns, each of which is combined with it.
        steps: Overrides the steps.
    """
    hosts = Samples(models.load(of).requires_grad_(False), of)
    teacher = RuleTrainer(hosts, models.load(projector).requires_grad_(False))
    judges = {name: Judge(name, hosts, JUDGED) for name in (one, *others.split(","))}
    edits = {name: read_edit(example_edit(name, hosts, 0)) for name in judges}
    teach: Any = by_nonlinear()
    rules = {name: teach(teacher, edit, steps) for name, edit in edits.items()}
    alone = {name: shown(hosts, JUDGED, rule) for name, rule in rules.items()}
    print("| first | then | kept of the first | of the second | taught apart, of the first | of the second |")
    print("|---" * 6 + "|")
    for other in others.split(","):
        for first, then in ((one, other), (other, one)):
            kept = []
            for in_turn in (True, False):
                with added(hosts.model, rules[first]):
                    second = teach(teacher, edits[then], steps) if in_turn else rules[then]
                    both = shown(hosts, JUDGED, second)
                for name, beside in ((first, then), (then, first)):
                    inside = judges[name].inside
                    kept.append((inside(alone[beside]) - inside(both)) / ((1 - inside(alone[name])) or float("nan")))
            print(f"| {first} | {then} | " + " | ".join(f"{share:.2f}" for share in kept) + " |", flush=True)


def example_edit(pattern: str, hosts: Samples, repeat: int) -> dict[str, Any]:
    """An edit with three examples of a pattern."""
    seeds = range(TAUGHT + 3 * repeat, TAUGHT + 3 * repeat + 3)
    faces = shown(hosts, [Picture(seed=seed) for seed in seeds])
    examples = [{"seed": seed, **part_of_example(pattern, face)} for seed, face in zip(seeds, faces, strict=True)]
    return {"name": pattern, "examples": examples}


def files(folder: tyro.conf.Positional[Path], *, of: str = "builtin:anime") -> None:
    """Writes an edit file with its pictures for each pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    hosts = Samples(models.load(of).requires_grad_(False), of)
    for pattern in PATTERNS:
        edit, stem = example_edit(pattern, hosts, 0), pattern.replace(" ", "-")
        for example in edit["examples"]:
            name = f"{stem}-{example['seed']}.png"
            Image.fromarray(example["source"]["picture"]).save(folder / name, optimize=True)
            example["source"] = {"picture": name}
        examples = ",\n  ".join(json.dumps(example) for example in edit["examples"])
        text = f'{{"name": "{pattern}",\n "examples": [\n  {examples}]}}\n'
        (folder / f"{stem}.json").write_text(text, encoding="utf-8")


Method = Callable[[RuleTrainer, Any, int | None], Made]
"""(teacher, edit, steps or None for the default) -> the changed network."""


def by_nonlinear(layers: int | None = None, **changes: float) -> Method:
    def teach(base: RuleTrainer, edit: Any, steps: int | None) -> Made:
        settings = dataclasses.replace(Settings(), **changes)
        settings = dataclasses.replace(settings, steps=steps or settings.steps)
        return learn_rule(dataclasses.replace(base, layers=layers, settings=settings), edit).difference

    return teach


def by_linear(base: RuleTrainer, edit: Any, steps: int | None) -> Made:
    return learn_rule(RuleTrainer(base.samples, base.projector, "linear"), edit).difference


def by_examples(base: RuleTrainer, edit: Any, steps: int | None) -> Made:
    """The closed-form linear memory, from the three examples alone."""
    return learn_rule(RuleTrainer(base.samples, base.projector, "linear", extra_images=0, variants=0), edit).difference


def by_steps(base: RuleTrainer, edit: Any, steps: int | None) -> Made:
    """Bau et al. as published: rank 1, 2,001 steps, from the examples alone."""
    trainer = RuleTrainer(base.samples, base.projector, "linear", extra_images=0, variants=0)
    memory = LinearMemory(trainer.random(trainer.last_layer, 96, 1000))
    batches = example_batches(trainer, edit, overlays_of(edit, base.samples), memory)
    return insert(memory, batches, memory.directions(batches))


def insert(memory: LinearMemory, batches: Sequence[TrainingBatch], directions: Tensor, *, steps: int = 2001) -> Made:
    """Equation 5 by Adam on the mean absolute error in the boxes around the masks. The coefficients of the directions
    are trained, so no projection is needed; the paper's code projects after every tenth step and can drift between."""
    with restored([memory.weight]):
        original = memory.weight.detach().clone()
        coefficients = torch.zeros_like(torch.einsum("ockl,rc->orkl", original, directions)).requires_grad_(True)
        adam = torch.optim.Adam([coefficients], lr=0.05)
        memory.weight.requires_grad_(True)
        for _ in range(steps):
            memory.weight.data.copy_(original + torch.einsum("orkl,rc->ockl", coefficients.detach(), directions))
            losses = []
            for batch in batches:
                box = bounding_box(batch.inside)
                with torch.enable_grad():
                    error = (batch.cache.compute_value() - batch.target).abs().mean(1, keepdim=True)
                    losses.append((error * box).sum() / box.sum())
            (grad,) = torch.autograd.grad(torch.stack(losses).mean(), memory.weight)
            coefficients.grad = torch.einsum("ockl,rc->orkl", grad, directions)
            adam.step()
        return {memory.name: torch.einsum("orkl,rc->ockl", coefficients.detach(), directions)}


def by_tuning(base: RuleTrainer, edit: Any, steps: int | None) -> Made:
    """Fine-tunes a copy on the three pasted pictures: 100 steps of Adam, by pixels and built-in features."""
    network: Any = copy.deepcopy(base.model)
    hosts = Samples(network, base.samples.name)
    laid = [x for x in overlays_of(edit, hosts) if x is not None]
    ws = torch.cat([hosts.styles(example.target) for example in edit.examples])
    with torch.no_grad():
        own = network.synthesise(ws).float()
    target = own.lerp(torch.stack(laid)[:, :3], torch.stack(laid)[:, 3:])
    perceptual = load_perceptual("builtin", target.device)
    seen = perceptual.features(target)
    synthesis = network.g_ema.synthesis.requires_grad_(True)
    adam = torch.optim.Adam(synthesis.parameters(), lr=2e-3, betas=(0.9, 0.99))
    for _ in range(steps or 100):
        made = synthesis(ws, False).float()
        loss = perceptual.distance(perceptual.features(made), seen).mean() + 10 * (made - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    network.requires_grad_(False)
    assert isinstance(network, torch.nn.Module)
    return network


METHODS: dict[str, Method] = {
    "linear": by_linear,
    "nonlinear": by_nonlinear(),
    "p=3": by_nonlinear(p=3.0),
    "300 steps": by_nonlinear(steps=300, lr=0.014),
    "linear from three": by_examples,
    "linear from three in 2001 steps": by_steps,
    "plain fine-tuning": by_tuning,
    "L=1": by_nonlinear(1),
    "L=2": by_nonlinear(2),
    "L=4": by_nonlinear(4),
    "features alone q=30": by_nonlinear(q=30.0, inside=0.0, outside=0.0),
    "features alone p=q=1": by_nonlinear(q=1.0, inside=0.0, outside=0.0),
    "without features": by_nonlinear(p=0.0, q=0.0),
}
ONCE = ("linear from three", "linear from three in 2001 steps")


def show(rows: list[dict[str, Any]]) -> None:
    """Prints means over patterns and repeats with 95% intervals, and the errors for each pattern."""

    def cell(values: list[float]) -> str:
        spread = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        return f"{np.mean(values):.3f} ± {spread:.3f}"

    overall: dict[str, dict[str, Any]] = {}
    single: dict[str, dict[str, str]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        overall[method] = {key: cell([row[key] for row in own]) for key in ("inside", "outside")}
        overall[method]["seconds"] = f"{np.mean([row['seconds'] for row in own]):.1f}"
        for pattern in dict.fromkeys(row["pattern"] for row in own):
            means = [np.mean([row[k] for row in own if row["pattern"] == pattern]) for k in ("inside", "outside")]
            single.setdefault(method, {})[pattern] = " / ".join(f"{mean:.3f}" for mean in means)
    print_table(overall)
    print()
    print_table(single, "inside / outside")
    print(f"\npeak memory {max(row['peak MB'] for row in rows):.0f} MB")


def main(arguments: list[str] | None = None) -> None:
    run({"edits": edits, "sweep": sweep, "together": together, "files": files}, arguments)


if __name__ == "__main__":
    main()
