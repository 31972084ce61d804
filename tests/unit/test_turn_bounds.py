"""What one turn may cost: however much is asked for at once, heartbeats wait for a bounded piece of
it.

Work is counted in rows of the engine, read and written, because a test must not judge how fast a
machine is. The limits are small, so that what has no limit would stand out by a factor of hundreds.
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_proto.command_pb2 import CommandBatch, Operation, Query, Submission, Txn
from kvorum_server.admission import Batcher, admit
from kvorum_server.config import Config
from kvorum_server.events import Asked, Effects, Event, Proposed, Ticked
from kvorum_server.outbox import Outbox
from kvorum_server.storage.memory import MemorySnapshot
from kvorum_server.types import HeartbeatRequest, NodeId
from tests.simulator.engine import SimulatedEngine
from tests.unit.host_setup import CLIENT, GROUP, Machine, Trio, encoded, get, put
from tests.unit.kv_harness import Harness

SMALL = Config(
    segment_bytes=256 * 1024,
    entry_commands_max=8,
    apply_commands_max=16,
    range_keys_max=10,
    scan_page_keys_max=10,
    scan_slice_rows=8,
    compaction_slice_rows=5,
    snapshot_chunk_bytes=200,
    log_tail_entries=0,
    checkpoint_entries=1 << 30,
)
KEYS = 300

WORK_MAX = 250
"""Rows that a turn may touch under SMALL: 16 commands and one entry more, five rows for each key
that they write, 40 rows of ranges, 16 keys, some of compaction and of a snapshot."""

FIRST, END = b"\x01", b"\x00"
"""The range of everything."""


COMPARED = wire.Compare(key=FIRST, range_end=END)


class CountingEngine(SimulatedEngine):
    """Counts the rows that are looked at and written."""

    __slots__ = ("work",)

    def __init__(self, randomness: Random) -> None:
        super().__init__(randomness)
        self.work = 0

    def get(self, key: bytes) -> bytes | None:
        self.work += 1
        return super().get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self.counted(super().scan(start, end, reverse=reverse))

    def counted(self, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self.work += 1
            yield row

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        self.work += len(rows)
        super().write(rows)

    def snapshot(self) -> MemorySnapshot:
        return CountingSnapshot(self)


class CountingSnapshot(MemorySnapshot):
    """Its rows count, too."""

    __slots__ = ("_engine",)

    def __init__(self, engine: CountingEngine) -> None:
        super().__init__(engine._rows, engine._keys, engine._readers)
        self._engine = engine

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._engine.counted(super().scan(start, end, reverse=reverse))


class Measured(Machine):
    """A node that knows what each of its turns has cost."""

    def __init__(self, identity: NodeId, config: Config) -> None:
        self.costs: list[int] = []
        super().__init__(identity, config)

    def start(self) -> None:
        self.counting = CountingEngine(Random(1))
        self.engine = self.counting
        super().start()

    def turn_host(self, events: Sequence[Event]) -> Effects:
        before = self.counting.work
        effects = super().turn_host(events)
        self.costs.append(self.counting.work - before)
        return effects


def delete_range() -> Submission:
    return Submission(delete_range=wire.DeleteRange(key=FIRST, range_end=END))


def count() -> Query:
    return Query(range=wire.Range(key=FIRST, range_end=END, count_only=True))


def large_txn(number: int) -> Submission:
    """Reads a page and writes a few keys."""
    operations = [Operation(range=wire.Range(key=FIRST, range_end=END))]
    operations += [
        Operation(put=wire.Put(key=b"t %d %d" % (number, n), value=b"v")) for n in (1, 2)
    ]
    return Submission(txn=Txn(success=operations))


def filled() -> Trio:
    """A leader with many rows and old versions, and a follower that needs a snapshot of them."""
    cluster = Trio(SMALL, make=Measured)
    leader, _, behind = cluster.machines
    cluster.elect(leader)
    cluster.tick(2)
    cluster.cut_off = {behind.identity}
    for version in (b"old", b"new"):
        for number in range(0, KEYS, 8):
            leader.propose(*[put(b"key %03d" % n, version) for n in range(number, number + 8)])
            cluster.settle()
    return cluster


def work_off(cluster: Trio) -> None:
    """Ticks, messages and turns until nobody has anything left to do."""
    for _ in range(60):
        cluster.tick()
        for machine in cluster.machines:
            while machine.turn().again:
                machine.settle()


def test_no_turn_does_more_than_its_share_whatever_is_asked_for_at_once() -> None:
    cluster = filled()
    leader, follower, behind = cluster.machines
    assert isinstance(leader, Measured)
    assert isinstance(follower, Measured)
    leader.replica.cut(leader.replica.applied[0], Outbox())
    cluster.cut_off = set()
    leader.costs.clear()
    follower.costs.clear()

    compact = Submission(compact=wire.Compact(revision=KEYS))
    submissions = [compact] + [delete_range()] * 20 + [large_txn(n) for n in range(20)]
    submissions += [put(b"more %d" % n) for n in range(200)]
    commands = leader.request(len(submissions))
    counts = leader.request(200)
    gets = leader.request(200)
    leader.turn(
        Proposed(CLIENT, GROUP, commands, encoded(*submissions)),
        Asked(CLIENT, GROUP, counts, (count(),) * 200),
        Asked(CLIENT, GROUP, gets, (get(b"key 000"),) * 200),
    )
    work_off(cluster)

    assert {*commands, *counts, *gets} <= set(leader.answers)
    assert behind.replica.applied == leader.replica.applied, "the snapshot has arrived"
    for machine in (leader, follower):
        assert max(machine.costs) <= WORK_MAX, sorted(machine.costs)[-5:]
    assert sum(leader.costs) > 100 * WORK_MAX, "there was more to do than one turn may"


def test_a_leader_sends_its_heartbeats_while_it_works_off_a_backlog() -> None:
    cluster = filled()
    leader, *_ = cluster.machines
    leader.turn(Asked(CLIENT, GROUP, leader.request(200), (count(),) * 200))
    cluster.deliver()  # the read round goes out
    cluster.deliver()  # and comes back
    turns = 0
    beats = 0
    while leader.turn().again and turns < 200:
        turns += 1
        if turns % 5 == 0:
            leader.now += SMALL.tick_ms
            leader.sent.clear()
            leader.turn(Ticked(leader.free_bytes))
            beats += any(isinstance(e.message, HeartbeatRequest) for _, e in leader.sent)
    assert turns == 200, "the backlog takes longer than this"
    assert beats >= turns // 5 // SMALL.heartbeat_ticks


@pytest.mark.parametrize(
    ("submissions", "entries"),
    [
        ([put(b"a")] * 8, 1),
        ([delete_range(), delete_range()], 2),
        ([put(b"a"), delete_range(), put(b"b")], 3),
        ([large_txn(1), large_txn(2)], 2),
        ([Submission(txn=Txn(success=[Operation(txn=large_txn(1).txn)])), put(b"a")], 2),
        ([Submission(txn=Txn(compares=[COMPARED])), put(b"a")], 2),
        ([Submission(txn=Txn(success=[Operation(put=wire.Put(key=b"k"))]))] * 4, 1),
    ],
)
def test_a_command_that_may_touch_many_keys_fills_an_entry(
    submissions: list[Submission], entries: int
) -> None:
    batcher = Batcher(SMALL)
    ids = tuple(range(len(submissions)))
    machine = Harness().machine
    for request, submission in zip(ids, submissions, strict=True):
        commands = CommandBatch(submissions=[submission]).SerializeToString()
        admitted = admit(commands, (request,), machine, False)
        admitted.refused_ids.clear()
        admitted.submissions, admitted.ids, admitted.encoded = [submission], [request], commands
        batcher.add(CLIENT, admitted)
    assert len(batcher.take()) == entries
