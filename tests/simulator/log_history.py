"""A random life of one write-ahead log, compared with a model after every crash.

The model knows nothing of segments or frames: it is a dictionary per group, and a copy of it is
kept for every write since the last sync. After a crash the log must have come back as one of these
copies (a crash cuts the history somewhere between the last sync and the last append, never inside
a write); after a mere restart of the process as the last one. Segments are tiny, so that rolling,
removal and oversized writes are everyday events; sometimes the disk is full, sometimes a sync
fails.

``LogHistory(seed).run(steps)`` raises AssertionError when the log breaks its promise.
"""

import copy
from dataclasses import dataclass, field
from random import Random

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DiskFailure
from kvorum_server.storage.record import (
    BootstrapRecord,
    CheckpointTaken,
    ClusterRecovered,
    EntriesAppended,
    EntrySkipped,
    HardStateChanged,
    LogCut,
    Record,
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
)
from kvorum_server.storage.wal import Recovered, RecoveredReplica, WriteAheadLog
from kvorum_server.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from tests.simulator.disk import SimulatedDisk

GROUPS = (0, 1, 7)
SEGMENT_BYTES = 2048


@dataclass(slots=True)
class ModelReplica:
    """What one replica must remember."""

    replica: int
    space: int
    configuration: Configuration
    hard_state: HardState = field(default_factory=HardState)
    start: tuple[int, int, int] = (0, 0, 0)
    entries: list[Entry] = field(default_factory=list)
    checkpoint_index: int = 0
    skipped: dict[int, int] = field(default_factory=dict)

    def start_at(self, index: int, term: int, stamp: int) -> None:
        """The log starts after this entry."""
        self.start = index, term, stamp
        self.skipped = {place: one for place, one in self.skipped.items() if place > index}

    @property
    def last_index(self) -> int:
        return self.start[0] + len(self.entries)

    def at(self, index: int) -> tuple[int, int, int]:
        """Index, term and stamp of a place in the log."""
        if index == self.start[0]:
            return self.start
        entry = self.entries[index - self.start[0] - 1]
        assert entry.index == index
        return index, entry.term, entry.stamp


@dataclass(slots=True)
class Model:
    """What one node must remember."""

    bootstrap: bytes | None = None
    replicas: dict[int, ModelReplica] = field(default_factory=dict)
    retired: dict[int, int] = field(default_factory=dict)

    def apply(self, record: Record) -> None:
        match record:
            case BootstrapRecord(bootstrap) | ClusterRecovered(bootstrap):
                self.bootstrap = bootstrap
            case EntrySkipped(group, _, index, checksum):
                self.replicas[group].skipped[index] = checksum
            case ReplicaCreated(group, replica, space, configuration):
                self.replicas[group] = ModelReplica(replica, space, configuration)
            case ReplicaRetired(group, replica):
                self.retired[group] = replica
                del self.replicas[group]
            case HardStateChanged(group, _, hard_state):
                self.replicas[group].hard_state = hard_state
            case EntriesAppended(group, _, entries):
                held = self.replicas[group]
                kept = [entry for entry in held.entries if entry.index < entries[0].index]
                held.entries = [*kept, *entries]
            case CheckpointTaken(applied):
                for group, index in applied:
                    self.replicas[group].checkpoint_index = index
            case LogCut(group, _, index, term, stamp, configuration):
                held = self.replicas[group]
                held.entries = [entry for entry in held.entries if entry.index > index]
                held.start_at(index, term, stamp)
                held.configuration = configuration
            case SnapshotInstalled(group, _, space, meta):
                held = self.replicas[group]
                held.space, held.configuration = space, meta.configuration
                held.start_at(meta.index, meta.term, meta.stamp)
                held.entries = []
                held.checkpoint_index = meta.index
                hard = held.hard_state
                held.hard_state = HardState(hard.term, hard.vote, max(hard.commit, meta.index))

    def matches(self, recovered: Recovered) -> bool:
        """Whether the log came back as this."""
        expected = {
            group: RecoveredReplica(
                group,
                held.replica,
                held.space,
                held.hard_state,
                held.start[:2],
                held.start[2],
                held.configuration,
                held.entries,
                held.checkpoint_index,
                held.skipped,
            )
            for group, held in self.replicas.items()
        }
        found = recovered.bootstrap, recovered.retired, recovered.replicas
        return found == (self.bootstrap, self.retired, expected)


class LogHistory:
    """One log, its disk and the models of every state that a crash may bring back."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.disk = SimulatedDisk(Random(seed + 1))
        self.possible = [Model()]
        self.boots = 0
        self.next_space = 1
        self.crashes = 0
        self.removed_segments = 0
        self.open()

    @property
    def model(self) -> Model:
        """What has been appended, durable or not."""
        return self.possible[-1]

    def run(self, steps: int) -> None:
        """Lives for so many random steps."""
        acts = (self.append, self.sync, self.claim, self.crash, self.restart, self.fail, self.fill)
        for _ in range(steps):
            self.random.choices(acts, weights=(60, 25, 5, 4, 2, 1, 3))[0]()
            self.log.check_invariants()
            used_bytes = self.disk.capacity_bytes - self.disk.free_bytes()
            assert used_bytes == self.log.disk_bytes, "files that the log does not know of"

    def open(self) -> None:
        """Starts the node and checks what it remembers; from then on that is durable."""
        self.log, recovered = WriteAheadLog.open(
            self.disk, segment_bytes=SEGMENT_BYTES, new_identity=lambda: 4711
        )
        self.log.check_invariants()
        self.boots += 1
        assert recovered.fresh == (self.boots == 1)
        assert (recovered.identity, recovered.boot) == (4711, self.boots)
        came_back = [model for model in self.possible if model.matches(recovered)]
        assert came_back, f"boot {self.boots}: a state that never was: {recovered}"
        # Writes without lasting effect give equal models: the newest one is as good as any.
        self.possible = [came_back[-1]]

    def append(self) -> None:
        """One write of one to four records that follow from the model."""
        after = copy.deepcopy(self.model)
        records = []
        for _ in range(self.random.randrange(1, 5)):
            record = self.record(after)
            after.apply(record)
            records.append(record)
        before = self.log.disk_bytes, self.log.durable_end, self.log.segment_names
        try:
            self.log.append(records)
        except DiskFull:
            # The reserve that was there is there still, and so is everything else.
            assert before == (self.log.disk_bytes, self.log.durable_end, self.log.segment_names)
            return
        self.possible.append(after)

    def sync(self) -> None:
        """Everything so far is durable."""
        names = len(self.log.segment_names)
        self.log.sync()
        assert not self.log.has_unsynced
        self.removed_segments += names - len(self.log.segment_names)
        self.possible = [self.model]

    def claim(self) -> None:
        """As after a silence."""
        self.log.claim()

    def crash(self) -> None:
        """The power fails."""
        self.crashes += 1
        self.disk.capacity_bytes = 1 << 40
        self.disk.crash()
        self.open()

    def restart(self) -> None:
        """The process is killed; the page cache, and so every write, survives."""
        self.log.close()
        self.disk.capacity_bytes = 1 << 40
        self.possible = [self.model]
        self.open()

    def fail(self) -> None:
        """A sync fails, the process stops and starts again on the same page cache."""
        self.disk.fail_next_sync = True
        try:
            self.log.sync()
        except DiskFailure:
            self.log.close()
            self.disk.capacity_bytes = 1 << 40
            self.open()
        else:
            # There was nothing to sync; let no later step stumble over it.
            self.disk.fail_next_sync = False
            self.possible = [self.model]

    def fill(self) -> None:
        """The disk becomes full, or has room again."""
        if self.disk.capacity_bytes < 1 << 40:
            self.disk.capacity_bytes = 1 << 40
        else:
            free = self.random.randrange(2 * SEGMENT_BYTES)
            self.disk.capacity_bytes -= self.disk.free_bytes() - free

    def record(self, model: Model) -> Record:
        """Any record that may come next."""
        random = self.random
        group = random.choice(GROUPS)
        held = model.replicas.get(group)
        if held is None:
            if model.bootstrap is None and random.random() < 0.3:
                return BootstrapRecord(b"the only one")
            return self.creation(model, group)
        if model.bootstrap is not None and random.random() < 0.01:
            return ClusterRecovered(b"cluster %d" % random.randrange(100))
        kind = random.choices(
            ("entries", "hard state", "checkpoint", "cut", "snapshot", "retire", "skip"),
            weights=(60, 20, 12, 12, 3, 1, 3),
        )[0]
        match kind:
            case "entries":
                return self.entries(held, group)
            case "hard state":
                hard = held.hard_state
                term = hard.term + random.randrange(2)
                vote = hard.vote if term == hard.term and hard.vote else random.randrange(4)
                commit = random.randint(hard.commit, max(hard.commit, held.last_index))
                return HardStateChanged(group, held.replica, HardState(term, vote, commit))
            case "checkpoint":
                applied = (
                    (group, random.randint(each.checkpoint_index, each.last_index))
                    for group, each in model.replicas.items()
                )
                return CheckpointTaken(tuple(applied))
            case "cut":
                place = held.at(random.randint(held.start[0], held.checkpoint_index))
                return LogCut(group, held.replica, *place, self.configuration())
            case "snapshot":
                index = held.last_index + random.randrange(1, 9)
                term, stamp = held.hard_state.term, held.at(held.last_index)[2] + 1
                meta = SnapshotMeta(index, term, stamp, self.configuration())
                self.next_space += 1
                return SnapshotInstalled(group, held.replica, self.next_space, meta)
            case "skip":
                index = held.checkpoint_index + random.randrange(1, 9)
                return EntrySkipped(group, held.replica, index, random.randrange(1 << 32))
            case _:
                return ReplicaRetired(group, held.replica)

    def creation(self, model: Model, group: int) -> Record:
        """A new replica of a group, with an id that was never used."""
        self.next_space += 1
        replica = model.retired.get(group, 0) + self.random.randrange(1, 3)
        return ReplicaCreated(group, replica, self.next_space, self.configuration())

    def entries(self, held: ModelReplica, group: int) -> Record:
        """Some entries at the end of the log or, after a change of leader, inside it."""
        random = self.random
        first = held.last_index + 1
        if random.random() < 0.15:
            first = random.randint(held.checkpoint_index + 1, first)
        size_max = 5000 if random.random() < 0.03 else 200
        stamp = held.at(first - 1)[2]
        entries = tuple(
            Entry(
                index,
                held.hard_state.term,
                random.choice(list(EntryKind)),
                stamp,
                1,
                random.choice((bytes, random.randbytes))(random.randrange(size_max)),
            )
            for index in range(first, first + random.randrange(1, 5))
        )
        return EntriesAppended(group, held.replica, entries)

    def configuration(self) -> Configuration:
        """Some configuration."""
        return Configuration.initial(tuple(range(11, 11 + self.random.randrange(1, 6))))
