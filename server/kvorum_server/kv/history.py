"""Reading the past: the state as it was at a revision.

The version of a key at revision r is its current row, when that is no newer than r; else the newest
history row at or below r; and nothing when that is a tombstone or there is none. A range at r
merges the current and the history table, both in key order.

Rows of the past that compaction has forgotten may still be there, because the clean-up runs behind
and at another pace on each replica. They never show: whoever asks for a revision at or above the
compacted one meets a newer row of the same key first. The *number* of rows read does depend on
them, so nothing deterministic may be decided from it; a transaction therefore reads the past only
key by key.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Protocol

from kvorum_proto.command_pb2 import Range
from kvorum_server.kv.rows import (
    EVENT,
    EVENT_KEY,
    POINTER,
    REVISION,
    HistoryKind,
    mod_revision,
)
from kvorum_server.storage.rows import (
    PREFIX_BYTES,
    DamagedRows,
    Table,
    escape,
    table_end,
    table_prefix,
    table_range,
    unescape,
)

POINTER_ROWS = 16
"""Following a pointer reads an event row of up to 64 KiB: as much work as reading so many rows."""


class View(Protocol):
    """Rows to read: an engine, its snapshot, or the overlay."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        ...

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order, or from the end backwards."""
        ...


Pending = Callable[[int, bytes, int], bytes]
"""The version of (chunk, key, revision) among the events of the entry being applied."""


class History:
    """The read side of a group's past. Holds no state but where the tables are."""

    __slots__ = ("_current_prefix", "_event_end", "_event_prefix", "_history_prefix", "space")

    def __init__(self, space: int) -> None:
        self.space = space
        self._current_prefix = table_prefix(space, Table.CURRENT)
        self._history_prefix = table_prefix(space, Table.HISTORY)
        self._event_prefix = table_prefix(space, Table.EVENT)
        self._event_end = table_end(space, Table.EVENT)

    def version_at(
        self, view: View, key: bytes, revision: int, pending: Pending | None = None
    ) -> bytes | None:
        """The version of one key at a revision, None when the key was not there.

        While an entry is applied, its own events are no rows yet: ``pending`` knows them.
        """
        escaped = escape(key)
        current = view.get(self._current_prefix + escaped)
        if current is not None and mod_revision(current) <= revision:
            return current
        start = self._history_prefix + escaped
        newest = next(view.scan(start, start + REVISION.pack(revision + 1), reverse=True), None)
        if newest is None:
            return None
        return self._resolve(view, escaped, *newest, pending)

    def versions_at(self, view: View, query: Range) -> Iterator[tuple[bytes, bytes] | None]:
        """(escaped key, version) of every key of a range at the query's revision, in scan order.

        Yields None for work that found nothing, so that the reader can count what it spends and
        stop anywhere. Where only the count is asked for, versions are not looked up (and are
        empty).
        """
        revision, reverse = query.revision, query.reverse
        currents = self._scan(view, Table.CURRENT, query)
        pasts = self._scan(view, Table.HISTORY, query)
        current = next(currents, None)
        past = next(pasts, None)
        while current is not None or past is not None:
            keys = []
            if current is not None:
                keys.append(current[0][PREFIX_BYTES:])
            if past is not None:
                keys.append(past[0][PREFIX_BYTES : -REVISION.size])
            escaped = max(keys) if reverse else min(keys)
            found = None
            if current is not None and current[0][PREFIX_BYTES:] == escaped:
                if mod_revision(current[1]) <= revision:
                    found = current[1]
                current = next(currents, None)
            newest = None
            while past is not None and past[0][PREFIX_BYTES : -REVISION.size] == escaped:
                (past_revision,) = REVISION.unpack_from(past[0], len(past[0]) - REVISION.size)
                if past_revision <= revision and (newest is None or not reverse):
                    newest = past
                past = next(pasts, None)
                yield None
            if found is None and newest is not None and newest[1][0] != HistoryKind.TOMBSTONE:
                if query.count_only:
                    found = b""
                else:
                    if newest[1][0] == HistoryKind.POINTER:
                        yield from repeat(None, POINTER_ROWS)
                    found = self._resolve(view, escaped, *newest, None)
            yield None if found is None else (escaped, found)

    def _scan(self, view: View, table: Table, query: Range) -> Iterator[tuple[bytes, bytes]]:
        start, end = table_range(self.space, table, query.key, query.range_end)
        return view.scan(start, end, reverse=query.reverse) if start < end else iter(())

    def _resolve(
        self,
        view: View,
        escaped: bytes,
        row_key: bytes,
        row: bytes,
        pending: Pending | None,
    ) -> bytes | None:
        """The version that a history row stands for; None for a tombstone."""
        if row[0] == HistoryKind.INLINE:
            return row[1:]
        if row[0] == HistoryKind.TOMBSTONE:
            return None
        _, _, chunk, offset = POINTER.unpack(row)
        (revision,) = REVISION.unpack_from(row_key, len(row_key) - REVISION.size)
        first_key = self._event_prefix + EVENT_KEY.pack(revision, 0)
        first = next(view.scan(first_key, self._event_end), None)
        if first is None and pending is not None:
            return pending(chunk, unescape(escaped), revision)
        if first is None:
            raise DamagedRows(self.space, f"no event row holds revision {revision}")
        event_key, events = first
        last_revision, first_chunk = EVENT_KEY.unpack_from(event_key, PREFIX_BYTES)
        if chunk != first_chunk:
            other = view.get(self._event_prefix + EVENT_KEY.pack(last_revision, chunk))
            if other is None:
                raise DamagedRows(
                    self.space, f"event row {last_revision} has no chunk {chunk} for {revision}"
                )
            events = other
        _, key_bytes, version_bytes = EVENT.unpack_from(events, offset)
        key_start = offset + EVENT.size
        version_start = key_start + key_bytes
        version = events[version_start : version_start + version_bytes]
        if escape(events[key_start:version_start]) != escaped or mod_revision(version) != revision:
            raise DamagedRows(self.space, f"revision {revision} points to another key's event")
        return version
