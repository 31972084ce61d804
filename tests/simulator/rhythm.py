"""When things go wrong: each kind of fault has a rhythm of its own, and none waits for another.

The waits are exponential, so that faults come in bursts and in pairs as well as alone. ``stop``
ends all rhythms at once; what they have broken stays broken until somebody repairs it. All
randomness of a nemesis is drawn here, from one source, which makes a run a function of its seed.
"""

import random
from collections.abc import Callable

from tests.simulator.scheduler import Action, Scheduler


class Rhythm:
    """The pulse of a nemesis.

    >>> scheduler = Scheduler()
    >>> rhythm = Rhythm(scheduler, random.Random(1))
    >>> struck = []
    >>> rhythm.every(1000, lambda: struck.append(scheduler.now))
    >>> scheduler.run(until=10_000)
    >>> 5 < len(struck) < 20
    True
    >>> rhythm.stop(); before = len(struck)
    >>> scheduler.run(until=20_000)
    >>> len(struck) == before
    True
    """

    __slots__ = ("_scheduler", "generator", "over")

    def __init__(self, scheduler: Scheduler, generator: random.Random) -> None:
        self._scheduler = scheduler
        self.generator = generator
        self.over = False

    def every(self, mean: int, fault: Callable[[], None]) -> None:
        """Strikes again and again, ``mean`` microseconds apart on average; 0: never."""
        if not mean:
            return

        def strike() -> None:
            if not self.over:
                fault()
                self._scheduler.after(self.wait(mean), strike)

        self._scheduler.after(self.wait(mean), strike)

    def later(self, mean: int, action: Action) -> None:
        """The end of a fault: happens after about so long, unless the nemesis is over by then."""

        def end() -> None:
            if not self.over:
                action()

        self._scheduler.after(self.wait(mean), end)

    def stop(self) -> None:
        """No new faults, and no end of the old ones."""
        self.over = True

    def wait(self, mean: int) -> int:
        """A time to wait, drawn."""
        return 1 + int(self.generator.expovariate(1 / mean))

    def chance(self, probability: float) -> bool:
        """Whether something happens that does so with this probability."""
        return self.generator.random() < probability
