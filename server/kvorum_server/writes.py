"""Writes that the shell has and has not confirmed, and what must wait for them.

The records of a turn become one numbered Write. The messages that promise what it makes durable,
and the actions that need it, stay here until the shell says ``Appended``: there is no other way
out for them. What makes no records of its own, an acknowledgement of entries written earlier, for
instance, waits with the newest write under way. Writes are confirmed in the order in which they
were made.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvorum_server.events import Write
from kvorum_server.outbox import Held, Outbox


@dataclass(frozen=True, slots=True)
class UnderWay:
    """One write, what it holds back, and what may be done once it is durable."""

    number: int
    held: list[Held]
    then: list[Callable[[], None]]


class Writes:
    """The writes of one Host, oldest first."""

    def __init__(self) -> None:
        self._last = 0
        self._under_way: deque[UnderWay] = deque()

    def __bool__(self) -> bool:
        """Whether any write is under way."""
        return bool(self._under_way)

    def begin(self, outbox: Outbox) -> Write | None:
        """Takes over what the turn wants written and what has to wait; None: nothing to write."""
        if outbox.records:
            self._last += 1
            self._under_way.append(UnderWay(self._last, outbox.held, outbox.when_durable))
            return Write(self._last, tuple(outbox.records))
        if outbox.held or outbox.when_durable:
            assert self._under_way, "what waits for nothing has left"
            self._under_way[-1].held.extend(outbox.held)
            self._under_way[-1].then.extend(outbox.when_durable)
        return None

    def confirm(self, number: int) -> Iterator[UnderWay]:
        """All writes up to this number are durable: they and what waited for them, in order."""
        while self._under_way and self._under_way[0].number <= number:
            yield self._under_way.popleft()

    def check_invariants(self) -> None:
        """Raises AssertionError when the numbers are out of order."""
        numbers = [write.number for write in self._under_way]
        assert numbers == list(range(self._last - len(numbers) + 1, self._last + 1))
