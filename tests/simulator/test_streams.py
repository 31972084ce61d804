"""Streams over the simulated network: once, in order, or broken."""

import random

from tests.simulator.network import Network
from tests.simulator.scheduler import MILLISECOND, SECOND, Scheduler
from tests.simulator.streams import PATIENCE, Stream, StreamFrame

LEFT, RIGHT = 1, 2


class Pair:
    """Two ends of one stream, and what each of them got."""

    def __init__(
        self, *, loss: float = 0.0, duplication: float = 0.0, reordering: float = 0.0
    ) -> None:
        self.scheduler = Scheduler()
        self.network: Network[StreamFrame] = Network(
            self.scheduler,
            random.Random(1),
            lambda source, target, frame: self.ends[target].receive(frame),
            delay_min=10,
            delay_mean=MILLISECOND,
            loss=loss,
            duplication=duplication,
            reordering=reordering,
        )
        self.got: dict[int, list[bytes]] = {LEFT: [], RIGHT: []}
        self.reasons: dict[int, list[str]] = {LEFT: [], RIGHT: []}
        self.ends = {LEFT: self.end(LEFT, RIGHT), RIGHT: self.end(RIGHT, LEFT)}

    def end(self, here: int, there: int) -> Stream:
        """One end."""
        return Stream(
            number=7,
            scheduler=self.scheduler,
            transmit=lambda frame: self.network.send(here, there, frame),
            deliver=self.got[here].append,
            broken=self.reasons[here].append,
        )

    def run(self, duration: int) -> None:
        """Lets time pass."""
        self.scheduler.run(until=self.scheduler.now + duration)


def test_whatever_the_network_does_frames_arrive_once_and_in_order() -> None:
    pair = Pair(loss=0.3, duplication=0.3, reordering=0.3)
    frames = [b"%d" % number for number in range(50)]
    for frame in frames:
        pair.ends[LEFT].send(frame)
        pair.ends[RIGHT].send(frame)
        pair.run(2 * MILLISECOND)
    pair.run(2 * SECOND)
    assert pair.got == {LEFT: frames, RIGHT: frames}
    assert pair.reasons == {LEFT: [], RIGHT: []}


def test_a_short_partition_delays_and_a_long_one_breaks() -> None:
    for duration, stands in ((PATIENCE // 2, True), (2 * PATIENCE, False)):
        pair = Pair()
        pair.network.split((LEFT,), (RIGHT,))
        pair.ends[LEFT].send(b"x")
        pair.run(duration)
        pair.network.heal()
        pair.run(SECOND)
        assert pair.ends[LEFT].stands is stands
        assert pair.got[RIGHT] == ([b"x"] if stands else [])
        assert pair.reasons[LEFT] == ([] if stands else ["nothing is confirmed any more"])


def test_an_end_that_closes_tells_the_other() -> None:
    pair = Pair()
    pair.ends[LEFT].close()
    pair.run(SECOND)
    assert pair.reasons == {LEFT: [], RIGHT: ["the other side does not know the stream"]}


def test_an_empty_frame_is_confirmed_and_delivers_nothing() -> None:
    pair = Pair()
    pair.ends[LEFT].send(b"")
    pair.run(2 * PATIENCE)
    assert pair.ends[LEFT].stands
    assert pair.got[RIGHT] == []
