"""The watch over replicas can object: every promise of Raft is broken once, by hand.

A cluster of three replicas, told record by record. ``Cluster`` says what honest nodes would say;
each test lets one of them lie.
"""

from dataclasses import dataclass, replace

import pytest

from kvorum_server.consensus.core import Role, Status
from kvorum_server.state_machine import MachineStatus
from kvorum_server.storage.record import (
    EntriesAppended,
    HardStateChanged,
    LogCut,
    Record,
    ReplicaCreated,
    ReplicaRetired,
    SnapshotInstalled,
)
from kvorum_server.storage.recovery import Recovered, RecoveredReplica
from kvorum_server.storage.segment import Position
from kvorum_server.types import (
    AppendResponse,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    HardState,
    Member,
    Message,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)
from tests.simulator.checkers import Checkers, Violation

GROUP = 1
NODES = (11, 22, 33)
THREE = Configuration.initial(NODES)


def entry(index: int, term: int = 1, payload: bytes = b"") -> Entry:
    return Entry(index, term, EntryKind.COMMANDS, index, 1, payload)


def change(index: int, term: int = 1) -> Entry:
    return Entry(index, term, EntryKind.CONFIGURATION, index, 1, THREE.encode())


def recovered(identity: int, *replicas: RecoveredReplica) -> Recovered:
    """What a node finds when it starts."""
    return Recovered(
        fresh=not replicas,
        torn_bytes=0,
        identity=identity,
        boot=1,
        bootstrap=None,
        retired={},
        replicas={replica.group: replica for replica in replicas},
        end=Position(1, 64),
    )


class Cluster:
    """Node 11 holds replica 1, node 22 replica 2, node 33 replica 3."""

    def __init__(self) -> None:
        self.checkers = Checkers()
        for replica, identity in enumerate(NODES, 1):
            self.checkers.started(f"n{replica}", recovered(identity))
            self.write(replica, ReplicaCreated(GROUP, replica, 1, THREE))

    def append(self, replica: int, *records: Record) -> None:
        """Handed to the log, not synced."""
        self.checkers.appended(NODES[replica - 1], records)

    def sync(self, replica: int) -> None:
        """Everything is durable."""
        self.checkers.synced(NODES[replica - 1], 99)

    def write(self, replica: int, *records: Record) -> None:
        """Handed to the log and durable."""
        self.append(replica, *records)
        self.sync(replica)

    def log(self, replica: int, *entries: Entry) -> None:
        """Entries, durable."""
        self.write(replica, EntriesAppended(GROUP, replica, entries))

    def send(self, replica: int, message: Message, target: int = 1) -> None:
        """A message leaves."""
        self.checkers.promised(NODES[replica - 1], Envelope(GROUP, replica, target, message))

    def look(
        self,
        replica: int,
        *,
        term: int = 1,
        commit: int = 0,
        applied: int = 0,
        leads: bool = False,
        matched: dict[int, int] | None = None,
        configuration: Configuration = THREE,
        revision: int = 1,
        compacted_revision: int = 0,
    ) -> None:
        """A node has taken a turn and says where it stands."""
        status = Status(
            replica=replica,
            role=Role.LEADER if leads else Role.FOLLOWER,
            term=term,
            vote=0,
            leader=None,
            commit=commit,
            applied=applied,
            durable=0,
            first_index=1,
            last_index=0,
            configuration=configuration,
            matched=matched or {},
            log_bytes=0,
        )
        machine = MachineStatus(applied, 1, 0, revision, compacted_revision, 0)
        self.checkers.looked(NODES[replica - 1], GROUP, status, machine)

    def restart(self, replica: int, *entries: Entry, hard_state: HardState = HardState()) -> None:
        """A node finds this log again."""
        self.checkers.started(
            f"n{replica}",
            recovered(
                NODES[replica - 1],
                RecoveredReplica(
                    group=GROUP,
                    replica=replica,
                    space=1,
                    hard_state=hard_state,
                    log_start=(0, 0),
                    log_start_stamp=0,
                    configuration=THREE,
                    entries=list(entries),
                    checkpoint_index=0,
                ),
            ),
        )


def agreed(commit: int = 2) -> Cluster:
    """Replicas 1 and 2 hold entries durably, and 1 has committed them as leader of term 1."""
    cluster = Cluster()
    entries = [entry(index) for index in range(1, commit + 1)]
    for replica in (1, 2):
        cluster.log(replica, *entries)
    cluster.look(1, commit=commit, leads=True, matched={1: commit, 2: commit})
    return cluster


def test_an_honest_cluster_is_left_in_peace() -> None:
    cluster = agreed()
    cluster.send(2, AppendResponse(1, True, matched_index=2))
    cluster.look(2, commit=2, applied=2)
    cluster.restart(2, entry(1), entry(2))
    assert [one.index for one in cluster.checkers.log(GROUP)] == [1, 2]


# --- Terms, votes, leaders ---


def test_two_leaders_in_one_term() -> None:
    cluster = Cluster()
    cluster.look(1, leads=True)
    with pytest.raises(Violation, match="election safety"):
        cluster.look(2, leads=True)


@pytest.mark.parametrize(
    ("new", "complaint"),
    [
        (HardState(1, 1, 2), "the term fell"),
        (HardState(2, 3, 2), "a second vote"),
        (HardState(2, 1, 1), "the commit index fell"),
    ],
)
def test_a_hard_state_that_goes_back(new: HardState, complaint: str) -> None:
    cluster = Cluster()
    cluster.write(1, HardStateChanged(GROUP, 1, HardState(2, 1, 2)))
    with pytest.raises(Violation, match=complaint):
        cluster.append(1, HardStateChanged(GROUP, 1, new))


def test_a_vote_that_leaves_before_it_is_durable() -> None:
    cluster = Cluster()
    cluster.append(2, HardStateChanged(GROUP, 2, HardState(1, 1, 0)))
    with pytest.raises(Violation, match="gave a vote in term 1 before"):
        cluster.send(2, VoteResponse(1, True))
    cluster.sync(2)
    cluster.send(2, VoteResponse(1, True))


def test_a_vote_for_oneself_that_is_not_durable() -> None:
    cluster = Cluster()
    with pytest.raises(Violation, match="asked for votes in term 1 before"):
        cluster.send(1, VoteRequest(1, 0, 0), target=2)


def test_a_vote_forgotten_in_a_restart() -> None:
    cluster = Cluster()
    cluster.write(1, HardStateChanged(GROUP, 1, HardState(3, 2, 0)))
    with pytest.raises(Violation, match="recovered"):
        cluster.restart(1, hard_state=HardState(3, 0, 0))


# --- Logs ---


def test_an_acknowledgement_before_the_sync() -> None:
    cluster = Cluster()
    cluster.append(2, EntriesAppended(GROUP, 2, (entry(1),)))
    with pytest.raises(Violation, match="acknowledged entry 1 before it was durable"):
        cluster.send(2, AppendResponse(1, True, matched_index=1))


def test_an_acknowledgement_of_what_was_replaced_meanwhile() -> None:
    cluster = Cluster()
    cluster.log(2, entry(1, term=1))
    cluster.append(2, EntriesAppended(GROUP, 2, (entry(1, term=2),)))
    with pytest.raises(Violation, match="before it was durable"):
        cluster.send(2, AppendResponse(2, True, matched_index=1))


def test_a_promise_may_leave_with_the_turn_that_retires_its_replica() -> None:
    """It speaks of the log that is still there, and of no more than that log holds."""
    cluster = Cluster()
    cluster.log(2, entry(1))
    cluster.append(2, ReplicaRetired(GROUP, 2))
    cluster.send(2, AppendResponse(1, True, matched_index=1))
    with pytest.raises(Violation, match="acknowledged entry 2 before it was durable"):
        cluster.send(2, AppendResponse(1, True, matched_index=2))


def test_one_entry_with_two_contents() -> None:
    cluster = Cluster()
    cluster.log(1, entry(1, payload=b"this"))
    with pytest.raises(Violation, match="log matching"):
        cluster.log(2, entry(1, payload=b"that"))


def test_a_gap_in_a_log() -> None:
    cluster = Cluster()
    with pytest.raises(Violation, match="leaves a gap"):
        cluster.log(1, entry(2))


def test_a_synced_entry_lost_in_a_restart() -> None:
    cluster = Cluster()
    cluster.log(1, entry(1), entry(2))
    with pytest.raises(Violation, match="recovered"):
        cluster.restart(1, entry(1))


def test_an_entry_that_was_not_synced_may_be_lost_or_kept() -> None:
    for kept in ((), (entry(1),)):
        cluster = Cluster()
        cluster.append(1, EntriesAppended(GROUP, 1, (entry(1),)))
        cluster.restart(1, *kept)
        assert cluster.checkers.nodes[NODES[0]].durable[GROUP].last == len(kept)


# --- Commits ---


def test_a_commit_that_no_quorum_holds() -> None:
    cluster = Cluster()
    cluster.log(1, entry(1))
    with pytest.raises(Violation, match=r"only the replicas \[1\] hold durably"):
        cluster.look(1, commit=1, leads=True)


def test_a_commit_that_a_quorum_holds_but_not_durably() -> None:
    cluster = Cluster()
    cluster.log(1, entry(1))
    cluster.append(2, EntriesAppended(GROUP, 2, (entry(1),)))
    with pytest.raises(Violation, match=r"only the replicas \[1\]"):
        cluster.look(1, commit=1, leads=True)


def test_a_joint_configuration_needs_both_halves() -> None:
    members = (*THREE.members, Member(4, 44), Member(5, 55))
    joint = replace(THREE, voters=(1, 4, 5), outgoing=(1, 2, 3), members=members, next_replica=6)
    cluster = Cluster()
    for replica in (1, 2):
        cluster.log(replica, entry(1))
    with pytest.raises(Violation, match="committed entry 1"):
        cluster.look(1, commit=1, leads=True, configuration=joint)


def test_a_learner_is_no_part_of_a_quorum() -> None:
    configuration = replace(THREE, voters=(1, 2), learners=(3,))
    cluster = Cluster()
    for replica in (1, 3):
        cluster.log(replica, entry(1))
    with pytest.raises(Violation, match="committed entry 1"):
        cluster.look(1, commit=1, leads=True, configuration=configuration)


def test_what_a_lost_disk_held_counts_no_more() -> None:
    cluster = Cluster()
    for replica in (1, 2):
        cluster.log(replica, entry(1))
    cluster.checkers.lost(NODES[1])
    with pytest.raises(Violation, match=r"only the replicas \[1\]"):
        cluster.look(1, commit=1, leads=True)


def test_two_entries_committed_at_one_index() -> None:
    cluster = agreed(1)
    cluster.log(3, entry(1, term=2))
    with pytest.raises(Violation, match="state machine safety"):
        cluster.look(3, term=2, commit=1)


def test_a_leader_without_a_committed_entry() -> None:
    cluster = agreed()
    cluster.log(3, entry(1))
    with pytest.raises(Violation, match=r"leader completeness.*without the committed entry 2"):
        cluster.look(3, term=2, leads=True)


def test_a_leader_that_believes_too_much() -> None:
    cluster = agreed()
    with pytest.raises(Violation, match="matched index of replica 3 is 2, which that replica"):
        cluster.look(1, commit=2, leads=True, matched={1: 2, 2: 2, 3: 2})


def test_a_matched_index_that_falls_within_a_term() -> None:
    cluster = agreed()
    with pytest.raises(Violation, match="matched index of replica 2 fell from 2 to 1"):
        cluster.look(1, commit=2, leads=True, matched={1: 2, 2: 1})


def test_a_second_change_of_the_configuration_before_the_first_is_committed() -> None:
    cluster = Cluster()
    cluster.log(1, entry(1), change(2), change(3))
    with pytest.raises(Violation, match=r"in entry 3 while \[2\] were not committed"):
        cluster.look(1, leads=True)


def test_an_id_that_is_given_again() -> None:
    """The replica that had it may have left long ago, and its messages be on their way."""
    cluster = Cluster()
    without = replace(THREE, voters=(1, 2), members=THREE.members[:2])
    again = replace(THREE, members=(*without.members, Member(3, 44)))
    for place, configuration in enumerate((THREE, without, again), 1):
        for replica in (1, 2):
            content = replace(change(place), payload=configuration.encode())
            cluster.log(replica, content)
        if configuration is again:
            with pytest.raises(Violation, match="gives the id 3 again"):
                cluster.look(1, commit=place, leads=True, configuration=without)
        else:
            cluster.look(1, commit=place, leads=True, configuration=without)


def test_a_change_after_the_last_one_was_committed() -> None:
    cluster = Cluster()
    for replica in (1, 2):
        cluster.log(replica, change(1))
    cluster.look(1, commit=1, leads=True)
    cluster.log(1, change(2))
    cluster.look(1, commit=1, leads=True)
    assert len(cluster.checkers.log(GROUP)) == 1


# --- What is applied ---


@dataclass(frozen=True)
class Figures:
    """Where a replica stands."""

    term: int = 2
    commit: int = 2
    applied: int = 2
    revision: int = 2
    compacted_revision: int = 2

    def show(self, cluster: Cluster) -> None:
        """Replica 2 says so."""
        cluster.look(
            2,
            term=self.term,
            commit=self.commit,
            applied=self.applied,
            revision=self.revision,
            compacted_revision=self.compacted_revision,
        )


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        (Figures(term=1), "term"),
        (Figures(commit=1, applied=1), "commit"),
        (Figures(applied=1), "applied"),
        (Figures(revision=1), "revision"),
        (Figures(compacted_revision=1), "compacted_revision"),
    ],
)
def test_a_figure_that_falls(figures: Figures, name: str) -> None:
    cluster = agreed()
    Figures().show(cluster)
    with pytest.raises(Violation, match=f"{name} fell from 2 to 1"):
        figures.show(cluster)


def test_something_applied_that_is_not_committed() -> None:
    cluster = agreed()
    with pytest.raises(Violation, match="applied more than is committed"):
        cluster.look(2, commit=1, applied=2)


def test_replicas_that_differ_at_the_same_index() -> None:
    cluster = agreed()
    cluster.look(1, commit=2, applied=2, leads=True, revision=3)
    with pytest.raises(Violation, match="node n1 and node n2 differ after the same entries"):
        cluster.look(2, commit=2, applied=2, revision=4)


def test_rows_that_differ_at_the_same_index() -> None:
    cluster = agreed()
    cluster.checkers.check_rows(NODES[0], GROUP, 2, b"these")
    cluster.checkers.check_rows(NODES[1], GROUP, 1, b"those")
    with pytest.raises(Violation, match="the rows of node n1 and node n2 differ after entry 2"):
        cluster.checkers.check_rows(NODES[1], GROUP, 2, b"those")


# --- Cuts, snapshots, replicas that come and go ---


def test_a_cut_of_what_is_not_committed() -> None:
    cluster = agreed()
    cluster.write(2, LogCut(GROUP, 2, 2, 1, 2, THREE))
    with pytest.raises(Violation, match="replaces an entry that was cut"):
        cluster.log(2, entry(2, term=2))


def test_a_snapshot_of_what_was_never_committed() -> None:
    cluster = agreed()
    with pytest.raises(Violation, match="3 was kept before it was committed"):
        cluster.write(3, SnapshotInstalled(GROUP, 3, 2, SnapshotMeta(3, 1, 3, THREE)))


def test_a_replica_that_follows_a_retired_one_starts_from_nothing() -> None:
    cluster = agreed()
    cluster.look(2, commit=2, applied=2)
    cluster.write(2, ReplicaRetired(GROUP, 2))
    cluster.write(2, ReplicaCreated(GROUP, 4, 2, THREE))
    status = cluster.checkers.nodes[NODES[1]].durable[GROUP]
    assert (status.replica, status.last) == (4, 0)
