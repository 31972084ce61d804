"""A network that does what networks do: delays, loses, repeats, reorders, and splits.

Endpoints are numbers; a frame is any value. Links are directed, so that a partition can be
one-way. A link keeps the order of its frames, as a stream would, unless the seed lets a frame
overtake others. Worse than gRPC, where a lost or reordered frame means a broken stream: the
protocol must not need it.

A cut link loses what is on its way as well as what is sent later. Who is connected is what
``connected`` says; noticing it is the business of the nodes' connections (``cluster.py``).
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.simulator.scheduler import MILLISECOND, Scheduler

Frame = TypeVar("Frame")
Endpoint = int

CALM_DELAY_MEAN = MILLISECOND


@dataclass(slots=True)
class Statistics:
    """What became of the frames, for the summary of a run."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    cut: int = 0


class Network(Generic[Frame]):
    """Carries frames between endpoints; ``deliver(source, target, frame)`` takes what arrives."""

    __slots__ = (
        "_cut",
        "_deliver",
        "_epochs",
        "_generator",
        "_last_arrival",
        "_scheduler",
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
    ) -> None:
        self._scheduler = scheduler
        self._generator = generator
        self._deliver = deliver
        self.delay_min = delay_min
        self.delay_mean = delay_mean
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self._cut: set[tuple[Endpoint, Endpoint]] = set()
        # How often a link was cut: a frame sent before a cut must not arrive after it.
        self._epochs: dict[tuple[Endpoint, Endpoint], int] = {}
        self._last_arrival: dict[tuple[Endpoint, Endpoint], int] = {}
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

    def _schedule(self, link: tuple[Endpoint, Endpoint], frame: Frame) -> None:
        delay = self.delay_min + int(self._generator.expovariate(1 / self.delay_mean))
        arrival = self._scheduler.now + delay
        if not (self.reordering and self._generator.random() < self.reordering):
            arrival = max(arrival, self._last_arrival.get(link, 0))
            self._last_arrival[link] = arrival
        epoch = self._epochs.get(link, 0)

        def arrive() -> None:
            if self._epochs.get(link, 0) != epoch:
                self.statistics.cut += 1
                return
            self.statistics.delivered += 1
            self._deliver(*link, frame)

        self._scheduler.after(arrival - self._scheduler.now, arrive)

    def cut(self, source: Endpoint, target: Endpoint) -> None:
        """Nothing gets from source to target any more, what is on its way included."""
        if (source, target) not in self._cut:
            self._cut.add((source, target))
            self._epochs[source, target] = self._epochs.get((source, target), 0) + 1
            self._last_arrival.pop((source, target), None)

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
        """Mends every link; losses, duplicates and delays stay."""
        self._cut.clear()

    def calm(self) -> None:
        """Mends every link and switches every fault off: only the delays of a good network remain.

        A slow network would be no fair test of liveness: no protocol makes progress when a round
        trip takes longer than its timeouts.
        """
        self.heal()
        self.delay_mean = min(self.delay_mean, CALM_DELAY_MEAN)
        self.loss = self.duplication = self.reordering = 0.0

    def connected(self, one: Endpoint, other: Endpoint) -> bool:
        """Whether a stream between the two would stand: frames pass both ways."""
        return (one, other) not in self._cut and (other, one) not in self._cut
