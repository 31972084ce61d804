"""Mistakes in who belongs to a group, to be planted for the length of a run (see ``canaries.py``).

A change of members is the one moment at which two majorities may exist that share nobody. What
keeps them from deciding differently is small and easily left out: a joint configuration on the
way, learners that do not count, ids that are not used twice. Each function here takes one of these
away. (A change that does not wait for an entry of the leader's own term needs two leaders that both
change; ``tests/scripts/consensus/reconfigure_of_two_leaders.txt`` shows that one.)
"""

from dataclasses import replace
from typing import Any

import pytest

from kvorum_server import membership
from kvorum_server.consensus import quorum
from kvorum_server.reconcile import Step, next_step
from kvorum_server.types import Configuration, ReplicaId


def skip_joint_consensus(patch: pytest.MonkeyPatch) -> None:
    """Voters are exchanged in one step: majorities of the old and of the new share nobody."""

    def next_step_at_once(*arguments: Any) -> Step:
        step = next_step(*arguments)
        wanted = step.configuration
        if wanted is None or not wanted.is_joint:
            return step
        stay = {*wanted.voters, *wanted.learners}
        members = tuple(member for member in wanted.members if member.replica in stay)
        return Step(replace(wanted, outgoing=(), members=members))

    patch.setattr(membership, "next_step", next_step_at_once)


def learners_count(patch: pytest.MonkeyPatch) -> None:
    """Who has not caught up yet counts for the quorum, and in place of those who have."""

    def halves(configuration: Configuration) -> tuple[tuple[ReplicaId, ...], ...]:
        return tuple((*half, *configuration.learners) for half in original(configuration))

    original = quorum.halves
    patch.setattr(quorum, "halves", halves)


def give_ids_again(patch: pytest.MonkeyPatch) -> None:
    """A newcomer gets an id that nobody has at present: that of a removed replica perhaps."""

    def next_step_with_old_ids(configuration: Configuration, *arguments: Any) -> Step:
        free = max(member.replica for member in configuration.members) + 1
        return next_step(replace(configuration, next_replica=free), *arguments)

    patch.setattr(membership, "next_step", next_step_with_old_ids)
