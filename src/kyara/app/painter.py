"""The painter: one thread that keeps generators in memory and makes the pictures that the pages show.

What is requested last is made first, so that scrolling shows what is in view. Pictures are those of `kyara generate`,
to the bit: the same sampler, with the same batches."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from kyara import __version__
from kyara.app.project import Project
from kyara.app.versions import Versions
from kyara.curation.scoring import Scorer, load_scorer, score_pictures
from kyara.files.pictures import encode_png, quantise, to_uint8
from kyara.generation.character import UPSCALER
from kyara.generation.pipeline import Pipeline
from kyara.generation.recipe import Blend
from kyara.generation.sampler import load_generator
from kyara.generation.shots import Shot
from kyara.generation.styles import blend as blended
from kyara.generation.styles import load_styled
from kyara.generation.upscaling import Upscaling
from kyara.models.base import Generator, StyledGenerator

T = TypeVar("T")

GENERATORS = 3  # kept in memory
CACHE = 192 * 2**20  # bytes of encoded pictures kept in memory
QUIET = 0.3  # seconds without a request after which the painter is idle
ENDS = 10.0  # seconds that the thread has to end what it does
STOPPED = "kyara studio was stopped; start it again"
SCORER = "builtin:distortion"


@dataclass(frozen=True)
class Sheet:
    """What all pictures of a batch have in common."""

    model: str  # as the verbs take it
    truncation: float
    mirror: bool = False
    blend: Blend | None = None  # the model's parent, from which its coarse layers are
    large: bool = False  # whether the pictures are enlarged
    checkpoint: str = ""  # hash of the model's weights; "" takes those that it has now


@dataclass
class Loaded:
    """A generator in memory."""

    generator: Generator
    name: str  # the model, or the snapshot of it that was wanted
    blend: Blend | None  # with the parent or the snapshot of it
    hash: str
    stamp: float  # when its weights were written

    @property
    def styled(self) -> StyledGenerator | None:
        return self.generator if isinstance(self.generator, StyledGenerator) else None


@dataclass
class _Request:
    key: Hashable
    sheet: Sheet
    shot: Shot
    futures: list[Future[bytes]] = field(default_factory=list)


class Painter:
    """Runs networks on one thread. `idle`, which can be set, is called when nothing else is to be done; it returns
    whether it did something, and must not raise."""

    def __init__(self, project: Project, device: torch.device) -> None:
        self.project, self.device, self.versions = project, device, Versions(project)
        self.idle: Callable[[], bool] | None = None
        self._generators: OrderedDict[tuple[str, Blend | None], Loaded] = OrderedDict()
        self._scorer: Scorer | None = None
        self._upscaling: Upscaling | None = None
        self._cache: OrderedDict[Hashable, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._tasks: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._requests: OrderedDict[Hashable, _Request] = OrderedDict()
        self._awaited: set[Future[Any]] = set()  # results that somebody may wait for
        self._wake, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Runs a function on the painter's thread, before any waiting pictures, and returns its result."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        with self._wake:
            self._expect(future)
            self._tasks.append((function, future))
            self._wake.notify()
        return future.result()

    def png(self, sheet: Sheet, shot: Shot, key: Hashable) -> bytes:
        """The PNG of a shot with its recipe. `key` stands for it in the cache."""
        return self.start(sheet, shot, key).result()

    def start(self, sheet: Sheet, shot: Shot, key: Hashable) -> Future[bytes]:
        """The same without waiting."""
        future: Future[bytes] = Future()
        if (png := self._cached(key)) is not None:
            future.set_result(png)
            return future
        with self._wake:
            self._expect(future)
            request = self._requests.setdefault(key, _Request(key, sheet, shot))
            request.futures.append(future)
            self._requests.move_to_end(key)  # the newest request is served first
            self._wake.notify()
        return future

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Pictures that are started inside are computed together."""
        with self._wake:
            yield

    def load(self, model: str, blend: Blend | None = None, wanted: str = "") -> Loaded:
        """The generator of that name and that hash, or its blend with a parent; on the painter's thread only."""
        name = self.versions.find(model, wanted)
        stamp = self.versions.weights(name).stat().st_mtime
        found = self._generators.pop((name, blend), None)
        if found is None or found.stamp != stamp:
            found = self._load(name, blend, stamp)
        if wanted and found.hash != wanted:
            raise ValueError(f"{name}: was replaced while it was read; try again")
        self._generators[name, blend] = found
        while len(self._generators) > GENERATORS:
            self._generators.popitem(last=False)
        return found

    def _load(self, name: str, blend: Blend | None, stamp: float) -> Loaded:
        generator: Generator = load_generator(self.project.absolute(name), self.device)
        hash_ = generator.checkpoint.hash
        if blend is not None:
            if not isinstance(generator, StyledGenerator):
                raise ValueError(f"{name}: has no styles, so it cannot be blended with its parent")
            blend = dataclasses.replace(blend, parent=self.versions.find(blend.parent, blend.checkpoint))
            parent = load_styled(self.project.absolute(blend.parent), self.device)
            generator = blended(parent, generator, blend.position, blend.width)
        return Loaded(generator.requires_grad_(False), name, blend, hash_, stamp)

    def pictures(self, sheet: Sheet, shots: list[Shot]) -> Tensor:
        """Pictures (N, 3, H, W) of shots with the same keys; on the painter's thread only."""
        return self._pipeline(sheet).pictures(shots)

    def at_once(self, sheet: Sheet) -> int:
        """The number of pictures that the generator of a sheet computes at once, however few are wanted; on the
        painter's thread only."""
        return self._pipeline(sheet).at_once

    @property
    def upscaling(self) -> Upscaling:
        """On the painter's thread only."""
        if self._upscaling is None:
            self._upscaling = Upscaling(UPSCALER, self.device)
        return self._upscaling

    def _pipeline(self, sheet: Sheet) -> Pipeline:
        return Pipeline(self._loaded(sheet).generator, sheet.truncation, sheet.mirror)

    def _loaded(self, sheet: Sheet) -> Loaded:
        return self.load(sheet.model, sheet.blend, sheet.checkpoint)

    def recipe(self, sheet: Sheet, shot: Shot) -> dict[str, Any]:
        """The recipe of a shot, as `kyara generate` writes it."""
        loaded = self._loaded(sheet)
        recipe: dict[str, Any] = {"kyara": __version__, "model": loaded.name, "checkpoint": loaded.hash}
        recipe |= {
            "computed": self._pipeline(sheet).about(),
            "truncation": sheet.truncation,
            "mirror": sheet.mirror,
            "labels": {},
        }
        recipe |= {"blend": dataclasses.asdict(loaded.blend)} if loaded.blend else {}
        recipe |= self.upscaling.recipe if sheet.large else {}
        return recipe | shot

    def scores(self, sheet: Sheet, shots: list[Shot]) -> list[float]:
        """The scores of shots with the same keys, as the rank of `kyara generate`; on the painter's thread only."""
        if self._scorer is None:
            self._scorer = load_scorer(SCORER, self.device)
        return score_pictures([*to_uint8(self._pipeline(sheet).straight(shots))], self._scorer)

    def busy(self) -> bool:
        """Whether pictures or calls are waiting."""
        return bool(self._tasks or self._requests)

    def close(self) -> None:
        """Ends the thread. Whoever waits for a result gets an error: a server with such a thread would never end."""
        with self._wake:
            self._closed = True
            waiting = [future for _, future in self._tasks]
            waiting += [future for request in self._requests.values() for future in request.futures]
            self._tasks.clear()
            self._requests.clear()
            self._wake.notify()
        _fail(waiting)
        self._thread.join(ENDS)
        _fail([*self._awaited])  # what the thread has not ended

    def _expect(self, future: Future[Any]) -> None:
        """Notes that somebody will wait for a result. ValueError if there will be none."""
        if self._closed:
            raise ValueError(STOPPED)
        self._awaited.add(future)
        future.add_done_callback(self._awaited.discard)

    def _cached(self, key: Hashable) -> bytes | None:
        with self._wake:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _keep(self, key: Hashable, png: bytes) -> None:
        with self._wake:
            self._cached_bytes += len(png) - len(self._cache.pop(key, b""))
            self._cache[key] = png
            while self._cached_bytes > CACHE:
                self._cached_bytes -= len(self._cache.popitem(last=False)[1])

    def _work(self) -> None:
        rest = QUIET
        while True:
            with self._wake:
                if not self.busy() and not self._closed and rest:
                    self._wake.wait(rest)
                if self._closed:
                    return
                task = self._tasks.pop(0) if self._tasks else None
                newest = None if task or not self._requests else next(reversed(self._requests.values()))
            if task:
                _answer(*task)
            elif newest:
                self._paint(self._batch(self._most(newest.sheet)))
            rest = QUIET if task or newest else 0.0 if self.idle and self.idle() else 1.0

    def _most(self, sheet: Sheet) -> int:
        try:
            return self.at_once(sheet)
        except Exception:  # raised again when its pictures are made
            return 1

    def _batch(self, most: int) -> list[_Request]:
        """The newest request, and others that can be made with it. None after `close`."""
        batch: list[_Request] = []
        with self._wake:
            for one in reversed(self._requests.values()):
                if not batch or (one.sheet == batch[0].sheet and one.shot.keys() == batch[0].shot.keys()):
                    batch.append(one)
                if len(batch) == most:
                    break
            for one in batch:
                del self._requests[one.key]
        return batch

    def _paint(self, batch: list[_Request]) -> None:
        if not batch:
            return
        sheet = batch[0].sheet
        try:
            pictures = quantise(self.pictures(sheet, [one.shot for one in batch]))
            drawn = (self.upscaling(pictures) if sheet.large else pictures).cpu().numpy()
            pngs = [encode_png(p, self.recipe(sheet, one.shot)) for p, one in zip(drawn, batch, strict=True)]
        except Exception as error:  # raised where the result is awaited; this thread must not end
            if len(batch) > 1:  # the others may be all right
                for one in batch:
                    self._paint([one])
                return
            for future in batch[0].futures:
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(error)
            return
        for one, png in zip(batch, pngs, strict=True):
            self._keep(one.key, png)
            for future in one.futures:
                with contextlib.suppress(InvalidStateError):  # failed by `close`
                    future.set_result(png)


def _fail(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        with contextlib.suppress(InvalidStateError):  # it has ended meanwhile
            future.set_exception(ValueError(STOPPED))


def _answer(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        result = function()
    except BaseException as error:  # likewise; without a result, the caller would wait forever
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
        return
    with contextlib.suppress(InvalidStateError):
        future.set_result(result)
