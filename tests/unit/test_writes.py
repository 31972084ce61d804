"""What waits for a write leaves when it is durable, in order, and never before."""

from kvorum_server.outbox import Held, Outbox
from kvorum_server.storage.record import ReplicaRetired
from kvorum_server.writes import Writes


def outbox(*, records: int, held: int) -> Outbox:
    """A turn with some records and something held back, marked with ``held`` as its term."""
    made = Outbox()
    made.records = [ReplicaRetired(1, number + 1) for number in range(records)]
    made.held = [Held(1, 1, held, (0, 0), [])] if held else []
    return made


def test_writes_are_numbered_and_confirmed_in_order() -> None:
    writes = Writes()
    assert not writes
    numbers = []
    for turn in (1, 2, 3):
        write = writes.begin(outbox(records=turn, held=turn))
        assert write is not None
        assert len(write.records) == turn
        numbers.append(write.number)
    assert numbers == [1, 2, 3]
    writes.check_invariants()
    assert [done.held[0].term for done in writes.confirm(2)] == [1, 2]
    assert writes, "the third is under way"
    assert list(writes.confirm(2)) == []
    assert [done.number for done in writes.confirm(3)] == [3]
    assert not writes


def test_what_writes_nothing_waits_with_the_newest_write() -> None:
    writes = Writes()
    writes.begin(outbox(records=1, held=1))
    writes.begin(outbox(records=1, held=2))
    done_later: list[str] = []
    turn = outbox(records=0, held=3)
    turn.when_durable = [lambda: done_later.append("dropped")]
    assert writes.begin(turn) is None
    first, second = writes.confirm(2)
    assert [held.term for held in first.held] == [1]
    assert [held.term for held in second.held] == [2, 3]
    for action in second.then:
        action()
    assert done_later == ["dropped"]


def test_a_turn_with_nothing_to_write_makes_no_write() -> None:
    writes = Writes()
    assert writes.begin(Outbox()) is None
    assert not writes
