"""Streams, and their writing half: what waits goes out as one frame when the last one has gone.

Nobody waits for a write. Whoever has something to send puts it here and goes on; one task per
stream takes *everything* that has gathered and writes it. So load makes frames bigger, not more.
What may gather is bounded by the one who puts.

A *nudge* makes the writer ask ``encode`` although nothing may wait: whoever encodes has something
to say by itself. However many come while a frame is being written, they are one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")


class Stream(Protocol):
    """A gRPC stream of frames, from either end: what ``grpc.aio`` calls a call and a context."""

    def read(self) -> Awaitable[object]:
        """The next frame as bytes; anything else means that the stream has ended."""
        ...

    def write(self, frame: bytes, /) -> Awaitable[None]:
        """Hands a frame to the transport."""
        ...


class Dialled(Stream, Protocol):
    """The dialling end of a stream."""

    def done_writing(self) -> Awaitable[None]:
        """Nothing more is written; the other side can still answer."""
        ...


class Pipe(Generic[Item]):
    """A queue of items, drained as a whole by one writer."""

    __slots__ = ("_closed", "_items", "_nudged", "_wake", "waiting_bytes")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        self._nudged = False
        self.waiting_bytes = 0

    def put(self, item: Item, size: int) -> None:
        """Queues an item of about ``size`` bytes; dropped when the pipe is closed."""
        if self._closed:
            return
        self._items.append(item)
        self.waiting_bytes += size
        self._wake_writer()

    def nudge(self) -> None:
        """Lets :meth:`run` encode what waits, be it nothing; ignored when the pipe is closed."""
        if self._closed:
            return
        self._nudged = True
        self._wake_writer()

    def close(self) -> None:
        """Ends :meth:`run` once what is queued has gone; takes nothing more."""
        self._closed = True
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self) -> list[Item]:
        """Everything that waits, as soon as something does; empty only once the pipe is nudged or
        closed.
        """
        while not (self._items or self._nudged or self._closed):
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
            self._wake = None
        items, self._items = self._items, []
        self.waiting_bytes = 0
        return items

    async def run(
        self,
        encode: Callable[[list[Item]], list[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        written: Callable[[], None] | None = None,
    ) -> None:
        """Writes until closed: ``encode`` turns all that waits into frames; ``written`` is called
        when the transport has taken them.
        """
        while (items := await self.take()) or self._nudged:
            self._nudged = False
            for frame in encode(items):
                await write(frame)
            if written is not None:
                written()
