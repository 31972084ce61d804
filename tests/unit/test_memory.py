"""What only the engine in memory does: sharing its table with readers, and copying when it must."""

import random

import pytest

from kvorum_server.storage.memory import MemoryEngine


@pytest.fixture
def engine() -> MemoryEngine:
    engine = MemoryEngine()
    engine.write({b"a": b"1", b"b": b"2", b"c": b"3"})
    return engine


def test_a_write_that_nobody_watches_copies_nothing(engine: MemoryEngine) -> None:
    table = engine._rows
    list(engine.scan(b"a", b"z"))
    next(engine.scan(b"a", b"z"))
    engine.snapshot().close()
    engine.write({b"d": b"4"})
    assert engine._rows is table


def test_the_first_write_under_a_reader_copies_and_the_next_do_not(engine: MemoryEngine) -> None:
    table = engine._rows
    snapshot = engine.snapshot()
    engine.write({b"d": b"4"})
    copy = engine._rows
    engine.write({b"e": b"5"})

    assert copy is not table
    assert engine._rows is copy
    assert [key for key, _ in snapshot.scan(b"", b"z")] == [b"a", b"b", b"c"]


def test_stats_count_the_bytes_of_keys_and_values(engine: MemoryEngine) -> None:
    assert engine.stats().memory_bytes == 6
    engine.write({b"a": b"longer", b"b": None})
    assert engine.stats().memory_bytes == len(b"alongerc3")
    assert (engine.stats().disk_bytes, engine.stats().pressure) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_invariants_hold_whatever_is_written(seed: int) -> None:
    print(f"seed {seed}")
    randomness = random.Random(seed)
    engine = MemoryEngine()
    for _ in range(200):
        keys = [bytes(randomness.choices(b"abc", k=3)) for _ in range(5)]
        engine.write({key: randomness.choice((None, b"", b"value")) for key in keys})
        engine.check_invariants()
