"""Parallel decoding: worker processes for whole Datasets, and prefetching threads."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tqdm import tqdm

from kyara.files.archive import Files
from kyara.files.errors import DatasetError, PictureError

S = TypeVar("S")
T = TypeVar("T")

CHUNK = 8  # Number of pictures per task of a worker process, or at most of a thread


def processors() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_map(
    files: Files, function: Callable[..., T], calls: Iterable[tuple[Any, ...]], workers: int
) -> Generator[T | PictureError, None, None]:
    """Implementation of `Dataset.map`; `calls` are (name of a picture in `files`, further arguments)."""
    if workers < 1:
        for call in calls:
            yield _apply(files, function, call)
        return
    remaining = iter(calls)
    chunks = iter(lambda: list(itertools.islice(remaining, CHUNK)), [])
    pool = _pool(files, workers)
    pending: deque[Future[list[T | PictureError]]] = deque()
    try:
        for chunk in chunks:
            with _without_main():
                pending.append(pool.submit(_work, function, chunk))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        hint = "it may have run out of memory, or a picture crashed it; `--workers 0` decodes in this process"
        raise DatasetError(f"a worker process died: {hint}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _apply(files: Files, function: Callable[..., T], call: tuple[Any, ...]) -> T | PictureError:
    name, *arguments = call
    try:
        return function(files.read(name), name, *arguments)
    except PictureError as error:
        return error


_files: Files  # In a worker process: the files of the Dataset


def _pool(files: Files, workers: int) -> ProcessPoolExecutor:
    # Forking a process with torch's threads may copy locked locks and deadlock.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["kyara.files.dataset"])
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(files,))


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes started in this context do not import the user's script, which would run again without a main guard."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker(files: Files) -> None:
    global _files
    _files = files
    for name in ("SIGINT", "SIGBREAK"):  # the parent handles Ctrl-C, and on Windows the studio's Cancel
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exits when the parent ends: a killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[T | PictureError]:
    return [_apply(_files, function, call) for call in calls]


def thread_map(
    function: Callable[[S], T], items: Iterable[S], workers: int, depth: int, chunk: int = 1
) -> Iterator[tuple[S, T | Exception]]:
    """Yields (item, result) in order, prefetched by threads up to `depth` items ahead; Pillow and zlib release the GIL.
    If the function raises, the exception is yielded as the result. A thread gets `chunk` items at a time: more are
    faster if an item takes less than a millisecond."""

    def guarded(item: S) -> tuple[S, T | Exception]:
        try:
            return item, function(item)
        except Exception as error:
            return item, error

    def work(part: list[S]) -> list[tuple[S, T | Exception]]:
        return [guarded(item) for item in part]

    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[list[tuple[S, T | Exception]]]] = deque()
        try:
            while part := list(itertools.islice(remaining, chunk)):
                pending.append(pool.submit(work, part))
                if len(pending) * chunk > depth:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def lookahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Yields the items, each after the next `count` have been taken from `items`."""
    taken: deque[T] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > count:
            yield taken.popleft()
    yield from taken


def batches(
    function: Callable[[int], T], items: Sequence[int], *, batch: int, workers: int, failed: dict[int, Exception]
) -> Iterator[tuple[list[int], list[T]]]:
    """Yields (items, results) in batches of size `batch`, with a progress bar. Items whose function raises go to
    `failed`. At most two batches are prefetched, so memory does not grow with the number of items."""
    numbers: list[int] = []
    results: list[T] = []
    made = thread_map(function, items, workers, 2 * batch, min(CHUNK, -(-batch // workers)))
    for item, result in tqdm(made, total=len(items), unit="picture", disable=None):
        if isinstance(result, Exception):
            failed[item] = result
            continue
        numbers.append(item)
        results.append(result)
        if len(results) == batch:
            yield numbers, results
            numbers, results = [], []
    if results:
        yield numbers, results
