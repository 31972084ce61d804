"""What the records of the write-ahead log add up to.

The *live state* of a log is all that its records say, except the entries themselves: who the node
is, and for each replica its hard state, where its log starts and ends, its space and its
checkpoint. It is small, so every segment begins with a copy of it, and the segments before that
can go.

One reducer serves three masters. The running log applies each record it appends, and so knows what
the next segment has to begin with. Recovery applies the same records in the same order, and so
cannot come to another result. And because ``contradiction`` is asked first in both places, a record
that does not follow from those before it stops the program that would write it (a bug) and is
recognised as damage by the one that reads it.

:class:`LiveEntries` answers the other question of the log: which segments hold entries that some
replica may still need.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from kvorum_server.storage.errors import CorruptRecord
from kvorum_server.storage.record import (
    BootstrapRecord,
    CheckpointTaken,
    ClusterRecovered,
    EntriesAppended,
    EntrySkipped,
    Frame,
    HardStateChanged,
    LogCut,
    NodeIdentity,
    Record,
    RecordKind,
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
    StateLost,
    StateRebuilt,
    decode,
    decode_configuration,
    frame_of,
)
from kvorum_server.types import Configuration, GroupId, HardState, NodeId, ReplicaId

_REPLICA_STATE = struct.Struct("<IQQQQQQQQ")


@dataclass(slots=True)
class ReplicaState:
    """One replica without its entries: those are ``start_index`` + 1 to ``last_index``.

    ``skipped`` has the checksum of each entry that apply is to take for an empty one, by index.
    ``state_lost``: ``space`` holds nothing of use, whatever ``checkpoint_index`` says.
    """

    replica: ReplicaId
    space: int
    hard_state: HardState
    start_index: int
    start_term: int
    start_stamp: int
    configuration: Configuration
    checkpoint_index: int
    last_index: int
    skipped: dict[int, int] = field(default_factory=dict)
    state_lost: bool = False

    def encode(self) -> bytes:
        """The body of the internal record of a segment's first write."""
        hard = self.hard_state
        start = self.start_index, self.start_term, self.start_stamp
        ends = self.checkpoint_index, self.last_index
        head = _REPLICA_STATE.pack(self.space, hard.term, hard.vote, hard.commit, *start, *ends)
        return head + self.configuration.encode()

    @classmethod
    def decode(cls, replica: ReplicaId, body: bytes) -> "ReplicaState":
        """The inverse of :meth:`encode`; raises CorruptRecord."""
        try:
            space, term, vote, commit, *rest = _REPLICA_STATE.unpack_from(body)
        except struct.error as error:
            raise CorruptRecord(f"state of replica {replica}: {error}") from error
        index, start_term, stamp, checkpoint, last = rest
        configuration = decode_configuration(body[_REPLICA_STATE.size :])
        hard_state = HardState(term, vote, commit)
        start = index, start_term, stamp
        return cls(replica, space, hard_state, *start, configuration, checkpoint, last)


@dataclass(slots=True)
class LogState:
    """All that a log says, entries aside. ``retired`` is the largest removed replica id of a group.

    >>> state = LogState(identity=7, boot=1)
    >>> state.contradiction(NodeIdentity(7, 3))
    'boot 3 of identity 7 cannot follow boot 1 of identity 7'
    """

    identity: NodeId
    boot: int
    bootstrap: bytes | None = None
    replicas: dict[GroupId, ReplicaState] = field(default_factory=dict)
    retired: dict[GroupId, ReplicaId] = field(default_factory=dict)

    def contradiction(self, record: Record) -> str | None:
        """Why this record cannot be the next one; None when it can."""
        match record:
            case (
                EntriesAppended()
                | HardStateChanged()
                | SnapshotInstalled()
                | LogCut()
                | EntrySkipped()
                | StateLost()
                | StateRebuilt()
            ):
                state = self.replicas.get(record.group)
                if state is None or state.replica != record.replica:
                    return f"group {record.group} has no replica {record.replica} on this node"
                return _replica_contradiction(state, record)
            case CheckpointTaken(applied):
                for group, index in applied:
                    state = self.replicas.get(group)
                    if state is not None and index > state.last_index:
                        return f"checkpoint {index} of group {group} is above {state.last_index}"
            case ReplicaCreated(group, replica, space):
                if group in self.replicas:
                    return f"group {group} has replica {self.replicas[group].replica} already"
                if replica <= self.retired.get(group, 0):
                    return f"replica {replica} of group {group} was removed"
                if any(state.space == space for state in self.replicas.values()):
                    return f"space {space} has a replica already"
            case NodeIdentity(identity, boot):
                if (identity, boot) != (self.identity, self.boot + 1):
                    return (
                        f"boot {boot} of identity {identity} cannot follow "
                        f"boot {self.boot} of identity {self.identity}"
                    )
            case BootstrapRecord(bootstrap):
                if self.bootstrap not in (None, bootstrap):
                    return "the node belongs to another cluster already"
            case ClusterRecovered():
                if self.bootstrap is None:
                    return "the node belongs to no cluster yet"
            case ReplicaRetired():
                return None
            case _:
                assert_never(record)
        return None

    def apply(self, record: Record) -> None:
        """Takes in the next record. The caller has made sure that it contradicts nothing."""
        match record:
            case EntriesAppended(group, _, entries):
                self.replicas[group].last_index = entries[-1].index
            case HardStateChanged(group, _, hard_state):
                self.replicas[group].hard_state = hard_state
            case CheckpointTaken(applied):
                for group, index in applied:
                    if (state := self.replicas.get(group)) is not None:
                        state.checkpoint_index = max(state.checkpoint_index, index)
            case LogCut(group, _, index, term, stamp, configuration):
                _start_after(self.replicas[group], index, term, stamp, configuration)
            case SnapshotInstalled(group, _, space, meta):
                state = self.replicas[group]
                _start_after(state, meta.index, meta.term, meta.stamp, meta.configuration)
                state.space = space
                state.checkpoint_index = state.last_index = meta.index
                state.state_lost = False
                hard = state.hard_state
                state.hard_state = HardState(hard.term, hard.vote, max(hard.commit, meta.index))
            case ReplicaCreated(group, replica, space, configuration):
                empty = HardState()
                fresh = ReplicaState(replica, space, empty, 0, 0, 0, configuration, 0, 0)
                self.replicas[group] = fresh
            case ReplicaRetired(group, replica):
                self.retired[group] = max(replica, self.retired.get(group, 0))
                if group in self.replicas and self.replicas[group].replica <= replica:
                    del self.replicas[group]
            case NodeIdentity(identity, boot):
                self.identity, self.boot = identity, boot
            case BootstrapRecord(bootstrap) | ClusterRecovered(bootstrap):
                self.bootstrap = bootstrap
            case EntrySkipped(group, _, index, checksum):
                self.replicas[group].skipped[index] = checksum
            case StateLost(group):
                self.replicas[group].state_lost = True
            case StateRebuilt(group, _, space, index):
                state = self.replicas[group]
                state.space, state.checkpoint_index, state.state_lost = space, index, False
            case _:
                assert_never(record)

    def frames(self) -> list[Frame]:
        """The whole state as records, for the first write of a segment."""
        node: list[Record] = [NodeIdentity(self.identity, self.boot)]
        if self.bootstrap is not None:
            node.append(BootstrapRecord(self.bootstrap))
        node += [ReplicaRetired(group, replica) for group, replica in sorted(self.retired.items())]
        frames: list[Frame] = [frame_of(record) for record in node]
        for group, state in sorted(self.replicas.items()):
            frames.append((RecordKind.REPLICA_STATE, group, state.replica, state.encode()))
            for index, checksum in sorted(state.skipped.items()):
                frames.append(frame_of(EntrySkipped(group, state.replica, index, checksum)))
            if state.state_lost:
                frames.append(frame_of(StateLost(group, state.replica)))
        return frames

    @classmethod
    def from_frames(cls, frames: Sequence[Frame]) -> "LogState":
        """The inverse of :meth:`frames`; raises CorruptRecord."""
        result = cls(identity=0, boot=0)
        for kind, group, replica, body in frames:
            if kind == RecordKind.REPLICA_STATE:
                result.replicas[group] = ReplicaState.decode(replica, body)
                continue
            record = decode(kind, group, replica, body)
            begins = NodeIdentity | BootstrapRecord | ReplicaRetired | EntrySkipped | StateLost
            orphan = isinstance(record, EntrySkipped | StateLost) and group not in result.replicas
            if not isinstance(record, begins) or orphan:
                raise CorruptRecord(f"a segment cannot begin with {type(record).__name__}")
            result.apply(record)
        if not result.identity:
            raise CorruptRecord("a segment begins without the identity of its node")
        return result

    def check_invariants(self) -> None:
        """Raises AssertionError when the state contradicts itself."""
        assert self.identity, "no identity"
        assert self.boot >= 1, "a node that never started"
        spaces = [state.space for state in self.replicas.values()]
        assert len(set(spaces)) == len(spaces), f"two replicas in one space: {spaces}"
        for group, state in self.replicas.items():
            assert state.replica > self.retired.get(group, 0), f"group {group} is removed"
            assert state.start_index <= state.checkpoint_index, f"group {group} cut too far"
            assert state.checkpoint_index <= state.last_index, f"group {group}: state without log"


def _replica_contradiction(
    state: ReplicaState,
    record: EntriesAppended
    | HardStateChanged
    | SnapshotInstalled
    | LogCut
    | EntrySkipped
    | StateLost
    | StateRebuilt,
) -> str | None:
    match record:
        case EntriesAppended(entries=entries):
            first = entries[0].index
            if first > state.last_index + 1:
                return f"entry {first} cannot follow entry {state.last_index}"
            if first <= state.checkpoint_index:
                return f"entry {first} would replace what checkpoint {state.checkpoint_index} holds"
        case HardStateChanged(hard_state=new):
            old = state.hard_state
            if new.term < old.term or new.commit < old.commit:
                return f"{new} cannot follow {old}"
            if new.term == old.term and old.vote not in (0, new.vote):
                return f"the vote of term {old.term} was {old.vote} and cannot become {new.vote}"
        case SnapshotInstalled(meta=meta):
            if meta.index <= state.checkpoint_index:
                return f"snapshot {meta.index} is not newer than state {state.checkpoint_index}"
        case LogCut(index=index):
            if not state.start_index <= index <= state.checkpoint_index:
                return (
                    f"cut {index} is not between log start {state.start_index} "
                    f"and checkpoint {state.checkpoint_index}"
                )
        case StateRebuilt(index=index):
            if not state.state_lost:
                return "a state that was not lost is not rebuilt"
            if not state.start_index <= index <= state.last_index:
                return (
                    f"state {index} is not between log start {state.start_index} "
                    f"and entry {state.last_index}"
                )
        case StateLost():
            return None
        case EntrySkipped(index=index):
            if index <= state.checkpoint_index:
                return f"entry {index} is applied: checkpoint {state.checkpoint_index} holds it"
        case _:
            assert_never(record)
    return None


def _start_after(
    state: ReplicaState, index: int, term: int, stamp: int, configuration: Configuration
) -> None:
    state.start_index, state.start_term, state.start_stamp = index, term, stamp
    state.configuration = configuration
    for skipped in [skipped for skipped in state.skipped if skipped <= index]:
        del state.skipped[skipped]


class LiveEntries:
    """For each segment and group, the range of indexes whose newest copy lies in that segment.

    A segment is *needed* while one of its ranges reaches above the start of that group's log.

    >>> live = LiveEntries()
    >>> live.begin(1)
    >>> live.extend(group=5, first=1, last=9)
    >>> live.begin(2)
    >>> live.supersede(group=5, first=4)
    >>> live.extend(group=5, first=4, last=6)
    >>> live.ranges(1), live.ranges(2)
    ({5: (1, 3)}, {5: (4, 6)})
    """

    __slots__ = ("_segments",)

    def __init__(self) -> None:
        self._segments: dict[int, dict[GroupId, tuple[int, int]]] = {}

    def begin(self, segment: int) -> None:
        """Entries go to this segment from now on."""
        assert segment not in self._segments, f"segment {segment} has begun before"
        self._segments[segment] = {}

    def forget(self, segment: int) -> None:
        """The segment is gone."""
        del self._segments[segment]

    def track(self, record: Record, state: LogState) -> None:
        """Follows one record; ``state`` is the state before it."""
        match record:
            case EntriesAppended(group, _, entries):
                first = entries[0].index
                if first <= state.replicas[group].last_index:
                    self.supersede(group, first)
                self.extend(group, first, entries[-1].index)
            case SnapshotInstalled(group):
                self.supersede(group, 0)
            case ReplicaRetired(group, replica):
                held = state.replicas.get(group)
                if held is not None and held.replica <= replica:
                    self.supersede(group, 0)

    def extend(self, group: GroupId, first: int, last: int) -> None:
        """Entries ``first`` to ``last`` of a group now lie in the newest segment."""
        newest = self._segments[next(reversed(self._segments))]
        lowest, highest = newest.get(group, (first, first - 1))
        assert first == highest + 1, f"entry {first} of group {group} follows {highest}"
        newest[group] = (lowest, last)

    def supersede(self, group: GroupId, first: int) -> None:
        """Entries of a group from ``first`` on count no more, wherever they lie."""
        for ranges in self._segments.values():
            lowest, highest = ranges.get(group, (0, 0))
            if lowest >= first:
                ranges.pop(group, None)
            elif highest >= first:
                ranges[group] = (lowest, first - 1)

    def segments(self) -> list[int]:
        """The segments that are followed, oldest first."""
        return list(self._segments)

    def ranges(self, segment: int) -> dict[GroupId, tuple[int, int]]:
        """Lowest and highest live index of each group in a segment."""
        return dict(self._segments[segment])

    def needed(self, segment: int, state: LogState) -> bool:
        """Whether the segment holds an entry above the start of its group's log."""
        return any(
            highest > state.replicas[group].start_index
            for group, (_, highest) in self._segments[segment].items()
        )
