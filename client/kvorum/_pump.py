"""Sockets and clock for a dispatcher: the asyncio shell of the client.

Each READY or OPENING link has one task that reads and one that writes. A caller's coroutine does
no more than queue its call and wait for a future; one callback at the end of the loop pass sends
what the pass has queued, so that concurrent calls share a frame. One timer serves all calls.

A pump belongs to the event loop it was made in. Bounds: opening a stream takes at most
OPENING_SECONDS, closing a client about CLOSING_SECONDS, and a link with OUTBOX_BYTES_MAX
unwritten gets nothing more until its node reads: calls then wait in the dispatcher, where their
deadlines find them.

The hello that opens a stream names no cluster, although it could: the node's answer does, and is
checked before the first request leaves, so that one place decides what a wrong cluster means for
the caller.
"""

import asyncio
import contextlib
from collections import deque

from google.protobuf.message import DecodeError

from kvorum._call import CommandCall, QueryCall
from kvorum._channel import Stream, StreamBroken
from kvorum._dispatch import Dispatcher, ProtocolViolation
from kvorum._errors import InvalidRequest, KvorumError
from kvorum._link import Link, LinkState
from kvorum._results import SESSION_CLOSE
from kvorum_proto.command_pb2 import CommandBatch
from kvorum_proto.kv_pb2 import ClientFrame, ClientHello, ServerFrame

WIRE_VERSION = 1
OPENING_SECONDS = 2.0
CLOSING_SECONDS = 0.5
OUTBOX_BYTES_MAX = 4 << 20


class Outbox:
    """Frames on their way to one stream. A link with too many unwritten bytes is *congested*."""

    __slots__ = ("_frames", "_link", "_size", "_wanted")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._wanted: asyncio.Future[None] | None = None
        link.congested = False

    def put(self, frame: bytes) -> None:
        """Queues a frame."""
        self._frames.append(frame)
        self._size += len(frame)
        self._link.congested = self._size > OUTBOX_BYTES_MAX
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def get(self) -> bytes:
        """The next frame; waits for one."""
        while not self._frames:
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        frame = self._frames.popleft()
        self._size -= len(frame)
        return frame

    def relieved(self) -> bool:
        """Whether the link was congested and is no longer."""
        if self._link.congested and self._size <= OUTBOX_BYTES_MAX:
            self._link.congested = False
            return True
        return False


class Pump:
    """Drives a dispatcher on the running event loop."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.loop = asyncio.get_running_loop()
        self._dispatcher = dispatcher
        self._outboxes: dict[Link, Outbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # --- What the client asks ---

    def submit(self, call: CommandCall | QueryCall) -> None:
        """Queues a call and sees to it that it is sent at the end of this loop pass.

        Raises RuntimeError on another event loop. Asking which loop runs takes a system call, so
        that is looked at once a pass; for the rest asyncio refuses the future of another loop.
        """
        if not self._flush_due and asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this client belongs to another event loop; make one for each loop")
        self._dispatcher.submit(call)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Something may have become sendable: look at the end of this loop pass."""
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)

    async def close(self, error: KvorumError) -> None:
        """Settles every call with an error, says goodbye to the cluster and ends all streams."""
        self._dispatcher.abandon(error)
        await self._close_sessions()
        self._dispatcher.abandon(error)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close_sessions(self) -> None:
        """Best effort: a session that is not closed expires by itself."""
        farewells = []
        deadline = self.loop.time() + CLOSING_SECONDS
        for route, session in self._dispatcher.open_sessions():
            if route.target is None or route.target.state is not LinkState.READY:
                continue
            batch = CommandBatch()
            batch.submissions.add().session_close.session = session.identifier
            farewell: asyncio.Future[None] = self.loop.create_future()
            call = CommandCall(route, batch, SESSION_CLOSE, farewell, deadline, CLOSING_SECONDS)
            call.encode_alone(repeatable=True)
            self.submit(call)
            farewells.append(farewell)
        if farewells:
            await asyncio.wait(farewells, timeout=CLOSING_SECONDS)
        for farewell in farewells:
            if not farewell.cancel():
                farewell.exception()

    # --- The loop ---

    def _flush(self) -> None:
        """Sends everything that may leave, dials whom the dispatcher wants, sets the timer."""
        self._flush_due = False
        dispatcher = self._dispatcher
        for link, frame in dispatcher.flush(self.loop.time()):
            self._outboxes[link].put(frame)
        for link in dispatcher.links_to_open():
            task = self.loop.create_task(self._serve(link), name=f"kvorum {link.address}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_timer()

    def _set_timer(self) -> None:
        wake = self._dispatcher.wake_at()
        if self._timer is not None:
            if wake is not None and self._timer_at <= wake:
                return
            self._timer.cancel()
            self._timer = None
        if wake is not None:
            self._timer = self.loop.call_at(wake, self._wake)
            self._timer_at = wake

    def _wake(self) -> None:
        self._timer = None
        self._dispatcher.tick(self.loop.time())
        self._flush()

    # --- One link ---

    async def _serve(self, link: Link) -> None:
        """Opens a stream and lives with it until it breaks; always reports back."""
        reason = "the client gave up the stream"
        stream = Stream(link.address)
        writer: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                hello = ClientHello(wire_version=WIRE_VERSION)
                await stream.write(ClientFrame(hello=hello).SerializeToString())
                first = ServerFrame.FromString(await stream.read())
            if not first.HasField("hello"):
                raise ProtocolViolation("did not begin with a hello")
            reason = self._dispatcher.opened(link, first.hello, self.loop.time())
            if reason:
                return
            outbox = self._outboxes[link] = Outbox(link)
            writer = self.loop.create_task(self._write(stream, outbox))
            await self._read(stream, link)
        except StreamBroken as broken:
            reason = str(broken)
        except TimeoutError:
            reason = f"did not say hello within {OPENING_SECONDS:g} s"
        except (DecodeError, ProtocolViolation, InvalidRequest) as violation:
            reason = f"does not speak this client's protocol: {violation}"
        finally:
            if link.state in (LinkState.OPENING, LinkState.READY):
                self._dispatcher.broken(link, reason, self.loop.time())
            self.flush_soon()
            if writer is not None:
                writer.cancel()
            await stream.close()

    async def _read(self, stream: Stream, link: Link) -> None:
        """Hands frames to the dispatcher until the stream breaks."""
        self.flush_soon()
        while True:
            frame = ServerFrame.FromString(await stream.read())
            self._dispatcher.received(link, frame, self.loop.time())
            self.flush_soon()

    async def _write(self, stream: Stream, outbox: Outbox) -> None:
        """Writes frames until the stream breaks; the reader then says why."""
        with contextlib.suppress(StreamBroken):
            while True:
                await stream.write(await outbox.get())
                if outbox.relieved():
                    self.flush_soon()
