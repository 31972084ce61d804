"""What the rows of a partition hold, byte by byte.

::

    current   escaped key             -> version
    history   escaped key, revision   -> pointer | inline version | tombstone
    event     last revision, chunk    -> stamp, then (previous, key, version)*
    session   session, entry index    -> stamp, acknowledged_below, (sequence, result)*
    meta      ""                      -> MetaRow        meta "cleared" -> the clean-up's cursor

A *version* is a header (create and mod revision, version, lease, and where its event stands: chunk
and offset) followed by the value. A current row and its event hold the very same bytes, encoded
once. Deleting a key makes an event whose version is 0 and that has no value.

A value is stored twice and no more: as the current version and in the event row of its entry. When
a newer version takes its place, a *history* row is written for the old one: a pointer into the
event row that has it, and the revision that superseded it. The event row is found by the first
event key at or after the pointed revision, because an entry's events are keyed by its last
revision; chunk and offset then lead straight to the bytes. When compaction is about to remove an
event row that a readable version still needs, the version moves *inline* into its history row (see
``compaction``).

Integers are big-endian so that they sort. A golden file of rows guards all of this.
"""

import enum
import struct

CHUNK_BYTES = 64 * 1024
"""Event rows close at this size; a larger event stands in a row of its own."""

VERSION = struct.Struct(">qqqqHI")
"""create revision, mod revision, version, lease, chunk, offset; then the value."""

EVENT = struct.Struct(">qII")
"""Revision of the superseded version (0 = none), length of the key, length of the version."""

EVENT_ROW = struct.Struct(">Q")
"""Stamp of the entry, milliseconds of log time."""

EVENT_KEY = struct.Struct(">qH")
"""Last revision of the entry, chunk."""

REVISION = struct.Struct(">q")

POINTER = struct.Struct(">BqHI")
"""HistoryKind.POINTER, superseding revision, chunk, offset."""

SESSION_KEY = struct.Struct(">QQ")
"""Session, entry index."""

SESSION_ROW = struct.Struct(">QQI")
"""Stamp, acknowledged_below, number of results."""

SESSION_RESULT = struct.Struct(">QI")
"""Sequence, length of the encoded result that follows."""

REVISION_MAX = 2**63 - 1


class HistoryKind(enum.IntEnum):
    """First byte of a history row. Values are on disk: never renumber."""

    POINTER = 0
    INLINE = 1
    TOMBSTONE = 2


INLINE = bytes((HistoryKind.INLINE,))
TOMBSTONE = bytes((HistoryKind.TOMBSTONE,))


def mod_revision(version: bytes) -> int:
    """The revision that wrote a version."""
    revision: int = REVISION.unpack_from(version, 8)[0]
    return revision


def events(row: bytes) -> "list[tuple[int, bytes, bytes]]":
    """The events of an event row in order: previous revision, key, version."""
    found = []
    offset = EVENT_ROW.size
    while offset < len(row):
        previous, key_bytes, version_bytes = EVENT.unpack_from(row, offset)
        key_start = offset + EVENT.size
        version_start = key_start + key_bytes
        offset = version_start + version_bytes
        found.append((previous, row[key_start:version_start], row[version_start:offset]))
    assert offset == len(row), "an event row ends with its last event"
    return found


def is_tombstone(version: bytes) -> bool:
    """Whether the version of an event says that the key was deleted."""
    number: int = REVISION.unpack_from(version, 16)[0]
    return number == 0
