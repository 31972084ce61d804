"""Starting without a state: what a node may do whose rows are lost while its log is intact.

A state is a function of its log, so a replica whose log was never cut makes it again by itself.
Where the log was cut, the peers have what is missing: the replica starts *rebuilding*, keeps its
identity, log and vote, and gets a snapshot (see ``transfer.py``). Where no other voter exists, only
a backup helps, and that has to be said before anything is moved.

That a state is lost is durable from the first write on (``StateLost``), so a crash on the way comes
back rebuilding and never serves what is half there.
"""

from collections.abc import Mapping
from dataclasses import replace

from kvorum_server.storage.record import Record, StateLost, StateRebuilt
from kvorum_server.storage.recovery import Recovered, RecoveredReplica
from kvorum_server.types import Configuration, EntryKind, GroupId, HardState


def without_states(recovered: Recovered) -> Recovered:
    """What a node knows that has its log and no rows."""
    replicas = {
        group: replace(replica, state_lost=True) for group, replica in recovered.replicas.items()
    }
    return replace(recovered, replicas=replicas)


def irreplaceable(replicas: Mapping[GroupId, RecoveredReplica]) -> GroupId | None:
    """A group of which the log alone is not enough and nobody else has the state; None: there is
    none.
    """
    for group, replica in sorted(replicas.items()):
        if not has_whole_log(replica) and not _others(replica):
            return group
    return None


def has_whole_log(replica: RecoveredReplica) -> bool:
    """Whether the log goes back to the beginning."""
    return replica.log_start[0] == 0


def start_over(replica: RecoveredReplica, space: int) -> tuple[RecoveredReplica, list[Record]]:
    """A replica whose state is lost, as it starts on the empty ``space``, and what the
    write-ahead log has to say of that.

    The checkpoint is no promise of the rows any more; but what it covered was committed.
    """
    records: list[Record] = [StateLost(replica.group, replica.replica)]
    if has_whole_log(replica):
        records.append(StateRebuilt(replica.group, replica.replica, space, 0))
        return replace(replica, space=space, checkpoint_index=0, state_lost=False), records
    hard = replica.hard_state
    hard_state = HardState(hard.term, hard.vote, max(hard.commit, replica.checkpoint_index))
    return replace(replica, space=space, hard_state=hard_state), records


def _others(replica: RecoveredReplica) -> frozenset[int]:
    """The other voters, as the newest configuration in the log has them."""
    configuration = replica.configuration
    for entry in replica.entries:
        if entry.kind is EntryKind.CONFIGURATION:
            configuration = Configuration.decode(entry.payload)
    return configuration.all_voters() - {replica.replica}
