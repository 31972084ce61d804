"""Broken on purpose: mistakes that real systems have shipped, each with the weather it shows in.

A simulator that reports nothing proves nothing until it has been seen to report something. A
*canary* is one mistake, planted in the product for the length of a run: the simulator has to
notice it, or it is blind in that eye, whatever else it says. Antithesis and etcd do the same with
old releases whose bugs are known ("brown M&M").

A canary comes with a profile that makes its mistake likely, so that a few seeds suffice
(``test_canaries.py``, at most :data:`SEEDS_MAX`); the campaign looks for all of them in the
general swarm as well, which nobody has told what to look for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.simulator import mistakes_in_agreement as agreement
from tests.simulator import mistakes_in_membership as membership
from tests.simulator import mistakes_in_state as state
from tests.simulator import profiles
from tests.simulator.profiles import Profile
from tests.simulator.simulation import Report, run_seed

Plant = Callable[[pytest.MonkeyPatch], None]

SEEDS_MAX = 20
"""A canary is caught within so many seeds of its own profile."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A mistake, who has made it, and where it shows."""

    plant: Plant
    seen_in: str
    """The real bug, or the rule whose breach it is."""
    profile: Profile
    hint: int = 1
    """The seed of the profile that caught it lately; tried first, worth nothing else."""

    @property
    def name(self) -> str:
        """As the command line knows it."""
        return self.plant.__name__

    @property
    def mistake(self) -> str:
        """One sentence."""
        return (self.plant.__doc__ or "").strip()

    def seeds(self) -> Iterator[int]:
        """1 to SEEDS_MAX, the one that caught it lately first."""
        yield self.hint
        yield from (seed for seed in range(1, SEEDS_MAX + 1) if seed != self.hint)

    def run(
        self, seed: int, profile: Profile | None = None, *, print_lines: bool = False
    ) -> Report:
        """A seed with the mistake planted, under its own profile unless told otherwise."""
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            return run_seed(seed, profile=profile or self.profile, print_lines=print_lines)


CANARIES = (
    # Votes
    Canary(agreement.forget_the_vote, "PySyncObj#84", profiles.quick_restarts),
    Canary(agreement.grant_votes_to_anybody, "Raft paper, 5.4.1", profiles.quick_successions),
    Canary(
        agreement.compare_logs_by_length,
        "openraft a48a3282",
        profiles.half_replicated_entries,
        hint=3,
    ),
    Canary(
        agreement.keep_the_votes_of_the_last_candidacy,
        "Raft paper, 5.1",
        profiles.late_votes,
        hint=2,
    ),
    Canary(agreement.count_pre_votes_as_votes, "Raft thesis, 9.6", profiles.late_votes, hint=2),
    # Logs
    Canary(agreement.accept_after_another_term, "Raft paper, 5.3", profiles.quick_successions),
    Canary(agreement.acknowledge_across_a_gap, "oxia#1239", profiles.late_messages),
    Canary(
        agreement.truncate_without_conflict, "openraft 9540c904", profiles.late_messages, hint=4
    ),
    Canary(agreement.truncate_below_commit, "openraft 9540c904", profiles.late_messages),
    Canary(
        agreement.keep_a_conflicting_log_behind_a_snapshot,
        "openraft 674e78aa",
        profiles.frequent_snapshots,
        hint=6,
    ),
    # Counting
    Canary(agreement.leader_counts_itself_before_sync, "etcd#14370", profiles.power_losses),
    Canary(
        agreement.commit_old_terms_by_counting,
        "canonical/raft#336",
        profiles.half_replicated_entries,
        hint=13,
    ),
    Canary(agreement.count_what_was_sent, "CCF#5325", profiles.late_messages),
    Canary(
        agreement.commit_beyond_what_matches, "ongardie/raft.tla#18", profiles.quick_successions
    ),
    # Members
    Canary(membership.skip_joint_consensus, "raft-dev 2015, NuRaft#67", profiles.changing_members),
    Canary(membership.learners_count, "Raft thesis, 4.2.1", profiles.changing_members, hint=2),
    Canary(membership.give_ids_again, "etcd#20995", profiles.changing_members, hint=4),
    # Reads
    Canary(
        agreement.read_without_a_round,
        "etcd#741, Consul#54",
        profiles.isolated_leaders,
        hint=7,
    ),
    Canary(agreement.read_before_an_own_commit, "etcd#7331", profiles.slow_beginnings),
    Canary(
        agreement.reuse_read_rounds,
        "etcd#20418, tsoracle#224",
        profiles.isolated_leaders,
        hint=16,
    ),
    # Durability
    Canary(state.acknowledge_before_sync, "ZOOKEEPER-4646", profiles.power_losses),
    Canary(state.sync_nothing, "PySyncObj#98", profiles.power_losses),
    Canary(state.forget_the_term_with_its_segment, "PySyncObj#201", profiles.frequent_checkpoints),
    Canary(state.cut_before_the_flush, "Raft paper, section 7", profiles.frequent_checkpoints),
    # Apply
    Canary(
        state.write_the_applied_index_apart,
        "etcd#13766",
        profiles.quick_restarts,
    ),
    Canary(state.apply_the_clock_of_the_node, "ZOOKEEPER-2832", profiles.general_swarm),
    # Sessions
    Canary(state.retry_without_a_session, "jetcd 0.8.2, TiDB 2.1.7", profiles.lost_answers),
    Canary(state.drop_the_sessions_at_restart, "ZOOKEEPER-1154", profiles.quick_restarts),
    Canary(
        state.apply_late_copies,
        "FoundationDB: commit_unknown_result",
        profiles.repeated_requests,
    ),
    # Snapshots
    Canary(state.leave_sessions_out_of_snapshots, "etcd#14571", profiles.frequent_snapshots),
    Canary(
        state.forget_the_newer_snapshot,
        "kvorum, before 0.1",
        profiles.frequent_snapshots,
    ),
)
"""Systems are named as in their issue trackers."""


def canary(name: str) -> Canary:
    """The canary of that name; raises KeyError."""
    return {each.name: each for each in CANARIES}[name]
