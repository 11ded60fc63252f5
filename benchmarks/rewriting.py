"""What the backward projector restores, and what rewriting does inside a mask and outside it.

    python benchmarks/rewriting.py projectors faces.zip feature=runs/a cycle=runs/b all=runs/c --prefix-from db
    python benchmarks/rewriting.py edits --repeats 3 --sheets docs/images
    python benchmarks/rewriting.py together
    python benchmarks/rewriting.py files docs/edits

`projectors` prints the paper's table 1. Pictures that the generator never made are projected, the host being what a
linear encoder takes them for (`inversion/latents.py`), and made again:

    LPIPS        (VGG16) of what is restored and the picture
    Wasserstein  sliced, 1-Wasserstein, between projected features and those of random pictures of the generator, in
                 standard deviations; and the same for projected and true features of its own pictures

`edits` prints the paper's table 2, of five patterns that no face had (patterns.py), each taught by three examples whose
places `builtin:landmarks` finds. Judged on 16 seeds that were not among them; the reference has the pattern pasted at
their own landmarks:

    inside       LPIPS to the reference, where the pattern is, moved by at most two pixels to where it fits best; as a
                 share of what that was before
    outside      LPIPS to the picture before, everywhere else

A rule can be weakened (`kyara rewrite --strength`); "weakened" is the one that damages no more than the linear one.

`together` teaches two patterns to one network, and prints how much each shows: 1 less what is left inside.

`files` writes the first edit of each pattern as a person would: pictures, and JSON that names them.
"""

from __future__ import annotations

import copy
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from measure import machine
from patterns import PATTERNS, place
from PIL import Image
from torch import Tensor
from vgg16 import archive

from kyara import models
from kyara.data.dataset import open_dataset
from kyara.data.pictures import sheet, to_float, to_uint8, write_png
from kyara.inversion.latents import Latents
from kyara.inversion.perceptual import load_perceptual
from kyara.models import portrait
from kyara.models.inside import Cut
from kyara.models.losses import sliced_wasserstein
from kyara.models.projector import places, still
from kyara.models.vgg16 import VGG16, read_weights
from kyara.rewriting.edit import Picture, as_mask, overlay, read_edit
from kyara.rewriting.hosts import Hosts
from kyara.rewriting.lessons import SEEN, rimmed
from kyara.rewriting.linear import LinearMemory
from kyara.rewriting.nonlinear import Difference, Settings
from kyara.rewriting.teaching import Teacher, added, lessons_of, overlays_of, teach_rule

JUDGED = range(200, 216)
"""Seeds."""
TAUGHT = 10
"""Seeds of examples begin here, three for each repeat."""
Named = Annotated[tuple[str, ...], tyro.conf.Positional]


def projectors(
    pictures: tyro.conf.Positional[Path],
    named: Named,
    *,
    count: int = 200,
    prefix_from: str = "",
    sheet_out: Path | None = None,
) -> None:
    """Prints a row for each projector, given as NAME=CHECKPOINT.

    Args:
        pictures: Pictures that the generator never made.
        named: Projectors.
        count: How many pictures.
        prefix_from: Only pictures whose names sort from here on: what the generator was not trained on.
        sheet_out: Where to write some pictures, what their hosts are, and what each projector restores.
    """
    loaded = {one.partition("=")[0]: models.load(one.partition("=")[2]).requires_grad_(False) for one in named}
    first: Any = next(iter(loaded.values()))
    network: Any = models.load(first.config.of).requires_grad_(False)
    dataset = open_dataset(pictures)
    chosen = [i for i, name in enumerate(dataset.names) if Path(name).name >= prefix_from]
    chosen = np.random.RandomState(0).permutation(chosen)[:count].tolist()
    given = to_float(np.stack([*dataset.decode(chosen, network.config.width, network.config.height)]))
    lpips = VGG16(read_weights(archive()))
    space = Latents(network)
    guessed = space.styles(space.guess(given)).float()
    span = network.memories()[first.config.layer]
    cut = Cut(network, span, span)
    hosts = [cut.open(lambda ws=ws: network.synthesise(ws)) for ws in guessed.split(50)]
    with still(7):
        own = [cut.open(network.imagine(50, torch.zeros(50))) for _ in range(4)]
    true = places(torch.cat([host.value for host in own]))
    directions = torch.randn(256, true.shape[1], generator=torch.Generator().manual_seed(0))
    scale = true.std(0)
    rows: dict[str, dict[str, float]] = {}
    shown = [given[:12], torch.cat([host.picture for host in hosts])[:12]]
    rows["the host itself"] = {"LPIPS": restored_lpips(lpips, torch.cat([host.picture for host in hosts]), given)}
    for name, projector in loaded.items():
        assert hasattr(projector, "project")
        with torch.no_grad():
            found = [projector.project(x, host.picture) for x, host in zip(given.split(50), hosts, strict=True)]
            made = torch.cat([host.decode(value) for value, host in zip(found, hosts, strict=True)])
            again = torch.cat([projector.project(host.picture, host.picture) for host in own])
        rows[name] = {
            "LPIPS": restored_lpips(lpips, made, given),
            "Wasserstein": float(sliced_wasserstein(places(torch.cat(found)) / scale, true / scale, directions)),
            "Wasserstein, own pictures": float(sliced_wasserstein(places(again) / scale, true / scale, directions)),
        }
        shown.append(made[:12])
    print(machine())
    columns = list(rows[list(rows)[-1]])
    print("| | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.4f}" if c in row else "" for c in columns) + " |")
    if sheet_out:
        write_png(sheet_out, sheet([one for part in shown for one in to_uint8(part.clamp(-1, 1))], 12))


def restored_lpips(network: VGG16, made: Tensor, given: Tensor) -> float:
    pairs = zip(made.clamp(-1, 1).split(25), given.split(25), strict=True)
    with torch.no_grad():
        return float(torch.cat([network.distance(a, b) for a, b in pairs]).mean())


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
    hosts, finder = Hosts(network, of), models.load(projector).requires_grad_(False)
    with torch.no_grad():
        before = torch.cat([hosts.like(Picture(seed=seed), 0)() for seed in JUDGED]).float()
    rows: list[dict[str, Any]] = []
    print(machine(), flush=True)
    for pattern in [one for one in PATTERNS if not only or one in only.split(",")]:
        judge = Judge(pattern, hosts, before)
        after: dict[str, Tensor] = {}
        for repeat in range(repeats):
            edit = read_edit(example_edit(pattern, hosts, repeat))
            damage = None
            for method, teach in METHODS.items():
                if (methods and method not in methods.split(",")) or (repeat and method in ONCE):
                    continue
                began = time.perf_counter()
                made = {method: teach(Teacher(hosts, finder), edit)}
                seconds = time.perf_counter() - began
                if damage is not None and method in MATCHED:
                    made[f"{method}, weakened"] = judge.weakened(made[method], damage)
                for name, one in made.items():
                    picture = redrawn(hosts, one)
                    row = {"pattern": pattern, "method": name, "repeat": repeat, "seconds": seconds}
                    row |= {"inside": judge.inside(picture), "outside": judge.outside(picture)}
                    row |= {"peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
                    rows.append(row)
                    after.setdefault(name, picture)
                    told = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                    print(json.dumps(told), flush=True)
                damage = rows[-1]["outside"] if method == "linear" else damage
        if sheets:
            shown = [picture for name, picture in after.items() if "weakened" not in name]
            write_sheet(sheets / f"rewriting-{pattern.replace(' ', '-')}.jpg", [before, *shown])
    show(rows)
    if json_out:
        json_out.write_text(json.dumps(rows, indent=1))


def together(
    *, of: str = "builtin:anime", projector: str = "builtin:projector", pairs: str = "glasses+flower,cat eyes+flower"
) -> None:
    """Teaches two patterns one after the other, and prints what each shows alone and beside the other.

    Args:
        of: What is rewritten.
        projector: Its projector.
        pairs: Which patterns.
    """
    network = models.load(of).requires_grad_(False)
    hosts, finder = Hosts(network, of), models.load(projector).requires_grad_(False)
    with torch.no_grad():
        before = torch.cat([hosts.like(Picture(seed=seed), 0)() for seed in JUDGED]).float()
    print(
        "| pattern | shown alone | shown with both, learned apart | shown with both, learned in turn |\n"
        + "|---" * 4
        + "|"
    )
    for one, other in (pair.split("+") for pair in pairs.split(",")):
        learned = {
            name: teach_rule(Teacher(hosts, finder), read_edit(example_edit(name, hosts, 0))) for name in (one, other)
        }
        first, second = (learned[name].difference for name in (one, other))
        with added(network, first):
            after_first = teach_rule(Teacher(hosts, finder), read_edit(example_edit(other, hosts, 0))).difference
        shown = {}
        for how, rest in (("apart", second), ("in turn", after_first)):
            with added(network, first):
                shown[how] = redrawn(hosts, rest)
        for name in (one, other):
            judge = Judge(name, hosts, before)
            made = (redrawn(hosts, learned[name].difference), shown["apart"], shown["in turn"])
            effects = [1 - judge.inside(picture) for picture in made]
            print(f"| {name} | " + " | ".join(f"{effect:.3f}" for effect in effects) + " |", flush=True)


def write_sheet(path: Path, rows: list[Tensor]) -> None:
    """16 pictures of each row, side by side."""
    joined = sheet([one for row in rows for one in to_uint8(row.clamp(-1, 1))], len(JUDGED))
    Image.fromarray(joined).save(path, quality=88)


def pasted(pattern: str, picture: Tensor) -> Tensor:
    """A pattern where it belongs on the face in a picture (3, H, W): (4, H, W), colours and how much of them."""
    height, width = picture.shape[1:]
    points = portrait.find(picture[None])[0].cpu().numpy()
    full = np.zeros((height, width, 4), np.float32)
    for piece in PATTERNS[pattern]():
        one = overlay(piece.picture, as_mask(place(piece, points, width, height), height, width, pattern))
        alpha = one[:, :, 3:]
        full[:, :, :3] = full[:, :, :3] * (1 - alpha) + one[:, :, :3] * alpha
        full[:, :, 3:] = np.maximum(full[:, :, 3:], alpha)
    return torch.from_numpy(full).movedim(2, 0)


def example_edit(pattern: str, hosts: Hosts, repeat: int) -> dict[str, Any]:
    """Three examples, as a person would give them: the pattern in one piece, its bounding box for a mask."""
    examples = []
    for seed in range(TAUGHT + 3 * repeat, TAUGHT + 3 * repeat + 3):
        with torch.no_grad():
            full = pasted(pattern, hosts.like(Picture(seed=seed), 0)()[0].float()).movedim(0, 2).numpy()
        rows, columns = (np.flatnonzero((full[:, :, 3] > SEEN).any(axis)) for axis in (1, 0))
        x, y, width, height = (int(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1))
        part = full[y : y + height, x : x + width] * [127.5, 127.5, 127.5, 255] + [127.5, 127.5, 127.5, 0]
        picture = np.clip(np.round(part), 0, 255).astype(np.uint8)
        examples.append({"seed": seed, "mask": [x, y, width, height], "source": {"picture": picture}})
    return {"name": pattern, "examples": examples}


def files(folder: tyro.conf.Positional[Path], *, of: str = "builtin:anime") -> None:
    """Writes an edit file for each pattern, with its pictures beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    hosts = Hosts(models.load(of).requires_grad_(False), of)
    for pattern in PATTERNS:
        edit, stem = example_edit(pattern, hosts, 0), pattern.replace(" ", "-")
        for example in edit["examples"]:
            name = f"{stem}-{example['seed']}.png"
            Image.fromarray(example["source"]["picture"]).save(folder / name, optimize=True)
            example["source"] = {"picture": name}
        examples = ",\n  ".join(json.dumps(example) for example in edit["examples"])
        text = f'{{"name": "{pattern}",\n "examples": [\n  {examples}]}}\n'
        (folder / f"{stem}.json").write_text(text, encoding="utf-8")


Made = Difference | torch.nn.Module
"""What is added to weights, or a whole network."""


def by_nonlinear(layers: int, **changes: float) -> Callable[[Teacher, Any], Made]:
    def teach(base: Teacher, edit: Any) -> Made:
        settings = Settings(**{**vars(Settings()), **changes})
        return teach_rule(Teacher(base.hosts, base.projector, "nonlinear", layers, settings=settings), edit).difference

    return teach


def by_linear(base: Teacher, edit: Any) -> Made:
    return teach_rule(Teacher(base.hosts, base.projector, "linear"), edit).difference


def by_steps(base: Teacher, edit: Any) -> Made:
    """Bau et al. as published: rank 1, 2,001 steps, from the examples alone."""
    teacher = Teacher(base.hosts, base.projector, "linear", spread=0)
    others = teacher.others(teacher.cut, 96, 1000)
    memory = LinearMemory(teacher.cut, others)
    given, _, _ = lessons_of(teacher, teacher.cut, edit, overlays_of(edit, base.hosts), others, memory)
    for lesson in given:
        lesson.new[1:] = False  # the example itself, not its variants
    return memory.insert(given, memory.directions(given))


def by_tuning(base: Teacher, edit: Any, steps: int = 100, lr: float = 2e-3) -> Made:
    """All weights of a copy, until it makes the three pasted pictures: Adam, pixels and built-in features."""
    network: Any = copy.deepcopy(base.model)
    hosts = Hosts(network, base.hosts.name)
    laid = [x for x in overlays_of(edit, hosts) if x is not None]
    ws = torch.cat([hosts.styles(example.host) for example in edit.examples])
    with torch.no_grad():
        own = network.synthesise(ws).float()
    target = own.lerp(torch.stack(laid)[:, :3], torch.stack(laid)[:, 3:])
    perceptual = load_perceptual("builtin", target.device)
    seen = perceptual.see(target)
    synthesis = network.g_ema.synthesis.requires_grad_(True)
    adam = torch.optim.Adam(synthesis.parameters(), lr=lr, betas=(0.9, 0.99))
    for _ in range(steps):
        made = synthesis(ws, False).float()
        loss = perceptual.distance(perceptual.see(made), seen).mean() + 10 * (made - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    network.requires_grad_(False)
    assert isinstance(network, torch.nn.Module)
    return network


METHODS: dict[str, Callable[[Teacher, Any], Made]] = {
    "linear": by_linear,
    "nonlinear L=2": by_nonlinear(2),
    "linear 2001 steps": by_steps,
    "plain fine-tuning": by_tuning,
    "nonlinear L=1": by_nonlinear(1),
    "nonlinear L=3": by_nonlinear(3),
    "L=2 features alone q=30": by_nonlinear(2, q=30.0, shown=0.0, unchanged=0.0),
    "L=2 features alone p=q=1": by_nonlinear(2, shown=0.0, unchanged=0.0),
    "L=2 without features": by_nonlinear(2, p=0.0, q=0.0),
}
ONCE = ("linear 2001 steps",)
MATCHED = ("nonlinear L=2", "nonlinear L=3")
"""What is also judged weakened, until it damages no more than the linear memory does."""


def redrawn(hosts: Hosts, made: Made) -> Tensor:
    """The judged seeds by a changed network, (16, 3, H, W)."""
    with torch.no_grad():
        if isinstance(made, torch.nn.Module):
            other = Hosts(made, hosts.name)  # type: ignore[arg-type]
            return torch.cat([other.like(Picture(seed=seed), 0)() for seed in JUDGED]).float()
        with added(hosts.model, made):
            return torch.cat([hosts.like(Picture(seed=seed), 0)() for seed in JUDGED]).float()


class Judge:
    """What a pattern is like on the judged seeds."""

    def __init__(self, pattern: str, hosts: Hosts, before: Tensor) -> None:
        """Pictures before, (16, 3, H, W)."""
        self.hosts, self.network, self.before = hosts, VGG16(read_weights(archive())), before
        laid = torch.stack([pasted(pattern, picture) for picture in before])
        self.alpha, self.elsewhere = laid[:, 3:], 1 - rimmed(laid[:, 3:])
        with torch.no_grad():
            self.wanted, self.was = (
                self.network.unit_maps(x) for x in (before.lerp(laid[:, :3], laid[:, 3:]), before.clamp(-1, 1))
            )
        self.missing = self._apart(before)

    def inside(self, made: Tensor) -> float:
        """LPIPS of pictures (16, 3, H, W) to the reference where the pattern is, as a share of what it was before."""
        return self._apart(made) / self.missing

    def outside(self, made: Tensor) -> float:
        """LPIPS to the pictures before, everywhere else."""
        return float(regions(self.network, made, self.was, self.elsewhere).mean())

    def weakened(self, difference: Made, damage: float) -> Difference:
        """A rule at the strength, up to 1, at which it changes no more outside than `damage`."""
        assert isinstance(difference, dict)
        if self.outside(redrawn(self.hosts, difference)) <= damage:
            return difference
        low, high = 0.0, 1.0
        for _ in range(6):
            middle = (low + high) / 2
            harmless = self.outside(redrawn(self.hosts, scaled(difference, middle))) <= damage
            low, high = (middle, high) if harmless else (low, middle)
        return scaled(difference, low)

    def _apart(self, made: Tensor) -> float:
        """Moved by up to two pixels to where it fits best: the landmarks that place the reference are no surer."""
        moved = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)] + [(2, 0), (-2, 0), (0, 2), (0, -2)]
        far = [regions(self.network, made.roll(shift, (3, 2)), self.wanted, self.alpha) for shift in moved]
        return float(torch.stack(far).amin(0).mean())


def regions(network: VGG16, made: Tensor, maps: list[Tensor], where: Tensor) -> Tensor:
    """LPIPS of pictures (N, 3, H, W) to others, whose `unit_maps` are given, averaged over a part of each,
    (N, 1, H, W) in [0, 1]: (N,)."""
    total = torch.zeros(len(made))
    with torch.no_grad():
        for head, x, y in zip(network.heads, network.unit_maps(made.clamp(-1, 1)), maps, strict=True):
            far = head((x - y).square())
            part = F.interpolate(where, far.shape[2:], mode="area")
            total += (far * part).sum((1, 2, 3)) / part.sum((1, 2, 3)).clamp_min(1e-6)
    return total


def scaled(difference: Difference, strength: float) -> Difference:
    return {name: change * strength for name, change in difference.items()}


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
    tyro.extras.subcommand_cli_from_dict(
        {"projectors": projectors, "edits": edits, "together": together, "files": files}
    )
