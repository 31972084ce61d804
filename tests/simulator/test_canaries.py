"""Can the simulator fail? Clusters are broken on purpose, and it has to notice.

Each canary is a mistake that a real system has shipped, planted in the product for the length of
one test. A simulator that lets one of them live is blind in that eye, whatever else it reports.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kvorum_server.checkpoint import Checkpoints
from kvorum_server.consensus.leader import Leader
from kvorum_server.consensus.log import Log
from kvorum_server.consensus.raft import Raft
from kvorum_server.host import Host
from kvorum_server.replica import Replica
from kvorum_server.snapshot import SnapshotSender
from kvorum_server.storage.rows import Table
from kvorum_server.transfer import Transfers
from kvorum_server.types import Entry
from tests.simulator.client import Client
from tests.simulator.disk import SimulatedFile
from tests.simulator.simulation import run_seed

Plant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Votes and append acknowledgements leave before the write that they promise is durable."""
    original = Replica._write

    def write(self: Replica, ready: Any, outbox: Any) -> None:
        ready.messages += ready.messages_after_append
        ready.messages_after_append = []
        original(self, ready, outbox)

    patch.setattr(Replica, "_write", write)


def leader_counts_itself_before_sync(patch: pytest.MonkeyPatch) -> None:
    """The leader's own entries count towards the quorum before they are durable."""
    original = Leader.matched

    def matched(self: Leader) -> dict[int, int]:
        return {**original(self), self.raft.replica: self.raft.log.last_index}

    patch.setattr(Leader, "matched", matched)


def read_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A leader answers reads from its own state and does not ask whether it still leads."""

    def flush_reads(self: Leader) -> None:
        original(self)
        raft = self.raft
        if raft.reads.round.counter:
            for replica in raft.log.configuration.voters:
                raft.reads.acknowledge(replica, raft.reads.round)
            raft.output.reads += raft.reads.confirmed(raft.log.configuration)

    original = Leader.flush
    patch.setattr(Leader, "flush", flush_reads)


def read_before_an_own_commit(patch: pytest.MonkeyPatch) -> None:
    """A new leader serves reads before it knows what its predecessors committed."""
    patch.setattr(Leader, "_may_serve_reads", lambda self: True)


def retry_without_a_session(patch: pytest.MonkeyPatch) -> None:
    """A client repeats what nothing protects from being applied twice."""
    patch.setattr(Client, "_is_at_most_once", lambda self, request: False)


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    """A restarted node does not know whom it has voted for."""
    original = Raft.__init__

    def init(self: Raft, **arguments: Any) -> None:
        arguments["hard_state"] = replace(arguments["hard_state"], vote=0)
        original(self, **arguments)

    patch.setattr(Raft, "__init__", init)


def grant_votes_to_anybody(patch: pytest.MonkeyPatch) -> None:
    """A vote does not ask whether the candidate's log is as new as one's own."""
    patch.setattr(Log, "is_up_to_date", lambda self, last_index, last_term: True)


def leave_sessions_out_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    """A snapshot has the keys and not the sessions."""
    original = SnapshotSender.__init__

    def init(self: SnapshotSender, **arguments: Any) -> None:
        original(self, **arguments)
        rows = self._rows
        assert rows is not None
        self._rows = (row for row in rows if row[0][4] != Table.SESSION)

    patch.setattr(SnapshotSender, "__init__", init)


def cut_before_the_flush(patch: pytest.MonkeyPatch) -> None:
    """The log is cut when a checkpoint is asked for, not when the state is durable."""

    def after_flush(self: Checkpoints, action: Any) -> None:
        asked.append(action)

    def effects(self: Host, outbox: Any) -> Any:
        while asked:
            asked.pop()(outbox)
        return original(self, outbox)

    asked: list[Any] = []
    original = Host._effects
    patch.setattr(Checkpoints, "after_flush", after_flush)
    patch.setattr(Host, "_effects", effects)


def truncate_without_conflict(patch: pytest.MonkeyPatch) -> None:
    """An old append that arrives late cuts off what came after it."""
    original = Log.merge

    def merge(self: Log, entries: Sequence[Entry], commit: int) -> None:
        last = entries[-1].index if entries else 0
        original(self, entries, commit)
        if commit <= last < self.last_index:
            self._truncate(last)

    patch.setattr(Log, "merge", merge)


def lose_the_tail_of_the_log(patch: pytest.MonkeyPatch) -> None:
    """A sync that syncs nothing."""
    patch.setattr(SimulatedFile, "sync", lambda self: None)


def apply_the_clock_of_the_node(patch: pytest.MonkeyPatch) -> None:
    """Apply looks at something that is not in the log: replicas drift apart."""
    original = Replica._apply_entry

    def apply(self: Replica, entry: Entry, outbox: Any) -> int:
        assert self._now is not None
        return original(self, replace(entry, stamp=entry.stamp + self._now % 2), outbox)

    patch.setattr(Replica, "_apply_entry", apply)


def forget_the_newer_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A follower that needs a second snapshot in the turn in which the first arrives gets none."""

    def begin(self: Transfers, replica: Replica, target: int) -> None:
        if target not in self._senders:
            self._wanted.add(target)

    patch.setattr(Transfers, "begin", begin)


CANARIES: dict[Plant, Sequence[int]] = {
    acknowledge_before_sync: (2,),
    leader_counts_itself_before_sync: (3,),
    read_without_a_round: (30, 48, 56),
    read_before_an_own_commit: (10, 19, 29),
    retry_without_a_session: (12, 13),
    forget_the_vote: (7, 10),
    grant_votes_to_anybody: (9, 14),
    leave_sessions_out_of_snapshots: (2, 3),
    cut_before_the_flush: (1, 2),
    truncate_without_conflict: (10, 35),
    lose_the_tail_of_the_log: (1, 4),
    apply_the_clock_of_the_node: (1, 2),
    forget_the_newer_snapshot: (25, 30),
}
"""Mistakes and seeds that found them lately. A change of the product can change what a seed does;
then the search below goes on, and the hints are brought up to date when it takes too long."""

SEEDS_MAX = 150


@pytest.mark.parametrize("plant", CANARIES, ids=lambda plant: plant.__name__)
def test_the_simulator_notices(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    seeds = (*CANARIES[plant], *range(1, SEEDS_MAX))
    caught = next((seed for seed in seeds if run_seed(seed).failure), None)
    assert caught is not None, f"{plant.__name__} went unnoticed through {len(seeds)} seeds"
    print(f"{plant.__name__}: caught by seed {caught}")
