"""Decoding in parallel: worker processes for a whole Dataset, threads that read ahead."""

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

from kyara.files.archive import Files
from kyara.files.errors import DatasetError, PictureError

T = TypeVar("T")


CHUNK = 8
"""Pictures that a worker process is given at once."""


def work(
    files: Files, function: Callable[[bytes, str], T], names: Iterable[str], workers: int
) -> Generator[T | PictureError, None, None]:
    """What `Dataset.map` does."""
    if workers < 1:
        for name in names:
            yield _apply(files, function, name)
        return
    remaining = iter(names)
    chunks = iter(lambda: list(itertools.islice(remaining, CHUNK)), [])
    pool = _pool(files, workers)
    ahead: deque[Future[list[T | PictureError]]] = deque()
    try:
        for chunk in chunks:
            with _without_main():
                ahead.append(pool.submit(_work, function, chunk))
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    except BrokenProcessPool as error:
        hint = "memory may have run out, or a picture be harmful; `--workers 0` decodes without"
        raise DatasetError(f"a process that decodes pictures died; {hint}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _apply(files: Files, function: Callable[[bytes, str], T], name: str) -> T | PictureError:
    try:
        return function(files.read(name), name)
    except PictureError as error:
        return error


_files: Files
"""In a worker process: where to read from."""


def _pool(files: Files, workers: int) -> ProcessPoolExecutor:
    # A fork of this process would copy the locks of torch's threads in whatever state they are.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["kyara.files.dataset"])
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(files,))


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """A process started in here does not import the user's script, which would start itself all over again
    unless it is written for that."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker(files: Files) -> None:
    global _files
    _files = files
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its workers: they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(function: Callable[[bytes, str], T], names: Sequence[str]) -> list[T | PictureError]:
    return [_apply(_files, function, name) for name in names]


def ahead(
    function: Callable[[int], T], items: Iterable[int], workers: int, depth: int
) -> Iterator[tuple[int, T | Exception]]:
    """`function` of each item in order, computed by threads up to `depth` items ahead; Pillow and zlib let go
    of the interpreter's lock. An item that fails yields its exception: one odd file never stops a run."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[int, Any]] = deque()
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                if len(pending) > depth:
                    yield _outcome(*pending.popleft())
            while pending:
                yield _outcome(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _outcome(item: int, future: Future[Any]) -> tuple[int, Any]:
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return item, error or future.result()
