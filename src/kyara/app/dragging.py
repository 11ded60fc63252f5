"""Dragging points in the browser: a few steps at a time, as a frame of an animation."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from kyara.app.make import Maker
from kyara.files.pictures import encode_webp, to_uint8
from kyara.generation.drag import Drag, Point
from kyara.generation.shots import Shot, angle_of
from kyara.generation.variations import styled, styles_of

SESSIONS = 4  # drags kept in memory: one for each open tab is enough
FRAME = 0.12  # seconds of steps between two pictures
STEPS = 300  # after which a drag ends, wherever its points are


class Dragging:
    """The drags in progress. Every method runs on the painter's thread."""

    def __init__(self, maker: Maker) -> None:
        self.maker, self.painter = maker, maker.painter
        self._drags: OrderedDict[int, tuple[int, Drag, dict[str, str], list[int]]] = OrderedDict()
        self._numbers = itertools.count(1)

    def start(self, number: int, handles: Sequence[Point], targets: Sequence[Point]) -> dict[str, Any]:
        """Starts to move points of a picture. ValueError for impossible points."""
        item = self.maker.collection.item(number)
        loaded = self.maker.loaded(item)
        if loaded.styled is None:
            raise ValueError(f"{item.model}: has no styles, so its points cannot be dragged")
        if angle_of(item.shot):
            raise ValueError("the head of this picture is turned: drag the picture that it was made from, then turn it")
        ws = styles_of(item.shot, loaded.styled, item.truncation).clone()
        drag, session = Drag(loaded.styled, ws, handles, targets), next(self._numbers)
        self._drags[session] = number, drag, item.shot["labels"], [0]
        while len(self._drags) > SESSIONS:
            self._drags.popitem(last=False)
        return {"session": session}

    def step(self, session: int) -> tuple[bytes, dict[str, Any]]:
        """The next frame: a WebP, and where the points are."""
        _, drag, _, taken = self._drag(session)
        until = time.monotonic() + FRAME
        while True:
            drag.step()
            taken[0] += 1
            if drag.done or taken[0] >= STEPS or time.monotonic() >= until:
                break
        picture = to_uint8(drag.picture[None])[0]
        about = {"points": drag.points.tolist(), "distance": round(drag.distance, 2), "steps": taken[0]}
        return encode_webp(picture), about | {"done": drag.done or taken[0] >= STEPS}

    def finish(self, session: int) -> tuple[int, Shot]:
        """Ends a drag: the number of its picture, and the shot where it is now."""
        number, drag, labels, _ = self._drag(session)
        del self._drags[session]
        return number, styled(drag.ws, labels)

    def _drag(self, session: int) -> tuple[int, Drag, dict[str, str], list[int]]:
        if session not in self._drags:
            raise ValueError("this drag has ended; set the points again")
        return self._drags[session]
