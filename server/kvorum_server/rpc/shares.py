"""Who has how much in flight on a node, who must wait, and for how long.

A node holds every request of its clients from arrival to answer: first in the inbox, then in an
entry of the log or in front of a read. How many requests that are, and how many bytes, has a limit,
and the limit is shared:

-   below half of it everybody gets what they ask for, so that one client alone may be fast;
-   above, a connection that holds its *share* gets no more. The share is the limit divided by the
    connections that hold anything, and one: there is always room for somebody who comes new, so a
    client that floods the node, or sixteen of them, cannot keep another one out.

Who is refused is told when to come back: after about the time that it takes to serve what is held
*and what was sent away before*. A crowd that is turned away comes back over a longer time the
larger it is; the figure falls as answers are given, and begins anew once the node is empty.

Bytes are counted by the frame and given back in proportion to the answers. That is exact whenever a
connection holds nothing, which is what keeps the sum right.

No I/O and no clock. Left out: weights of requests (a turn bounds what they may cost, see
``reading.py`` and ``admission.py``), and shares by user instead of by connection.
"""

from dataclasses import dataclass

from kvorum_server.admission import retry_after_ms


@dataclass(slots=True)
class Holding:
    """Requests that wait for their answers, and the bytes they came in."""

    requests: int = 0
    size_bytes: int = 0

    def shrink(self, requests: int) -> None:
        """So many requests are answered: their part of the bytes is free."""
        assert requests <= self.requests, "a request is answered once"
        self.size_bytes -= self.size_bytes * requests // self.requests
        self.requests -= requests


class Shares:
    """The requests in flight on one node, by connection.

    >>> shares = Shares(requests_max=100, bytes_max=10_000)
    >>> [shares.take(1, 20, 200) for _ in range(4)]
    [True, True, True, False]
    >>> shares.take(2, 20, 200)
    True
    """

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._holdings: dict[int, Holding] = {}
        self._total = Holding()
        self._sent_away = Holding()

    def take(self, connection: int, requests: int, size_bytes: int) -> bool:
        """Books requests that have arrived; False: they must be sent away."""
        if not self._has_room(connection, requests, size_bytes):
            return False
        holding = self._holdings.get(connection)
        if holding is None:
            holding = self._holdings[connection] = Holding()
        for one in (holding, self._total):
            one.requests += requests
            one.size_bytes += size_bytes
        return True

    def _has_room(self, connection: int, requests: int, size_bytes: int) -> bool:
        total = self._total
        if total.requests * 2 < self._requests_max and total.size_bytes * 2 < self._bytes_max:
            return True
        if total.requests + requests > self._requests_max:
            return False
        if total.size_bytes + size_bytes > self._bytes_max:
            return False
        held = self._holdings.get(connection) or Holding()
        sharers = len(self._holdings) + 1
        return (
            held.requests + requests <= self._requests_max // sharers
            and held.size_bytes + size_bytes <= self._bytes_max // sharers
        )

    def give_back(self, connection: int, requests: int) -> None:
        """So many requests of a connection are answered; one that was forgotten owes nothing."""
        holding = self._holdings.get(connection)
        if holding is None:
            return
        before = holding.size_bytes
        holding.shrink(requests)
        if holding.requests == 0:
            del self._holdings[connection]
        self._leave(requests, before - holding.size_bytes)
        if self._sent_away.requests:
            self._sent_away.shrink(min(requests, self._sent_away.requests))

    def forget(self, connection: int) -> None:
        """The connection is gone, and with it whatever it waited for."""
        holding = self._holdings.pop(connection, None)
        if holding is not None:
            self._leave(holding.requests, holding.size_bytes)

    def _leave(self, requests: int, size_bytes: int) -> None:
        self._total.requests -= requests
        self._total.size_bytes -= size_bytes
        if not self._holdings:
            assert self._total == Holding(), "nobody holds anything"
            self._sent_away = Holding()

    def send_away(self, requests: int, size_bytes: int) -> int:
        """Notes that requests are refused; after how many milliseconds they may come back."""
        self._sent_away.requests += requests
        self._sent_away.size_bytes += size_bytes
        return retry_after_ms(
            max(
                (self._total.requests + self._sent_away.requests) / self._requests_max,
                (self._total.size_bytes + self._sent_away.size_bytes) / self._bytes_max,
            )
        )

    def held(self, connection: int) -> int:
        """How many answers a connection waits for."""
        holding = self._holdings.get(connection)
        return 0 if holding is None else holding.requests
