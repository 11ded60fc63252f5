"""Resemblance of characters by reverse generation to their photos, and quality of the drawings.

    python benchmarks/avatar.py make photos.zip faces.zip --out chars --paper-child runs/00000-stylegan2-faces
    python benchmarks/drawn_faces.py chars/* --out chars/points.json       (in its own environment, see there)
    python benchmarks/avatar.py measure photos.zip faces.zip --out chars

`photos.zip` contains aligned, held-out photos (`kyara prepare --detect photo`); columns of its metadata (such as
hair_length, sex) divide them into groups. The methods:

    ours      `kyara avatar --aligned --method reverse --space w+ --start encoder --colours labels --pose`
    paper     one w by StyleGAN2's projector, drawn by a child with four fine-tuned layers; no blending, no labels
    nearest   the drawn face with the nearest tagger embedding
    random    a random drawn face

The measures use networks that no method was fitted to: landmarks by MediaPipe in the photo and by animeface in the
drawing, and animeface's hair colour. Of the landmarks, yaw (nose to the side), mouth to the side, tilt and length of
the face are compared in standard deviations of their own domain, as drawn faces have other proportions. `rank` is the
share of the other photos that are farther from a character than its own: 0.5 is chance. Intervals are 95%, by bootstrap
over photos.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import held_out, load_vgg16, machine, print_table, run
from frechet import features, frechet
from project import STEPS, project
from torch import Tensor

from kyara.files.dataset import Dataset, open_dataset
from kyara.files.gallery import read_gallery
from kyara.files.pictures import center_crop, decode, to_float, to_uint8, write_png
from kyara.generation.sampler import load_generator, sample, shot_labels
from kyara.generation.styles import load_styled
from kyara.inversion import traits
from kyara.inversion.avatar import avatar
from kyara.labels.tagger import load_tagger
from kyara.models.base import latents
from kyara.preparation import detect

METHODS = ("ours", "paper", "nearest", "random")
"""Folders that `make` writes. Other folders of characters beside them, named like the photos, are measured, too."""
OURS: dict[str, Any] = {"method": "reverse", "space": "w+", "start": "encoder", "colours": "labels", "pose": True}
POINTS = "points.json"
RESAMPLED = 2000
CHIN = 152
"""The point of MediaPipe's mesh."""


# --- making


def make(
    photos: tyro.conf.Positional[Path],
    drawn: tyro.conf.Positional[Path],
    *,
    out: Path,
    paper_child: str,
    parent: str = "builtin:photo",
    child: str = "builtin:anime",
    count: int = 50,
    weights: Path | None = None,
    steps: int = STEPS,
) -> None:
    """Writes a folder of characters for each method, named like the photos, for the first `count` of them."""
    people, faces = open_dataset(photos), open_dataset(drawn)
    names = people.names[:count]
    stems = [Path(name).stem for name in names]
    chosen = out / "photos"
    chosen.mkdir(parents=True, exist_ok=True)
    for i, stem in enumerate(stems):
        write_png(chosen / f"{stem}.png", center_crop(people.picture(i), 128, 128))
    print(avatar(chosen, out=out / "ours", parent=parent, child=child, aligned=True, force=True, **OURS))
    for row in read_gallery(out / "ours"):
        if Path(row["file_name"]).stem != Path(row["source"]).stem:
            raise ValueError(f"{row['file_name']}: named other than its photo")
    old, network = load_styled(parent, torch.device("cpu")), load_vgg16(weights)
    side = old.config.data.width
    targets = to_float(np.stack([center_crop(people.picture(i), side, side) for i in range(len(names))]))
    new = load_styled(paper_child, torch.device("cpu"))
    for begin in range(0, len(names), 10):
        ws, _ = project(old, targets[begin : begin + 10], network, steps)
        with torch.no_grad():
            for stem, picture in zip(stems[begin:], to_uint8(new.synthesise(ws)), strict=False):
                _save(out / "paper" / f"{stem}.png", picture)
    tagger: Any = load_tagger("builtin:tagger")
    some = np.random.RandomState(0).permutation(len(faces))[:3000]
    pictures = [faces.picture(int(i)) for i in some]
    known, wanted = _embed(tagger, pictures), _embed(tagger, [people.picture(i) for i in range(len(names))])
    for stem, best, any_one in zip(stems, (wanted @ known.T).argmax(1).tolist(), range(len(stems)), strict=True):
        _save(out / "nearest" / f"{stem}.png", pictures[best])
        _save(out / "random" / f"{stem}.png", pictures[any_one])


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, picture)


def _embed(tagger: Any, pictures: list[np.ndarray]) -> Tensor:
    fitted = to_float(np.stack([tagger.fit(picture) for picture in pictures]))
    return torch.cat([tagger.embed(part) for part in fitted.split(64)])


# --- measuring


def measure(
    photos: tyro.conf.Positional[Path],
    drawn: tyro.conf.Positional[Path],
    *,
    out: Path,
    child: str = "builtin:anime",
    prefix_from: str = "",
    weights: Path | None = None,
) -> None:
    """Prints the measures of the folders that `make` wrote, and writes measures.json."""
    people = open_dataset(photos)
    found = json.loads((out / POINTS).read_text())
    drawn_points = {(Path(path).parent.name, Path(path).stem): value for path, value in found.items()}
    stems = sorted(path.stem for path in (out / "photos").glob("*.png"))
    pictures = {stem: decode(out / "photos" / f"{stem}.png") for stem in stems}
    shapes = {stem: _photo_shape(picture) for stem, picture in pictures.items()}
    groups = _groups(people, stems)
    tagger: Any = load_tagger("builtin:tagger")
    seen = _embed(tagger, [pictures[stem] for stem in stems])
    network = load_vgg16(weights)
    real = _held(open_dataset(drawn), prefix_from)
    reals = features(iter(real), network)
    report: dict[str, Any] = {"machine": machine(), "photos": len(stems), "methods": {}}
    others = sorted({path.parent.name for path in out.glob("*/*.png")} - {*METHODS, "photos"})
    for method in [*METHODS, *others]:
        report["methods"][method] = _method(method, out, stems, pictures, shapes, drawn_points, groups, tagger, seen)
        made = features((decode(out / method / f"{stem}.png") for stem in stems), network)
        report["methods"][method]["frechet"] = frechet(made, reals)
    labels = {row["source"]: row for row in read_gallery(out / "ours")}
    same = [*render_like(child, [labels[f"{stem}.png"] for stem in stems])]
    report["own samples, same labels"] = {"frechet": frechet(features(iter(same), network), reals)}
    report["own samples"] = {"frechet": frechet(features(iter(_samples(child, len(stems))), network), reals)}
    for result in report["methods"].values():
        result |= _gains(report["methods"]["ours"]["ranks"], result["ranks"], stems)
    (out / "measures.json").write_text(json.dumps(report, indent=2))
    _print(report)


def _method(
    method: str,
    out: Path,
    stems: list[str],
    pictures: dict[str, np.ndarray],
    shapes: dict[str, np.ndarray | None],
    points: dict[tuple[str, str], Any],
    groups: dict[str, list[bool]],
    tagger: Any,
    seen: Tensor,
) -> dict[str, Any]:
    kept = [i for i, stem in enumerate(stems) if shapes[stem] is not None and points.get((method, stem))]
    theirs = _standard(np.stack([shapes[stems[i]] for i in kept]))  # type: ignore[arg-type]
    ours = _standard(np.stack([_drawn_shape(points[method, stems[i]]) for i in kept]))
    hair = np.stack([traits.hair(pictures[stems[i]]) for i in kept])
    drawn_hair = traits.lab(np.array([points[method, stems[i]]["hair"] for i in kept], np.uint8))
    embedded = _embed(tagger, [decode(out / method / f"{stem}.png") for stem in stems])
    cosines = (embedded @ seen.T).numpy()
    alike = np.diag(cosines) - (cosines.sum(1) - np.diag(cosines)) / (len(stems) - 1)
    shape_far = np.linalg.norm(ours[:, None] - theirs[None], axis=2)  # (N, N): character, photo
    hair_far = np.linalg.norm((drawn_hair[:, None] - hair[None]) * traits.WEIGHTS, axis=2)
    both = shape_far / shape_far.mean() + hair_far / hair_far.mean()
    result: dict[str, Any] = {"landmarks found": len(kept)}
    result["yaw, correlation"] = _correlated(ours[:, 0], theirs[:, 0])
    result["landmarks, rank"] = interval(ranks(shape_far))
    result["hair lightness, correlation"] = _correlated(drawn_hair[:, 0], hair[:, 0])
    result["hair, rank"] = interval(ranks(hair_far))
    result["recognised, rank"] = interval(ranks(both))
    result["recognised among 4"] = interval(ranks(both) ** 3)
    result["embedding above random"] = interval(alike)
    result["ranks"] = {
        name: dict(zip((stems[i] for i in kept), ranks(far).tolist(), strict=True))
        for name, far in (("landmarks", shape_far), ("hair", hair_far), ("recognised", both))
    }
    for name, members in groups.items():
        inside = [members[i] for i in kept]
        if 3 <= sum(inside) < len(inside):
            result[f"recognised, rank: {name}"] = interval(ranks(both)[np.array(inside)])
    return result


def _photo_shape(picture: np.ndarray) -> np.ndarray | None:
    """Of an aligned photo; None if MediaPipe finds no face."""
    side = picture.shape[0] // 4
    meshes = detect._meshes(np.pad(picture, ((side, side), (side, side), (0, 0)), mode="edge"))
    if not meshes:
        return None
    points = meshes[0]
    eyes = np.stack([points[list(eye)].mean(0) for eye in detect.EYES])
    return _shape(eyes, points[detect.NOSE], points[list(detect.MOUTH)].mean(0), points[CHIN])


def _drawn_shape(points: dict[str, list[float]]) -> np.ndarray:
    eyes = np.array(points["eyes"]).reshape(2, 2)
    return _shape(eyes, np.array(points["nose"]), np.array(points["mouth"]), np.array(points["chin"]))


def _shape(eyes: np.ndarray, nose: np.ndarray, mouth: np.ndarray, chin: np.ndarray) -> np.ndarray:
    """Yaw, mouth to the side, tilt, and length of the face, in distances between the eyes: (4,)."""
    middle, between = eyes.mean(0), eyes[1] - eyes[0]
    far = np.hypot(*between)
    return np.array([(nose - middle)[0] / far, (mouth - middle)[0] / far, between[1] / far, (chin - middle)[1] / far])


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / values.std(0).clip(1e-6)


def ranks(far: np.ndarray) -> np.ndarray:
    """For each character the share of other photos that are farther than its own (N,); ties count half."""
    own = np.diag(far)[:, None]
    count = (far > own).sum(1) + 0.5 * ((far == own).sum(1) - 1)
    return count / (len(far) - 1)


def _gains(
    ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]], stems: list[str]
) -> dict[str, list[float]]:
    """Differences of our ranks and theirs, photo by photo. A character without a detected face has the rank of chance,
    0.5."""
    found = {}
    for name, own in ours.items():
        gain = [own.get(stem, 0.5) - theirs[name].get(stem, 0.5) for stem in stems]
        found[f"{name}: difference to ours"] = interval(np.array(gain))
    return found


def interval(values: np.ndarray) -> list[float]:
    random = np.random.RandomState(0)
    means = [values[random.randint(len(values), size=len(values))].mean() for _ in range(RESAMPLED)]
    return [float(values.mean()), *(float(q) for q in np.quantile(means, [0.025, 0.975]))]


def _correlated(a: np.ndarray, b: np.ndarray) -> list[float]:
    random = np.random.RandomState(0)
    draws = (random.randint(len(a), size=len(a)) for _ in range(RESAMPLED))
    found = [np.corrcoef(a[i], b[i])[0, 1] for i in draws]
    return [float(np.corrcoef(a, b)[0, 1]), *(float(q) for q in np.nanquantile(found, [0.025, 0.975]))]


def _groups(people: Dataset, stems: list[str]) -> dict[str, list[bool]]:
    places = {Path(name).stem: i for i, name in enumerate(people.names)}
    found: dict[str, list[bool]] = {}
    for name, values in people.attributes.items():
        for value in sorted(set(filter(None, values))):
            found[f"{name} {value}"] = [values[places[stem]] == value for stem in stems]
    return found


def _held(drawn: Dataset, prefix_from: str) -> list[np.ndarray]:
    chosen = np.random.RandomState(0).permutation(held_out(drawn, prefix_from)[1])[:2000]
    return [center_crop(drawn.picture(int(i)), 64, 64) for i in chosen]


def _samples(child: str, count: int) -> list[np.ndarray]:
    generator = load_generator(child, torch.device("cpu"))
    seeds = range(count)
    return [*to_uint8(sample(generator, latents(seeds, generator.z_dim), generator.draw(seeds)))]


def render_like(child: str, rows: list[dict[str, str]]) -> np.ndarray:
    """Random samples of the child with the labels of these characters."""
    generator = load_generator(child, torch.device("cpu"))
    shots = [{"labels": {name: row[name] for name in generator.config.data.attributes if row[name]}} for row in rows]
    z = latents(range(len(rows)), generator.z_dim)
    return to_uint8(sample(generator, z, shot_labels(shots, generator.config.data.attributes)))


def _print(report: dict[str, Any]) -> None:
    print(report["machine"])
    methods = report["methods"]
    names = [name for name in methods["ours"] if name != "ranks"]
    print_table({name: {method: _cell(methods[method].get(name, "")) for method in methods} for name in names})
    for name in ("own samples", "own samples, same labels"):
        print(f"Fréchet distance of the child's {name}, as many: {report[name]['frechet']:.1f}")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> None:
    run({"make": make, "measure": measure}, arguments)


if __name__ == "__main__":
    main()
