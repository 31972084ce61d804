"""Between the rows of a partition and the items of a backup file, in both directions.

Saving reads the *current* rows of a view that does not move, slice by slice, and encodes them as
the file wants them. Restoring makes the rows of a new group from items: current rows with the
revisions and versions they had, and a meta row that says where the group stands.

A restored group goes on where the old one can never have been. Its revision is the old one plus a
*bump*, and everything below is compacted: whoever watched the old cluster, or reads at one of its
revisions, is told ``Compacted`` and starts over instead of missing what was lost, and a fencing
token handed out before the restore is below every one after it. Its first index is raised by the
same bump: ids of sessions are made of indexes, so none that the old cluster gave out can come to
mean another client's session. Log time and term go on from where they were.

Left out: sessions (a command that was sent to the old cluster has nothing to do with this one), old
versions and the events that hold them, and what compaction still had to clear away.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kvorum_proto.backup_file import BackupItem, encode_item
from kvorum_proto.backup_pb2 import BackupGroup
from kvorum_server.kv.mvcc import FIRST_REVISION
from kvorum_server.kv.rows import VERSION
from kvorum_server.storage.engine import EngineSnapshot
from kvorum_server.storage.rows import (
    PREFIX_BYTES,
    MetaRow,
    Table,
    escape,
    table_end,
    table_prefix,
    unescape,
)
from kvorum_server.types import GroupId

Row = tuple[bytes, bytes]

COUNTER_MAX = 1 << 52
"""No revision, index, term or time has ever counted so far: room to go on from it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some items as the file holds them, and how many they are."""

    count: int
    payload: bytes


class GroupView:
    """The items of a group as an engine has them between two turns. Close it when done.

    Raises NewerFormat or DamagedRows when the rows cannot be used.
    """

    __slots__ = ("_snapshot", "_space", "saved")

    def __init__(self, group: GroupId, space: int, snapshot: EngineSnapshot) -> None:
        row = snapshot.get(MetaRow.key(space))
        meta = MetaRow(revision=FIRST_REVISION) if row is None else MetaRow.decode(space, row)
        self._snapshot = snapshot
        self._space = space
        self.saved = BackupGroup(
            group=group,
            revision=meta.revision,
            compacted_revision=meta.compacted_revision,
            index=meta.index,
            term=meta.term,
            log_time=meta.stamp,
        )

    def rows(self) -> Iterator[Row]:
        """The current rows, in key order; lazily, and before the view is closed."""
        start = table_prefix(self._space, Table.CURRENT)
        return self._snapshot.scan(start, table_end(self._space, Table.CURRENT))

    def close(self) -> None:
        """Lets the engine forget the old rows. Idempotent."""
        self._snapshot.close()


def slices(rows: Iterable[Row], *, rows_max: int, bytes_max: int) -> Iterator[Slice]:
    """Current rows as items, in slices that end with the row that reaches a limit.

    >>> row = VERSION.pack(2, 2, 1, 0, 0, 0) + b"value"
    >>> rows = [(b"....\\x01" + escape(key), row) for key in (b"a", b"b", b"c")]
    >>> [part.count for part in slices(rows, rows_max=2, bytes_max=1000)]
    [2, 1]
    """
    items: list[bytes] = []
    size = 0
    for row_key, row in rows:
        create_revision, mod_revision, version, lease, _, _ = VERSION.unpack_from(row)
        key, value = unescape(row_key[PREFIX_BYTES:]), row[VERSION.size :]
        item = encode_item(key, value, create_revision, mod_revision, version, lease)
        items.append(item)
        size += len(item)
        if len(items) >= rows_max or size >= bytes_max:
            yield Slice(len(items), b"".join(items))
            items, size = [], 0
    if items:
        yield Slice(len(items), b"".join(items))


def restored_meta(saved: BackupGroup, revision_bump: int) -> MetaRow:
    """Where the new group begins: beyond everything that the old one can have reached.

    >>> restored_meta(BackupGroup(revision=7, index=9, term=3, log_time=1000), 100)
    MetaRow(index=109, term=3, stamp=1000, revision=107, compacted_revision=107)
    """
    assert revision_bump > 0, "a restored group does not repeat revisions"
    revision = saved.revision + revision_bump
    return MetaRow(
        index=saved.index + revision_bump,
        term=max(saved.term, 1),
        stamp=saved.log_time,
        revision=revision,
        compacted_revision=revision,
    )


def restored_rows(space: int, items: Iterable[BackupItem]) -> dict[bytes, bytes | None]:
    """The current rows of a new group.

    They point to no event: below the compacted revision nobody looks for one.
    """
    prefix = table_prefix(space, Table.CURRENT)
    return {
        prefix + escape(key): VERSION.pack(create_revision, mod_revision, version, lease, 0, 0)
        + value
        for key, value, create_revision, mod_revision, version, lease in items
    }


def impossible(saved: BackupGroup) -> str | None:
    """Why no group can have stood where the file says; None when it can have.

    >>> impossible(BackupGroup(group=1, revision=0))
    'group 1 cannot be at revision 0, index 0 and term 0'
    """
    counters = saved.revision, saved.index, saved.term, saved.log_time
    if saved.revision >= FIRST_REVISION and max(counters) <= COUNTER_MAX:
        return None
    return (
        f"group {saved.group} cannot be at revision {saved.revision}, index {saved.index} "
        f"and term {saved.term}"
    )


def contradiction(saved: BackupGroup, last_key: bytes, items: Sequence[BackupItem]) -> str | None:
    """Why items cannot follow ``last_key`` in a group as it was saved; None when they can.

    Digests say that a file is what was written; this says that what was written can be a state.

    >>> item = BackupItem(b"k", b"v", 2, 9, 1, 0)
    >>> contradiction(BackupGroup(group=1, revision=5), b"", [item])
    "the item b'k' was written at revision 9, its group is at 5"
    """
    for key, _, create_revision, mod_revision, version, _ in items:
        if key <= last_key:
            return f"the item {key!r} does not follow {last_key!r}"
        if mod_revision > saved.revision:
            return (
                f"the item {key!r} was written at revision {mod_revision}, "
                f"its group is at {saved.revision}"
            )
        if not 0 < create_revision <= mod_revision or not 0 < version <= COUNTER_MAX:
            return f"the item {key!r} was written before it was created, or not at all"
        last_key = key
    return None
