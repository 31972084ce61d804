"""Queries on their way: rounds that are shared, indexes that are waited for, scans in slices."""

import dataclasses

from kvorum_proto import command_pb2 as wire
from kvorum_proto.command_pb2 import Query
from kvorum_server.events import Asked, Disconnected
from kvorum_server.reading import SCANS_PER_TURN, Readers
from tests.unit.host_setup import CLIENT, CONFIG, GROUP, Machine, alone, get, put, trio

SLICED = dataclasses.replace(CONFIG, scan_slice_rows=2)


def count_all() -> Query:
    return Query(range=wire.Range(key=b"\x01", range_end=b"\x00", count_only=True))


def filled(count: int) -> Machine:
    machine = alone(SLICED)
    machine.propose(*[put(b"key %02d" % number) for number in range(count)])
    machine.settle()
    return machine


def test_queries_of_one_turn_share_a_round_and_later_ones_take_the_next() -> None:
    readers = Readers(CONFIG)
    for request in (1, 2):
        readers.add(CLIENT, request, get(b"k"))
    first = readers.seal()
    assert not readers.has_new
    readers.add(CLIENT, 3, get(b"k"))
    second = readers.seal()
    assert readers.refuse(first) == [(CLIENT, 1), (CLIENT, 2)]
    assert readers.waiting == 1
    assert readers.refuse(second) == [(CLIENT, 3)]


def test_a_read_sees_every_write_that_was_answered_before_it() -> None:
    cluster = trio()
    leader = cluster.machines[0]
    for number in range(3):
        leader.propose(put(b"k", b"%d" % number))
        cluster.settle()
        (request,) = leader.ask(get(b"k"))
        cluster.settle()
        assert leader.answers[request].get.item.value == b"%d" % number


def test_a_long_scan_takes_many_turns_and_nobody_waits_for_it() -> None:
    machine = filled(20)
    (scan,) = machine.ask(count_all())
    (quick,) = machine.ask(get(b"key 00"))
    assert quick in machine.answers
    assert scan not in machine.answers
    turns = 0
    while machine.turn().again:
        turns += 1
    assert machine.answers[scan].range.count == 20
    assert turns > 5
    assert machine.replica.requests.readers.waiting == 0


def test_many_scans_take_turns() -> None:
    machine = filled(20)
    scans = machine.ask(*[count_all()] * (SCANS_PER_TURN + 1))
    while machine.turn().again:
        assert machine.replica.requests.readers.waiting > 0
    assert [machine.answers[scan].range.count for scan in scans] == [20] * len(scans)


def test_the_queries_of_a_client_that_went_away_are_not_run() -> None:
    machine = filled(20)
    others = CLIENT + 1
    machine.ask(count_all(), get(b"key 00"))
    (kept,) = machine.ask(count_all(), connection=others)
    machine.turn(
        Asked(CLIENT, GROUP, (99,), (get(b"key 01"),)),
        Asked(CLIENT, GROUP, (98,), (get(b"key 01", stale=True),)),
        Disconnected(CLIENT),
    )
    while machine.turn().again:
        assert machine.replica.requests.readers.waiting == 1
    assert machine.answers[kept].range.count == 20
    assert not {98, 99} & set(machine.answers)
