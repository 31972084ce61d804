"""Queries on their way: rounds that are shared, indexes that are waited for, scans in slices."""

import dataclasses

from kvorum_proto import command_pb2 as wire
from kvorum_proto.command_pb2 import Query
from kvorum_server.events import Asked, Congested, Disconnected, Relieved
from kvorum_server.outbox import SLICES_PER_TURN
from kvorum_server.reading import SCANS_OPEN_MAX, Readers
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
    scans = machine.ask(*[count_all()] * (SLICES_PER_TURN + 1))
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


# --- What a turn may read, and who comes first ---


def test_a_crowd_of_scans_is_read_in_slices_a_few_a_turn() -> None:
    machine = filled(20)
    scans = machine.ask(*[count_all()] * 40)
    turns = 0
    while machine.turn().again:
        turns += 1
    slices_of_a_scan = 20 // SLICED.scan_slice_rows
    assert turns >= 40 * slices_of_a_scan // SLICES_PER_TURN - SLICES_PER_TURN
    assert [machine.answers[scan].range.count for scan in scans] == [20] * 40


def test_a_get_passes_a_crowd_of_scans_and_a_scan_waits_for_its_turn_only() -> None:
    machine = filled(20)
    flood = machine.ask(*[count_all()] * 400)
    (quick,) = machine.ask(get(b"key 00"), connection=CLIENT + 1)
    assert quick in machine.answers
    (scan,) = machine.ask(count_all(), connection=CLIENT + 1)
    turns = 0
    while scan not in machine.answers:
        assert machine.turn().again
        turns += 1
    assert turns <= 20, "as many turns as it has slices, and some"
    assert sum(request in machine.answers for request in flood) < 20


def test_single_keys_are_answered_up_to_a_limit_a_turn_in_rotation() -> None:
    machine = alone(dataclasses.replace(CONFIG, apply_commands_max=4))
    flood = machine.request(40)
    (one,) = machine.request()
    machine.turn(
        Asked(CLIENT, GROUP, flood, (get(b"k"),) * 40),
        Asked(CLIENT + 1, GROUP, (one,), (get(b"k"),)),
    )
    assert [request in machine.answers for request in flood[:4]] == [True, True, True, False]
    assert one in machine.answers
    while machine.turn().again:
        assert machine.replica.requests.readers.waiting > 0
    assert set(flood) <= set(machine.answers)


def test_a_turn_answers_with_so_many_bytes_and_goes_on_in_the_next() -> None:
    machine = alone(dataclasses.replace(CONFIG, turn_reply_bytes_max=100))
    machine.propose(put(b"k", b"v" * 60))
    machine.settle()
    requests = machine.ask(*[get(b"k")] * 6)
    assert sum(request in machine.answers for request in requests) == 2
    machine.turn()
    assert sum(request in machine.answers for request in requests) == 4


def test_one_connection_has_few_scans_under_way_at_once() -> None:
    machine = filled(20)
    machine.ask(*[count_all()] * (SCANS_OPEN_MAX * 3))
    readers = machine.replica.requests.readers
    most = 0
    while machine.turn().again:
        most = max(most, *readers._open.values())
    assert 1 < most <= SCANS_OPEN_MAX
    assert not readers._open
    assert readers.waiting == 0


def test_nothing_is_read_for_a_client_that_takes_no_replies() -> None:
    machine = filled(20)
    machine.turn(Congested(CLIENT))
    waiting = machine.ask(get(b"key 00"), count_all())
    (served,) = machine.ask(get(b"key 00"), connection=CLIENT + 1)
    assert served in machine.answers
    assert not machine.turn().again, "who is paused costs no turns"
    assert not set(waiting) & set(machine.answers)
    machine.turn(Relieved(CLIENT))
    while machine.turn().again:
        assert machine.replica.requests.readers.waiting > 0
    assert set(waiting) <= set(machine.answers)


def test_a_paused_client_that_goes_away_leaves_nothing_behind() -> None:
    machine = filled(20)
    machine.ask(count_all())
    machine.turn(Congested(CLIENT))
    machine.ask(get(b"key 00"))
    machine.turn(Disconnected(CLIENT))
    assert machine.replica.requests.readers.waiting == 0
    assert not machine.turn().again


def test_too_many_stale_queries_are_busy_as_well() -> None:
    machine = alone(dataclasses.replace(SLICED, pending_commands_max=3))
    machine.propose(put(b"a"), put(b"b"), put(b"c"))
    machine.settle()
    stale = count_all()
    stale.consistency = Query.STALE
    machine.turn(Asked(CLIENT, GROUP, (91, 92, 93, 94), (stale,) * 4))
    assert machine.error(94).code == wire.BUSY
