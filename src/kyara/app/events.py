"""Events for all open tabs, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

WAITING = 1000  # events that a tab may not have read yet; a tab that reads none, such as a suspended one, is closed
HEARTBEAT = 15.0  # seconds between comments, by which the server notices a closed tab


def message(kind: str, **content: Any) -> str:
    """A server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(content)}\n\n"


class Events:
    """Sends every event to every tab. `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._tabs: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def tabs(self) -> int:
        """Number of open tabs."""
        return len(self._tabs)

    def start(self) -> None:
        """Must be called in the event loop of the server before anything is published."""
        self._loop = asyncio.get_running_loop()

    def publish(self, kind: str, **content: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, message(kind, **content))

    def close(self) -> None:
        """Ends the streams of all tabs, so that the server can stop."""
        self._send(None)

    def _send(self, text: str | None) -> None:
        for queue in [*self._tabs]:
            if queue.full():
                self._tabs.discard(queue)
                queue.get_nowait()
                text = None
            queue.put_nowait(text)

    async def stream(self, problem: str = "") -> AsyncIterator[str]:
        """The events from now on, for one tab; `problem` is what it must know at first."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(WAITING)
        self._tabs.add(queue)
        try:
            yield message("hello") + (message("problem", text=problem) if problem else "")
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), HEARTBEAT)
                except TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            self._tabs.discard(queue)
