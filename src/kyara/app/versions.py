"""Which Checkpoint a picture was made with. A run that trains on replaces the weights in its folder and keeps the
earlier ones as snapshots, so a name alone does not say it: pictures keep the hash of the weights beside the name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kyara.app.project import Project, ProjectError
from kyara.files import checkpoint

SNAPSHOTS = "snapshots"  # folder of a run, see `kyara.training.run`


class Versions:
    """The Checkpoints of a project by name and hash."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._hashes: dict[Path, tuple[tuple[int, int], str]] = {}  # file -> time and size, hash

    def weights(self, model: str) -> Path:
        """The file with the weights of a model. ValueError if there is none."""
        name = self.project.absolute(model)
        file = checkpoint.find(name) / checkpoint.WEIGHTS
        return file if file.is_file() else checkpoint.read(name).path / checkpoint.WEIGHTS  # which says what is wrong

    def hash(self, model: str) -> str:
        """The hash of the weights that a model has now."""
        file = self.weights(model)
        about = file.stat()
        stamp = about.st_mtime_ns, about.st_size
        if self._hashes.get(file, (None, ""))[0] != stamp:
            self._hashes[file] = stamp, checkpoint.read(self.project.absolute(model)).hash
        return self._hashes[file][1]

    def find(self, model: str, wanted: str) -> str:
        """The name of the Checkpoint with the hash `wanted`: the model itself, or the snapshot of it that has these
        weights; "" takes the model as it is. ValueError if there is none."""
        if not wanted:
            return model
        for name in self._names(model):
            with contextlib.suppress(OSError, ValueError):
                if self.hash(name) == wanted:
                    return name
        raise ProjectError(self._problem(model, wanted))

    def search(self, name: str, wanted: str) -> str:
        """The Checkpoint of the project, or the built-in one, with that hash; `name` is what a recipe calls it.
        ValueError if there is none."""
        names = [name] if name.startswith("builtin:") else []
        names += [one.path for one in self.project.contents() if one.kind == "checkpoint"]
        for one in names:
            with contextlib.suppress(ProjectError):
                return self.find(one, wanted)
        raise ValueError(f"its generator ({name}, checkpoint {wanted}) is not in this project; copy its folder into it")

    def _names(self, model: str) -> Iterator[str]:
        yield model
        if not model.startswith("builtin:"):
            for folder in sorted(self._folder(model).glob(f"{SNAPSHOTS}/*/"), reverse=True):
                yield f"{model}/{SNAPSHOTS}/{folder.name}"

    def _folder(self, model: str) -> Path:
        return self.project.folder / model

    def _problem(self, model: str, wanted: str) -> str:
        """Why there is no such Checkpoint, and what to do."""
        again = "remove these pictures and make them again"
        if model.startswith("builtin:"):
            return f"{model} is another one in this version of Kyara (wanted: {wanted}): {again}"
        folder = self._folder(model)
        if not folder.is_dir():
            return f"its generator {model} is gone: put it back or remove these pictures"
        try:
            self.hash(model)
        except (OSError, ValueError) as error:
            return f"its generator {model} cannot be opened: put it back or remove these pictures ({error})"
        if not (folder / SNAPSHOTS).is_dir():
            return f"{model} was replaced since: put checkpoint {wanted} back, or {again}"
        kept = f"none of its snapshots is the checkpoint that made this picture ({wanted})"
        return f"{model} was trained further since: {kept}; put that one back into {model}/{SNAPSHOTS}, or {again}"
