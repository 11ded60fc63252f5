"""The cases: each makes something small with one verb or part, and hands back all of it that must not change.

What is handed back is a table of texts (CSV, first line the names of columns), arrays, lists of arrays, and tensors by
name. Files are looked into rather than taken as they are: pixels of a PNG, rows of a gallery, tensors of a checkpoint.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from PIL import Image, ImageSequence
from safetensors.torch import load_file
from torch import Tensor

import kyara
from kyara import models
from kyara.files import checkpoint
from kyara.files.dataset import open_dataset
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, read_recipe, write_png
from kyara.models.base import Model

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("generation/importing", "inversion", "rewriting")]

STEPS = 4
"""Of training."""
MASK = [10, 12, 12, 8]


@dataclass(frozen=True)
class Given:
    """What a case may use: a folder of its own, and datasets."""

    folder: Path
    faces: Path
    tagged: Path
    pointed: Path
    contoured: Path
    boxed: Path
    photos: Path


class Tensors(dict[str, Tensor]):
    """Tensors by name. The names may change; what is in them must not."""


Made = dict[str, Any]
CASES: dict[str, Callable[[Given], Made]] = {}


def case(function: Callable[[Given], Made]) -> Callable[[Given], Made]:
    CASES[function.__name__.replace("_", "-")] = function
    return function


# What was made, as it is compared.


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def gallery(out: Path) -> Made:
    rows = read_gallery(out)
    pixels = [decode(out / row["file_name"]) for row in rows]
    return {"rows": table(rows), "pictures": pixels, "sheet": decode(out / "sheet.png")}


def dataset(path: Path) -> Made:
    found = open_dataset(path)
    return {
        "names": table([{"name": name} for name in found.names]),
        "pictures": [*map(found.picture, range(len(found)))],
    }


def latent(png: Path) -> np.ndarray:
    import base64

    return np.frombuffer(base64.b64decode((read_recipe(png) or {})["latent"]), "<f4")


def weights(folder: Path) -> Tensors:
    return Tensors(load_file(folder / checkpoint.WEIGHTS))


def numbers(value: Any) -> list[float]:
    """All numbers in nested tables and lists, in the order of their names."""
    if isinstance(value, Mapping):
        return [x for key in sorted(value, key=str) for x in numbers(value[key])]
    if isinstance(value, Tensor):
        return [float(x) for x in value.flatten()]
    if isinstance(value, list | tuple):
        return [x for item in value for x in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def trained(run: Path) -> Made:
    """The last snapshot, and what resuming needs: the average alone would hide things."""
    state = torch.load(run / "training.pt", weights_only=True)
    moments = {
        f"{i}.{index}.{name}": torch.as_tensor(tensor)
        for i, optimizer in enumerate(state["optimizers"])
        for index, kept in optimizer["state"].items()
        for name, tensor in kept.items()
    }
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    curves = [{key: value for key, value in line.items() if key != "img/s"} for line in lines]
    snapshots = sorted((run / "snapshots").iterdir())
    last = max(run.glob("fakes*.png"), key=lambda path: float(path.stem.removeprefix("fakes")), default=None)
    sheets = {"reals": run / "reals.png", "fakes000000": last}
    return {
        "snapshot": weights(snapshots[-1]),
        "model": Tensors(state["model"]),
        "optimizers": Tensors(moments),
        "losses": np.array(sorted(numbers(state["means"]))),
        "curves": np.array([number for line in curves for number in sorted(numbers(line))]),
        "counters": np.array([state["nimg"], state["step"], state["augment"]["p"]]),
        **{name: decode(path) for name, path in sheets.items() if path is not None and path.exists()},
    }


# What the cases are given.


def faces_of(given: Given, model: str, seeds: str, name: str, **options: Any) -> Path:
    """A plain folder of pictures that a generator made."""
    made = kyara.generate(model, seeds=seeds, rank="none", out=given.folder / f"{name}-made", **options).out
    (given.folder / name).mkdir()
    for row in read_gallery(made):
        shutil.copy(made / row["file_name"], given.folder / name)
    return given.folder / name


def drawings(folder: Path, seeds: Sequence[int], size: int = 48) -> Path:
    folder.mkdir()
    for seed in seeds:
        write_png(folder / f"{seed:03d}.png", drawn_picture(seed, size))
    return folder


def fresh(path: Path, name: str) -> str:
    """A checkpoint of an architecture's smallest preset, its weights as they come."""
    import dataclasses

    torch.manual_seed(0)
    model = models.architecture(name)(models.architecture(name).presets["tiny"])
    config = dataclasses.asdict(model.config)
    checkpoint.write(path, model=name, config=config, weights=models.stored(model), card="", about={})
    return str(path)


# Generate.


ANIME = "builtin:anime"  # the default improves from time to time


@case
def generate(given: Given) -> Made:
    return gallery(kyara.generate(ANIME, seeds="0-4,77", out=given.folder / "out").out)


@case
def generate_where(given: Given) -> Made:
    where = {"hair": "silver", "eyes": "red"}
    return gallery(kyara.generate(ANIME, where=where, count=3, truncation=1.0, out=given.folder / "out").out)


@case
def generate_keep_mirrored(given: Given) -> Made:
    return gallery(kyara.generate(ANIME, seed=11, count=6, keep=2, mirror=True, batch=4, out=given.folder / "out").out)


@case
def generate_interpolation(given: Given) -> Made:
    out = kyara.generate(ANIME, interpolate="3-8-12", frames=5, out=given.folder / "out").out
    with Image.open(out / "interpolation.webp") as film:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    return {**gallery(out), "film": frames}


@case
def generate_confirmed(given: Given) -> Made:
    where = {"hair": "blue"}
    return gallery(kyara.generate(ANIME, where=where, count=3, confirm="builtin:tagger", out=given.folder / "out").out)


@case
def generate_photos(given: Given) -> Made:
    out = kyara.generate("builtin:photo", seeds="2,4,6", truncation=0.85, rank="none", out=given.folder / "out").out
    return gallery(out)


@case
def generate_like(given: Given) -> Made:
    first = kyara.generate(
        ANIME, seeds="5", where="hair=pink", truncation=0.9, mirror=True, out=given.folder / "first"
    ).out
    picture = first / read_gallery(first)[0]["file_name"]
    return gallery(kyara.generate(like=picture, out=given.folder / "again").out)


# Curation, labels.


@case
def rank(given: Given) -> Made:
    folder = faces_of(given, "builtin:anime", "20-27", "mixed", truncation=1.3)
    write_png(folder / "drawn.png", drawn_picture(1, 80)[:, :60])
    write_png(folder / "noise.png", np.random.RandomState(0).randint(0, 256, (50, 70, 3)).astype(np.uint8))
    return gallery(kyara.rank(folder, out=given.folder / "out", keep=9).out)


@case
def tag(given: Given) -> Made:
    folder = faces_of(given, "builtin:anime", "0-7", "faces")
    path = given.folder / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for picture in sorted(folder.iterdir()):
            archive.writestr(f"images/{picture.name}", picture.read_bytes())
    kyara.tag(path, threshold=0.6, batch=3)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".csv")]
        return {Path(name).stem: archive.read(name).decode() for name in names}


@case
def tag_complete(given: Given) -> Made:
    folder = drawings(given.folder / "faces", range(48))
    tones = [
        {"file_name": f"{i:03d}.png", "value": "dark" if drawn_picture(i).mean() < 190 else "light"} for i in range(24)
    ]
    answers = given.folder / "answers.csv"
    answers.write_text(table(tones))
    kyara.tag(folder, complete="tone", values="dark,light", answers=answers, questions=12, target=0.9, workers=1)
    made: Made = {name: (folder / f"{name}.csv").read_text() for name in ("metadata", "labels")}
    for path in sorted((given.folder / "faces-tone-questions").iterdir()):
        made[f"questions{path.suffix}"] = path.read_text() if path.suffix == ".csv" else decode(path)
    return made


# Inversion.


@case
def invert(given: Given) -> Made:
    faces = faces_of(given, "builtin:anime", "0,1", "faces", truncation=1.0)
    out = kyara.invert("builtin:anime", faces, out=given.folder / "out", steps=6).out
    found = [row["file_name"] for row in read_gallery(out) if row["shows"] == "found"]
    changed = kyara.generate(like=out / found[0], where="hair=black", rank="none", out=given.folder / "black").out
    return {
        **gallery(out),
        "latents": [latent(out / name) for name in found],
        "changed": gallery(changed)["pictures"],
    }


def pair_of(given: Given) -> tuple[str, str, Path]:
    """Two small generators that share their latents, and a picture by the first: the built-in ones take long."""
    import pair

    parent = pair.write(given.folder / "parent")
    child = pair.write(given.folder / "child", labels=True, near=parent, seed=1)
    return parent, child, faces_of(given, parent, "2", "people", truncation=1.0)


@case
def invert_tuned(given: Given) -> Made:
    parent, _, people = pair_of(given)
    options: dict[str, Any] = {"space": "w", "start": "mean", "steps": 10, "tune_steps": 10, "noise": True}
    out = kyara.invert(parent, people, out=given.folder / "out", **options).out
    return {**gallery(out), "tuned": weights(out / "tuned")}


REVERSE: dict[str, Any] = {"method": "reverse", "space": "w+", "start": "encoder"}


@case
def avatar(given: Given) -> Made:
    people = faces_of(given, "builtin:photo", "6", "people", truncation=0.85)
    options: dict[str, Any] = {**REVERSE, "colours": "labels", "sweep": True, "steps": 5}
    out = kyara.avatar(people, out=given.folder / "out", aligned=True, **options).out
    steps = sorted((out / "steps").iterdir())
    return {**gallery(out), "steps": [decode(path) for path in steps], "latent": latent(next(out.glob("seed*.png")))}


@case
def avatar_of_labels(given: Given) -> Made:
    people = faces_of(given, "builtin:photo", "6", "people", truncation=0.85)
    out = kyara.avatar(people, out=given.folder / "out", aligned=True, where="glasses=round").out
    steps = sorted((out / "steps").iterdir())
    return {**gallery(out), "steps": [decode(path) for path in steps], "latent": latent(next(out.glob("seed*.png")))}


@case
def avatar_otherwise(given: Given) -> Made:
    parent, child, people = pair_of(given)
    blended: dict[str, Any] = {"blend": 3, "blend_width": 1.0, "where": "hair=pink"}
    made: Made = {}
    for name, options in {"blended": blended, "photo": {"colours": "photo"}}.items():
        options |= {**REVERSE, "parent": parent, "child": child, "aligned": True, "steps": 8}
        out = kyara.avatar(people, out=given.folder / name, pose=name == "photo", **options).out
        made |= {f"{name} {key}": value for key, value in gallery(out).items()}
    return made


@case
def poses(given: Given) -> Made:
    from kyara.files.pictures import to_float
    from kyara.inversion.pose import pose
    from kyara.perception import landmarks

    faces = [faces_of(given, f"builtin:{name}", "0-2", name) for name in ("photo", "anime")]
    pictures = to_float(np.stack([decode(path) for folder in faces for path in sorted(folder.iterdir())]))
    with torch.no_grad():
        points = landmarks.find(pictures)
        return {"points": points.numpy(), "pose": pose(points).numpy()}


# Translation.


@case
def translate_cartoon(given: Given) -> Made:
    people = faces_of(given, "builtin:photo", "2,4", "people")
    return gallery(kyara.translate("builtin:cartoon", people, out=given.folder / "out", side=96).out)


@case
def translate_inpainting(given: Given) -> Made:
    faces = faces_of(given, "builtin:anime", "0,1", "faces")
    masks = given.folder / "masks"
    masks.mkdir()
    for i, path in enumerate(sorted(faces.iterdir())):
        hole = np.zeros((64, 64, 3), np.uint8)
        hole[20:40, 10 + 20 * i : 40 + 20 * i] = 255
        write_png(masks / path.name, hole)
    return gallery(kyara.translate("builtin:inpainting", faces, mask=masks, out=given.folder / "out").out)


@case
def translate_styles(given: Given) -> Made:
    munit = fresh(given.folder / "munit", "munit")
    photos = drawings(given.folder / "photos", [3, 4], 40)
    out = kyara.translate(munit, photos, out=given.folder / "out", styles=2, between=1, seed=5).out
    like = kyara.translate(munit, photos, out=given.folder / "like", style=photos / "003.png").out
    return {**gallery(out), "like": gallery(like)["pictures"]}


# Rewriting.


def edit(colour: tuple[int, int, int], **changes: Any) -> dict[str, Any]:
    from networks import pattern

    return {"name": "disc", "examples": [{"seed": 3, "mask": MASK, "source": {"picture": pattern(colour)}} | changes]}


def rewritten(out: Path) -> Made:
    rules = {path.stem: Tensors(load_file(path)) for path in sorted((out / "edits").iterdir())}
    return {**{f"rule {name}": rule for name, rule in rules.items()}, "weights": weights(out)}


@case
def rewrite_nonlinear(given: Given) -> Made:
    out = kyara.rewrite("builtin:anime", [edit((250, 10, 10))], out=given.folder / "out", steps=6, extra_images=8).out
    half = kyara.rewrite(str(out), strength=0.5, out=given.folder / "half").out
    return {**rewritten(out), "half": weights(half)}


@case
def rewrite_linear(given: Given) -> Made:
    options: dict[str, Any] = {"memory": "linear", "rank": 2, "extra_images": 8}
    return rewritten(kyara.rewrite("builtin:anime", [edit((10, 10, 250))], out=given.folder / "out", **options).out)


@case
def rewrite_erasing(given: Given) -> Made:
    """On a small network with two rules, one after the other."""
    from networks import generator, projector_of

    small = generator(given.folder / "g")
    gone = {**edit((0, 0, 0), erase=True, source=None), "name": "gone"}
    options: dict[str, Any] = {"projector": projector_of(given.folder / "p", small), "steps": 10, "extra_images": 16}
    return rewritten(kyara.rewrite(small, [edit((250, 10, 10)), gone], out=given.folder / "out", **options).out)


# Evaluation.


def scores(found: Sequence[Mapping[str, Any]]) -> Made:
    values = [[np.nan if s[key] is None else s[key] for key in ("value", "low", "high")] for s in found]
    columns = ("name", "pictures", "reals", "features", "resizer")
    return {
        "scores": table([{key: s[key] for key in columns} for s in found]),
        "values": np.nan_to_num(np.array(values)),
    }


@case
def evaluate(given: Given) -> Made:
    folder = drawings(given.folder / "others", range(100, 116))
    return scores(kyara.evaluate(str(folder), given.faces, workers=0).as_json()["scores"])


@case
def evaluate_generator(given: Given) -> Made:
    report = kyara.evaluate("builtin:anime", given.faces, count=12, reals=40, features="builtin:distortion", workers=0)
    return scores(report.as_json()["scores"])


@case
def compare(given: Given) -> Made:
    options: dict[str, Any] = {"preset": "tiny", "kimg": 0.016, "workers": 0, "precision": "32"}
    runs = tuple(
        str(kyara.train(name, given.faces, out=given.folder / name, **options).out) for name in ("dcgan", "mlp")
    )
    kyara.compare(runs, data=given.faces, out=given.folder / "out", count=12, draws=2, workers=0)
    found = json.loads((given.folder / "out" / "comparison.json").read_text())
    real = [{key: value for key, value in score.items() if key != "range"} for score in found["real"].values()]
    made: Made = {"real": np.array(numbers(real)), "verdict": found["verdict"]}
    for model in found["models"]:
        made |= {f"{model['name']} {key}": value for key, value in scores([*model["scores"].values()]).items()}
        draws = [score["draws"] for score in model["scores"].values()]
        made[f"{model['name']} draws"] = np.array(numbers([draws, model["best"], model["worst"], model["parameters"]]))
    return made


# Import, prepare.


@case
def import_nvidia(given: Given) -> Made:
    import paper

    with pytest.MonkeyPatch.context() as patch:
        paper.pretend(patch)
        file = paper.nvidia_file(given.folder / "a.pkl", *paper.networks())
        out = kyara.import_(file, given.folder / "out").out
    made = kyara.generate(str(out), seeds="0-2", rank="none", out=given.folder / "made").out
    return {"weights": weights(out), "pictures": gallery(made)["pictures"]}


@case
def import_rosinality(given: Given) -> Made:
    """Without the mean style, which is taken anew, and without the discriminator."""
    import paper

    generator, critic = paper.networks()
    g, d = paper.rosinality_tables(generator, critic)
    whole, part = given.folder / "whole.pt", given.folder / "part.pt"
    torch.save({"g": g, "d": d, "g_ema": g, "latent_avg": generator.mapping.w_avg}, whole)
    torch.save({"g_ema": g}, part)
    outs = [kyara.import_(file, given.folder / file.stem).out for file in (whole, part)]
    return {out.name: weights(out) for out in outs}


def art(folder: Path) -> Path:
    """Pictures of several sizes and kinds; copies, one too small and one that is none among them."""
    for i in range(8):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        write_png(folder / "ab"[i % 2] / f"{i}.png", drawn_picture(i, 40 + 9 * i)[:, : 40 + 5 * i])
    shutil.copy(folder / "a" / "2.png", folder / "b" / "copy.png")
    Image.fromarray(drawn_picture(5, 85)[:, :65]).resize((40, 52)).save(folder / "b" / "smaller.jpg", quality=90)
    Image.fromarray(drawn_picture(9, 64)).quantize(32).save(folder / "a" / "palette.gif")
    write_png(folder / "a" / "tiny.png", drawn_picture(3, 8))
    (folder / "b" / "none.png").write_bytes(b"no picture")
    return folder


def prepared(out: Path, metadata: str, report: Path) -> Made:
    left_out = {"left_out": json.loads(report.read_text())["left_out"]}
    return {**dataset(out), "metadata": metadata, "report": json.dumps(left_out, indent=1, sort_keys=True)}


@case
def prepare(given: Given) -> Made:
    out = given.folder / "out.zip"
    kyara.prepare(art(given.folder / "art"), out, detect="none")
    with zipfile.ZipFile(out) as archive:
        metadata = archive.read("metadata.csv").decode()
    return prepared(out, metadata, given.folder / "out.zip.report.json")


@case
def prepare_whole(given: Given) -> Made:
    options: dict[str, Any] = {
        "size": "48x32",
        "frame": "whole",
        "pad": "white",
        "detect": "none",
        "duplicates": "exact",
        "limit": 7,
        "min_size": 5,
    }
    out = given.folder / "out"
    kyara.prepare(art(given.folder / "art"), out, **options)
    return prepared(out, (out / "metadata.csv").read_text(), out / "report.json")


# Training.


@contextlib.contextmanager
def augmented() -> Iterator[None]:
    """Adaptive augmentation that changes pictures from the first step on."""
    from kyara.training.augment import Ada

    begin = Ada.__init__

    def sure(self: Ada, **options: Any) -> None:
        begin(self, **options)
        self.p = 0.6

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ada, "__init__", sure)
        yield


def train(given: Given, name: str, told: bool = False, out: str = "run", steps: int = STEPS, **options: Any) -> Path:
    kind: type[Model] = models.architecture(name)
    spec = kind.data_spec
    if spec.photos:
        options |= {"photos": given.photos, "drawings": given.faces}
    elif spec.of_model == "must":
        from networks import generator

        options |= {"of": generator(given.folder / "another")}
    else:
        pointed = {0: given.tagged if told else given.faces, 12: given.pointed, 124: given.contoured}[spec.points]
        faces = given.boxed if spec.boxes else pointed
        options |= {"data": faces}
    options |= {"attributes": "hair,eyes"} if told else {}
    kimg = steps * (options.get("batch") or kind.presets["tiny"].optimizer.batch) / 1000
    how: dict[str, Any] = {"preset": "tiny", "kimg": kimg, "workers": 0, "precision": "32", **options}
    with augmented():
        return kyara.train(name, out=given.folder / out, **how).out


def training_cases() -> None:
    """Every architecture, in every way that it can be told attributes."""
    for name in models.names():
        use = models.architecture(name).data_spec.attributes
        for told in [False] * (use != "must") + [True] * (use != "never"):
            CASES[f"train-{name}" + "-told" * told] = lambda given, n=name, t=told: trained(train(given, n, t))


training_cases()


@case
def train_in_parts(given: Given) -> Made:
    """Of a batch, and of a run that is stopped and taken up again."""
    options: dict[str, Any] = {"micro_batch": 2, "augment": "diffaugment"}
    train(given, "dcgan", steps=3, **options)
    return trained(train(given, "dcgan", steps=6, **options))


@case
def train_in_bfloat16(given: Given) -> Made:
    return trained(train(given, "stylegan2", precision="bf16", seed=3))


# What `train --init` chooses by itself for few pictures.
REGULAR: dict[str, Any] = {"augment": "ada", "augment_colour": True, "set": "optimizer.lr=0.0025", "patience": 0}


@case
def train_from_a_parent(given: Given) -> Made:
    parent = train(given, "stylegan2", steps=2, out="parent")
    options: dict[str, Any] = {"freeze": "mapping,g=2,d=4", "layer_lr_multiplier": 0.5, "preset": None, "mirror": False}
    return trained(train(given, "stylegan2", init=str(parent), batch=8, **REGULAR, **options))


@case
def train_tuned_to_another_size(given: Given) -> Made:
    parent = train(given, "stylegan2", steps=1, out="parent")
    options: dict[str, Any] = {**REGULAR, "augment_colour": None, "freeze": "none", "size": "64x48", "preset": None}
    return trained(train(given, "stylegan2", True, init=str(parent), batch=4, **options))


# Parts.


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(count: int = 8, size: int = 40) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1], higher than wide."""
    pictures = torch.from_numpy(np.stack([drawn_picture(i, size)[:, : size - 8] for i in range(count)]))
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


@case
def distortions(given: Given) -> Made:
    from kyara.data import distortions as distort

    made: Made = {}
    for i, kind in enumerate(distort.DISTORTIONS):
        kinds = torch.full((8,), i)
        made[kind] = distort.apply(batch(), kinds, torch.Generator().manual_seed(i)).numpy()
    some, labels, kinds = distort.distort_some(batch(), torch.Generator().manual_seed(9), resampled=0.5)
    made |= {"some": some.numpy(), "labels": labels.numpy(), "kinds": kinds.numpy()}
    affine = {"elastic": distort.Elastic(alpha=60.0, sigma=4.0, affine=10.0)}
    made["affine"] = distort.distort(batch(), torch.Generator().manual_seed(1), affine).numpy()
    return made | {"frozen": distort.frozen(batch(), range(8)).numpy(), "half": distort.half(11, 3).numpy()}


@case
def holes(given: Given) -> Made:
    from kyara.data import holes

    free = holes.free_form(6, 40, 32, generator=torch.Generator().manual_seed(0))
    parts = [holes.windows(hole, 2.0, (16, 16)) for hole in free if hole.any()]
    sides = [[side.start, side.stop] for found in parts for window in found for side in window]
    return {
        "free": free.numpy(),
        "somewhere": holes.somewhere(6, 40, 32, (0.2, 0.6), torch.Generator().manual_seed(1)).numpy(),
        "around": holes.around((0.5, 0.4, 0.2, 0.1), 6, 40, 32, 0.05, torch.Generator().manual_seed(2)).numpy(),
        "middle": holes.middle(1, 40, 32).numpy(),
        "windows": np.array(sides),
    }


@case
def edges(given: Given) -> Made:
    from kyara.data import edges

    grey = edges.grey_levels(batch())
    return {"grey": grey.numpy(), "edges": edges.canny(grey).numpy(), "smooth": edges.smooth_edges(batch()).numpy()}


@case
def augmentations(given: Given) -> Made:
    from kyara.training.augment import make

    made: Made = {}
    for policy in ("ada", "diffaugment"):
        for colour in (False, True):
            augment = make(policy, colour=colour, target=0.6)  # type: ignore[arg-type]
            augment.p = 0.6
            torch.manual_seed(0)
            made[policy + "-colour" * colour] = augment(batch()).numpy()
    return made


@case
def metrics(given: Given) -> Made:
    from kyara.evaluation import metrics
    from kyara.evaluation.statistics import fit_gaussian, neighbour_distances

    fake, real = noise(60, 16).numpy(), 0.8 * noise(80, 16, seed=1).numpy() + 0.2
    near_fake, near_real = neighbour_distances(fake), neighbour_distances(real)
    found = metrics.manifolds(fake, real, near_fake, near_real)
    chances = noise(60, 5, seed=2).softmax(1).numpy()
    pixels = np.random.RandomState(0).randint(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    grey = metrics.grey_entropy(pixels)
    return {
        "frechet": np.array(metrics.frechet(fit_gaussian(fake), fit_gaussian(real))),
        "frechet of few": np.array(metrics.frechet(fit_gaussian(fake[:9]), fit_gaussian(real[:12]))),
        "kernel": np.array([metrics.mmd(fake, real), *metrics.kid(fake, real)]),
        "manifold": np.array(found[:3]),
        "nearest": found.nearest,
        "distance": found.distance,
        "uniqueness": np.array(metrics.uniqueness(found, near_real)),
        "inception": np.array(metrics.inception_score(chances)[:1]),
        "diversity": np.array(metrics.diversity(fake)),
        "accuracy": np.array(metrics.accuracy(chances, np.arange(60) % 6 - 1)),
        "pictures": np.concatenate(metrics.nearest_pictures(pixels[:3], pixels[1:])),
        "entropy": np.concatenate([grey, metrics.entropy_similarity(grey, grey[::-1])]),
    }
