"""The life of a Host, turn by turn: what it says, when it may say it, and what it refuses."""

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_proto.command_pb2 import (
    BUSY,
    DISK_FULL,
    INVALID_REQUEST,
    NOT_LEADER,
    TOO_STALE,
    UNAVAILABLE,
    UNCERTAIN,
    WRONG_GROUP,
    Compact,
    Query,
    Submission,
)
from kvorum_server.checkpoint import Checkpoints
from kvorum_server.config import Config
from kvorum_server.events import (
    Appended,
    Asked,
    Bootstrapped,
    Disconnected,
    Proposed,
    Received,
    Stopping,
    Ticked,
    TransferAsked,
)
from kvorum_server.outbox import Outbox
from kvorum_server.replica import Replica
from kvorum_server.state_machine import UnknownLevel
from kvorum_server.storage.errors import StateDamaged
from kvorum_server.storage.record import (
    BootstrapRecord,
    CheckpointTaken,
    EntriesAppended,
    LogCut,
    ReplicaCreated,
)
from kvorum_server.types import (
    AppendRequest,
    AppendResponse,
    Entry,
    EntryKind,
    Envelope,
    HeartbeatRequest,
    ReplicaRemoved,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from tests.unit.host_setup import (
    CLIENT,
    CONFIG,
    GROUP,
    PLENTY,
    Machine,
    alone,
    certificate,
    delete,
    encoded,
    get,
    put,
    trio,
)


def with_options(**options: int) -> Config:
    return Config(**{"segment_bytes": 64 * 1024, "checkpoint_entries": 1 << 30} | options)  # type: ignore[arg-type]


# --- One node ---


def test_a_fresh_node_waits_for_its_cluster() -> None:
    machine = Machine(11)
    (request,) = machine.propose(put(b"k"))
    assert machine.error(request).code == UNAVAILABLE
    assert "start its other initial nodes" in machine.error(request).message


def test_the_certificate_is_durable_before_it_is_passed_on() -> None:
    machine = Machine(11)
    effects = machine.turn(Bootstrapped(certificate([11])))
    assert effects.append is not None
    kinds = [type(record) for record in effects.append.records]
    assert kinds == [BootstrapRecord, ReplicaCreated, ReplicaCreated]
    assert not machine.host.is_certified
    machine.sync()
    assert machine.host.is_certified


def test_a_put_is_not_answered_before_its_write_is_durable() -> None:
    machine = alone()
    (request,) = machine.propose(put(b"k"))
    machine.turn()
    assert request not in machine.answers
    assert machine.value(b"k") is None
    machine.sync()
    assert machine.answers[request].put.revision == 2
    assert machine.value(b"k") == b"v"


def test_one_turn_makes_one_entry_for_all_its_clients() -> None:
    machine = alone()
    events = [
        Proposed(client, GROUP, (client,), encoded(put(b"%d" % client))) for client in (1, 2, 3)
    ]
    effects = machine.turn(*events)
    assert effects.append is not None
    appended = [one for one in effects.append.records if isinstance(one, EntriesAppended)]
    ((entry,),) = (record.entries for record in appended)
    assert len(wire.CommandBatch.FromString(entry.payload).submissions) == 3
    replies = machine.sync().replies
    assert [(reply.connection, reply.ids) for reply in replies] == [(1, [1]), (2, [2]), (3, [3])]


def test_writes_share_a_sync_and_are_confirmed_together() -> None:
    machine = alone()
    first, second = machine.propose(put(b"a")) + machine.propose(put(b"b"))
    assert len(machine.writes) == 2
    machine.sync()
    assert {first, second} <= set(machine.answers)


def test_a_crash_forgets_only_what_was_not_acknowledged() -> None:
    machine = alone()
    machine.propose(put(b"kept"))
    machine.sync()
    machine.propose(put(b"lost"))
    machine.crash()
    machine.start()
    machine.tick(CONFIG.election_ticks_max + 1)
    assert machine.value(b"kept") == b"v"
    assert machine.value(b"lost") is None


def test_a_client_that_went_away_is_not_in_the_way() -> None:
    machine = alone()
    (request,) = machine.ask(get(b"k", stale=True))
    machine.turn(Asked(CLIENT, GROUP, machine.request(), (get(b"k"),)), Disconnected(CLIENT))
    machine.settle()
    assert set(machine.answers) == {request}
    assert machine.replica.requests.readers.waiting == 0


def test_a_request_for_a_group_that_is_not_here() -> None:
    machine = alone()
    machine.turn(
        Proposed(CLIENT, 99, (1,), encoded(put(b"k"))), Asked(CLIENT, 99, (2,), (get(b"k"),))
    )
    assert machine.error(1).code == machine.error(2).code == WRONG_GROUP


def test_too_many_commands_in_flight_are_busy() -> None:
    machine = alone(with_options(pending_commands_max=2))
    machine.propose(put(b"a"), put(b"b"))
    (third,) = machine.propose(put(b"c"))
    assert machine.error(third).code == BUSY
    assert machine.error(third).retry_after_ms > 0
    machine.sync()
    (fourth,) = machine.propose(put(b"d"))
    machine.sync()
    assert machine.answers[fourth].HasField("put")


def test_a_query_of_no_known_consistency() -> None:
    machine = alone()
    query = Query(get=wire.Get(key=b"k"))
    query.MergeFromString(b"\xa0\x01\x07")  # consistency = 7
    (request,) = machine.ask(query)
    assert machine.error(request).code == INVALID_REQUEST


def test_an_entry_of_an_unknown_feature_level_stops_the_node_before_applying() -> None:
    machine = Machine(22)
    machine.turn(Bootstrapped(certificate([11, 22])))
    machine.settle()
    entry = Entry(1, 1, EntryKind.COMMANDS, 0, 2, encoded(put(b"k")))
    machine.turn(Received(11, (Envelope(GROUP, 1, 2, AppendRequest(1, 0, 0, (entry,), 1)),)))
    with pytest.raises(UnknownLevel, match=r"entry 1 of group 1 needs feature level 2.*upgrade"):
        machine.settle()
    assert machine.replica.machine.status().applied_index == 0


# --- A full disk ---


def test_a_full_disk_refuses_puts_and_admits_what_frees_space() -> None:
    machine = alone(with_options(disk_reserve_bytes=1000))
    machine.propose(put(b"k"))
    machine.sync()
    machine.free_bytes = 999
    machine.tick()
    (refused,) = machine.propose(put(b"k2"))
    assert machine.error(refused).code == DISK_FULL
    assert machine.value(b"k") == b"v"
    freeing = machine.propose(delete(b"k"), Submission(compact=Compact(revision=2)))
    machine.sync()
    assert [machine.answers[one].WhichOneof("result") for one in freeing] == ["delete", "compact"]


@pytest.mark.parametrize(("free_bytes", "is_full"), [(1999, True), (2000, False)])
def test_a_disk_is_usable_again_above_twice_the_reserve(free_bytes: int, is_full: bool) -> None:
    machine = alone(with_options(disk_reserve_bytes=1000))
    machine.free_bytes = 0
    machine.tick()
    machine.free_bytes = free_bytes
    machine.tick()
    (request,) = machine.propose(put(b"k"))
    machine.settle()
    assert machine.answers[request].HasField("error") == is_full


def test_a_leader_with_a_full_disk_hands_over() -> None:
    cluster = trio()
    full = cluster.machines[0]
    full.free_bytes = 0
    cluster.tick(10)
    assert not full.is_leader()
    (leader,) = [machine for machine in cluster.machines if machine.is_leader()]
    (request,) = leader.propose(put(b"k"))
    cluster.settle()
    assert leader.answers[request].HasField("put")


def test_a_quorum_of_full_disks_refuses_puts() -> None:
    cluster = trio()
    leader, *followers = cluster.machines
    for follower in followers:
        follower.free_bytes = 0
    cluster.tick(10)
    (request,) = leader.propose(put(b"k"))
    assert leader.error(request).code == DISK_FULL


# --- Three nodes ---


def test_a_follower_does_not_accept_before_its_own_write_is_durable() -> None:
    cluster = trio()
    leader, follower, _ = cluster.machines
    leader.propose(put(b"k"))
    cluster.deliver()
    assert follower.writes
    assert not [e for _, e in follower.sent if isinstance(e.message, AppendResponse)]
    follower.sync()
    answers = [e.message for _, e in follower.sent if isinstance(e.message, AppendResponse)]
    assert [answer.accepted for answer in answers] == [True]


def test_an_acceptance_is_dropped_when_its_term_is_over_before_its_write_is_durable() -> None:
    cluster = trio()
    leader, follower, _ = cluster.machines
    leader.propose(put(b"k"))
    cluster.deliver()
    term = follower.replica.consensus.term
    vote = VoteRequest(term + 1, 99, term, transfer=True)
    follower.turn(Received(33, (Envelope(GROUP, 3, 2, vote),)))
    follower.sync()
    messages = [e.message for _, e in follower.sent]
    assert not [message for message in messages if isinstance(message, AppendResponse)]
    assert VoteResponse(term + 1, granted=True) in messages


def test_a_leader_replicates_before_its_own_write_is_durable() -> None:
    cluster = trio()
    leader, *followers = cluster.machines
    (request,) = leader.propose(put(b"k"))
    for _ in range(3):
        cluster.deliver()
        for follower in followers:
            if follower.writes:
                follower.sync()
    cluster.deliver()
    assert leader.writes
    assert request not in leader.answers, "two of three have it, but this node has not"
    leader.sync()
    assert leader.answers[request].HasField("put")


def test_a_follower_knows_where_the_leader_is() -> None:
    cluster = trio()
    follower = cluster.machines[1]
    write = follower.propose(put(b"k"))[0]
    read = follower.ask(get(b"k"))[0]
    for request in (write, read):
        assert follower.error(request).code == NOT_LEADER
        assert follower.error(request).leader == "n1:7400"


def test_leadership_lost_leaves_commands_uncertain_and_reads_refused() -> None:
    cluster = trio()
    old, new, _ = cluster.machines
    cluster.cut_off = {old.identity}
    (write,) = old.propose(put(b"k", b"old"))
    (read,) = old.ask(get(b"k"))
    cluster.settle()
    cluster.elect(new)
    cluster.cut_off = set()
    cluster.tick(5)
    assert old.error(write).code == UNCERTAIN
    assert old.error(read).code == NOT_LEADER
    assert old.value(b"k") is None


def test_a_linearizable_read_takes_a_round_and_a_stale_one_does_not() -> None:
    cluster = trio()
    leader, follower, _ = cluster.machines
    leader.propose(put(b"k"))
    cluster.settle()
    (linearizable,) = leader.ask(get(b"k"))
    assert linearizable not in leader.answers
    rounds = [e for _, e in leader.sent if isinstance(e.message, HeartbeatRequest)]
    assert rounds
    cluster.settle()
    assert leader.answers[linearizable].get.item.value == b"v"
    (stale,) = follower.ask(get(b"k", stale=True))
    assert stale in follower.answers


def test_a_follower_that_hears_nothing_is_too_stale_for_a_bound() -> None:
    cluster = trio()
    cluster.tick(3 * CONFIG.heartbeat_ticks)
    follower = cluster.machines[1]
    (fresh,) = follower.ask(get(b"k", stale=True, staleness_ms_max=500))
    cluster.cut_off = {follower.identity}
    follower.now += 600
    (bounded,) = follower.ask(get(b"k", stale=True, staleness_ms_max=500))
    (unbounded,) = follower.ask(get(b"k", stale=True))
    assert follower.answers[fresh].HasField("get")
    assert follower.error(bounded).code == TOO_STALE
    assert follower.answers[unbounded].HasField("get")


def test_a_leader_makes_sure_that_it_leads_before_it_answers_within_a_bound() -> None:
    cluster = trio()
    leader = cluster.machines[0]
    (bounded,) = leader.ask(get(b"k", stale=True, staleness_ms_max=500))
    assert bounded not in leader.answers, "it may have been deposed long ago"
    cluster.settle()
    assert leader.answers[bounded].HasField("get")


def test_a_message_from_the_wrong_node_is_dropped() -> None:
    cluster = trio()
    leader, follower, _ = cluster.machines
    term = leader.replica.consensus.term
    follower.turn(Received(33, (Envelope(GROUP, 1, 2, TimeoutNow(term)),)))
    assert follower.replica.consensus.role.value == "follower"
    follower.turn(Received(11, (Envelope(GROUP, 1, 2, TimeoutNow(term)),)))
    assert follower.replica.consensus.role.value == "candidate"


def test_a_removed_replica_is_told_so() -> None:
    machine = alone()
    machine.host._replicas.retired[5] = 3
    machine.sent.clear()
    machine.turn(Received(22, tuple(Envelope(5, 9, id_, TimeoutNow(1)) for id_ in (2, 3, 4))))
    assert machine.sent == [
        (22, Envelope(5, 2, 9, ReplicaRemoved(2))),
        (22, Envelope(5, 3, 9, ReplicaRemoved(3))),
    ]


def test_leadership_goes_where_an_operator_wants_it() -> None:
    cluster = trio()
    old, _, wanted = cluster.machines
    old.turn(TransferAsked(GROUP, wanted.identity))
    cluster.settle()
    assert wanted.is_leader()
    assert not old.is_leader()


def test_a_node_that_stops_hands_over_and_admits_nothing() -> None:
    cluster = trio()
    leader = cluster.machines[0]
    (before,) = leader.propose(put(b"before"))
    leader.turn(Stopping())
    leader.tick(0)
    cluster.settle()
    cluster.tick(2)
    assert not leader.host.leads
    assert leader.answers[before].HasField("put")
    (after,) = leader.propose(put(b"after"))
    assert leader.error(after).code == UNAVAILABLE
    assert any(machine.is_leader() for machine in cluster.machines)


# --- Checkpoints and the log ---


def test_a_checkpoint_is_durable_before_the_log_is_cut() -> None:
    machine = alone(with_options(checkpoint_entries=5, log_tail_entries=0))
    for number in range(5):
        machine.propose(put(b"%d" % number))
        machine.sync()
    assert machine.flushes
    assert not any(isinstance(record, LogCut) for record in machine.log_records)
    effects = machine.flush()
    assert effects.append is not None
    kinds = [type(record) for record in effects.append.records]
    assert kinds[0] is CheckpointTaken
    assert set(kinds[1:]) == {LogCut}
    machine.settle()
    machine.crash()
    machine.start()
    assert machine.recovered.replicas[GROUP].log_start[0] > 0
    machine.tick(CONFIG.election_ticks_max + 1)
    assert machine.value(b"4") == b"v"


def test_a_log_that_is_too_long_is_cut_however_little_its_commands_weigh() -> None:
    """The entries count with all that they take; a log that took no more would be stuck."""
    machine = alone(with_options(log_bytes_max=500, log_tail_entries=0))
    for _ in range(50):
        (written,) = machine.propose(put(b"k"))
        machine.settle()
        machine.tick()
        assert machine.answers[written].HasField("put")


def test_state_that_is_older_than_the_checkpoint_is_refused() -> None:
    machine = alone(with_options(checkpoint_entries=5, log_tail_entries=0))
    for number in range(6):
        machine.propose(put(b"%d" % number))
        machine.settle()
    for space in machine.engine.spaces():
        machine.engine.drop(space)
    with pytest.raises(StateDamaged, match=r"the state of group . ends at entry 0"):
        machine.start()


def test_rows_of_no_replica_are_deleted_at_the_start() -> None:
    machine = alone()
    machine.engine.write({(1 << 30).to_bytes(4, "big") + b"garbage": b"x"})
    named = {replica.space for replica in machine.host.replicas.values()}
    machine.start()
    assert set(machine.engine.spaces()) <= named


def test_one_flush_runs_at_a_time_and_later_wishes_share_the_next() -> None:
    replicas: dict[int, Replica] = {}
    checkpoints = Checkpoints(CONFIG, replicas)
    done: list[str] = []
    checkpoints.after_flush(lambda _: done.append("first"))
    assert checkpoints.begin() == 1
    checkpoints.after_flush(lambda _: done.append("second"))
    checkpoints.after_flush(lambda _: done.append("third"))
    assert checkpoints.begin() is None
    checkpoints.done(1, Outbox())
    assert done == ["first"]
    assert checkpoints.begin() == 2
    checkpoints.done(2, Outbox())
    assert done == ["first", "second", "third"]


# --- Time ---


def test_log_time_follows_the_clock_but_a_stall_adds_one_election_timeout_at_most() -> None:
    machine = alone()
    before = machine.replica.machine.status().log_time
    machine.now += 60_000
    machine.propose(put(b"k"))
    machine.sync()
    elapsed = machine.replica.machine.status().log_time - before
    assert elapsed <= CONFIG.election_timeout_ms + CONFIG.tick_ms * (CONFIG.election_ticks_max + 2)
    machine.turn(Ticked(PLENTY), Appended(0))
    with pytest.raises(AssertionError, match="clock went back"):
        machine.host.turn(0, [Ticked(PLENTY)])


# --- The order of things within a turn ---


def test_a_follower_acknowledges_before_it_applies() -> None:
    machine = Machine(22)
    machine.turn(Bootstrapped(certificate([11, 22])))
    machine.settle()
    first, second = (Entry(n, 1, EntryKind.COMMANDS, 0, 1, encoded(put(b"k"))) for n in (1, 2))
    machine.turn(Received(11, (Envelope(GROUP, 1, 2, AppendRequest(1, 0, 0, (first,), 0)),)))
    machine.settle()
    machine.turn(Received(11, (Envelope(GROUP, 1, 2, AppendRequest(1, 1, 1, (second,), 1)),)))
    assert machine.replica.applied[0] == 0, "the new entry goes to the disk first"
    acknowledging = machine.sync()
    assert acknowledging.messages[11], "the acknowledgement leaves with the turn of the sync"
    assert machine.replica.applied[0] == 0
    assert acknowledging.again, "and the next turn follows at once"
    machine.turn()
    assert machine.replica.applied[0] == 1
