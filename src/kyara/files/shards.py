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
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from tqdm import tqdm

from kyara.files.atomic import write_atomic
from kyara.files.extras import install_hint

SHARD = 4096  # pictures; batches do not cross the end of a shard, so its result depends on nothing else
KEY = "shards.json"
DAMAGED = OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError
Engine = Literal["local", "ray"]


@dataclasses.dataclass(frozen=True)
class Rows:
    """What was measured of some pictures."""

    values: np.ndarray  # (N, C) float32, NaN for unreadable pictures
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


class Task(Protocol):
    """What to measure. It is pickled if other processes do it."""

    def start(self) -> Callable[[range], Rows]:
        """Loads networks and opens files, once in a process. Returns the function that measures pictures."""
        ...


def run(task: Task, count: int, *, engine: Engine, processes: int, folder: Path, key: Mapping[str, Any]) -> Rows:
    """Measures `count` pictures. With more than one shard, finished ones are kept in `folder`, so that a run with the
    same `key` goes on there; the caller removes it with `remove` when the result is safe. Raises ValueError without
    Ray."""
    shards = [range(begin, min(begin + SHARD, count)) for begin in range(0, count, SHARD)]
    if len(shards) < 2 and engine == "local":
        return task.start()(range(count))
    _begin(folder, key)
    found = {i: rows for i in range(len(shards)) if (rows := _read(folder, i, len(shards[i]))) is not None}
    missing = [i for i in range(len(shards)) if i not in found]
    for i, content in _ENGINES[engine](task, {i: shards[i] for i in missing}, processes):
        _write(_path(folder, i), content)
        found[i] = Rows.decode(content)
    return _joined([found[i] for i in range(len(shards))])


def remove(folder: Path) -> None:
    """Removes the shards in `folder`, and the folder if nothing else is in it."""
    for path in [*folder.glob("shard-*.npz"), folder / KEY]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def _path(folder: Path, i: int) -> Path:
    return folder / f"shard-{i:06d}.npz"


def _begin(folder: Path, key: Mapping[str, Any]) -> None:
    """Makes the folder. Shards of another key are removed."""
    text = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    marker = folder / KEY
    if not marker.is_file() or marker.read_text(encoding="utf-8") != text:
        remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write(marker, text.encode())


def _read(folder: Path, i: int, count: int) -> Rows | None:
    """A finished shard; None if there is none, or it is damaged."""
    with contextlib.suppress(*DAMAGED):
        rows = Rows.decode(_path(folder, i).read_bytes())
        if len(rows.values) == count:
            return rows
    return None


def _joined(parts: Sequence[Rows]) -> Rows:
    """All shards. One in which nothing is readable has a single column of NaN."""
    width = max((part.values.shape[1] for part in parts), default=1)
    wide = [np.broadcast_to(p.values, (len(p.values), width)) for p in parts]
    return Rows(np.concatenate(wide), {i: reason for part in parts for i, reason in part.failed.items()})


def _local(task: Task, shards: Mapping[int, range], processes: int) -> Iterator[tuple[int, bytes]]:
    if not shards:
        return
    measure = task.start()
    for i, indices in shards.items():
        yield i, measure(indices).encode()


class _Worker:
    """Measures shards in a process of Ray."""

    def __init__(self, task: Task) -> None:
        self.measure = task.start()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        begin, end = int(batch["begin"][0]), int(batch["end"][0])
        return {"shard": [int(batch["shard"][0])], "rows": [self.measure(range(begin, end)).encode()]}


def _ray(task: Task, shards: Mapping[int, range], processes: int) -> Iterator[tuple[int, bytes]]:
    """With Ray Data: on this machine, or on the cluster at RAY_ADDRESS, whose machines must see the same files."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(f"--engine ray: needs Ray; {install_hint('scale')}") from error
    if not shards:
        return
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
        done = planned.map_batches(_Worker, batch_size=1, compute=workers, fn_constructor_args=(task,), num_cpus=1)
        for row in tqdm(done.iter_rows(), total=len(rows), unit="shard", disable=None):
            yield int(row["shard"]), bytes(row["rows"])
    except ray.exceptions.RayError as error:
        named = re.findall(r"^\s*([\w.]*Error: .*)$", str(error), re.MULTILINE)  # of a traceback
        reason = named[-1] if named else type(error).__name__
        raise OSError(f"--engine ray: a worker failed ({reason}); what is done is kept") from error
    finally:
        if started:
            ray.shutdown()


_ENGINES: Mapping[Engine, Callable[[Task, Mapping[int, range], int], Iterator[tuple[int, bytes]]]] = {
    "local": _local,
    "ray": _ray,
}
