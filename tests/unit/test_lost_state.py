"""That a state is lost, and that it is back, as the write-ahead log tells it."""

import pytest

from kvorum_server.lost_state import has_whole_log, irreplaceable, start_over, without_states
from kvorum_server.storage.log_state import LogState
from kvorum_server.storage.record import (
    CheckpointTaken,
    EntriesAppended,
    LogCut,
    Record,
    ReplicaCreated,
    SnapshotInstalled,
    StateLost,
    StateRebuilt,
)
from kvorum_server.storage.recovery import Recovered, RecoveredReplica
from kvorum_server.storage.segment import Position
from kvorum_server.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta

TRIO = Configuration.initial((11, 22, 33))
ALONE = Configuration.initial((11,))
ENTRIES = tuple(Entry(index, 1, EntryKind.NO_OP, index, 1, b"") for index in range(1, 11))


def state_of(*records: Record) -> LogState:
    """What these records add up to, after ten entries of replica 1 in space 5."""
    state = LogState(identity=11, boot=1)
    for record in (ReplicaCreated(1, 1, 5, TRIO), EntriesAppended(1, 1, ENTRIES), *records):
        assert state.contradiction(record) is None
        state.apply(record)
    state.check_invariants()
    return state


CUT = (CheckpointTaken(((1, 8),)), LogCut(1, 1, 4, 1, 4, TRIO))


def test_a_lost_state_is_lost_in_every_later_segment() -> None:
    state = state_of(*CUT, StateLost(1, 1))
    later = LogState.from_frames(state.frames())
    assert later.replicas == state.replicas
    assert later.replicas[1].state_lost
    assert later.replicas[1].checkpoint_index == 8, "the entries are still committed"


@pytest.mark.parametrize("index", [4, 7, 10])
def test_a_rebuilt_state_leaves_the_log_as_it_is(index: int) -> None:
    state = state_of(*CUT, StateLost(1, 1), StateRebuilt(1, 1, 6, index)).replicas[1]
    assert not state.state_lost
    assert (state.space, state.checkpoint_index) == (6, index)
    assert (state.start_index, state.last_index) == (4, 10)


def test_a_later_snapshot_brings_a_state_back_as_well() -> None:
    meta = SnapshotMeta(20, 2, 20, TRIO)
    state = state_of(*CUT, StateLost(1, 1), SnapshotInstalled(1, 1, 6, meta)).replicas[1]
    assert not state.state_lost
    assert (state.space, state.start_index, state.last_index) == (6, 20, 20)


@pytest.mark.parametrize(
    ("before", "record", "reason"),
    [
        ((), StateRebuilt(1, 1, 6, 5), "a state that was not lost is not rebuilt"),
        ((StateLost(1, 1),), StateRebuilt(1, 1, 6, 3), "state 3 is not between log start 4"),
        ((StateLost(1, 1),), StateRebuilt(1, 1, 6, 11), "state 11 is not between log start 4"),
        ((), StateLost(1, 2), "group 1 has no replica 2 on this node"),
    ],
)
def test_what_cannot_follow(before: tuple[Record, ...], record: Record, reason: str) -> None:
    found = state_of(*CUT, *before).contradiction(record)
    assert found is not None
    assert found.startswith(reason)


def replica(start: int, configuration: Configuration = TRIO) -> RecoveredReplica:
    """A replica whose log was cut at ``start`` and whose checkpoint is at 8."""
    return RecoveredReplica(
        group=1,
        replica=1,
        space=5,
        hard_state=HardState(3, 2, 6),
        log_start=(start, 1 if start else 0),
        log_start_stamp=start,
        configuration=configuration,
        entries=list(ENTRIES[start:]),
        checkpoint_index=8,
    )


def test_a_cut_log_needs_a_snapshot_and_keeps_its_vote() -> None:
    lost, records = start_over(replica(start=4), space=9)
    assert records == [StateLost(1, 1)]
    assert lost.space == 9
    assert lost.hard_state == HardState(3, 2, 8), "what a checkpoint holds was committed"


def test_a_whole_log_makes_its_state_again() -> None:
    whole = replica(start=0)
    assert has_whole_log(whole)
    lost, records = start_over(whole, space=9)
    assert records == [StateLost(1, 1), StateRebuilt(1, 1, 9, 0)]
    assert (lost.checkpoint_index, lost.state_lost) == (0, False)


def test_only_a_cut_log_without_other_voters_cannot_be_replaced() -> None:
    assert irreplaceable({1: replica(4)}) is None
    assert irreplaceable({1: replica(0, ALONE)}) is None
    assert irreplaceable({0: replica(4), 1: replica(4, ALONE)}) == 1
    # The newest configuration in the log counts.
    grown = replica(4, ALONE)
    entry = Entry(11, 1, EntryKind.CONFIGURATION, 11, 1, TRIO.encode())
    grown.entries.append(entry)
    assert irreplaceable({1: grown}) is None


def test_without_states_only_the_rows_are_forgotten() -> None:
    recovered = Recovered(11, 2, b"", {1: replica(4)}, {}, 0, fresh=False, end=Position(1, 64))
    lost = without_states(recovered).replicas[1]
    assert lost.state_lost
    assert lost.entries == recovered.replicas[1].entries
