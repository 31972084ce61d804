"""The simulated engine is as bad as a real one may be, and no worse."""

import random

import pytest

from kvorum_server.storage.errors import EngineDamage
from tests.simulator.engine import SimulatedEngine


def batch(number: int) -> dict[bytes, bytes | None]:
    """Batch n sets two rows of its own and one that all batches share."""
    mark = str(number).encode()
    return {b"first" + mark: mark, b"second" + mark: mark, b"last": mark}


def last(engine: SimulatedEngine) -> int:
    """The newest batch that the engine holds; checks that it holds it and all before, whole."""
    number = int(engine.get(b"last") or b"0")
    expected: dict[bytes, bytes | None] = {}
    for earlier in range(1, number + 1):
        expected |= batch(earlier)
    assert dict(engine.scan(b"a", b"z")) == expected
    engine.check_invariants()
    return number


def crashed(seed: int, *, flush_starts: int, flush_ends: int, written: int) -> SimulatedEngine:
    """An engine after ``written`` batches, of which a flush reached the first, and a crash."""
    engine = SimulatedEngine(random.Random(seed))
    reach = 0
    for number in range(1, written + 1):
        engine.write(batch(number))
        if number == flush_starts:
            reach = engine.start_flush()
        if number == flush_ends:
            engine.finish_flush(reach)
    engine.crash()
    return engine


def test_every_prefix_from_the_last_flush_on_can_come_back_and_no_other() -> None:
    found = {last(crashed(seed, flush_starts=3, flush_ends=5, written=9)) for seed in range(200)}
    assert found == {3, 4, 5, 6, 7, 8, 9}


def test_a_flush_that_did_not_finish_promises_nothing() -> None:
    found = {last(crashed(seed, flush_starts=3, flush_ends=99, written=4)) for seed in range(200)}
    assert found == {0, 1, 2, 3, 4}


def test_what_came_back_once_stays() -> None:
    for seed in range(50):
        engine = crashed(seed, flush_starts=2, flush_ends=3, written=6)
        number = last(engine)
        engine.crash()
        assert last(engine) == number


def test_the_same_seed_loses_the_same() -> None:
    numbers = [last(crashed(7, flush_starts=1, flush_ends=1, written=50)) for _ in range(3)]
    assert len(set(numbers)) == 1


def test_a_drop_is_lost_or_kept_as_a_whole() -> None:
    rows: dict[bytes, bytes | None] = {bytes((0, 0, 0, 1, name)): b"" for name in range(10)}
    found = set()
    for seed in range(50):
        engine = SimulatedEngine(random.Random(seed))
        engine.write(rows)
        engine.flush()
        engine.drop(1)
        engine.crash()
        found.add(len(list(engine.scan(b"\x00", b"\xff"))))
    assert found == {0, 10}


# --- Damage ---


def rotten_engine() -> SimulatedEngine:
    """Ten durable rows, none of which can be read."""
    engine = SimulatedEngine(random.Random(1))
    engine.write({b"\0\0\0\1" + bytes([name]): b"value" for name in range(10)})
    engine.flush()
    engine.rot(10)
    return engine


def test_rotten_rows_are_never_read_as_if_they_were_whole() -> None:
    engine = rotten_engine()
    readers = (
        lambda: engine.get(b"\0\0\0\1\5"),
        lambda: list(engine.scan(b"\0", b"\1")),
        lambda: engine.snapshot().get(b"\0\0\0\1\5"),
        lambda: list(engine.snapshot().scan(b"\0", b"\1")),
    )
    for read in readers:
        with pytest.raises(EngineDamage, match="checksum mismatch") as damage:
            read()
        assert damage.value.is_rot


def test_rot_survives_a_restart_and_ends_when_the_rows_are_replaced() -> None:
    engine = rotten_engine()
    engine.crash()
    assert engine.is_rotten
    engine.drop(1)
    assert not engine.is_rotten
    assert list(engine.scan(b"\0", b"\1")) == []


def test_lost_files_leave_an_older_durable_state_or_none() -> None:
    found = set()
    for seed in range(20):
        engine = SimulatedEngine(random.Random(seed))
        for number in range(1, 6):
            engine.write(batch(number))
            engine.flush()
            if number == 2:
                engine.remember()
        engine.lose()
        found.add(last(engine))
    assert found == {0, 2}


def test_a_copy_holds_what_was_durable_and_goes_its_own_way() -> None:
    engine = SimulatedEngine(random.Random(1))
    engine.write(batch(1))
    engine.flush()
    engine.write(batch(2))
    twin = engine.copy(random.Random(2))
    engine.write(batch(3))
    assert (last(twin), last(engine)) == (1, 3)
