"""The room Make: new pictures, variations, changed attributes, mixtures, walks and exports."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from kyara import verbs
from kyara.app.collection import Collection, Item
from kyara.app.painter import UPSCALER, Loaded, Painter, Sheet
from kyara.app.project import ProjectError
from kyara.files.atomic import free_folder, write_atomic
from kyara.files.gallery import TABLE, GalleryWriter, read_gallery
from kyara.files.names import counted, slug
from kyara.files.pictures import decode, encode_webp, read_recipe, to_uint8, write_animation
from kyara.generation.generate import generate
from kyara.generation.pipeline import change_labels, labelled
from kyara.generation.recipe import Blend, read_like
from kyara.generation.shots import (
    COUNT,
    MOST_TURN,
    Shot,
    angle_of,
    cells,
    choose_seeds,
    file_name,
    from_seeds,
    seed_text,
    turned,
)
from kyara.generation.variations import mix, vary, walk
from kyara.models.base import Generator, StyledGenerator
from kyara.nn import conditioning

MOST_AT_ONCE = 25_000  # new pictures of one request
VARIATIONS = 64
SCORED = 2  # pictures at once: a click must not wait for more
FRAMES = 240
FPS = 12.0
FIND = "find"  # step of a job that searches a picture in a generator


class Maker:
    """Everything that Make does to the collection. Each method that adds pictures returns their items."""

    def __init__(self, painter: Painter, collection: Collection, changed: Callable[..., None]) -> None:
        """`changed` publishes an event."""
        self.painter, self.collection, self.changed = painter, collection, changed
        self.project = painter.project
        self.seeds = int(time.time()) % 2**31  # of variations
        self._exporting = threading.Lock()

    def about(self, model: str) -> dict[str, Any]:
        """What the controls of a generator need. ValueError if the model is not a generator."""
        name = self.project.model(model)

        def read() -> dict[str, Any]:
            loaded = self.painter.load(name)
            data = loaded.generator.config.data
            layers = loaded.styled.mean_w(1).shape[1] if loaded.styled else 0
            attributes = {attribute: [*values] for attribute, values in data.attributes.items()}
            about = {"model": name, "hash": loaded.hash, "width": data.width, "height": data.height}
            return about | {"attributes": attributes, "layers": layers}

        return self.painter.call(read)

    def new(
        self, model: str, seeds: str | None, count: int | None, first: int | None, where: Mapping[str, str], psi: float
    ) -> tuple[list[Item], str, list[str]]:
        """New pictures of seeds: the items, the command that makes the same, and notes on the labels. Without `seeds`
        and `first`, seeds that no picture has."""
        name, wanted = self.project.model(model), verbs.parse_where(where)
        verbs.check_number("--count", count, least=1, whole=True)
        if not seeds and first is None:
            first = self.collection.free_seed(count or COUNT)
        ranges = choose_seeds(count, seeds or None, first if not seeds else None)
        if (total := sum(map(len, ranges))) > MOST_AT_ONCE:
            raise ValueError(f"{total:,} pictures at once; the maximum is {MOST_AT_ONCE:,}")
        verbs.check_number("--truncation", psi, least=-2, most=2)
        generator = self.painter.call(lambda: self.painter.load(name).generator)
        fixed, shots, notes = self._new_shots(generator, name, ranges, wanted)
        origin = ", ".join(f"{key} {value}" for key, value in wanted.items()) or "new"
        items = [Item(0, name, shot, psi, origin=origin, fixed=fixed) for shot in shots]
        given = {
            "model": name,
            "seeds": seeds or None,
            "count": count,
            "seed": first,
            "where": verbs.where_text(wanted),
        }
        return self.collection.add(items, f"make {counted(total, 'picture')}"), _command(psi, **given), notes

    def _new_shots(
        self, generator: Generator, name: str, ranges: Sequence[range], wanted: Mapping[str, str]
    ) -> tuple[dict[str, str], list[Shot], list[str]]:
        """Runs no network, so the painter can make other pictures meanwhile."""
        attributes = generator.config.data.attributes
        fixed = conditioning.find(wanted, attributes, name)
        shots = from_seeds(ranges)
        if attributes:
            found = [*labelled(shots, generator, fixed, film=False)]
        else:
            found = [{**shot, "labels": {}} for shot in shots]
        named = {key: attributes[key][label] for key, label in fixed.items()}
        return named, found, generator.label_table.doubts(fixed)

    def change(self, number: int, where: Mapping[str, str]) -> tuple[list[Item], str, list[str]]:
        """The same picture with other labels, as --like with --where."""
        item, wanted = self.collection.item(number), verbs.parse_where(where)

        def changed() -> tuple[Shot, list[str]]:
            generator = self._load(item).generator
            fixed = conditioning.find(wanted, generator.config.data.attributes, item.model)
            shot, notes = change_labels(item.shot, generator, fixed, item.model, f"picture {number}")
            if "latent" in shot:
                shot = {**shot, "labels": item.shot["labels"] | wanted}
            return shot, notes

        shot, notes = self.painter.call(changed)
        origin = ", ".join(f"{key} {value}" for key, value in wanted.items())
        new = self._child(item, shot, origin, {**item.fixed, **wanted})
        if "seed" in shot:
            command = self._seed_command(new)  # which needs no file
        else:
            command = shlex.join(["kyara", *self._like(item), "--where", verbs.where_text(wanted)])
        return self.collection.add([new], origin), command, notes

    def vary(self, number: int, count: int, strength: float) -> list[Item]:
        """Variations towards other latents."""
        verbs.check_number("Variations", count, least=1, most=VARIATIONS, whole=True)
        verbs.check_number("How different", strength, least=0, most=1)
        item = self.collection.item(number)
        seeds = range(self.seeds, self.seeds + count)
        self.seeds += count

        def made() -> list[Shot]:
            generator = self._styled(item)
            return [vary(item.shot, generator, item.truncation, seed=seed, strength=strength) for seed in seeds]

        origin = f"variation of {_named(item)}, {strength:.0%}"
        return self.collection.add([self._child(item, shot, origin) for shot in self.painter.call(made)], "variations")

    def mix(self, coarse: int, fine: int, layer: int) -> list[Item]:
        """Pose and shape of one picture, colours and details of another."""
        shot = self._mix(coarse, fine, layer)
        a, b = self.collection.item(coarse), self.collection.item(fine)
        origin = f"shape of {_named(a)}, colours of {_named(b)}, layer {layer}"
        return self.collection.add([self._child(a, shot, origin)], "mix")

    def mixed(self, coarse: int, fine: int, layer: int) -> bytes:
        """The same as a WebP, without adding it."""
        item, shot = self.collection.item(coarse), self._mix(coarse, fine, layer)
        return self._preview(dataclasses.replace(sheet_of(item), truncation=1.0, mirror=False), shot)

    def _mix(self, coarse: int, fine: int, layer: int) -> Shot:
        a, b = self.collection.item(coarse), self.collection.item(fine)
        if (a.model, a.blend) != (b.model, b.blend):
            raise ValueError("the two pictures are from different generators; only pictures of one can be mixed")
        layers = self.about(a.model)["layers"]
        verbs.check_number("Layers", layer, least=0, most=layers, whole=True)
        psis = a.truncation, b.truncation
        return self.painter.call(lambda: mix(a.shot, b.shot, self._styled(a), psis, layer))

    def turn(self, number: int, degrees: float) -> tuple[list[Item], str]:
        """The same picture with the head turned."""
        item = self.collection.item(number)
        side = f"{abs(degrees):g}° to the {'left' if degrees < 0 else 'right'}" if degrees else "to the front"
        new = self._child(item, self._turn(item, degrees), f"turned {side}")
        if "seed" in item.shot:
            command = self._seed_command(new)
        else:
            command = shlex.join(["kyara", *self._like(item), "--turn", f"{degrees:g}"])
        return self.collection.add([new], "turn"), command

    def turned(self, number: int, degrees: float) -> bytes:
        """The same as a WebP, without adding it."""
        item = self.collection.item(number)
        return self._preview(sheet_of(item), self._turn(item, degrees))

    def _preview(self, sheet: Sheet, shot: Shot) -> bytes:
        """A picture as a WebP."""
        return encode_webp(self.painter.call(lambda: to_uint8(self.painter.pictures(sheet, [shot])))[0])

    def _turn(self, item: Item, degrees: float) -> Shot:
        verbs.check_number("Turn", degrees, least=-MOST_TURN, most=MOST_TURN)
        return turned(item.shot, degrees)

    def walk(self, numbers: Sequence[int], frames: int) -> tuple[list[Item], str]:
        """Pictures from each of the given ones to the next. The command is empty if none does the same."""
        items = [self.collection.item(number) for number in numbers]
        if len(items) < 2 or any((item.model, item.blend) != (items[0].model, items[0].blend) for item in items):
            raise ValueError("a walk needs two or more pictures of one generator; select them first")
        verbs.check_number("Pictures of the walk", frames, least=len(items), most=FRAMES, whole=True)
        psis = [item.truncation for item in items]
        shots = self.painter.call(lambda: walk([i.shot for i in items], self._styled(items[0]), psis, frames))
        name = f"from {_named(items[0])} to {_named(items[-1])}"
        new = [self._child(items[0], shot, f"walk {i + 1} of {frames}, {name}") for i, shot in enumerate(shots)]
        command = ""
        if "seeds" in shots[0]:
            path = "-".join(str(item.shot["seed"]) for item in items)
            labels = verbs.where_text(items[0].shot["labels"])
            command = _command(psis[0], model=items[0].model, interpolate=path, frames=frames, where=labels)
        return self.collection.add(new, "walk"), command

    def keep(self, number: int, shot: Shot) -> list[Item]:
        """Adds a picture that was made by dragging points of another one."""
        item = self.collection.item(number)
        return self.collection.add([self._child(item, shot, f"dragged from {_named(item)}")], "drag")

    def load(self, path: Path) -> list[Item]:
        """Adds the picture that a PNG of Kyara describes. ValueError if its recipe cannot be followed."""
        recipe = read_like(path)
        model, blend = self._find_model(recipe.model, recipe.checkpoint), None
        if recipe.blend is not None:
            parent = self._find_model(recipe.blend.parent, recipe.blend.checkpoint)
            blend = dataclasses.asdict(recipe.blend) | {"parent": parent}
        origin = f"from {path.name}"
        item = Item(0, model, recipe.shot, recipe.truncation, recipe.mirror, origin, blend=blend)

        def checked() -> Shot:
            return change_labels(recipe.shot, self._load(item).generator, {}, model, path.name)[0]

        item.shot = self.painter.call(checked)
        return self.collection.add([item], f"load {path.name}")

    def load_gallery(self, path: str) -> list[Item]:
        """Adds the pictures of a Gallery that have recipes; that of a search also lists what was searched."""
        folder = self.project.existing(path)
        files = [folder / row["file_name"] for row in read_gallery(folder)]
        return [item for file in files if read_recipe(file) is not None for item in self.load(file)]

    def find(self, path: str, model: str) -> tuple[list[str], str]:
        """The command that searches a picture in a generator, and its Gallery."""
        self.project.existing(path)
        out = self.project.free("galleries", f"found-{Path(path).stem}")
        return ["invert", self.project.model(model), path, "--out", out], out

    def _find_model(self, name: str, wanted: str) -> str:
        """The generator of the project, or the built-in one, with that hash."""
        from kyara.files import checkpoint

        names = [name] if name.startswith("builtin:") else []
        names += [one.path for one in self.project.contents() if one.kind == "checkpoint"]
        for one in names:
            try:
                if checkpoint.read(self.project.absolute(one)).hash == wanted:
                    return one
            except (OSError, ValueError):
                continue
        raise ValueError(f"its generator ({name}, checkpoint {wanted}) is not in this project; copy its folder into it")

    def _load(self, item: Item) -> Loaded:
        """The generator of a picture; on the painter's thread only."""
        return self.painter.load(item.model, sheet_of(item).blend)

    def _styled(self, item: Item) -> StyledGenerator:
        """The same. ValueError if it has no styles."""
        loaded = self._load(item)
        if loaded.styled is None:
            raise ValueError(f"{item.model}: has no styles, so its pictures cannot be varied, mixed or dragged")
        return loaded.styled

    def _child(self, parent: Item, shot: Shot, origin: str, fixed: Mapping[str, str] | None = None) -> Item:
        latent = "latent" in shot
        psi, mirror = (1.0, False) if latent else (parent.truncation, parent.mirror)
        labels = parent.fixed if fixed is None else fixed
        return Item(0, parent.model, shot, psi, mirror, origin, parent.number, fixed=labels, blend=parent.blend)

    def png(self, number: int, large: bool = False) -> bytes:
        """The PNG of a picture, with its recipe; `large` is enlarged by `painter.UPSCALER`."""
        return self.pngs([number], {number} if large else frozenset())[0]

    def pngs(self, numbers: Sequence[int], large: AbstractSet[int] = frozenset()) -> list[bytes]:
        """The same for several pictures, which are computed together; those of the numbers `large` are enlarged."""
        items = [(self.collection.item(number), number in large) for number in numbers]
        started = [self.painter.start(sheet_of(i, big), i.shot, ("make", i.number, big)) for i, big in items]
        return [future.result() for future in started]

    def file(self, item: Item) -> str:
        """The name under which a picture is downloaded."""
        return f"{number_name(item)}.png"

    def details(self, number: int) -> dict[str, Any]:
        """Everything about a picture, with a command that makes it."""
        item = self.collection.item(number)
        command = self._seed_command(item) if "seed" in item.shot else shlex.join(["kyara", *self._like(item)])
        return {"row": item.row(), "command": command, "file": self.file(item), "mirror": item.mirror}

    def _seed_command(self, item: Item) -> str:
        """The command that makes the picture of a seed; that of a blended model needs a recipe."""
        if item.blend:
            return shlex.join(["kyara", *self._like(item)])
        labels, seed = verbs.where_text(item.shot["labels"]), str(item.shot["seed"])
        given = {"where": labels, "mirror": item.mirror, "turn": angle_of(item.shot) or None}
        return _command(item.truncation, model=item.model, seeds=seed, **given)

    def _like(self, item: Item) -> list[str]:
        """The words that repeat a picture from its recipe, which is written to the project for that."""
        path = self.project.state("pictures", self.collection.id, self.file(item))
        if not path.exists():
            png = self.png(item.number)
            write_atomic(path, lambda temporary: temporary.write_bytes(png))
        return ["generate", "--like", self.project.relative(path)]

    def score_some(self) -> bool:
        """Scores a few pictures that have no score yet. Returns whether there were any."""
        missing: list[Item] = []
        for item in self.collection.visible():
            if item.score is None and (not missing or _alike(item, missing[0])):
                missing.append(item)
            if len(missing) == SCORED:
                break
        if not missing:
            return False
        scores = self.painter.scores(sheet_of(missing[0]), [item.shot for item in missing])
        self.collection.set_scores({item.number: score for item, score in zip(missing, scores, strict=True)})
        self.changed("scores", scores=[[item.number, round(item.score or 0, 4)] for item in missing])
        return True

    def export(
        self, numbers: Sequence[int], name: str, large: AbstractSet[int], progress: Callable[[float], None]
    ) -> dict[str, Any]:
        """Writes pictures, those of the numbers `large` enlarged, as a Gallery with sheet and page, and a walk also as
        an animation."""
        items = [self.collection.item(number) for number in numbers]
        if not items:
            raise ProjectError("nothing is selected; select or star pictures first")
        film = all(item.origin.startswith("walk ") for item in items)
        if film:
            items.sort(key=lambda item: item.number)  # the page shows the newest first
        with self._exporting:  # so that a second export does not take the same folder
            path = self.project.free("galleries", name or "studio")
            out = self.project.path(path)
            free_folder(out, TABLE)
        attributes = dict.fromkeys(key for item in items for key in item.shot["labels"])
        columns = ["seed", *attributes, "score"]
        command = self.export_command(items, path, large)
        with self.project.making(path), GalleryWriter(out, columns) as gallery:
            for i, item in enumerate(items):
                row = {key: value for key, value in cells(item.shot).items() if key in columns}
                png, score = self.png(item.number, item.number in large), None if film else item.score
                gallery.add(f"{number_name(item)}.png", png, score=score, **row)
                progress((i + 1) / len(items))
            if film:
                gallery.flush()
                frames = (decode(out / f"{number_name(item)}.png") for item in items)
                write_animation(out / "walk.webp", frames, FPS)
            gallery.finish(command=command, about="chosen in kyara studio", films=["walk.webp"] * film)
        return {"path": path, "pictures": len(items), "command": command}

    def export_command(self, items: Sequence[Item], out: str, large: AbstractSet[int]) -> str:
        """The command that makes these pictures; of several models or by hand there is none, so it names the first."""
        first, sheets = items[0], [sheet_of(item, item.number in large) for item in items]
        alike = [(sheet, i.fixed, angle_of(i.shot)) for i, sheet in zip(items, sheets, strict=True) if "seed" in i.shot]
        same = len(alike) == len(items) and all(one == alike[0] for one in alike)
        seeds = sorted({item.shot["seed"] for item in items}) if same else []
        if len(seeds) == len(items):
            given = {"where": verbs.where_text(first.fixed), "turn": angle_of(first.shot) or None, "out": Path(out)}
            upscale = UPSCALER if sheets[0].large else None
            return _command(first.truncation, model=first.model, seeds=seed_text(seeds), upscale=upscale, **given)
        return shlex.join(["kyara", "generate", "--like", f"{out}/{self.file(first)}"])


def sheet_of(item: Item, large: bool = False) -> Sheet:
    return Sheet(item.model, item.truncation, item.mirror, Blend(**item.blend) if item.blend else None, large)


def _alike(a: Item, b: Item) -> bool:
    """Whether two pictures can be made in one batch."""
    return sheet_of(a) == sheet_of(b) and a.shot.keys() == b.shot.keys()


def number_name(item: Item) -> str:
    """A file name that no other picture of the collection has."""
    return f"{slug(Path(file_name(item.shot, item.number)).stem)}-{item.number}"


def _named(item: Item) -> str:
    """A picture, as the page calls it."""
    return f"seed {item.shot['seed']}" if "seed" in item.shot else f"picture {item.number}"


def _command(truncation: float, **given: Any) -> str:
    """The command line of `generate` with these options."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(generate).parameters.items()}
    return verbs.command_line(generate, defaults | {"truncation": truncation} | given)
