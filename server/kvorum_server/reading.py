"""Queries on their way: from arrival over the read round to the answer.

All linearizable queries of a turn share one token of the consensus object's read index (Ongaro's
thesis, 6.4), so that a round of heartbeats serves hundreds of them. A token comes back with the
index that must be applied before its queries may look at the state; until then they wait here.

What a turn reads is bounded, so that no crowd of queries can hold up the node's heartbeats: so many
keys, so many rows, so many bytes (``Allowance``). What is left over goes on in the next turn, which
follows at once. Long scans advance one slice a turn. *Connections take turns*: whoever asked for
thousands of scans is served one after the other with everybody else, and a single get passes them
all.

A client whose replies pile up, because it or its network is slow, is *paused* by the shell: its
queries stay here, where they are small, until it has taken what was read for it.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from kvorum_proto.command_pb2 import Query, Result
from kvorum_server.config import Config
from kvorum_server.outbox import Allowance, Outbox
from kvorum_server.state_machine import Scan

if TYPE_CHECKING:
    from kvorum_server.replica import Replica

SCANS_OPEN_MAX = 8
"""Scans of one connection that are under way at once: each keeps old rows of the engine alive."""

RANGE_ROWS_MIN = 64
"""What even a short range costs, in rows."""

Waiting = tuple[int, int, Query]
"""Connection, request id, query."""

Work = Query | Scan
"""A range that is not begun yet, or one under way."""

Item = TypeVar("Item")


class Rotation(Generic[Item]):
    """What waits for each connection in order, taken from one connection after the other.

    >>> rotation = Rotation[str]()
    >>> for connection, item in ((1, "a"), (1, "b"), (1, "c"), (2, "d")):
    ...     rotation.put(connection, 0, item)
    >>> [rotation.take()[2] for _ in range(4)], rotation.is_ready
    (['a', 'd', 'b', 'c'], False)
    """

    __slots__ = ("_paused", "_ready")

    def __init__(self) -> None:
        self._ready: OrderedDict[int, deque[tuple[int, Item]]] = OrderedDict()
        self._paused: dict[int, deque[tuple[int, Item]]] = {}

    @property
    def is_ready(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._ready)

    @property
    def is_in_use(self) -> bool:
        """Whether anything waits, or a connection is paused."""
        return bool(self._ready or self._paused)

    def put(self, connection: int, request: int, item: Item, *, first: bool = False) -> None:
        """Queues an item behind those of its connection, or before them."""
        queue = self._paused.get(connection)
        if queue is None:
            queue = self._ready.get(connection)
        if queue is None:
            queue = self._ready[connection] = deque()
        if first:
            queue.appendleft((request, item))
        else:
            queue.append((request, item))

    def take(self) -> tuple[int, int, Item]:
        """The next item of the connection whose turn it is, with connection and request id."""
        connection, queue = next(iter(self._ready.items()))
        request, item = queue.popleft()
        if queue:
            self._ready.move_to_end(connection)
        else:
            del self._ready[connection]
        return connection, request, item

    def pause(self, connection: int) -> None:
        """Nothing of this connection is taken until it is resumed."""
        self._paused.setdefault(connection, self._ready.pop(connection, deque()))

    def resume(self, connection: int) -> None:
        """The connection takes part again."""
        queue = self._paused.pop(connection, None)
        if queue:
            self._ready[connection] = queue

    def forget(self, connection: int) -> list[Item]:
        """The connection is gone; what waited for it."""
        queue = self._ready.pop(connection, None) or self._paused.get(connection) or ()
        self._paused.pop(connection, None)
        return [item for _, item in queue]

    def empty(self) -> Iterator[tuple[int, int, Item]]:
        """Takes out everything, paused or not; no connection is known any more."""
        ready, paused = self._ready, self._paused
        self._ready, self._paused = OrderedDict(), {}
        for queues in (ready, paused):
            for connection, queue in queues.items():
                for request, item in queue:
                    yield connection, request, item


class Readers:
    """The queries of one replica."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._new: list[Waiting] = []
        self._sealed: dict[int, list[Waiting]] = {}
        self._allowed: deque[tuple[int, list[Waiting]]] = deque()
        self._stale: list[Waiting] = []
        self._points: Rotation[Query] = Rotation()
        self._ranges: Rotation[Work] = Rotation()
        self._open: dict[int, int] = {}
        """Scans under way, by connection."""
        self._last_token = 0
        self.waiting = 0

    # --- Before the state may be looked at ---

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
        self._allowed.append((index, self._sealed.pop(token, [])))

    def refuse(self, token: int) -> list[tuple[int, int]]:
        """Who asked under a token that will not be allowed: (connection, request id)."""
        refused = self._sealed.pop(token, [])
        self.waiting -= len(refused)
        return [(connection, request) for connection, request, _ in refused]

    # --- Looking ---

    def serve(self, replica: "Replica", outbox: Outbox) -> None:
        """Answers what may be answered now, as much as a turn may read."""
        applied = replica.applied[0]
        ready: list[Waiting] = []
        while self._allowed and self._allowed[0][0] <= applied:
            ready += self._allowed.popleft()[1]
        if self._stale:
            ready += self._stale
            self._stale = []
        if ready or self.has_work:
            answers = Answers(outbox.allowance)
            self._take_in(ready, replica, answers)
            self._answer_points(replica, answers)
            self._advance_ranges(replica, answers)
            self.waiting -= answers.count
            for connection, (ids, results) in answers.of.items():
                replica.answer(connection, ids, results, outbox)

    @property
    def has_work(self) -> bool:
        """Whether there is something to read, now or in the next turn."""
        return self._points.is_ready or self._ranges.is_ready

    def _take_in(self, queries: list[Waiting], replica: "Replica", answers: "Answers") -> None:
        """Queues what may look at the state; single keys are answered at once if nobody waits."""
        allowance, points = answers.allowance, self._points
        nobody_waits = not points.is_in_use and len(queries) <= allowance.points
        for connection, request, query in queries:
            if query.HasField("range"):
                self._ranges.put(connection, request, query)
            elif nobody_waits and allowance.reply_bytes > 0:
                self._answer_point(connection, request, query, replica, answers)
            else:
                points.put(connection, request, query)

    def _answer_points(self, replica: "Replica", answers: "Answers") -> None:
        """Answers what takes one look, up to a limit."""
        allowance = answers.allowance
        while allowance.points > 0 and allowance.reply_bytes > 0 and self._points.is_ready:
            connection, request, query = self._points.take()
            self._answer_point(connection, request, query, replica, answers)

    def _answer_point(
        self,
        connection: int,
        request: int,
        query: Query,
        replica: "Replica",
        answers: "Answers",
    ) -> None:
        answers.allowance.points -= 1
        outcome = replica.machine.read(query)
        if isinstance(outcome, Result):
            answers.add(connection, request, outcome)
        else:
            self._open[connection] = self._open.get(connection, 0) + 1
            self._ranges.put(connection, request, outcome)

    def _advance_ranges(self, replica: "Replica", answers: "Answers") -> None:
        """Reads a slice of one range after the other, each once, up to so many rows in all."""
        allowance = answers.allowance
        unfinished: list[tuple[int, int, Scan]] = []
        while allowance.rows > 0 and allowance.reply_bytes > 0 and self._ranges.is_ready:
            connection, request, work = self._ranges.take()
            if isinstance(work, Query):
                allowance.rows -= self._rows_at_first(work)
                outcome = replica.machine.read(work)
            else:
                allowance.rows -= self._config.scan_slice_rows
                self._close(connection)
                outcome = work.advance() or work
            if isinstance(outcome, Result):
                answers.add(connection, request, outcome)
            else:
                self._open[connection] = self._open.get(connection, 0) + 1
                unfinished.append((connection, request, outcome))
        for connection, request, scan in unfinished:
            is_at_limit = self._open[connection] >= SCANS_OPEN_MAX
            self._ranges.put(connection, request, scan, first=is_at_limit)

    def _rows_at_first(self, query: Query) -> int:
        """About how many rows the first slice of a range reads."""
        slice_rows = self._config.scan_slice_rows
        asked = query.range
        if asked.count_only or asked.revision:
            return slice_rows
        page = self._config.scan_page_keys_max
        items = min(asked.limit, page) if asked.limit > 0 else page
        return min(slice_rows, max(RANGE_ROWS_MIN, items))

    def _close(self, connection: int) -> None:
        """One scan less is under way for a connection."""
        self._open[connection] -= 1
        if self._open[connection] == 0:
            del self._open[connection]

    # --- Connections ---

    def pause(self, connection: int) -> None:
        """Too many replies wait for this client: nothing more is read for it."""
        self._points.pause(connection)
        self._ranges.pause(connection)

    def resume(self, connection: int) -> None:
        """The client has taken its replies."""
        self._points.resume(connection)
        self._ranges.resume(connection)

    def forget(self, connection: int) -> None:
        """The client is gone: its scans give their views back, its queries are not run."""
        for work in self._ranges.forget(connection):
            self.waiting -= 1
            if not isinstance(work, Query):
                work.close()
        self._open.pop(connection, None)
        self.waiting -= len(self._points.forget(connection))
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

    def close(self) -> list[tuple[int, int]]:
        """Nothing is read here any more: who waits for an answer, (connection, request id)."""
        waiting = [*self._new, *self._stale, *self._points.empty()]
        for sealed in (*self._sealed.values(), *(queries for _, queries in self._allowed)):
            waiting += sealed
        asking = [(connection, request) for connection, request, _ in waiting]
        for connection, request, work in self._ranges.empty():
            if not isinstance(work, Query):
                work.close()
            asking.append((connection, request))
        self._new, self._stale = [], []
        self._sealed.clear()
        self._allowed.clear()
        self._open.clear()
        self.waiting = 0
        return asking


class Answers:
    """The answers of one turn, by connection; their bytes are taken from its allowance."""

    __slots__ = ("allowance", "count", "of")

    def __init__(self, allowance: Allowance) -> None:
        self.of: dict[int, tuple[list[int], list[bytes]]] = {}
        self.count = 0
        self.allowance = allowance

    def add(self, connection: int, request: int, result: Result) -> None:
        """An answer to a request."""
        encoded = result.SerializeToString()
        self.count += 1
        self.allowance.reply_bytes -= len(encoded)
        answered = self.of.get(connection)
        if answered is None:
            answered = self.of[connection] = ([], [])
        answered[0].append(request)
        answered[1].append(encoded)
