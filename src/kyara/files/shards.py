"""Measurements of many pictures, shard by shard: what is done outlives a killed process, and Ray may do it on several
processes or machines, with the same result."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import re
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from kyara.files.atomic import write_atomic
from kyara.files.extras import install_hint

SHARD = 4096  # pictures; batches do not cross the end of a shard, so its result depends on nothing else
FOLDER = re.compile(r".+-[0-9a-f]{16}")  # The shards of a task, named with the hash of its key
ABANDONED = 7 * 24 * 3600  # Seconds after the last shard of an interrupted run
DAMAGED = OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError
Engine = Literal["local", "ray"]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Rows:
    """What was measured of some pictures."""

    values: np.ndarray  # (N, C) floats; a task decides what those of unreadable pictures are
    failed: Mapping[int, str]  # index of an unreadable picture -> reason

    def encode(self) -> bytes:
        buffer = io.BytesIO()
        failed = np.array(json.dumps({str(i): reason for i, reason in self.failed.items()}))
        np.savez(buffer, values=self.values, failed=failed)
        return buffer.getvalue()

    @classmethod
    def decode(cls, content: bytes) -> Rows:
        """Raises one of DAMAGED."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            failed = json.loads(str(file["failed"]))
            return cls(file["values"], {int(i): reason for i, reason in failed.items()})


class Task(Protocol[T]):
    """What to measure of the pictures of a dataset. It is pickled if other processes do it."""

    def load(self) -> T:
        """Loads networks, once in a process."""
        ...

    def measure(self, loaded: T, indices: range) -> Rows: ...


@dataclasses.dataclass(frozen=True)
class Runner:
    """Where shards are measured, and the folder that keeps finished ones until `remove`; None keeps none. Several runs
    may share it. Raises ValueError without Ray, if it is asked for."""

    folder: Path | None = None
    engine: Engine = "local"
    processes: int | None = None  # of Ray, by default 2
    _own: set[Path] = dataclasses.field(default_factory=set, init=False, repr=False)  # Folders inside, of its tasks

    def __post_init__(self) -> None:
        if self.processes is not None and self.engine == "local":
            raise ValueError(f"--processes {self.processes}: needs --engine ray")
        if self.engine == "ray":
            _import_ray()

    def run(
        self, task: Task[T], count: int, *, name: str, key: Mapping[str, Any], loaded: T | None = None
    ) -> Iterator[tuple[range, Rows]]:
        """Measures `count` pictures and yields the shards in any order. Those of an earlier run with the same `name`
        and `key` are not measured again; a single shard is not kept. `loaded` is what this process has loaded."""
        shards = [range(begin, min(begin + SHARD, count)) for begin in range(0, count, SHARD)]
        folder = self.place(name, key) if len(shards) > 1 else None
        missing = dict(enumerate(shards))
        if folder:
            for i, indices in enumerate(shards):
                if (rows := _read(folder, i, len(indices))) is not None:
                    del missing[i]
                    yield indices, rows
        if not missing:
            return
        measured = _ray(task, missing, self.processes or 2) if self.engine == "ray" else _local(task, missing, loaded)
        for i, content in measured:
            if folder:
                _write(_path(folder, i), content)
            yield shards[i], Rows.decode(content)

    def place(self, name: str, key: Mapping[str, Any]) -> Path | None:
        """The folder of the shards of a task, which `remove` removes."""
        if self.folder is None:
            return None
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self._own.add(self.folder / f"{name}-{digest}")
        return self.folder / f"{name}-{digest}"

    def remove(self) -> None:
        """Removes its shards and abandoned ones, and the folder if nothing else is in it."""
        if self.folder is not None:
            for folder in {*self._own, *filter(_is_abandoned, self.folder.glob("*"))}:
                _remove(folder)
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def _is_abandoned(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # another run has removed it
        return bool(FOLDER.fullmatch(folder.name)) and time.time() - folder.stat().st_mtime > ABANDONED
    return False


def _remove(folder: Path) -> None:
    for path in folder.glob("shard-*.npz"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # the same command may have removed it, as it was done
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def _path(folder: Path, i: int) -> Path:
    return folder / f"shard-{i:06d}.npz"


def _read(folder: Path, i: int, count: int) -> Rows | None:
    """A finished shard; None if there is none, or it is damaged."""
    with contextlib.suppress(*DAMAGED):
        rows = Rows.decode(_path(folder, i).read_bytes())
        if len(rows.values) == count:
            return rows
    return None


def joined(shards: Iterable[tuple[range, Rows]]) -> Rows:
    """All shards as one, in order. One in which nothing is readable may have a single column of NaN."""
    parts = [rows for _, rows in sorted(shards, key=lambda shard: shard[0].start)]
    width = max(part.values.shape[1] for part in parts)
    wide = [np.broadcast_to(p.values, (len(p.values), width)) for p in parts]
    return Rows(np.concatenate(wide), {i: reason for part in parts for i, reason in part.failed.items()})


def _local(task: Task[T], shards: Mapping[int, range], loaded: T | None) -> Iterator[tuple[int, bytes]]:
    here = task.load() if loaded is None else loaded
    for i, indices in shards.items():
        yield i, task.measure(here, indices).encode()


class _Worker:
    """Measures shards in a process of Ray."""

    def __init__(self, task: Any, threads: int) -> None:
        import ray
        import torch

        torch.set_num_threads(threads)  # with another number the last digits may differ
        self.task = ray.get(task)
        self.loaded = self.task.load()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        indices = range(int(batch["begin"][0]), int(batch["end"][0]))
        return {"shard": [int(batch["shard"][0])], "rows": [self.task.measure(self.loaded, indices).encode()]}


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(f"--engine ray: needs Ray; {install_hint('scale')}") from error
    return ray


def _ray(task: Task[Any], shards: Mapping[int, range], processes: int) -> Iterator[tuple[int, bytes]]:
    """With Ray Data: on this machine, or on the cluster at RAY_ADDRESS, whose machines must see the same files."""
    import torch

    ray = _import_ray()
    # Ray Data hangs if its workers take all processors of the machine.
    own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": processes + 2, "include_dashboard": False}
    started = not ray.is_initialized()
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised as well
    ray.init(log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True, **own)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"shard": i, "begin": indices.start, "end": indices.stop} for i, indices in shards.items()]
        workers = ray.data.ActorPoolStrategy(size=min(processes, len(rows)))
        planned = ray.data.from_items(rows, override_num_blocks=len(rows))
        arguments = ray.put(task), torch.get_num_threads()  # the workers of a machine share its large arrays
        done = planned.map_batches(_Worker, batch_size=1, compute=workers, fn_constructor_args=arguments, num_cpus=1)
        for row in tqdm(done.iter_rows(), total=len(rows), unit="shard", disable=None):
            yield int(row["shard"]), bytes(row["rows"])
    except ray.exceptions.RayError as error:
        named = re.findall(r"^\s*([\w.]*Error: .*)$", str(error), re.MULTILINE)  # of a traceback
        reason = named[-1] if named else type(error).__name__
        raise OSError(f"--engine ray: a worker failed ({reason}); what is done is kept") from error
    finally:
        if started:
            ray.shutdown()
