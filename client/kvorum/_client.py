"""The asyncio client: one method for each thing that a cluster does.

A method turns its arguments into one message and waits for one future; what happens in between
(which node, when again, what if it breaks) is ``_dispatch``, and when the bytes leave is
``_pump``. So every method keeps the same promises:

* it ends by its deadline (``timeout`` seconds, by default those of the client), give or take 50 ms;
* it can be cancelled at any time, like any coroutine; a write may be applied all the same;
* a write is applied at most once, however often it was sent, and when nobody can say whether it
  was, it raises UnknownOutcome and nothing milder;
* a read sees every write that was acknowledged before it began, unless ``max_staleness`` allows
  less.

Every method raises Unavailable (with Busy, DiskFull), DeadlineExceeded, WrongCluster and
ClientClosed; writes also UnknownOutcome; all raise LimitExceeded for what is too large. What else
a method raises is said there. TypeError is for arguments of the wrong type, before anything is
sent.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from kvorum import _backup, _cluster, _members, _scan
from kvorum._caller import Caller
from kvorum._dispatch import REQUEST_BYTES_MAX
from kvorum._endpoints import DEFAULT_ENDPOINTS, parse_endpoints
from kvorum._errors import Conflict, InvalidRequest, LimitExceeded
from kvorum._operations import (
    Compare,
    Field,
    Increment,
    Operation,
    Txn,
    as_bytes,
    has_range,
    keys_of,
    range_of,
    write_increment,
    write_txn,
)
from kvorum._results import (
    COMPACT,
    DELETE,
    DELETE_RANGE,
    GET,
    INCREMENT,
    PUT,
    RANGE,
    TXN,
    item_of,
    txn_result,
)
from kvorum._types import (
    Bytes,
    ClusterStatus,
    DeleteRangeResult,
    DeleteResult,
    Item,
    NodeStatus,
    PutResult,
    ScanResult,
    StateComparison,
    TxnResult,
)
from kvorum_proto.command_pb2 import CommandBatch, Query

T = TypeVar("T")

STALENESS_MS_MAX = 1_000_000_000


class AsyncClient:
    """A client of one cluster, for one event loop; many tasks may share it.

    ``endpoints`` are one or more nodes, ``"host:port,host:port"`` or a list; the others are
    learned from them. ``timeout`` is the deadline of a call in seconds unless it brings its own.
    ``cluster_id`` (bytes or hexadecimal) refuses every other cluster. ``sessions=False`` gives up
    exactly-once: no session is opened, and a write whose connection breaks is UnknownOutcome at
    once.

    Nothing is sent before the first call. Use it as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = DEFAULT_ENDPOINTS,
        *,
        timeout: float = 5.0,
        cluster_id: bytes | str | None = None,
        sessions: bool = True,
    ) -> None:
        if not timeout > 0:
            raise InvalidRequest(f"timeout is {timeout}; it must be a positive number of seconds")
        if isinstance(cluster_id, str):
            cluster_id = bytes.fromhex(cluster_id)
        self._caller = Caller(
            parse_endpoints(endpoints),
            timeout=timeout,
            cluster_id=cluster_id or b"",
            sessions=sessions,
        )

    # --- Life ---

    async def __aenter__(self) -> Self:
        self._caller.pump()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all calls: ClientClosed, UnknownOutcome for writes on their way; idempotent.

        Closes sessions and streams too, which takes about half a second at most.
        """
        await self._caller.close()

    # --- Writing ---

    async def put(
        self, key: Bytes, value: Bytes, *, previous: bool = False, timeout: float | None = None
    ) -> PutResult:
        """Stores a value. ``previous``: the result brings the item that was replaced."""
        batch = CommandBatch()
        message = batch.submissions.add().put
        message.key = as_bytes(key, "key")
        message.value = as_bytes(value, "value")
        if previous:
            message.previous = True
        return await self._caller.command_on(message.key, batch, PUT, timeout)

    async def put_many(
        self, items: Mapping[str, Bytes] | Mapping[bytes, Bytes], *, timeout: float | None = None
    ) -> dict[bytes, PutResult]:
        """Stores many values, each a write of its own: not atomic and in no order, but together.

        When some fail, the first error is raised after all have ended.
        """
        table = await self._caller.table("put", timeout)
        batches: dict[bytes, CommandBatch] = {}
        for key, value in items.items():
            batch = CommandBatch()
            message = batch.submissions.add().put
            message.key, message.value = as_bytes(key, "key"), as_bytes(value, "value")
            batches[message.key] = batch
        calls = [
            self._caller.start_command(self._caller.route(table, key), batch, PUT, timeout)
            for key, batch in batches.items()
        ]
        results = await self._caller.finish_all(calls)
        return dict(zip(batches, results, strict=True))

    async def delete(
        self, key: Bytes, *, previous: bool = False, timeout: float | None = None
    ) -> DeleteResult:
        """Deletes a key; an absent one is no error. ``previous``: the result brings the item."""
        batch = CommandBatch()
        message = batch.submissions.add().delete
        message.key = as_bytes(key, "key")
        message.previous = previous
        return await self._caller.command_on(message.key, batch, DELETE, timeout)

    async def delete_range(
        self,
        start: Bytes | None = None,
        end: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        previous: bool = False,
        atomic: bool = False,
        timeout: float | None = None,
    ) -> DeleteRangeResult:
        """Deletes the keys of [start, end), or all with a prefix; ``timeout`` is for each step.

        A large range goes in steps, each atomic; ``atomic=True`` insists on a single one and raises
        RangeTooLarge when that cannot be, InvalidRequest when the range lies in several partitions.
        After an error some steps may have been done: repeat the call.
        """
        key, range_end = range_of(start, end, prefix)
        table = await self._caller.table("delete_range", timeout)
        if atomic and len(table.groups) > 1:
            raise InvalidRequest("an atomic delete_range needs a cluster of one partition")
        deleted, revision = 0, 0
        items: list[Item] = []
        for group in table.groups:
            position = key
            while position:
                batch = CommandBatch()
                message = batch.submissions.add().delete_range
                message.key, message.range_end = position, range_end
                message.previous, message.atomic = previous, atomic
                route = self._caller.dispatcher.route(group)
                answer = await self._caller.command(route, batch, DELETE_RANGE, timeout)
                deleted, revision = deleted + answer.deleted, answer.revision
                items += map(item_of, answer.previous)
                position = answer.next_key
        return DeleteRangeResult(revision, deleted, tuple(items))

    async def compare_and_set(
        self,
        key: Bytes,
        value: Bytes,
        *,
        expected: Item | Bytes | None,
        timeout: float | None = None,
    ) -> PutResult:
        """Stores a value if the key is as expected; else raises Conflict with the current item.

        ``expected`` is an Item (nothing was written since it was read), a value (the key has it
        now, whoever wrote it), or None (the key is absent).
        """
        name = as_bytes(key, "key")
        if expected is None:
            condition = Field("version", name) == 0
        elif isinstance(expected, Item):
            condition = Field("mod_revision", name) == expected.mod_revision
        else:
            condition = Field("value", name) == as_bytes(expected, "expected")
        batch = CommandBatch()
        message = batch.submissions.add().txn
        message.compares.append(condition.message)
        put = message.success.add().put
        put.key, put.value = name, as_bytes(value, "value")
        message.failure.add().range.key = name
        answer = await self._caller.command_on(name, batch, TXN, timeout)
        if answer.succeeded:
            return PutResult(answer.revision)
        found = answer.results[0].range.items
        current = item_of(found[0]) if found else None
        state = "is absent" if current is None else f"is at revision {current.mod_revision}"
        raise Conflict(
            f"{name!r} {state}; it is not as expected, read it and decide again", current
        )

    async def increment(
        self,
        key: Bytes,
        by: int = 1,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Adds to the decimal integer under a key (absent = 0) and answers the sum.

        Raises NotAnInteger for another value, and OutOfBounds, leaving the value as it is, when the
        sum would be below ``minimum``, above ``maximum`` or more than a signed 64-bit integer.
        """
        batch = CommandBatch()
        message = batch.submissions.add().increment
        write_increment(message, Increment(key, by, minimum, maximum))
        return await self._caller.command_on(message.key, batch, INCREMENT, timeout)

    async def txn(
        self,
        *,
        when: Iterable[Compare] = (),
        then: Iterable[Operation] = (),
        otherwise: Iterable[Operation] = (),
        timeout: float | None = None,
    ) -> TxnResult:
        """If all compares hold, does ``then``, else ``otherwise``, in one atomic step.

        All keys must lie in one partition (share a ``{tag}``), else InvalidRequest. Raises what its
        operations raise; then none of them was done.
        """
        txn = Txn(when=tuple(when), then=tuple(then), otherwise=tuple(otherwise))
        batch = CommandBatch()
        submission = batch.submissions.add()
        submission.txn.SetInParent()
        write_txn(submission.txn, txn)
        table = await self._caller.table("txn", timeout)
        group = table.group_of_all(keys_of(submission.txn), ranges=has_range(submission.txn))
        route = self._caller.dispatcher.route(group)
        return txn_result(await self._caller.command(route, batch, TXN, timeout), txn)

    # --- Reading ---

    async def get(
        self,
        key: Bytes,
        *,
        revision: int = 0,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Item | None:
        """The item under a key, None when it is absent.

        ``revision``: as it was then; raises Compacted or FutureRevision. ``max_staleness``: any
        replica that is at most so many seconds behind may answer, 0 = however far behind it is.
        """
        query = Query()
        message = query.get
        message.key = name = as_bytes(key, "key")
        if revision:
            message.revision = revision
        if max_staleness is not None:
            _allow_staleness(query, max_staleness)
        if len(name) > REQUEST_BYTES_MAX:
            raise LimitExceeded(f"the key has {len(name)} bytes; a request {REQUEST_BYTES_MAX}")
        table = self._caller.dispatcher.table
        if table is None:
            table = await self._caller.table("get", timeout)
        route = self._caller.route(table, name, stale=max_staleness is not None)
        return await self._caller.query(route, query, GET, timeout)

    async def get_many(
        self,
        keys: Iterable[Bytes],
        *,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> dict[bytes, Item | None]:
        """Many keys at once; each read is linearizable, but they are no snapshot together."""
        table = await self._caller.table("get", timeout)
        queries: dict[bytes, Query] = {}
        for key in keys:
            query = Query()
            query.get.key = name = as_bytes(key, "key")
            if max_staleness is not None:
                _allow_staleness(query, max_staleness)
            queries[name] = query
        stale = max_staleness is not None
        calls = [
            self._caller.start_query(
                self._caller.route(table, name, stale=stale), query, GET, timeout
            )
            for name, query in queries.items()
        ]
        items = await self._caller.finish_all(calls)
        return dict(zip(queries, items, strict=True))

    def scan(
        self,
        start: Bytes | None = None,
        end: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        limit: int = 0,
        reverse: bool = False,
        keys_only: bool = False,
        revision: int = 0,
        max_staleness: float | None = None,
        page_size: int = 1000,
        timeout: float | None = None,
    ) -> AsyncIterator[Item]:
        """The items of [start, end), or all with a prefix, or all, in the order of their keys.

        Read page by page as you iterate, all pages at the revision of the first one, so that the
        scan shows one moment of each partition however long it takes; raises Compacted when it
        takes longer than that revision is kept. ``limit`` 0 = no limit; ``timeout`` is for each
        page.
        """
        key, range_end = range_of(start, end, prefix)
        if limit < 0 or page_size < 1:
            raise InvalidRequest("limit must be at least 0, page_size at least 1")
        query = Query()
        message = query.range
        message.key, message.range_end = key, range_end
        message.limit = min(limit, page_size) if limit else page_size
        message.reverse, message.keys_only, message.revision = reverse, keys_only, revision
        if max_staleness is not None:
            _allow_staleness(query, max_staleness)

        async def pages() -> AsyncIterator[Item]:
            table = await self._caller.table("scan", timeout)

            async def read_page(group: int, page: Query) -> ScanResult:
                route = self._caller.dispatcher.route(group, any_replica=bool(page.consistency))
                return await self._caller.query(route, page, RANGE, timeout)

            async for item in _scan.items(read_page, table.groups, query, limit):
                yield item

        return pages()

    async def count(
        self,
        start: Bytes | None = None,
        end: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> int:
        """How many keys there are in [start, end), with a prefix, or at all."""
        query = Query()
        query.range.key, query.range.range_end = range_of(start, end, prefix)
        query.range.count_only = True
        if max_staleness is not None:
            _allow_staleness(query, max_staleness)
        table = await self._caller.table("count", timeout)
        calls = []
        for group in table.groups:
            route = self._caller.dispatcher.route(group, any_replica=max_staleness is not None)
            calls.append(self._caller.start_query(route, query, RANGE, timeout))
        pages = await self._caller.finish_all(calls)
        return sum(page.count for page in pages)

    # --- Fields for the compares of a txn ---

    @staticmethod
    def value(key: Bytes, *, end: Bytes | None = None) -> Field:
        """The value of a key, to compare: ``kv.value("a") == "1"``; false while the key is absent.

        With ``end`` the compare must hold for every key of [key, end).
        """
        return Field("value", key, end)

    @staticmethod
    def version(key: Bytes, *, end: Bytes | None = None) -> Field:
        """The number of writes since creation, to compare: ``== 0`` means absent."""
        return Field("version", key, end)

    @staticmethod
    def create_revision(key: Bytes, *, end: Bytes | None = None) -> Field:
        """The revision of the first write, to compare; 0 when absent."""
        return Field("create_revision", key, end)

    @staticmethod
    def mod_revision(key: Bytes, *, end: Bytes | None = None) -> Field:
        """The revision of the last write, to compare; 0 when absent."""
        return Field("mod_revision", key, end)

    # --- The cluster ---

    backup = _backup.backup

    async def compact(
        self, revision: int, *, group: int | None = None, timeout: float | None = None
    ) -> int:
        """Makes the history before a revision unreadable; answers the revision of the group.

        Revisions are counted by each group: with several partitions say which one. Raises
        Compacted or FutureRevision when the revision is gone already or not there yet.
        """
        table = await self._caller.table("compact", timeout)
        if group is None:
            if len(table.groups) > 1:
                raise InvalidRequest(
                    "this cluster has several partitions; name the group to compact"
                )
            group = table.groups[0]
        batch = CommandBatch()
        batch.submissions.add().compact.revision = revision
        return await self._caller.command(
            self._caller.dispatcher.route(group), batch, COMPACT, timeout
        )

    members = _members.members
    membership = _members.membership
    add_member = _members.add_member
    replace_member = _members.replace_member
    promote_member = _members.promote_member
    remove_member = _members.remove_member
    transfer_leadership = _members.transfer_leadership

    async def status(self, endpoint: str, *, timeout: float | None = None) -> NodeStatus:
        """What one node knows of itself and the cluster; needs no quorum."""
        self._caller.pump()
        return await _cluster.node_status(endpoint, timeout or self._caller.timeout)

    async def cluster_status(self, *, timeout: float | None = None) -> ClusterStatus:
        """The status of every node that is known here and answers; never raises Unavailable."""
        self._caller.pump()
        return await _cluster.cluster_status(
            self._caller.dispatcher.addresses(), timeout or self._caller.timeout
        )

    async def compare_states(self, *, timeout: float | None = None) -> tuple[StateComparison, ...]:
        """Has the replicas of every group compare their states now, and says what was found.

        A replica that differs from a quorum is given a new state by the cluster itself. Takes as
        long as reading all rows slowly; raises Unavailable when a group comes to no result.
        """
        await self._caller.table("compare_states", None)
        answer_timeout = self._caller.timeout
        return await _cluster.compare_states(
            self._caller.dispatcher.addresses(), answer_timeout, timeout or answer_timeout
        )


def _allow_staleness(query: Query, seconds: float) -> None:
    milliseconds = round(seconds * 1000)
    if not 0 <= milliseconds <= STALENESS_MS_MAX:
        raise InvalidRequest(f"max_staleness is {seconds} s; it must be between 0 and 1,000,000")
    query.consistency = Query.STALE
    query.staleness_ms_max = milliseconds
