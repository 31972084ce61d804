"""Queries on their way: from arrival over the read round to the answer.

All linearizable queries of a turn share one token of the consensus object's read index (Ongaro's
thesis, 6.4), so that a round of heartbeats serves hundreds of them. A token comes back with the
index that must be applied before its queries may look at the state; until then they wait here.
Long scans advance one bounded slice a turn, a few at a time, so that no query can hold up the
node's heartbeats.
"""

from collections import deque
from typing import TYPE_CHECKING

from kvorum_proto.command_pb2 import Query, Result
from kvorum_server.config import Config
from kvorum_server.outbox import Outbox
from kvorum_server.state_machine import Scan

if TYPE_CHECKING:
    from kvorum_server.replica import Replica

SCANS_PER_TURN = 4

Waiting = tuple[int, int, Query]
"""Connection, request id, query."""


class Readers:
    """The queries of one replica."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._new: list[Waiting] = []
        self._sealed: dict[int, list[Waiting]] = {}
        self._allowed: deque[tuple[int, list[Waiting]]] = deque()
        self._stale: list[Waiting] = []
        self._scans: deque[tuple[int, int, Scan]] = deque()
        self._last_token = 0
        self.waiting = 0

    def add(self, connection: int, request: int, query: Query) -> None:
        """A linearizable query: joins the next round."""
        self._new.append((connection, request, query))
        self.waiting += 1

    def add_stale(self, connection: int, request: int, query: Query) -> None:
        """A query that the applied state of this replica may answer."""
        self._stale.append((connection, request, query))
        self.waiting += 1

    @property
    def has_new(self) -> bool:
        """Whether queries arrived in this turn that need a round."""
        return bool(self._new)

    def seal(self) -> int:
        """Puts the new queries under one token of the consensus object."""
        self._last_token += 1
        self._sealed[self._last_token] = self._new
        self._new = []
        return self._last_token

    def allow(self, token: int, index: int) -> None:
        """The queries of a token may look at the state once ``index`` is applied."""
        self._allowed.append((index, self._sealed.pop(token)))

    def refuse(self, token: int) -> list[tuple[int, int]]:
        """Who asked under a token that will not be allowed: (connection, request id)."""
        refused = self._sealed.pop(token)
        self.waiting -= len(refused)
        return [(connection, request) for connection, request, _ in refused]

    def serve(self, replica: "Replica", outbox: Outbox) -> None:
        """Answers what may be answered now; scans advance by a slice."""
        applied = replica.applied[0]
        while self._allowed and self._allowed[0][0] <= applied:
            self._answer(self._allowed.popleft()[1], replica, outbox)
        if self._stale:
            stale, self._stale = self._stale, []
            self._answer(stale, replica, outbox)
        for _ in range(min(SCANS_PER_TURN, len(self._scans))):
            connection, request, scan = self._scans.popleft()
            result = scan.advance()
            if result is None:
                self._scans.append((connection, request, scan))
            else:
                self.waiting -= 1
                replica.answer(connection, [request], [result.SerializeToString()], outbox)

    @property
    def has_work(self) -> bool:
        """Whether scans go on next turn."""
        return bool(self._scans)

    def _answer(self, queries: list[Waiting], replica: "Replica", outbox: Outbox) -> None:
        """Runs queries; neighbours of the same client share an answer."""
        read = replica.machine.read
        ids: list[int] = []
        results: list[bytes] = []
        previous = queries[0][0] if queries else 0
        for connection, request, query in queries:
            outcome = read(query)
            if not isinstance(outcome, Result):
                self._scans.append((connection, request, outcome))
                continue
            if connection != previous:
                self._flush(previous, ids, results, replica, outbox)
                ids, results, previous = [], [], connection
            ids.append(request)
            results.append(outcome.SerializeToString())
        self._flush(previous, ids, results, replica, outbox)

    def _flush(
        self,
        connection: int,
        ids: list[int],
        results: list[bytes],
        replica: "Replica",
        outbox: Outbox,
    ) -> None:
        self.waiting -= len(ids)
        replica.answer(connection, ids, results, outbox)

    def close(self) -> list[tuple[int, int]]:
        """Nothing is read here any more: who waits for an answer, (connection, request id)."""
        waiting = [*self._new, *self._stale]
        for sealed in (*self._sealed.values(), *(queries for _, queries in self._allowed)):
            waiting += sealed
        asking = [(connection, request) for connection, request, _ in waiting]
        for connection, request, scan in self._scans:
            scan.close()
            asking.append((connection, request))
        self._new, self._stale = [], []
        self._sealed.clear()
        self._allowed.clear()
        self._scans.clear()
        self.waiting = 0
        return asking

    def forget(self, connection: int) -> None:
        """The client is gone: its scans give their views back, its queries are not run."""
        kept: deque[tuple[int, int, Scan]] = deque()
        for place, request, scan in self._scans:
            if place == connection:
                scan.close()
                self.waiting -= 1
            else:
                kept.append((place, request, scan))
        self._scans = kept
        for waiting in (
            self._new,
            self._stale,
            *self._sealed.values(),
            *(q for _, q in self._allowed),
        ):
            before = len(waiting)
            waiting[:] = [query for query in waiting if query[0] != connection]
            self.waiting -= before - len(waiting)
        assert self.waiting >= 0
