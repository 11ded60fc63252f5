"""The room Make: new pictures, variations, changed attributes, mixtures, walks and exports."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from typing import Any

from kyara import verbs
from kyara.app.collection import Collection, Item
from kyara.app.commands import generate_command, seeds_command, walk_command
from kyara.app.items import describes, generator_of, named, number_name, origin_of, sheet_of
from kyara.app.painter import Loaded, Painter, Sheet
from kyara.app.project import PICTURES, ProjectError, word
from kyara.files.atomic import free_folder, write_atomic
from kyara.files.gallery import TABLE, GalleryWriter, read_gallery
from kyara.files.names import counted
from kyara.files.pictures import decode, encode_webp, read_recipe, to_uint8, write_animation
from kyara.generation.pipeline import change_labels, labelled
from kyara.generation.recipe import read_like
from kyara.generation.shots import (
    COUNT,
    MOST_TURN,
    Shot,
    cells,
    choose_seeds,
    from_seeds,
    seed_text,
    turned,
)
from kyara.generation.upscaling import option
from kyara.generation.variations import mix, vary, walk
from kyara.models.base import Generator, StyledGenerator
from kyara.nn import conditioning

MOST_AT_ONCE = 25_000  # new pictures of one request
VARIATIONS = 64
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

    def adopt(self) -> None:
        """Notes the weights of pictures in a list that an earlier version wrote: those that their models have now."""
        for item in self.collection.visible():
            if not item.checkpoint:
                with contextlib.suppress(OSError, ValueError):  # gone; its pictures say so
                    item.checkpoint = self.painter.versions.hash(item.model)
                    self.collection.unsaved = True

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
        loaded = self.painter.call(lambda: self.painter.load(name))
        fixed, shots, notes = self._new_shots(loaded.generator, name, ranges, wanted)
        origin = ", ".join(f"{key} {value}" for key, value in wanted.items()) or "new"
        items = [Item(0, name, shot, psi, origin=origin, fixed=fixed, checkpoint=loaded.hash) for shot in shots]
        given = {"seeds": seeds or seed_text(chain(*ranges)), "where": verbs.where_text(wanted)}
        command = generate_command(psi, name, **given)
        return self.collection.add(items, f"make {counted(total, 'picture')}"), command, notes

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
            generator = self.loaded(item).generator
            fixed = conditioning.find(wanted, generator.config.data.attributes, item.model)
            shot, notes = change_labels(item.shot, generator, fixed, item.model, f"picture {number}")
            if "latent" in shot:
                shot = {**shot, "labels": item.shot["labels"] | wanted}
            return shot, notes

        shot, notes = self.painter.call(changed)
        origin = ", ".join(f"{key} {value}" for key, value in wanted.items())
        new = self._child(item, shot, origin, {**item.fixed, **wanted})
        again = ["--where", verbs.where_text(wanted)]
        command = self._seeds_command([new]) or shlex.join(["kyara", *self._like(item), *again])
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

        origin = f"variation of {named(item)}, {strength:.0%}"
        return self.collection.add([self._child(item, shot, origin) for shot in self.painter.call(made)], "variations")

    def mix(self, coarse: int, fine: int, layer: int) -> list[Item]:
        """Pose and shape of one picture, colours and details of another."""
        shot = self._mix(coarse, fine, layer)
        a, b = self.collection.item(coarse), self.collection.item(fine)
        origin = f"shape of {named(a)}, colours of {named(b)}, layer {layer}"
        return self.collection.add([self._child(a, shot, origin)], "mix")

    def mixed(self, coarse: int, fine: int, layer: int) -> bytes:
        """The same as a WebP, without adding it."""
        item, shot = self.collection.item(coarse), self._mix(coarse, fine, layer)
        return self._preview(dataclasses.replace(sheet_of(item), truncation=1.0, mirror=False), shot)

    def _mix(self, coarse: int, fine: int, layer: int) -> Shot:
        a, b = self.collection.item(coarse), self.collection.item(fine)
        if generator_of(a) != generator_of(b):
            raise ValueError("the two pictures are from different generators; only pictures of one can be mixed")
        psis = a.truncation, b.truncation

        def mixed() -> Shot:
            generator = self._styled(a)
            verbs.check_number("Layers", layer, least=0, most=generator.mean_w(1).shape[1], whole=True)
            return mix(a.shot, b.shot, generator, psis, layer)

        return self.painter.call(mixed)

    def turn(self, number: int, degrees: float) -> tuple[list[Item], str]:
        """The same picture with the head turned."""
        item = self.collection.item(number)
        side = f"{abs(degrees):g}° to the {'left' if degrees < 0 else 'right'}" if degrees else "to the front"
        new = self._child(item, self._turn(item, degrees), f"turned {side}")
        again = ["--turn", f"{degrees:g}"]
        command = self._seeds_command([new]) or shlex.join(["kyara", *self._like(item), *again])
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
        if len(items) < 2 or any(generator_of(item) != generator_of(items[0]) for item in items):
            raise ValueError("a walk needs two or more pictures of one generator; select them first")
        verbs.check_number("Pictures of the walk", frames, least=len(items), most=FRAMES, whole=True)
        psis = [item.truncation for item in items]
        shots = self.painter.call(lambda: walk([i.shot for i in items], self._styled(items[0]), psis, frames))
        name = f"from {named(items[0])} to {named(items[-1])}"
        new = [self._child(items[0], shot, f"walk {i + 1} of {frames}, {name}") for i, shot in enumerate(shots)]
        seeds, name = "seeds" in shots[0], self._names(items[0])[0]
        command = walk_command(items, self.project, name, frames) if seeds else ""
        return self.collection.add(new, "walk"), command

    def keep(self, number: int, shot: Shot) -> list[Item]:
        """Adds a picture that was made by dragging points of another one."""
        item = self.collection.item(number)
        return self.collection.add([self._child(item, shot, f"dragged from {named(item)}")], "drag")

    def load(self, path: Path) -> list[Item]:
        """Adds the picture that a PNG of Kyara describes. ValueError if its recipe cannot be followed."""
        recipe, search = read_like(path), self.painter.versions.search
        model, blend = search(recipe.model, recipe.checkpoint), None
        if recipe.blend is not None:
            parent = search(recipe.blend.parent, recipe.blend.checkpoint)
            blend = dataclasses.asdict(recipe.blend) | {"parent": parent}
        item = Item(0, model, recipe.shot, recipe.truncation, recipe.mirror, f"from {path.name}", blend=blend)
        item.checkpoint = recipe.checkpoint

        def checked() -> Shot:
            return change_labels(recipe.shot, self.loaded(item).generator, {}, model, path.name)[0]

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
        return ["invert", word(self.project.model(model)), word(path), "--out", out], out

    def loaded(self, item: Item) -> Loaded:
        """The generator of a picture; on the painter's thread only."""
        return self.painter.load(item.model, sheet_of(item).blend, item.checkpoint)

    def _names(self, item: Item) -> list[str]:
        """The generator of a picture, and the parent that it is blended with: snapshots, if they were trained further
        since. Commands and recipes name them."""
        find, blend = self.painter.versions.find, item.blend
        parents = [find(blend["parent"], blend["checkpoint"])] if blend else []
        return [find(item.model, item.checkpoint), *parents]

    def _styled(self, item: Item) -> StyledGenerator:
        """The same. ValueError if it has no styles."""
        loaded = self.loaded(item)
        if loaded.styled is None:
            raise ValueError(f"{item.model}: has no styles, so its pictures cannot be varied, mixed or dragged")
        return loaded.styled

    def _child(self, parent: Item, shot: Shot, origin: str, fixed: Mapping[str, str] | None = None) -> Item:
        latent = "latent" in shot
        psi, mirror = (1.0, False) if latent else (parent.truncation, parent.mirror)
        labels = parent.fixed if fixed is None else fixed
        child = Item(0, parent.model, shot, psi, mirror, origin, parent.number, fixed=labels, blend=parent.blend)
        return dataclasses.replace(child, checkpoint=parent.checkpoint)

    def png(self, number: int, large: bool = False) -> bytes:
        """The PNG of a picture, with its recipe; `large` is enlarged by `upscaling.UPSCALER`."""
        return self._start(number, large).result()

    def pngs(self, numbers: Sequence[int], large: AbstractSet[int] = frozenset()) -> dict[int, bytes | Exception]:
        """The same for several pictures, which are computed together, or why one cannot be made; those of the numbers
        `large` are enlarged."""
        with self.painter.together():
            started = {number: self._start(number, number in large) for number in numbers}
        found: dict[int, bytes | Exception] = {}
        for number, future in started.items():
            try:
                found[number] = future.result()
            except Exception as error:  # the others can be shown
                found[number] = error
        return found

    def _start(self, number: int, large: bool) -> Future[bytes]:
        item = self.collection.item(number)
        try:
            key = ("make", number, item.checkpoint, *self._names(item), large)
        except ValueError as error:  # its generator is gone
            lost: Future[bytes] = Future()
            lost.set_exception(error)
            return lost
        return self.painter.start(sheet_of(item, large), item.shot, key)

    def file(self, item: Item) -> str:
        """The name under which a picture is downloaded."""
        return f"{number_name(item)}.png"

    def details(self, number: int) -> dict[str, Any]:
        """Everything about a picture, with a command that makes it."""
        item = self.collection.item(number)
        try:
            command = self._seeds_command([item]) or shlex.join(["kyara", *self._like(item)])
        except ValueError:  # its generator is gone; the picture says so
            command = ""
        return {"row": item.row(), "command": command, "file": self.file(item), "mirror": item.mirror}

    def _seeds_command(self, items: Sequence[Item], **given: Any) -> str:
        return seeds_command(items, self.project, self._names(items[0])[0], **given)

    def _like(self, item: Item) -> list[str]:
        """The words that repeat a picture from its recipe, which is written to the project for that."""
        path = self.project.state(PICTURES, self.collection.id, self.file(item))
        if not describes(path, item, self._names(item)):
            png = self.png(item.number)
            write_atomic(path, lambda temporary: temporary.write_bytes(png))
        return ["generate", "--like", self.project.relative(path)]

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
        for item in items:
            self._names(item)  # raises if a generator is gone, before anything is written
        with self._exporting:  # so that a second export does not take the same folder
            path = self.project.free("galleries", name or "studio")
            out = self.project.path(path)
            free_folder(out, TABLE)
        attributes = dict.fromkeys(key for item in items for key in item.shot["labels"])
        columns = ["seed", *attributes, "score"]
        command = self.export_command(items, path, large)
        with self.project.making(path), GalleryWriter(out, columns) as gallery:
            for i, (item, png) in enumerate(self._batches(items, large), 1):
                row = {key: value for key, value in cells(item.shot).items() if key in columns}
                gallery.add(f"{number_name(item)}.png", png, score=None if film else item.score, **row)
                progress(i / len(items))
            if film:
                gallery.flush()
                frames = (decode(out / f"{number_name(item)}.png") for item in items)
                write_animation(out / "walk.webp", frames, FPS)
            gallery.finish(command=command, about=origin_of(items), films=["walk.webp"] * film)
        return {"path": path, "pictures": len(items), "command": command}

    def _batches(self, items: Sequence[Item], large: AbstractSet[int]) -> Iterator[tuple[Item, bytes]]:
        """Pictures with their PNGs, of which as many are computed together as the generator computes at once."""
        size = self.painter.call(lambda: self.painter.at_once(sheet_of(items[0])))
        for start in range(0, len(items), size):
            part = items[start : start + size]
            found = self.pngs([item.number for item in part], large)
            for item in part:
                png = found[item.number]
                if isinstance(png, Exception):
                    raise png
                yield item, png

    def export_command(self, items: Sequence[Item], out: str, large: AbstractSet[int]) -> str:
        """The command that makes these pictures; of several models or by hand there is none, so it names the first."""
        first, enlarged = items[0], {item.number in large for item in items}
        upscale = option(first.number in large, self.project.absolute(first.model))
        command = self._seeds_command(items, upscale=upscale, out=Path(out)) if len(enlarged) == 1 else ""
        return command or shlex.join(["kyara", "generate", "--like", f"{out}/{self.file(first)}"])
