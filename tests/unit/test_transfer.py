"""Snapshots on their way to a follower that missed more than the log holds, over a bad network."""

import dataclasses
from collections.abc import Callable
from random import Random

import pytest

from kvorum_server.config import Config
from kvorum_server.events import Received, Ticked
from kvorum_server.snapshot import SnapshotReceiver, SnapshotSender, chain_checksum
from kvorum_server.storage.engine import space_prefix
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.record import SnapshotInstalled
from kvorum_server.storage.rows import MetaRow
from kvorum_server.transfer import Transfers
from kvorum_server.types import (
    Configuration,
    Envelope,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotResponse,
)
from tests.unit.host_setup import GROUP, Machine, Sent, Trio, put, trio

WINDOW = 2
CONFIG = Config(
    segment_bytes=64 * 1024,
    checkpoint_entries=10,
    log_tail_entries=0,
    snapshot_chunk_bytes=200,
    snapshot_window=WINDOW,
    snapshot_timeout_ticks=30,
)
META = SnapshotMeta(9, 2, 100, Configuration.initial((11, 22, 33)))


def one_fell_behind() -> tuple[Trio, Machine, Machine]:
    """A cluster whose third node needs a snapshot; leader and that node."""
    cluster = trio(CONFIG)
    leader, _, behind = cluster.machines
    cluster.cut_off = {behind.identity}
    for number in range(30):
        leader.propose(put(b"key %d" % number, b"x" * 50))
        cluster.settle()
    assert leader.replica.consensus.status().first_index > behind.replica.applied[0] + 1
    cluster.cut_off = set()
    return cluster, leader, behind


def caught_up(cluster: Trio, machine: Machine) -> bool:
    for _ in range(600):
        if machine.value(b"key 29") == b"x" * 50:
            return True
        cluster.tick()
    return False


def one_crashed_half_way() -> tuple[Trio, Machine, int]:
    """A node that started again with rows of half a snapshot in its files; it and their space."""
    cluster, _, behind = one_fell_behind()
    cluster.fate = lambda sent: [
        one for one in sent if not isinstance(one[2].message, SnapshotResponse)
    ]
    cluster.tick(3)
    behind.engine.flush()
    (space,) = set(behind.engine.spaces()) - spaces_in_use(behind)
    behind.crash()
    behind.start()
    cluster.fate = lambda sent: sent
    return cluster, behind, space


def spaces_in_use(machine: Machine) -> set[int]:
    return {replica.space for replica in machine.host.replicas.values()}


def installed(machine: Machine) -> int:
    return sum(isinstance(record, SnapshotInstalled) for record in machine.log_records)


def chunks(sent: list[Sent]) -> list[SnapshotChunk]:
    return [e.message for _, _, e in sent if isinstance(e.message, SnapshotChunk)]


def is_of_transfer(sent: Sent) -> bool:
    return isinstance(sent[2].message, SnapshotChunk | SnapshotResponse)


def lost(sent: list[Sent], random: Random) -> list[Sent]:
    return [one for one in sent if not is_of_transfer(one) or random.random() < 0.85]


def repeated(sent: list[Sent], random: Random) -> list[Sent]:
    return [one for one in sent for _ in range(1 + random.randrange(2) * is_of_transfer(one))]


def reordered(sent: list[Sent], random: Random) -> list[Sent]:
    return random.sample(sent, len(sent))


def damaged(sent: list[Sent], random: Random) -> list[Sent]:
    """Some chunks have a bit that is not its own."""
    return [
        (machine, target, dataclasses.replace(envelope, message=_damage(message)))
        if isinstance(message := envelope.message, SnapshotChunk) and random.random() < 0.08
        else (machine, target, envelope)
        for machine, target, envelope in sent
    ]


def _damage(chunk: SnapshotChunk) -> SnapshotChunk:
    return dataclasses.replace(chunk, checksum=chunk.checksum ^ 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fate", [lost, repeated, reordered, damaged])
def test_a_snapshot_arrives_whatever_the_network_does(
    fate: Callable[[list[Sent], Random], list[Sent]], seed: int
) -> None:
    cluster, _, behind = one_fell_behind()
    random = Random(seed)
    cluster.fate = lambda sent: fate(sent, random)
    assert caught_up(cluster, behind)
    cluster.fate = lambda sent: sent
    cluster.tick(5)
    assert installed(behind) >= 1
    assert set(behind.engine.spaces()) == spaces_in_use(behind), "no rows are left behind"


def test_a_transfer_keeps_to_its_window() -> None:
    cluster, _, behind = one_fell_behind()
    numbers: list[int] = []

    def never_acknowledged(sent: list[Sent]) -> list[Sent]:
        numbers.extend(chunk.number for chunk in chunks(sent))
        return [one for one in sent if not isinstance(one[2].message, SnapshotResponse)]

    cluster.fate = never_acknowledged
    cluster.tick(20)
    assert set(numbers) == set(range(WINDOW))
    assert installed(behind) == 0


def test_an_interrupted_transfer_is_dropped_with_its_rows_and_begins_again() -> None:
    cluster, leader, behind = one_fell_behind()
    cluster.fate = lambda sent: [
        one for one in sent if not is_of_transfer(one) or isinstance(one[2].message, SnapshotChunk)
    ]
    cluster.tick(3)
    receiver = behind.replica.transfers.receiver
    assert receiver is not None
    assert receiver.space in behind.engine.spaces()
    cluster.fate = lambda sent: [one for one in sent if not is_of_transfer(one)]
    cluster.tick(CONFIG.snapshot_timeout_ticks + 1)
    assert behind.replica.transfers.receiver is None
    assert set(behind.engine.spaces()) == spaces_in_use(behind)
    cluster.fate = lambda sent: sent
    assert caught_up(cluster, behind)
    assert leader.is_leader()


def test_a_damaged_chunk_and_a_tick_in_one_turn_leave_no_rows() -> None:
    cluster, leader, behind = one_fell_behind()
    wire: list[Envelope] = []

    def catch(sent: list[Sent]) -> list[Sent]:
        wire.extend(e for _, _, e in sent if isinstance(e.message, SnapshotChunk))
        return [one for one in sent if not is_of_transfer(one)]

    cluster.fate = catch
    cluster.tick(3)
    first, second = (envelope for envelope in wire[:2])
    assert isinstance(second.message, SnapshotChunk)
    broken = dataclasses.replace(second, message=_damage(second.message))
    behind.turn(Received(leader.identity, (first, broken)), Ticked(behind.free_bytes))
    assert behind.replica.transfers.receiver is None
    assert set(behind.engine.spaces()) == spaces_in_use(behind)


def test_a_crash_in_the_middle_of_a_transfer_leaves_no_rows() -> None:
    _, behind, space = one_crashed_half_way()
    assert space not in behind.engine.spaces()
    assert set(behind.engine.spaces()) <= spaces_in_use(behind)


def test_no_space_is_used_again_whose_rows_a_crash_may_bring_back() -> None:
    """They were dropped at the start, and nothing has made that durable yet."""
    cluster, behind, space = one_crashed_half_way()
    assert caught_up(cluster, behind)
    assert behind.replica.space > space


def test_a_snapshot_is_installed_only_after_a_flush_that_saw_all_its_rows() -> None:
    """A second transfer that ends while the first one's flush runs must wait for its own."""
    _, leader, behind = one_fell_behind()
    behind_replica = behind.replica
    old = SnapshotMeta(20, leader.replica.consensus.term, 1, behind_replica.applied_configuration)
    for transfer, source_chunk in ((1, old), (2, dataclasses.replace(old, index=21))):
        rows = ((b"row", b"%d" % transfer),)
        chunk = SnapshotChunk(
            old.term, transfer, 0, source_chunk, rows, chain_checksum(0, rows), last=True
        )
        receiver = SnapshotReceiver(source=1, chunk=chunk, space=100 + transfer)
        assert receiver.accept(chunk) == rows
        behind_replica.transfers.abandon()
        behind_replica.transfers.receiver = receiver
        behind.turn(Ticked(behind.free_bytes))
    assert len(behind.flushes) == 1
    space = behind_replica.space
    number, _ = behind.flushes[0]
    assert number == 1
    effects = behind.flush()
    assert behind_replica.space == space, "the first flush began before the second snapshot's rows"
    assert effects.append is None
    assert effects.flush == 2


def test_a_sender_goes_back_to_what_the_receiver_wants() -> None:
    engine = MemoryEngine()
    engine.write({space_prefix(3) + b"%d" % number: b"v" * 100 for number in range(10)})
    sender = SnapshotSender(transfer=1, meta=META, view=engine.snapshot(), space=3, config=CONFIG)
    first, second = sender.next_chunk(2), sender.next_chunk(2)
    assert not sender.can_produce
    receiver = SnapshotReceiver(source=1, chunk=first, space=8)
    assert receiver.accept(second) == (), "a gap"
    assert receiver.accept(first) == first.rows
    assert receiver.accept(first) == (), "a repeat"
    assert sender.acknowledge(receiver.next_number)
    assert sender.can_produce
    for _ in range(8):
        sender.tick()
    assert sender.next_chunk(2) == second, "nothing came back for a while: once more"
    assert sender.acknowledge(1), "late answers are no reason to give up"
    assert not sender.acknowledge(0), "a receiver that starts anew is"


def test_chunks_hold_all_rows_once_and_no_more_than_asked() -> None:
    engine = MemoryEngine()
    rows = {space_prefix(3) + b"%02d" % number: b"v" * 60 for number in range(20)}
    engine.write({**rows, space_prefix(4) + b"foreign": b""})
    sender = SnapshotSender(transfer=1, meta=META, view=engine.snapshot(), space=3, config=CONFIG)
    found: list[tuple[bytes, bytes]] = []
    while sender.can_produce:
        chunk = sender.next_chunk(1)
        assert sum(len(key) + len(value) for key, value in chunk.rows) < 300
        found += chunk.rows
        assert sender.acknowledge(chunk.number + 1)
    assert chunk.last
    assert sender.finished
    assert {space_prefix(3) + key: value for key, value in found} == rows


def test_the_row_that_says_where_the_state_stands_is_written_last() -> None:
    """An engine that comes back with older files must not show half a snapshot as a whole one."""
    engine = MemoryEngine()
    meta_row = {MetaRow.key(3): MetaRow(9, 2).encode()}
    rows = {space_prefix(3) + b"\x01%02d" % number: b"v" * 60 for number in range(20)}
    engine.write(rows | meta_row)
    sender = SnapshotSender(transfer=1, meta=META, view=engine.snapshot(), space=3, config=CONFIG)
    chunk = sender.next_chunk(1)
    receiver = SnapshotReceiver(source=1, chunk=chunk, space=8)
    written: dict[bytes, bytes] = {}
    while not chunk.last:
        accepted = receiver.accept(chunk)
        assert accepted
        written.update((space_prefix(3) + key, value) for key, value in accepted)
        assert not written.keys() & meta_row.keys()
        assert sender.acknowledge(receiver.next_number)
        chunk = sender.next_chunk(1)
    written.update((space_prefix(3) + key, value) for key, value in receiver.accept(chunk) or ())
    assert written == rows | meta_row


def test_a_receiver_of_a_bare_group_has_nothing_to_give_up() -> None:
    machine = trio(CONFIG).machines[0]
    transfers = machine.host.replicas[GROUP].transfers
    assert isinstance(transfers, Transfers)
    transfers.abandon()
    assert transfers.take_abandoned() == []
