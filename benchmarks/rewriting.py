"""What rewriting does inside a mask and outside it.

    python benchmarks/rewriting.py edits --repeats 3 --sheets docs/images
    python benchmarks/rewriting.py sweep
    python benchmarks/rewriting.py together
    python benchmarks/rewriting.py files docs/edits

`edits` prints table 2 of Re-Generator, of five patterns that no face had (patterns.py), each taught by three examples
whose places `builtin:landmarks` finds. Judged on 16 seeds that were not among them; the reference has the pattern
pasted at their own landmarks:

    inside       LPIPS to the reference, where the pattern is, moved by at most two pixels to where it fits best; as a
                 share of what that was before
    outside      LPIPS to the picture before, everywhere else; where the pattern is, both are as before

`sweep` teaches one pattern with other weights p of old rules and q of new ones.

`together` puts two rules into one network, and prints what is left of each one's effect.

`files` writes the first edit of each pattern as a person would: pictures, and JSON that names them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from judging import Judge, Made, part_of_example, shown, write_sheet
from measure import machine
from patterns import PATTERNS
from PIL import Image
from torch import Tensor

from kyara import models
from kyara.perception.lpips import load_perceptual
from kyara.rewriting.edit import Picture, read_edit
from kyara.rewriting.learning import RuleTrainer, added, example_batches, learn_rule, overlays_of
from kyara.rewriting.linear import LinearMemory
from kyara.rewriting.samples import Samples
from kyara.rewriting.settings import Settings

JUDGED = [Picture(seed=seed) for seed in range(200, 216)]
TAUGHT = 10
"""Seeds of examples begin here, three for each repeat."""


def edits(
    *,
    of: str = "builtin:anime",
    projector: str = "builtin:projector",
    repeats: int = 3,
    only: str = "",
    methods: str = "",
    sheets: Path | None = None,
    json_out: Path | None = None,
) -> None:
    """Teaches every pattern by every method, and prints a table.

    Args:
        of: What is rewritten.
        projector: Its projector.
        repeats: Each with three other examples; the 2,001 steps are run once.
        only: Patterns, as gears,glasses; all of them by default.
        methods: Likewise.
        sheets: Folder for pictures of the judged seeds before and after.
        json_out: Where to write all numbers.
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
                made = teach(RuleTrainer(hosts, finder), edit)
                seconds = time.perf_counter() - began
                picture = judge.shown(made)
                row = {"pattern": pattern, "method": method, "repeat": repeat, "seconds": seconds}
                row |= {"inside": judge.inside(picture), "outside": judge.outside(picture)}
                row |= {"peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
                rows.append(row)
                after.setdefault(method, picture)
                told = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                print(json.dumps(told), flush=True)
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
) -> None:
    """Teaches one pattern with other weights, and prints what is left inside and what changes outside.

    Args:
        of: What is rewritten.
        projector: Its projector.
        pattern: Which pattern.
        p: Weights of old rules.
        q: Weights of new ones.
    """
    hosts = Samples(models.load(of).requires_grad_(False), of)
    teacher = RuleTrainer(hosts, models.load(projector).requires_grad_(False))
    judge, edit = Judge(pattern, hosts, JUDGED), read_edit(example_edit(pattern, hosts, 0))
    print("| inside / outside | " + " | ".join(f"q = {one}" for one in q.split(",")) + " |")
    print("|---" * (1 + len(q.split(","))) + "|")
    for kept in p.split(","):
        made = [judge.shown(by_nonlinear(p=float(kept), q=float(new))(teacher, edit)) for new in q.split(",")]
        cells = [f"{judge.inside(picture):.3f} / {judge.outside(picture):.3f}" for picture in made]
        print(f"| p = {kept} | " + " | ".join(cells) + " |", flush=True)


def together(
    *,
    of: str = "builtin:anime",
    projector: str = "builtin:projector",
    one: str = "flower",
    others: str = "glasses,gears,eye patch,cat eyes",
) -> None:
    """Teaches a network one rule and then another, and prints what each does when the other is there, as a share of
    what it does alone: by how much it brings what is inside nearer to the pattern. (The other one, too, changes a
    little what VGG16 sees there.)

    Args:
        of: What is rewritten.
        projector: Its projector.
        one: A pattern.
        others: Patterns, with each of which it is put together.
    """
    hosts = Samples(models.load(of).requires_grad_(False), of)
    teacher = RuleTrainer(hosts, models.load(projector).requires_grad_(False))
    judges = {name: Judge(name, hosts, JUDGED) for name in (one, *others.split(","))}
    edits = {name: read_edit(example_edit(name, hosts, 0)) for name in judges}
    rules = {name: learn_rule(teacher, edit).difference for name, edit in edits.items()}
    alone = {name: shown(hosts, JUDGED, rule) for name, rule in rules.items()}
    print("| first | then | kept of the first | of the second | learned apart, of the first | of the second |")
    print("|---" * 6 + "|")
    for other in others.split(","):
        for first, then in ((one, other), (other, one)):
            kept = []
            for in_turn in (True, False):
                with added(hosts.model, rules[first]):
                    second = learn_rule(teacher, edits[then]).difference if in_turn else rules[then]
                    both = shown(hosts, JUDGED, second)
                for name, beside in ((first, then), (then, first)):
                    inside = judges[name].inside
                    kept.append((inside(alone[beside]) - inside(both)) / (1 - inside(alone[name])))
            print(f"| {first} | {then} | " + " | ".join(f"{share:.2f}" for share in kept) + " |", flush=True)


def example_edit(pattern: str, hosts: Samples, repeat: int) -> dict[str, Any]:
    """Three examples of it."""
    seeds = range(TAUGHT + 3 * repeat, TAUGHT + 3 * repeat + 3)
    faces = shown(hosts, [Picture(seed=seed) for seed in seeds])
    examples = [{"seed": seed, **part_of_example(pattern, face)} for seed, face in zip(seeds, faces, strict=True)]
    return {"name": pattern, "examples": examples}


def files(folder: tyro.conf.Positional[Path], *, of: str = "builtin:anime") -> None:
    """Writes an edit file for each pattern, with its pictures beside it."""
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


def by_nonlinear(layers: int | None = None, **changes: float) -> Callable[[RuleTrainer, Any], Made]:
    def teach(base: RuleTrainer, edit: Any) -> Made:
        settings = dataclasses.replace(Settings(), **changes)
        return learn_rule(dataclasses.replace(base, layers=layers, settings=settings), edit).difference

    return teach


def by_linear(base: RuleTrainer, edit: Any) -> Made:
    return learn_rule(RuleTrainer(base.samples, base.projector, "linear"), edit).difference


def by_examples(base: RuleTrainer, edit: Any) -> Made:
    """The linear memory solved directly, from the three examples alone."""
    return learn_rule(RuleTrainer(base.samples, base.projector, "linear", extra_images=0, variants=0), edit).difference


def by_steps(base: RuleTrainer, edit: Any) -> Made:
    """Bau et al. as published: rank 1, 2,001 steps, from the examples alone."""
    trainer = RuleTrainer(base.samples, base.projector, "linear", extra_images=0, variants=0)
    layer = trainer.last_layer
    memory = LinearMemory(trainer.random(layer, 96, 1000))
    batches = example_batches(trainer, layer, edit, overlays_of(edit, base.samples), memory)
    return memory.insert(batches, memory.directions(batches))


def by_tuning(base: RuleTrainer, edit: Any, steps: int = 100, lr: float = 2e-3) -> Made:
    """All weights of a copy, until it makes the three pasted pictures: Adam, pixels and built-in features."""
    network: Any = copy.deepcopy(base.model)
    hosts = Samples(network, base.samples.name)
    laid = [x for x in overlays_of(edit, hosts) if x is not None]
    ws = torch.cat([hosts.styles(example.host) for example in edit.examples])
    with torch.no_grad():
        own = network.synthesise(ws).float()
    target = own.lerp(torch.stack(laid)[:, :3], torch.stack(laid)[:, 3:])
    perceptual = load_perceptual("builtin", target.device)
    seen = perceptual.features(target)
    synthesis = network.g_ema.synthesis.requires_grad_(True)
    adam = torch.optim.Adam(synthesis.parameters(), lr=lr, betas=(0.9, 0.99))
    for _ in range(steps):
        made = synthesis(ws, False).float()
        loss = perceptual.distance(perceptual.features(made), seen).mean() + 10 * (made - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    network.requires_grad_(False)
    assert isinstance(network, torch.nn.Module)
    return network


METHODS: dict[str, Callable[[RuleTrainer, Any], Made]] = {
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
    """Means over patterns and repeats, with 95 % intervals, and a table of each pattern."""

    def cell(some: list[float]) -> str:
        spread = 1.96 * float(np.std(some, ddof=1)) / len(some) ** 0.5 if len(some) > 1 else float("nan")
        return f"{np.mean(some):.3f} ± {spread:.3f}"

    done = list(dict.fromkeys(row["method"] for row in rows))
    print("| method | inside, share of before | outside | seconds |\n|---|---|---|---|")
    for method in done:
        of = [row for row in rows if row["method"] == method]
        cells = [cell([row[key] for row in of]) for key in ("inside", "outside")]
        print(f"| {method} | {' | '.join(cells)} | {np.mean([row['seconds'] for row in of]):.1f} |")
    patterns = list(dict.fromkeys(row["pattern"] for row in rows))
    print("\n| inside / outside | " + " | ".join(patterns) + " |\n" + "|---" * (1 + len(patterns)) + "|")
    for method in done:
        cells = []
        for pattern in patterns:
            of = [row for row in rows if (row["method"], row["pattern"]) == (method, pattern)]
            cells.append(" / ".join(f"{np.mean([row[key] for row in of]):.3f}" for key in ("inside", "outside")))
        print(f"| {method} | " + " | ".join(cells) + " |")
    print(f"\npeak memory {max(row['peak MB'] for row in rows):.0f} MB")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"edits": edits, "sweep": sweep, "together": together, "files": files})
