"""The facts that a node never forgets, as values and as bytes.

A *record* is one such fact about one replica or about the whole node. The write-ahead log holds
them in the order in which they became true; recovery is nothing but applying them again in that
order (``log_state.py``). How records lie in files is told in ``wal.py``; here are their bodies
only.

A record is stored as *kind*, *group*, *replica* and a *body*; group and replica are 0 where a
record speaks of the node. Bodies are little-endian and fixed: integers of 8 bytes unless said
otherwise, configurations and the bootstrap in protobuf form, written deterministically::

    kind  record              body
    1     NodeIdentity        identity, boot
    2     BootstrapRecord     serialised peer_pb2.Bootstrap
    3     ReplicaCreated      space (4), configuration
    4     EntriesAppended     first index, count (4), then for each entry:
                              term, stamp, level (4), kind (1), payload length (4), payload
    5     HardStateChanged    term, vote, commit
    6     SnapshotInstalled   space (4), index, term, stamp, configuration
    7     CheckpointTaken     count (4), then for each: group (4), index
    8     LogCut              index, term, stamp, configuration
    9     ReplicaRetired      empty
    13    EntrySkipped        index, checksum (4)
    14    ClusterRecovered    serialised peer_pb2.Bootstrap
    15    StateLost           empty
    16    StateRebuilt        space (4), index

Kinds 10 to 12 belong to the log itself (``wal.py``) and never leave it. A kind or layout is never
changed, only added, together with the format number of the segments; a golden test holds the bytes.
Kinds 13 to 16 came with format 2; 13 and 14 are written by ``kvorum-server recover`` only.

Decoding takes bytes that a broken disk may have made: whatever they are, the answer is a record or
:class:`CorruptRecord`.
"""

import enum
import struct
from dataclasses import dataclass
from typing import assert_never

from google.protobuf.message import DecodeError
from google_crc32c import extend

from kvorum_server.storage.errors import CorruptRecord
from kvorum_server.types import (
    Configuration,
    Entry,
    EntryKind,
    GroupId,
    HardState,
    NodeId,
    ReplicaId,
    SnapshotMeta,
)


class RecordKind(enum.IntEnum):
    """The number of a record's kind on disk: never renumber. 0 is the end of a log."""

    NODE_IDENTITY = 1
    BOOTSTRAP = 2
    REPLICA_CREATED = 3
    ENTRIES_APPENDED = 4
    HARD_STATE_CHANGED = 5
    SNAPSHOT_INSTALLED = 6
    CHECKPOINT_TAKEN = 7
    LOG_CUT = 8
    REPLICA_RETIRED = 9
    CLAIM = 10
    SEGMENT_START = 11
    REPLICA_STATE = 12
    ENTRY_SKIPPED = 13
    CLUSTER_RECOVERED = 14
    STATE_LOST = 15
    STATE_REBUILT = 16


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this node is: 64 random bits made with its directory. ``boot`` counts starts from 1."""

    identity: NodeId
    boot: int


@dataclass(frozen=True, slots=True)
class BootstrapRecord:
    """The birth certificate of the cluster, a serialised ``peer_pb2.Bootstrap``. A node never
    replaces it; an operator who has lost a majority may (see :class:`ClusterRecovered`).
    """

    bootstrap: bytes


@dataclass(frozen=True, slots=True)
class ReplicaCreated:
    """An empty replica begins to exist; ``configuration`` is in force before its first entry."""

    group: GroupId
    replica: ReplicaId
    space: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class EntriesAppended:
    """Contiguous entries, at least one. What the log held from the first index on is dropped."""

    group: GroupId
    replica: ReplicaId
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class HardStateChanged:
    """The replica's term, vote or commit index moved."""

    group: GroupId
    replica: ReplicaId
    hard_state: HardState


@dataclass(frozen=True, slots=True)
class SnapshotInstalled:
    """From here on the state is what ``space`` holds and the log begins after the snapshot.

    This record *is* the switch: the rows of the new space are flushed before it is written, those
    of the old one are deleted after it is durable. What a snapshot holds is committed.
    """

    group: GroupId
    replica: ReplicaId
    space: int
    meta: SnapshotMeta


@dataclass(frozen=True, slots=True)
class CheckpointTaken:
    """The engine has flushed: the state on disk holds each group's log up to at least this."""

    applied: tuple[tuple[GroupId, int], ...]


@dataclass(frozen=True, slots=True)
class LogCut:
    """Entries up to ``index``, covered by a checkpoint, may go; ``configuration`` held there."""

    group: GroupId
    replica: ReplicaId
    index: int
    term: int
    stamp: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class ReplicaRetired:
    """This replica id and every smaller one of the group are removed from this node for good."""

    group: GroupId
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class EntrySkipped:
    """Apply takes the entry at ``index`` for an empty one, if it is the one with ``checksum``
    (:func:`entry_checksum`). An operator decided it, the same on every node.
    """

    group: GroupId
    replica: ReplicaId
    index: int
    checksum: int


@dataclass(frozen=True, slots=True)
class ClusterRecovered:
    """This node has left its cluster, whose majority is lost, and is the first one of another.

    ``bootstrap`` is the certificate of the new cluster: another cluster id, so that what is left of
    the old one can never be taken for a part of this one.
    """

    bootstrap: bytes


@dataclass(frozen=True, slots=True)
class StateLost:
    """The rows of the replica are gone or wrong; its log and its vote are not. Whoever starts with
    this record rebuilds the state and serves nobody before :class:`StateRebuilt` or
    :class:`SnapshotInstalled`.
    """

    group: GroupId
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class StateRebuilt:
    """The lost state is back: ``space`` holds, durably, what the log makes up to ``index``, which
    the log has not cut. The log stays as it is; what follows the index is applied again.
    """

    group: GroupId
    replica: ReplicaId
    space: int
    index: int


Record = (
    NodeIdentity
    | BootstrapRecord
    | ReplicaCreated
    | EntriesAppended
    | HardStateChanged
    | SnapshotInstalled
    | CheckpointTaken
    | LogCut
    | ReplicaRetired
    | EntrySkipped
    | ClusterRecovered
    | StateLost
    | StateRebuilt
)

Frame = tuple[int, GroupId, ReplicaId, bytes]
"""A record as the log stores it: kind, group, replica, body."""

_IDENTITY = struct.Struct("<QQ")
_SPACE = struct.Struct("<I")
_ENTRIES = struct.Struct("<QI")
_ENTRY = struct.Struct("<QQIBI")
_HARD_STATE = struct.Struct("<QQQ")
_INSTALLED = struct.Struct("<IQQQ")
_COUNT = struct.Struct("<I")
_APPLIED = struct.Struct("<IQ")
_CUT = struct.Struct("<QQQ")
_REBUILT = struct.Struct("<IQ")
_SKIPPED = struct.Struct("<QI")
_INDEX = struct.Struct("<Q")
_ENTRY_KINDS = {kind.value: kind for kind in EntryKind}


def address(record: Record) -> tuple[RecordKind, GroupId, ReplicaId]:
    """What stands in front of a record's body: kind, group and replica.

    >>> address(ReplicaRetired(group=7, replica=3))
    (<RecordKind.REPLICA_RETIRED: 9>, 7, 3)
    """
    match record:
        case EntriesAppended(group, replica):
            return RecordKind.ENTRIES_APPENDED, group, replica
        case HardStateChanged(group, replica):
            return RecordKind.HARD_STATE_CHANGED, group, replica
        case CheckpointTaken():
            return RecordKind.CHECKPOINT_TAKEN, 0, 0
        case LogCut(group, replica):
            return RecordKind.LOG_CUT, group, replica
        case SnapshotInstalled(group, replica):
            return RecordKind.SNAPSHOT_INSTALLED, group, replica
        case ReplicaCreated(group, replica):
            return RecordKind.REPLICA_CREATED, group, replica
        case ReplicaRetired(group, replica):
            return RecordKind.REPLICA_RETIRED, group, replica
        case NodeIdentity():
            return RecordKind.NODE_IDENTITY, 0, 0
        case BootstrapRecord():
            return RecordKind.BOOTSTRAP, 0, 0
        case EntrySkipped(group, replica):
            return RecordKind.ENTRY_SKIPPED, group, replica
        case StateLost(group, replica):
            return RecordKind.STATE_LOST, group, replica
        case StateRebuilt(group, replica):
            return RecordKind.STATE_REBUILT, group, replica
        case ClusterRecovered():
            return RecordKind.CLUSTER_RECOVERED, 0, 0
        case _:
            assert_never(record)


def frame_of(record: Record) -> Frame:
    """The record as the log stores it."""
    return (*address(record), encode(record))


def encode(record: Record) -> bytes:
    """The body of a record.

    >>> encode(HardStateChanged(1, 1, HardState(term=2, vote=1, commit=0))).hex(" ", 8)
    '0200000000000000 0100000000000000 0000000000000000'
    """
    match record:
        case EntriesAppended(entries=entries):
            return _encode_entries(entries)
        case HardStateChanged(hard_state=state):
            return _HARD_STATE.pack(state.term, state.vote, state.commit)
        case CheckpointTaken(applied):
            pairs = b"".join(_APPLIED.pack(group, index) for group, index in applied)
            return _COUNT.pack(len(applied)) + pairs
        case LogCut(index=index, term=term, stamp=stamp, configuration=configuration):
            return _CUT.pack(index, term, stamp) + configuration.encode()
        case SnapshotInstalled(space=space, meta=meta):
            head = _INSTALLED.pack(space, meta.index, meta.term, meta.stamp)
            return head + meta.configuration.encode()
        case ReplicaCreated(space=space, configuration=configuration):
            return _SPACE.pack(space) + configuration.encode()
        case ReplicaRetired() | StateLost():
            return b""
        case StateRebuilt(space=space, index=index):
            return _REBUILT.pack(space, index)
        case NodeIdentity(identity, boot):
            return _IDENTITY.pack(identity, boot)
        case EntrySkipped(index=index, checksum=checksum):
            return _SKIPPED.pack(index, checksum)
        case BootstrapRecord(bootstrap) | ClusterRecovered(bootstrap):
            return bootstrap
        case _:
            assert_never(record)


def _encode_entries(entries: tuple[Entry, ...]) -> bytes:
    assert entries, "a record of no entries"
    index = entries[0].index
    parts = [_ENTRIES.pack(index, len(entries))]
    for entry in entries:
        assert entry.index == index, f"entry {entry.index} follows {index - 1}"
        payload = entry.payload
        parts.append(_ENTRY.pack(entry.term, entry.stamp, entry.level, entry.kind, len(payload)))
        parts.append(payload)
        index += 1
    return b"".join(parts)


def entry_checksum(entry: Entry) -> int:
    """What tells an entry from every other one that could stand at its place: a CRC-32C of all of
    it. ``kvorum-server verify --entry`` shows it, ``recover --skip-entry`` asks for it.

    >>> f"{entry_checksum(Entry(7, 2, EntryKind.COMMANDS, 1000, 1, b'command')):08x}"
    'b8a17246'
    """
    head = _ENTRY.pack(entry.term, entry.stamp, entry.level, entry.kind, len(entry.payload))
    checksum: int = extend(0, _INDEX.pack(entry.index) + head + entry.payload)
    return checksum


def decode(kind: int, group: GroupId, replica: ReplicaId, body: bytes) -> Record:
    """The record of a body; the inverse of :func:`address` and :func:`encode`.

    Raises CorruptRecord when the body is not one that ``encode`` makes.
    """
    try:
        return _decode(kind, group, replica, body)
    except struct.error as error:
        raise CorruptRecord(f"record of kind {kind}: {error}") from error


def _decode(kind: int, group: GroupId, replica: ReplicaId, body: bytes) -> Record:
    match kind:
        case RecordKind.ENTRIES_APPENDED:
            return EntriesAppended(group, replica, _decode_entries(body))
        case RecordKind.HARD_STATE_CHANGED:
            return HardStateChanged(group, replica, HardState(*_HARD_STATE.unpack(body)))
        case RecordKind.CHECKPOINT_TAKEN:
            return CheckpointTaken(_decode_applied(body))
        case RecordKind.LOG_CUT:
            index, term, stamp = _CUT.unpack_from(body)
            configuration = decode_configuration(body[_CUT.size :])
            return LogCut(group, replica, index, term, stamp, configuration)
        case RecordKind.SNAPSHOT_INSTALLED:
            space, index, term, stamp = _INSTALLED.unpack_from(body)
            configuration = decode_configuration(body[_INSTALLED.size :])
            meta = SnapshotMeta(index, term, stamp, configuration)
            return SnapshotInstalled(group, replica, space, meta)
        case RecordKind.REPLICA_CREATED:
            (space,) = _SPACE.unpack_from(body)
            return ReplicaCreated(group, replica, space, decode_configuration(body[_SPACE.size :]))
        case RecordKind.REPLICA_RETIRED if not body:
            return ReplicaRetired(group, replica)
        case RecordKind.STATE_LOST if not body:
            return StateLost(group, replica)
        case RecordKind.STATE_REBUILT:
            return StateRebuilt(group, replica, *_REBUILT.unpack(body))
        case RecordKind.NODE_IDENTITY:
            return NodeIdentity(*_IDENTITY.unpack(body))
        case RecordKind.BOOTSTRAP:
            return BootstrapRecord(body)
        case RecordKind.ENTRY_SKIPPED:
            return EntrySkipped(group, replica, *_SKIPPED.unpack(body))
        case RecordKind.CLUSTER_RECOVERED:
            return ClusterRecovered(body)
        case _:
            raise CorruptRecord(f"no record has kind {kind} and a body of {len(body)} bytes")


def decode_configuration(encoded: bytes) -> Configuration:
    """A configuration inside a body; raises CorruptRecord when the bytes are none."""
    try:
        return Configuration.decode(encoded)
    except DecodeError as error:
        raise CorruptRecord(f"a configuration does not parse: {error}") from error


def _decode_applied(body: bytes) -> tuple[tuple[GroupId, int], ...]:
    (count,) = _COUNT.unpack_from(body)
    if len(body) != _COUNT.size + count * _APPLIED.size:
        raise CorruptRecord(f"a checkpoint of {count} groups in {len(body)} bytes")
    return tuple(_APPLIED.iter_unpack(body[_COUNT.size :]))


def _decode_entries(body: bytes) -> tuple[Entry, ...]:
    index, count = _ENTRIES.unpack_from(body)
    offset = _ENTRIES.size
    entries = []
    # Each entry takes bytes of the body, so a wrong count ends in an error and not in endless work.
    for _ in range(count):
        term, stamp, level, number, size = _ENTRY.unpack_from(body, offset)
        offset += _ENTRY.size
        kind = _ENTRY_KINDS.get(number)
        if kind is None:
            raise CorruptRecord(f"entry {index} has the unknown kind {number}")
        payload = body[offset : offset + size]
        offset += size
        entries.append(Entry(index, term, kind, stamp, level, payload))
        index += 1
    if offset != len(body) or not entries:
        raise CorruptRecord(f"{count} entries need {offset} bytes, there are {len(body)}")
    return tuple(entries)
