"""A network that does what networks do: delays, loses, repeats, reorders, and splits.

Endpoints are numbers; a frame is any value. Links are directed, so that a partition can be
one-way. A link keeps the order of its frames, as a stream would, unless the seed lets a frame
overtake others. Worse than gRPC, where a lost or reordered frame means a broken stream: the
protocol must not need it.

A cut link loses what is on its way as well as what is sent later. A *clogged* link stands and
delivers nothing, until it is unclogged and everything comes at once. ``break_stream`` loses what is
on its way and nothing more. Who is connected is what ``connected`` says; noticing it is the
business of the nodes' connections (``connections.py``).

Frames that the wire damages are handed to ``damaged`` instead of ``deliver``: what damage means is
for those to say who know what a frame is. Where nobody says it they are lost.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.simulator.scheduler import MILLISECOND, Action, Scheduler

Frame = TypeVar("Frame")
Endpoint = int
Link = tuple[Endpoint, Endpoint]
"""From the first to the second."""

CALM_DELAY_MEAN = MILLISECOND


@dataclass(slots=True)
class Statistics:
    """What became of the frames, for the summary of a run."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    cut: int = 0
    clogged: int = 0
    damaged: int = 0


class Network(Generic[Frame]):
    """Carries frames between endpoints; ``deliver(source, target, frame)`` takes what arrives."""

    __slots__ = (
        "_clogged",
        "_cut",
        "_damaged",
        "_deliver",
        "_epochs",
        "_generator",
        "_last_arrival",
        "_on_the_way",
        "_scheduler",
        "corruption",
        "delay_mean",
        "delay_min",
        "duplication",
        "loss",
        "reordering",
        "statistics",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        generator: random.Random,
        deliver: Callable[[Endpoint, Endpoint, Frame], None],
        *,
        delay_min: int,
        delay_mean: int,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        corruption: float = 0.0,
        damaged: Callable[[Endpoint, Endpoint, Frame], None] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._generator = generator
        self._deliver = deliver
        self._damaged = damaged or _drop
        self.delay_min = delay_min
        self.delay_mean = delay_mean
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.corruption = corruption
        self._cut: set[Link] = set()
        # What has arrived at the end of a clogged link.
        self._clogged: dict[Link, list[Action]] = {}
        # How often a link was cut: a frame sent before a cut must not arrive after it.
        self._epochs: dict[Link, int] = {}
        self._last_arrival: dict[Link, int] = {}
        self._on_the_way: dict[Link, int] = {}
        self.statistics = Statistics()

    def send(
        self, source: Endpoint, target: Endpoint, frame: Frame, *, repeatable: bool = True
    ) -> None:
        """Puts a frame on its way. ``repeatable`` False: this frame is never duplicated."""
        self.statistics.sent += 1
        link = (source, target)
        if link in self._cut:
            self.statistics.cut += 1
            return
        if self.loss and self._generator.random() < self.loss:
            self.statistics.lost += 1
            return
        self._schedule(link, frame)
        if self.duplication and repeatable and self._generator.random() < self.duplication:
            self.statistics.duplicated += 1
            self._schedule(link, frame)

    def _schedule(self, link: Link, frame: Frame) -> None:
        delay = self.delay_min + int(self._generator.expovariate(1 / self.delay_mean))
        arrival = self._scheduler.now + delay
        if not (self.reordering and self._generator.random() < self.reordering):
            arrival = max(arrival, self._last_arrival.get(link, 0))
            self._last_arrival[link] = arrival
        deliver = self._deliver
        if self.corruption and self._generator.random() < self.corruption:
            self.statistics.damaged += 1
            deliver = self._damaged
        epoch = self._epochs.get(link, 0)
        self._on_the_way[link] = self._on_the_way.get(link, 0) + 1

        def arrive() -> None:
            if self._epochs.get(link, 0) != epoch:
                self.statistics.cut += 1
                return
            waiting = self._clogged.get(link)
            if waiting is not None:
                self.statistics.clogged += 1
                waiting.append(arrive)
                return
            self._on_the_way[link] -= 1
            self.statistics.delivered += 1
            deliver(*link, frame)

        self._scheduler.after(arrival - self._scheduler.now, arrive)

    def on_the_way(self, source: Endpoint, target: Endpoint) -> int:
        """How many frames have left the source and not reached the target yet."""
        return self._on_the_way.get((source, target), 0)

    def cut(self, source: Endpoint, target: Endpoint) -> None:
        """Nothing gets from source to target any more, what is on its way included."""
        if (source, target) not in self._cut:
            self._cut.add((source, target))
            self._lose_frames((source, target))

    def _lose_frames(self, link: Link) -> None:
        self._epochs[link] = self._epochs.get(link, 0) + 1
        self._last_arrival.pop(link, None)
        self._on_the_way.pop(link, None)

    def break_stream(self, one: Endpoint, other: Endpoint) -> None:
        """What is on its way between the two is lost; what is sent from now on passes."""
        self._lose_frames((one, other))
        self._lose_frames((other, one))

    def clog(self, source: Endpoint, target: Endpoint) -> None:
        """Frames from source to target go on leaving and stop arriving."""
        self._clogged.setdefault((source, target), [])

    def unclog(self, source: Endpoint, target: Endpoint) -> None:
        """Everything that the clogged link held back arrives at once, then the link is as usual."""
        for arrive in self._clogged.pop((source, target), ()):
            self._scheduler.after(0, arrive)

    def is_clogged(self, source: Endpoint, target: Endpoint) -> bool:
        """Whether frames from source to target are held back."""
        return (source, target) in self._clogged

    def split(self, one: Iterable[Endpoint], other: Iterable[Endpoint]) -> None:
        """Cuts all links between two sides, both ways."""
        others = list(other)
        for left in one:
            for right in others:
                self.cut(left, right)
                self.cut(right, left)

    def mend(self, source: Endpoint, target: Endpoint) -> None:
        """Lets frames pass from source to target again."""
        self._cut.discard((source, target))

    def heal(self) -> None:
        """Mends every cut link; clogs, losses, duplicates and delays stay."""
        self._cut.clear()

    def mend_among(self, endpoints: Iterable[Endpoint]) -> None:
        """Mends and unclogs the links between these endpoints only."""
        chosen = set(endpoints)
        self._cut = {link for link in self._cut if not chosen.issuperset(link)}
        for link in [link for link in self._clogged if chosen.issuperset(link)]:
            self.unclog(*link)

    def calm(self) -> None:
        """Mends every link and switches every fault off: only the delays of a good network remain.

        A slow network would be no fair test of liveness: no protocol makes progress when a round
        trip takes longer than its timeouts.
        """
        self.heal()
        for link in list(self._clogged):
            self.unclog(*link)
        self.be_good()

    def be_good(self) -> None:
        """Short delays and no random faults any more; links stay as they are."""
        self.delay_mean = min(self.delay_mean, CALM_DELAY_MEAN)
        self.loss = self.duplication = self.reordering = self.corruption = 0.0

    def connected(self, one: Endpoint, other: Endpoint) -> bool:
        """Whether a stream between the two would stand: frames pass both ways."""
        return (one, other) not in self._cut and (other, one) not in self._cut


def _drop(_: Endpoint, __: Endpoint, ___: object) -> None:
    """What happens to a damaged frame unless somebody looks at it: a checksum did not fit."""
