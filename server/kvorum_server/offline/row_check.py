"""The check of all rows of one replica: each by itself, against the others, and against the log.

The engine verifies the checksum of every block it reads, so reading every row is the check of the
files. On top of that the rows have to be what the state machine writes (``kv/rows.py``):

*   the meta row stands at an entry that the log knows, no older than the durable checkpoint;
*   a current row and the event that wrote it hold the same bytes; revisions of a key are in order
    and none is in the future;
*   every event above the compacted revision is the current version of its key or has a history row;
*   a history row that can still be read leads to its bytes;
*   a session row belongs to an entry that was applied;
*   a row of the catalog parses.

What compaction has forgotten and not yet cleared away may be there or not: it is not looked at.

*Cost.* Events lead to their current and history rows by two point reads each. The other way round,
from a current row or a pointer to its event, is a search; it is made only when the numbers show
that some row has no event, or another one's.

Left out: a comparison with other nodes; that is what state hashes are for.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator

from google.protobuf.message import DecodeError, Message

from kvorum_proto.command_pb2 import ExpectedMember, GroupReport, MemberInfo, Placement
from kvorum_server.kv.rows import (
    EVENT,
    EVENT_KEY,
    EVENT_ROW,
    POINTER,
    REVISION,
    SESSION_KEY,
    SESSION_RESULT,
    SESSION_ROW,
    VERSION,
    HistoryKind,
    mod_revision,
)
from kvorum_server.kv.session import POSITION_BITS
from kvorum_server.offline.report import Findings
from kvorum_server.storage.data_directory import STATE_DIRECTORY
from kvorum_server.storage.engine import Engine, space_prefix
from kvorum_server.storage.errors import StorageError
from kvorum_server.storage.recovery import RecoveredReplica
from kvorum_server.storage.rows import (
    KEY_END,
    PREFIX_BYTES,
    MetaRow,
    Table,
    escape,
    table_end,
    table_prefix,
    unescape,
)

PROGRESS_ROWS = 10_000
"""Rows between two signs of life."""

_TABLES = {table.value: table for table in Table}
_CATALOG_ROWS: dict[Table, type[Message]] = {
    Table.MEMBER: MemberInfo,
    Table.EXPECTED_MEMBER: ExpectedMember,
    Table.REMOVED_MEMBER: MemberInfo,
    Table.PLACEMENT: Placement,
    Table.REPORT: GroupReport,
}


class Wrong(Exception):
    """A row is not what it has to be; the message says what it is instead."""


class RowCheck:
    """The check of one space; ``counts`` has the rows of each table afterwards."""

    def __init__(self, engine: Engine, replica: RecoveredReplica, findings: Findings) -> None:
        self.counts: Counter[str] = Counter()
        self.meta: MetaRow | None = None
        self._engine = engine
        self._replica = replica
        self._space = replica.space
        self._current_prefix = table_prefix(replica.space, Table.CURRENT)
        self._history_prefix = table_prefix(replica.space, Table.HISTORY)
        self._event_prefix = table_prefix(replica.space, Table.EVENT)
        self._unmatched = 0
        """Current rows and pointers without their event, so far; below 0 events without a row."""
        self._findings = findings
        self._checks: dict[Table, Callable[[bytes, bytes], None]] = {
            Table.CURRENT: self._current,
            Table.HISTORY: self._history,
            Table.EVENT: self._event,
            Table.SESSION: self._session,
            **{table: _parses(message) for table, message in _CATALOG_ROWS.items()},
        }

    def run(self, advanced: Callable[[int], None]) -> None:
        """Reads every row; tells now and then how many. Raises EngineDamage where the engine
        cannot.
        """
        self._check_meta()
        start, end = space_prefix(self._space), space_prefix(self._space + 1)
        for number, (key, row) in enumerate(self._engine.scan(start, end), 1):
            if number % PROGRESS_ROWS == 0:
                advanced(number)
            self._check_row(key, row)
        if self._unmatched and self.meta is not None:
            self._search_events()

    def _check_row(self, key: bytes, row: bytes) -> None:
        table = _TABLES.get(key[PREFIX_BYTES - 1])
        if table is None:
            self._blame(key, f"table {key[PREFIX_BYTES - 1]} is unknown to this program")
            return
        self.counts[table.name.lower()] += 1
        check = self._checks.get(table)
        if check is not None and self.meta is not None:
            self._judge(check, key, row)

    def _judge(self, check: Callable[[bytes, bytes], None], key: bytes, row: bytes) -> None:
        try:
            check(key[PREFIX_BYTES:], row)
        except Wrong as error:
            self._blame(key, str(error))
        except struct.error as error:
            table = _TABLES[key[PREFIX_BYTES - 1]].name.lower()
            self._blame(key, f"a {table} row of a wrong length: {error}")

    def _search_events(self) -> None:
        """Some current row or pointer has no event of its own: which?"""
        for table, check in (
            (Table.CURRENT, self._event_of_current),
            (Table.HISTORY, self._event_of_pointer),
        ):
            start, end = table_prefix(self._space, table), table_end(self._space, table)
            for key, row in self._engine.scan(start, end):
                self._judge(check, key, row)

    def _blame(self, key: bytes, message: str) -> None:
        group = self._replica.group
        self._findings.add(STATE_DIRECTORY, None, f"group {group}, row {key.hex()}: {message}")

    # --- Against the log ---

    def _check_meta(self) -> None:
        replica = self._replica
        row = self._engine.get(MetaRow.key(self._space))
        least = max(replica.checkpoint_index, replica.log_start[0])
        if row is None:
            if least:
                self._blame(
                    MetaRow.key(self._space), f"it is missing, but a checkpoint at {least} was made"
                )
            return
        try:
            self.meta = meta = MetaRow.decode(self._space, row)
        except StorageError as error:
            self._blame(MetaRow.key(self._space), str(error))
            return
        last = replica.log_start[0] + len(replica.entries)
        if not least <= meta.index <= last:
            self._blame(
                MetaRow.key(self._space),
                f"the state ends at entry {meta.index}, the log says between {least} and {last}",
            )
        elif meta.index > replica.log_start[0]:
            entry = replica.entries[meta.index - replica.log_start[0] - 1]
            if (entry.term, entry.stamp) != (meta.term, meta.stamp):
                self._blame(
                    MetaRow.key(self._space),
                    f"entry {meta.index} was applied with term {meta.term} and log time "
                    f"{meta.stamp}, the log has it with {entry.term} and {entry.stamp}",
                )

    # --- Each row, and its counterpart ---

    def _current(self, rest: bytes, version: bytes) -> None:
        if not rest.endswith(KEY_END):
            raise Wrong("the key has no end")
        meta = self._known()
        create, mod, number, _, _, _ = VERSION.unpack_from(version)
        if not 0 < create <= mod <= meta.revision or number < 1:
            raise Wrong(
                f"created at {create}, changed at {mod}, version {number}; "
                f"the group is at revision {meta.revision}"
            )
        if mod > meta.compacted_revision:
            self._unmatched += 1

    def _event_of_current(self, rest: bytes, version: bytes) -> None:
        _, mod, _, _, chunk, offset = VERSION.unpack_from(version)
        if mod <= self._known().compacted_revision:
            return
        if self._event_at(mod, chunk, offset) != (rest, version):
            raise Wrong(f"the event of revision {mod} is another or missing")

    def _history(self, rest: bytes, row: bytes) -> None:
        meta = self._known()
        escaped, (revision,) = rest[: -REVISION.size], REVISION.unpack(rest[-REVISION.size :])
        if not escaped.endswith(KEY_END) or not row or revision > meta.revision:
            raise Wrong("no history of a key")
        match row[0]:
            case HistoryKind.POINTER:
                _, superseding, _, _ = POINTER.unpack(row)
                if superseding > meta.compacted_revision:
                    self._check_superseding(escaped, superseding)
                    if revision > meta.compacted_revision:
                        self._unmatched += 1
                    else:
                        self._event_of_pointer(rest, row)
            case HistoryKind.INLINE:
                if mod_revision(row[1:]) != revision:
                    raise Wrong(f"it holds revision {mod_revision(row[1:])}")
            case HistoryKind.TOMBSTONE:
                if len(row) != 1:
                    raise Wrong("a deleted key with a value")
            case kind:
                raise Wrong(f"kind {kind} is unknown")

    def _event_of_pointer(self, rest: bytes, row: bytes) -> None:
        escaped, (revision,) = rest[: -REVISION.size], REVISION.unpack(rest[-REVISION.size :])
        if row[0] != HistoryKind.POINTER:
            return
        _, superseding, chunk, offset = POINTER.unpack(row)
        if superseding <= self._known().compacted_revision:
            return
        found = self._event_at(revision, chunk, offset)
        if found is None or found[0] != escaped or mod_revision(found[1]) != revision:
            raise Wrong(f"the event of revision {revision} is another or missing")

    def _check_superseding(self, escaped: bytes, superseding: int) -> None:
        """The version that took a version's place is there, and the next one."""
        history = self._history_prefix + escaped
        current = self._engine.get(self._current_prefix + escaped)
        if current is not None and mod_revision(current) == superseding:
            return
        if self._engine.get(history + REVISION.pack(superseding)) is None:
            raise Wrong(f"revision {superseding}, which took its place, is missing")

    def _event(self, rest: bytes, row: bytes) -> None:
        meta = self._known()
        last_revision, chunk = EVENT_KEY.unpack(rest)
        if last_revision > meta.revision:
            raise Wrong(f"revision {last_revision}, the group is at {meta.revision}")
        if last_revision <= meta.compacted_revision:
            return
        for offset, (previous, key, version) in _events(row):
            revision = mod_revision(version)
            if not previous < revision <= last_revision:
                raise Wrong(f"revision {revision} after {previous} in an entry of {last_revision}")
            _, _, number, _, own_chunk, own_offset = VERSION.unpack_from(version)
            if (own_chunk, own_offset) != (chunk, offset):
                raise Wrong(f"the event of revision {revision} stands in another place")
            if revision <= meta.compacted_revision:
                continue
            self._match(escape(key), revision, version, number)

    def _match(self, escaped: bytes, revision: int, version: bytes, number: int) -> None:
        """An event has its row: the current one, or a history row that leads here."""
        if number:
            current = self._engine.get(self._current_prefix + escaped)
            if current == version:
                self._unmatched -= 1
                return
        history_key = self._history_prefix + escaped + REVISION.pack(revision)
        past = self._engine.get(history_key)
        if past is None:
            raise Wrong(f"revision {revision} of key {unescape(escaped)!r} can no longer be found")
        place = VERSION.unpack_from(version)[4:]
        if past[0] == HistoryKind.POINTER and POINTER.unpack(past)[2:] == place:
            self._unmatched -= 1

    def _session(self, rest: bytes, row: bytes) -> None:
        meta = self._known()
        identity, index = SESSION_KEY.unpack(rest)
        stamp, _, count = SESSION_ROW.unpack_from(row)
        offset = SESSION_ROW.size
        for _ in range(count):
            _, size = SESSION_RESULT.unpack_from(row, offset)
            offset += SESSION_RESULT.size + size
        if offset != len(row):
            raise Wrong(f"{count} results in {len(row)} bytes")
        if index > meta.index or stamp > meta.stamp or identity >> POSITION_BITS > index:
            raise Wrong(
                f"session {identity} at entry {index} and log time {stamp}; "
                f"the state is at {meta.index} and {meta.stamp}"
            )

    def _event_at(self, revision: int, chunk: int, offset: int) -> tuple[bytes, bytes] | None:
        """Escaped key and version of the event at a place; None when there is none."""
        prefix = self._event_prefix
        end = table_end(self._space, Table.EVENT)
        first = next(self._engine.scan(prefix + EVENT_KEY.pack(revision, 0), end), None)
        if first is None:
            return None
        last_revision, _ = EVENT_KEY.unpack_from(first[0], PREFIX_BYTES)
        row = self._engine.get(prefix + EVENT_KEY.pack(last_revision, chunk))
        if row is None or offset + EVENT.size > len(row):
            return None
        _, key_bytes, version_bytes = EVENT.unpack_from(row, offset)
        start = offset + EVENT.size + key_bytes
        key = row[offset + EVENT.size : start]
        escaped = escape(key)
        return escaped, row[start : start + version_bytes]

    def _known(self) -> MetaRow:
        assert self.meta is not None, "rows are judged against their meta row"
        return self.meta


def _events(row: bytes) -> Iterator[tuple[int, tuple[int, bytes, bytes]]]:
    """(offset, (previous revision, key, version)) of each event of a row that may be damaged."""
    offset = EVENT_ROW.size
    while offset < len(row):
        previous, key_bytes, version_bytes = EVENT.unpack_from(row, offset)
        start = offset + EVENT.size
        end = start + key_bytes + version_bytes
        if end > len(row):
            raise Wrong(f"an event of {end - start} bytes at {offset} of {len(row)}")
        yield offset, (previous, row[start : start + key_bytes], row[start + key_bytes : end])
        offset = end


def _parses(message: type[Message]) -> Callable[[bytes, bytes], None]:
    """The check of a catalog's row, which is one message."""

    def check(_: bytes, row: bytes) -> None:
        try:
            message.FromString(row)
        except DecodeError:
            raise Wrong(f"it does not parse as {message.__name__}") from None

    return check
