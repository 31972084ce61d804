"""One number for the whole state of a replica, so that replicas can be compared.

The hash of a state is the sum, modulo 2^64, of a 64-bit BLAKE2b of each *shared* row: table, key
and value, lengths included, without the space, which is a number of the node's own. A sum does not
care in which order the rows come, and a row added, lost or changed moves it to a random place: two
states that differ agree by chance once in 2^64.

Shared is a row that is a function of the log, present and equal on all replicas that have applied
the same entries. That is every row but these:

*   the place that a replica's clean-up has reached (``CLEARED``), its own business;
*   history and event rows at or below the compacted revision C. They are cleared away by each
    replica at its own pace (see ``kv/compaction.py``), and what a readable version still needs of
    them moves from the event row into the history row meanwhile. Above C nothing is ever cleared
    or moved, and C itself is in the meta row.

So one kind of visible row goes unseen: a version older than C, superseded after C, which reads at C
and shortly above still find. Its bytes lie in another row on one replica than on the next.

A hash is taken of an engine view, in slices, while the state itself moves on; the work costs what a
scan of all rows costs (``docs/adr/0014-state-hashes.md`` has figures). Left out: who compares what
with whom, see ``comparison.py``.
"""

from collections.abc import Iterator
from hashlib import blake2b

from kvorum_server.kv.history import View
from kvorum_server.kv.rows import EVENT_KEY, REVISION
from kvorum_server.storage.engine import SPACE_BYTES, EngineSnapshot
from kvorum_server.storage.rows import CLEARED, MetaRow, Table, table_end, table_prefix

Row = tuple[bytes, bytes]

HASH_BYTES = 8

ROW_BYTES = 1024
"""To hash so many bytes more costs about as much as another row."""

MODULUS = 1 << 8 * HASH_BYTES

_ROW = blake2b(digest_size=HASH_BYTES, key=b"kvorum state row")


def row_hash(key: bytes, value: bytes) -> int:
    """The hash of one row; ``key`` begins with the table.

    >>> row_hash(b"ab", b"c") == row_hash(b"a", b"bc")
    False
    """
    hashing = _ROW.copy()
    hashing.update(len(key).to_bytes(4, "big") + key + value)
    return int.from_bytes(hashing.digest(), "big")


def _rows_and_gaps(view: View, space: int) -> Iterator[Row | None]:
    """The shared rows of a space, and None for each row read that is not shared.

    Raises NewerFormat or DamagedRows when the meta row cannot be read.
    """
    meta_key = MetaRow.key(space)
    meta_row = view.get(meta_key)
    compacted = 0 if meta_row is None else MetaRow.decode(space, meta_row).compacted_revision
    for table in Table:
        start, end = table_prefix(space, table), table_end(space, table)
        if table is Table.EVENT:
            # In the order of revisions: what lies below need not even be read.
            start += EVENT_KEY.pack(compacted + 1, 0)
        for key, value in view.scan(start, end):
            is_old = (
                table is Table.HISTORY
                and REVISION.unpack_from(key, len(key) - REVISION.size)[0] <= compacted
            )
            yield None if is_old or key == meta_key + CLEARED else (key, value)


def shared_rows(view: View, space: int) -> Iterator[Row]:
    """The rows that all replicas share at equal applied indexes, keys without the space."""
    for row in _rows_and_gaps(view, space):
        if row is not None:
            yield row[0][SPACE_BYTES:], row[1]


class StateHasher:
    """The hash of the state that a view shows in a space, in the making.

    >>> from kvorum_server.storage.memory import MemoryEngine
    >>> engine = MemoryEngine()
    >>> engine.write({table_prefix(7, Table.CURRENT) + b"key": b"value"})
    >>> hasher = StateHasher(index=1, view=engine.snapshot(), space=7)
    >>> hasher.advance(rows_max=10) == row_hash(b"\\x01key", b"value")
    True
    """

    __slots__ = ("_rows", "_sum", "_view", "index")

    def __init__(self, *, index: int, view: EngineSnapshot, space: int) -> None:
        """``index`` is the entry after which the view was taken."""
        self.index = index
        self._view = view
        self._rows = _rows_and_gaps(view, space)
        self._sum = 0

    def advance(self, rows_max: int) -> int | None:
        """Reads the next rows, large ones counted several times; the hash when there are no more,
        else None.
        """
        total = self._sum
        budget = rows_max
        for row in self._rows:
            budget -= 1
            if row is not None:
                key, value = row
                total += row_hash(key[SPACE_BYTES:], value)
                budget -= len(value) // ROW_BYTES
            if budget <= 0:
                self._sum = total
                return None
        self.close()
        return total % MODULUS

    def close(self) -> None:
        """Gives the view back to the engine. Idempotent."""
        self._view.close()
