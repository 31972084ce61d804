"""How the rows of every state machine begin: space, table, escaped key, and the meta row.

A row key is ``space(4) table(1) rest``. Where the rest holds a user's key, the key is *escaped*:
each zero byte becomes ``00 FF`` and ``00 01`` ends it. So escaped keys sort as the keys themselves
do, and nothing that follows (a revision, say) can be mistaken for more key; plain ``key +
revision`` would put the versions of ``b"a\\x00"`` in the midst of those of ``b"a"``.

The meta row is the first row of a space and begins with the format number, so whoever opens a space
learns first whether it can read the rest. It is written with every applied entry, in the same write
as the entry's rows: applied index and data cannot come apart (PITFALLS "apply atomicity").

Left out: what the other tables hold; that is the business of the state machine that owns them.
"""

import enum
import struct
from dataclasses import dataclass
from typing import Self

from kvorum_server.storage.engine import SPACE_BYTES, space_prefix
from kvorum_server.storage.errors import NewerFormat, StorageError

ROWS_FORMAT = 1
"""Raised whenever a row's meaning changes; ``tests/scripts/mvcc/rows.txt`` guards it."""

CLEARED = b"cleared"
"""Rest of the meta key under which a replica keeps how far its clean-up has come. Only this row is
a replica's own business: all others are what the log has made of them (see ``state_hash.py``)."""

PREFIX_BYTES = SPACE_BYTES + 1
"""Length of space and table, before the rest of a row key."""

KEY_END = b"\x00\x01"

_META = struct.Struct(">HQQQqq")


class Table(enum.IntEnum):
    """The byte after the space. Values are on disk: never renumber."""

    META = 0
    CURRENT = 1
    HISTORY = 2
    EVENT = 3
    SESSION = 4
    MEMBER = 16
    EXPECTED_MEMBER = 17
    REMOVED_MEMBER = 18
    PLACEMENT = 19
    REPORT = 20


class DamagedRows(StorageError):
    """Rows contradict each other: the state is not what the log has made of it."""

    def __init__(self, space: int, reason: str) -> None:
        super().__init__(f"the state in space {space} is damaged: {reason}")
        self.space = space
        self.reason = reason


def table_prefix(space: int, table: Table) -> bytes:
    """What every row key of a table begins with.

    >>> table_prefix(1, Table.HISTORY)
    b'\\x00\\x00\\x00\\x01\\x02'
    """
    return space_prefix(space) + bytes((table,))


def table_end(space: int, table: Table) -> bytes:
    """The first key after a table: the end of a scan over all of it."""
    return space_prefix(space) + bytes((table + 1,))


def escape(key: bytes) -> bytes:
    """A form that sorts like the key and says where it ends.

    >>> escape(b"a"), escape(b"a\\x00b")
    (b'a\\x00\\x01', b'a\\x00\\xffb\\x00\\x01')
    """
    if b"\x00" in key:
        return key.replace(b"\x00", b"\x00\xff") + KEY_END
    return key + KEY_END


def unescape(escaped: bytes) -> bytes:
    """The inverse of :func:`escape`.

    >>> unescape(escape(b"a\\x00b"))
    b'a\\x00b'
    """
    assert escaped.endswith(KEY_END), "an escaped key ends with its mark"
    return escaped[:-2].replace(b"\x00\xff", b"\x00")


def table_range(space: int, table: Table, key: bytes, range_end: bytes) -> tuple[bytes, bytes]:
    """Row keys [start, end) of a table for a range as commands name it; empty when start >= end.

    No range end is the single key, one zero byte is the end of the key space.
    """
    prefix = table_prefix(space, table)
    start = prefix + escape(key)
    if not range_end:
        return start, prefix + escape(key + b"\x00")
    if range_end == b"\x00":
        return start, table_end(space, table)
    return start, prefix + escape(range_end)


@dataclass(frozen=True, slots=True)
class MetaRow:
    """Where a state machine stands: place in the log, log time (ms), revisions (0 = has none)."""

    index: int = 0
    term: int = 0
    stamp: int = 0
    revision: int = 0
    compacted_revision: int = 0

    @staticmethod
    def key(space: int) -> bytes:
        """The first row key of the space."""
        return table_prefix(space, Table.META)

    def encode(self) -> bytes:
        """The row, format number first."""
        return _META.pack(
            ROWS_FORMAT, self.index, self.term, self.stamp, self.revision, self.compacted_revision
        )

    @classmethod
    def decode(cls, space: int, row: bytes) -> Self:
        """The inverse of :meth:`encode`.

        Raises NewerFormat for rows that only a later program can read, DamagedRows for anything
        else that is not a meta row.
        """
        found = int.from_bytes(row[:2], "big")
        if found > ROWS_FORMAT:
            raise NewerFormat(f"the state in space {space}", found, ROWS_FORMAT)
        if found != ROWS_FORMAT or len(row) != _META.size:
            raise DamagedRows(space, f"a meta row of format {found} and {len(row)} bytes")
        _, index, term, stamp, revision, compacted_revision = _META.unpack(row)
        return cls(index, term, stamp, revision, compacted_revision)
