"""A connection over a network that loses, repeats and reorders: what TCP and gRPC make of it.

The SDK talks over streams: frames arrive whole, once and in order, or the stream breaks. The
simulated network promises none of that, so both ends of a stream number their frames, confirm what
has arrived and repeat what was not confirmed; a stream that gets no confirmation for too long is
broken, as is one whose other end does not know it (any more). A short partition therefore only
delays, a long one breaks, a dead process refuses, and a dead machine is silent, as in real life.

Streams belong to a machine and not to its process: a paused process still confirms.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulator.scheduler import MILLISECOND, SECOND, Scheduler

REPEAT_AFTER = 40 * MILLISECOND
PATIENCE = 2 * SECOND


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """What travels for a stream. ``number`` 0: carries no data. All frames of the other direction
    up to ``received`` have arrived. ``reset``: there is no such stream here."""

    stream: int
    number: int
    received: int
    data: bytes = b""
    reset: bool = False


@dataclass(slots=True)
class Stream:
    """One end. ``deliver`` takes what arrives, in order; ``broken`` is called once, or never."""

    number: int
    scheduler: Scheduler
    transmit: Callable[[StreamFrame], None]
    deliver: Callable[[bytes], None]
    broken: Callable[[str], None]
    received: int = 0
    stands: bool = True
    _sent: int = 0
    _unconfirmed: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Number of a frame -> when it was sent first, and its data."""
    _early: dict[int, bytes] = field(default_factory=dict)
    _repeating: bool = False

    def send(self, data: bytes) -> None:
        """Puts a frame on its way. An empty one only asks whether the other side is there."""
        assert self.stands, "a broken stream carries nothing"
        self._sent += 1
        self._unconfirmed[self._sent] = (self.scheduler.now, data)
        self.transmit(StreamFrame(self.number, self._sent, self.received, data))
        self._repeat_later()

    def receive(self, frame: StreamFrame) -> None:
        """Takes in a frame of this stream."""
        if not self.stands:
            return
        if frame.reset:
            self._break("the other side does not know the stream")
            return
        for number in [number for number in self._unconfirmed if number <= frame.received]:
            del self._unconfirmed[number]
        if not frame.number:
            return
        if frame.number > self.received:
            self._early[frame.number] = frame.data
        arrived = []
        while self.received + 1 in self._early:
            self.received += 1
            arrived.append(self._early.pop(self.received))
        self.transmit(StreamFrame(self.number, 0, self.received))
        for data in arrived:
            if data and self.stands:
                self.deliver(data)

    def close(self) -> None:
        """Ends the stream from here; the other side is told, if the network lets it."""
        if self.stands:
            self.stands = False
            self.transmit(StreamFrame(self.number, 0, self.received, reset=True))

    def _break(self, reason: str) -> None:
        self.stands = False
        self.broken(reason)

    def _repeat_later(self) -> None:
        if not self._repeating:
            self._repeating = True
            self.scheduler.after(REPEAT_AFTER, self._repeat)

    def _repeat(self) -> None:
        self._repeating = False
        if not self.stands or not self._unconfirmed:
            return
        began, _ = next(iter(self._unconfirmed.values()))
        if self.scheduler.now - began > PATIENCE:
            self._break("nothing is confirmed any more")
            return
        for number, (_, data) in self._unconfirmed.items():
            self.transmit(StreamFrame(self.number, number, self.received, data))
        self._repeat_later()
