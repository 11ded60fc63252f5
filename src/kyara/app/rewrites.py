"""The room Rewrite: edits painted in the browser, and rules whose strengths are tried at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from kyara.app.data_urls import read_url, to_url
from kyara.app.items import named, sheet_of
from kyara.app.make import Maker
from kyara.app.painter import Sheet
from kyara.app.project import ProjectError, word
from kyara.files import checkpoint
from kyara.files.atomic import write_atomic
from kyara.files.names import slug
from kyara.files.pictures import decode, decode_rgba, encode_png, encode_rgba_png, to_uint8
from kyara.generation.pipeline import labelled
from kyara.generation.shots import Shot, turned
from kyara.models.base import Generator
from kyara.rewriting import rules as storage
from kyara.rewriting.edit import MAX_EXAMPLES, overlay, read_edit
from kyara.rewriting.samples import TRUNCATION

SEEDS = 16  # pictures before and after
QUICK = ("--steps", "400", "--extra-images", "192")  # half the time, for a pattern that is a little less clear
EDITS = "edits"


@dataclass(frozen=True)
class Painted:
    """An example of an edit, as it is written."""

    ENDINGS: ClassVar = ("-picture.png", "-mask.png", ".png")
    seed: int | None  # None for a picture that is written, as it has no seed
    picture: bytes
    mask: np.ndarray
    source: np.ndarray | None  # None erases
    pasted: np.ndarray

    def named(self, stem: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The row of the edit file, and the files that it names, by name."""
        picture, mask, source = (f"{stem}{ending}" for ending in self.ENDINGS)
        files = {mask: encode_png(np.repeat(self.mask[..., None], 3, 2))}
        files |= {picture: self.picture} if self.seed is None else {}
        files |= {} if self.source is None else {source: encode_rgba_png(self.source)}
        row = {"picture": picture} if self.seed is None else {"seed": self.seed}
        changed = {"erase": True} if self.source is None else {"source": {"picture": source}}
        return {**row, "mask": mask, **changed}, files


class Rewrites:
    """Edits and rules of the project."""

    def __init__(self, maker: Maker) -> None:
        self.maker, self.painter, self.project = maker, maker.painter, maker.project

    def about(self, model: str) -> dict[str, Any]:
        """The rules of a generator, and whether new ones can be learned: `problem` says why not."""
        name = self.project.model(model)
        found = checkpoint.read(self.project.absolute(name))
        rules = [
            {"name": rule.name, "file": storage.file_name(rule.name), "strength": rule.strength}
            for rule in storage.rules_of(found)
        ]
        roots = [checkpoint.read(f"builtin:{one}") for one in checkpoint.builtin_names()]
        known = {one.config["generator"]["hash"] for one in roots if one.model == "projector"}
        root = storage.root_of(found)
        problem = "" if root in known else f"train a projector first: kyara train projector --of {name}"
        return {"model": name, "root": root, "rules": rules, "problem": problem} | self.maker.about(name)

    def shot(self, model: str, seed: int) -> Shot:
        """The shot of a seed; on the painter's thread only."""
        generator = self.painter.load(model).generator
        shot: Shot = {"seed": seed, "labels": {}}
        return next(labelled([shot], generator, {}, film=False)) if generator.config.data.attributes else shot

    def picture(self, model: str, seed: int, large: bool = False) -> bytes:
        """The PNG of a seed; `large` is enlarged by `upscaling.UPSCALER`."""
        name = self.project.model(model)
        shot = self.painter.call(lambda: self.shot(name, seed))
        hashed = checkpoint.read(self.project.absolute(name)).hash
        return self.painter.png(Sheet(name, TRUNCATION, large=large), shot, ("seed", hashed, seed, large))

    def made(self, number: int, model: str = "", large: bool = False) -> bytes:
        """The PNG of a picture of Make as `model` makes it, by default its own: one of the same root has the same
        latents, but other weights. An edit is learned from what a generator draws, so the head is not turned, and
        nothing is mirrored. ValueError for a blend of two generators."""
        item = self.maker.collection.item(number)
        if item.blend:
            raise ValueError(f"{named(item)}: two generators are blended in it; choose a picture of one of them")
        name = self.project.model(model or item.model)
        weights = self.painter.versions.hash(name)
        sheet = replace(sheet_of(item, large), model=name, checkpoint=weights, mirror=False)
        return self.painter.png(sheet, turned(item.shot, 0), ("example", self.maker.collection.id, number, sheet))

    def save_edit(self, name: str, examples: Sequence[Mapping[str, Any]], model: str = "") -> dict[str, Any]:
        """Writes an edit file and its pictures, to be learned from `model`, if it is named. Each example has a seed or
        the number of a picture of Make; a mask, the data URL of a PNG of the picture's size; and a pattern, an image of
        the same shape on a transparent background, or none to erase. Returns its path and the pasted examples.
        ValueError if `rewrite` would refuse it."""
        if not 0 < len(examples) <= MAX_EXAMPLES:
            raise ValueError("an edit needs one or more examples; paint a mask or drop a pattern")
        painted = [self._painted(example, model, i) for i, example in enumerate(examples, 1)]
        beside = [f"-{i}{ending}" for i in range(1, len(examples) + 1) for ending in Painted.ENDINGS]
        written = list[Path]()
        with self.project.naming:
            path = self.project.free(EDITS, name or "rule", ".json", beside=beside)
            file = self.project.path(path)
            file.parent.mkdir(exist_ok=True)
            rows, files = zip(*(example.named(f"{file.stem}-{i}") for i, example in enumerate(painted, 1)), strict=True)
            text = json.dumps({"name": slug(file.stem), "examples": rows}, indent=1) + "\n"
            try:
                for one, data in [*(pair for some in files for pair in some.items()), (file.name, text.encode())]:
                    written.append(_write(file.with_name(one), data))
                read_edit(file)
            except BaseException:
                for ours in written:
                    ours.unlink(missing_ok=True)
                raise
        return {"path": path, "pasted": [to_url(example.pasted) for example in painted]}

    def _painted(self, example: Mapping[str, Any], model: str, i: int) -> Painted:
        seed, png = self._target(example, model)
        target, mask = decode(png), _picture(decode, example["mask"], f"the mask of example {i}")[:, :, 0]
        if mask.shape != target.shape[:2]:
            raise ValueError(f"the mask of example {i} has another size than the picture")
        source = None
        if example.get("pattern") is not None:
            source = _cut(_picture(decode_rgba, example["pattern"], f"the pattern of example {i}"), mask)
            target = _paste(target, source, mask)
        return Painted(seed, png, mask, source, target)

    def _target(self, example: Mapping[str, Any], model: str) -> tuple[int | None, bytes]:
        """The picture that an example changes: its seed, or None for one of Make, and its PNG."""
        if example.get("number") is None:
            seed = int(example["seed"])
            return seed, self.picture(str(example["model"]), seed)
        return None, self.made(int(example["number"]), model)

    def compare(self, model: str, strengths: Mapping[str, float]) -> dict[str, Any]:
        """The first seeds without rules, and with the rules of a Checkpoint at these strengths; nothing is written."""
        name = self.project.model(model)
        found = checkpoint.read(self.project.absolute(name))
        rules = storage.rules_of(found)
        for rule in rules:
            if not 0 <= strengths.get(rule.name, rule.strength) <= 10:
                raise ValueError(f"{rule.name}: a strength is a number from 0 to 10")
        wanted = [replace(rule, strength=strengths.get(rule.name, rule.strength)) for rule in rules]

        def made() -> list[list[str]]:
            generator = self.painter.load(name).generator
            shots = [self.shot(name, seed) for seed in range(SEEDS)]
            original = [replace(rule, strength=0.0) for rule in rules]
            stored = {key: value.clone() for key, value in generator.state_dict().items()}
            try:
                return [self._with(generator, found, chosen, name, shots) for chosen in (original, wanted)]
            finally:
                generator.load_state_dict(stored)

        before, after = self.painter.call(made)
        return {"before": before, "after": after}

    def _with(
        self,
        generator: Generator,
        found: checkpoint.Checkpoint,
        rules: Sequence[storage.Rule],
        name: str,
        shots: list[Shot],
    ) -> list[str]:
        weights, original = storage.apply_rules(found, rules)
        with torch.no_grad():
            for key in original:
                generator.get_parameter(key).copy_(weights[key])
        pictures = to_uint8(self.painter.pictures(Sheet(name, TRUNCATION), shots))
        return [to_url(one) for one in pictures]

    def add_rule(self, model: str, name: str, data: bytes) -> tuple[list[str], str]:
        """Saves a rule that somebody shared, and returns the command that adds it to a model, and its output folder.
        ValueError if the file holds no rule, or one of another generator."""
        found = checkpoint.read(self.project.absolute(self.project.model(model)))
        path = self.project.save_new(EDITS, Path(name).stem or "rule", ".safetensors", data)
        try:
            storage.check_root(storage.read_rule(self.project.path(path)), found)
        except ValueError as error:
            self.project.path(path).unlink()
            raise ValueError(f"{name}: not a rule of {model}, or of a model that it was made from") from error
        return self.learn_command(model, path, Path(path).stem)

    def learn_command(self, model: str, edit: str, name: str, *, quick: bool = False) -> tuple[list[str], str]:
        """The words of the command that learns an edit or adds a rule, and its output folder."""
        out = self.project.free("runs", name or Path(edit).stem)
        self.project.existing(edit)
        words = ["rewrite", word(self.project.model(model)), word(edit), "--out", out, "--preview"]
        return [*words, *(QUICK if quick else ())], out

    def strength_command(self, model: str, strengths: Mapping[str, float], name: str) -> tuple[list[str], str]:
        """The words of the command that writes a Checkpoint with these strengths, and its output folder. Rules without
        a strength are removed."""
        model = self.project.model(model)
        rules = storage.rules_of(checkpoint.read(self.project.absolute(model)))
        if not rules:
            raise ProjectError(f"{model}: has no rules")
        out = self.project.free("runs", name or "rules")
        wanted = {rule.name: strengths.get(rule.name, rule.strength) for rule in rules}
        kept = ",".join(f"{rule}={strength:g}" for rule, strength in wanted.items() if strength > 0)
        removed = ",".join(rule for rule, strength in wanted.items() if not strength > 0)
        options = {"--strengths": kept, "--undo": removed, "--out": out}
        return ["rewrite", word(model), *(word for pair in options.items() if pair[1] for word in pair)], out


def _picture(read: Callable[[bytes, str], np.ndarray], url: Any, label: str) -> np.ndarray:
    return read(read_url(str(url), label), label)


def _cut(layer: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The part of a layer (k H, k W, 4) that covers the bounding box of a mask (H, W)."""
    rows, columns = (np.flatnonzero((mask >= 128).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("the mask is empty; paint where something changes, or drop a pattern")
    kx, ky = layer.shape[1] / mask.shape[1], layer.shape[0] / mask.shape[0]
    top, bottom, left, right = rows[0] * ky, (rows[-1] + 1) * ky, columns[0] * kx, (columns[-1] + 1) * kx
    return layer[round(top) : round(bottom), round(left) : round(right)]


def _write(file: Path, data: bytes) -> Path:
    write_atomic(file, lambda temporary: temporary.write_bytes(data))
    return file


def _paste(target: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The target with the source pasted into the mask, as the rule sees it."""
    if not source[:, :, 3].any():
        raise ValueError("the pattern does not touch the mask; move it there")
    laid = overlay(source, (mask / np.float32(255)).astype(np.float32))
    colours, alpha = (laid[:, :, :3] + 1) * 127.5, laid[:, :, 3:]
    return np.round(target * (1 - alpha) + colours * alpha).clip(0, 255).astype(np.uint8)
