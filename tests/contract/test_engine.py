"""What every Engine promises, on every engine we have.

A new engine starts by adding a line to ``ENGINES`` and passing this file. The last test lets chance
write, read and hold on to old views for a while, against plain dictionaries.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvorum_server.config import KIB, Config
from kvorum_server.storage.engine import Engine, EngineSnapshot, space_prefix
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.rocksdb import RocksEngine
from tests.simulator.engine import SimulatedEngine

ENGINES: dict[str, Callable[[Path], Engine]] = {
    "memory": lambda path: MemoryEngine(),
    "simulated": lambda path: SimulatedEngine(random.Random(0)),
    # Memtables small enough that reads have to look into files and compactions run.
    "rocksdb": lambda path: RocksEngine(path, Config(memtable_bytes=64 * KIB)),
}

Row = tuple[bytes, bytes]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = ENGINES[request.param](tmp_path)
    yield engine
    engine.close()


def key(space: int, name: str) -> bytes:
    return space_prefix(space) + name.encode()


def everything(view: Engine | EngineSnapshot, *, reverse: bool = False) -> list[Row]:
    return list(view.scan(space_prefix(0), space_prefix(1000), reverse=reverse))


def test_a_new_engine_is_empty(engine: Engine) -> None:
    assert engine.get(key(1, "a")) is None
    assert everything(engine) == []
    assert engine.spaces() == []


def test_a_written_row_is_read_back(engine: Engine) -> None:
    engine.write({key(1, "a"): b"1", key(1, "empty"): b""})
    assert engine.get(key(1, "a")) == b"1"
    assert engine.get(key(1, "empty")) == b"", "an empty value is not an absent row"
    assert engine.get(key(1, "b")) is None


def test_the_newest_write_counts(engine: Engine) -> None:
    engine.write({key(1, "a"): b"old"})
    engine.write({key(1, "a"): b"new"})
    assert engine.get(key(1, "a")) == b"new"
    assert everything(engine) == [(key(1, "a"), b"new")]


def test_none_deletes_and_deleting_nothing_is_no_error(engine: Engine) -> None:
    engine.write({key(1, "a"): b"1", key(1, "b"): b"2"})
    engine.write({key(1, "a"): None, key(1, "never there"): None})
    assert engine.get(key(1, "a")) is None
    assert everything(engine) == [(key(1, "b"), b"2")]


def test_a_write_without_rows_changes_nothing(engine: Engine) -> None:
    engine.write({})
    assert everything(engine) == []


def test_a_scan_is_ordered_by_bytes_and_leaves_its_end_out(engine: Engine) -> None:
    names = [b"", b"\x00", b"\x00\xff", b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xff\xff"]
    prefix = space_prefix(7)
    engine.write({prefix + name: name for name in reversed(names)})
    rows = [(prefix + name, name) for name in names]

    assert list(engine.scan(prefix, space_prefix(8))) == rows
    assert list(engine.scan(prefix + b"a", prefix + b"b")) == rows[3:6]
    assert list(engine.scan(prefix + b"a\x00", prefix + b"b\x00")) == rows[4:7]
    assert list(engine.scan(prefix + b"c", prefix + b"d")) == []


def test_a_reverse_scan_is_the_scan_backwards(engine: Engine) -> None:
    engine.write({key(1, name): name.encode() for name in "abcdef"})
    for start, end in ("af", "bd", "bz", " c", " z", "cc", "xz"):
        rows = list(engine.scan(key(1, start), key(1, end)))
        assert list(engine.scan(key(1, start), key(1, end), reverse=True)) == rows[::-1]


def test_a_range_that_ends_before_it_starts_is_empty(engine: Engine) -> None:
    engine.write({key(1, name): b"" for name in "abc"})
    for reverse in (False, True):
        assert list(engine.scan(key(1, "c"), key(1, "a"), reverse=reverse)) == []
        assert list(engine.scan(key(1, "b"), key(1, "b"), reverse=reverse)) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_shows_the_rows_of_its_call_whatever_is_written_meanwhile(
    engine: Engine, reverse: bool
) -> None:
    engine.write({key(1, name): b"old" for name in "abcde"})
    before = everything(engine, reverse=reverse)

    untouched = engine.scan(key(1, ""), key(1, "z"), reverse=reverse)
    begun = engine.scan(key(1, ""), key(1, "z"), reverse=reverse)
    seen = [next(begun)]
    engine.write({key(1, "a"): b"new", key(1, "bb"): b"new", key(1, "c"): None})
    engine.flush()
    engine.write({key(1, "d"): None})

    assert seen + list(begun) == before
    assert list(untouched) == before


def test_a_snapshot_shows_the_rows_of_its_moment(engine: Engine) -> None:
    engine.write({key(1, name): b"old" for name in "abcde"})
    before = everything(engine)
    snapshot = engine.snapshot()
    assert everything(snapshot) == before, "before any write"

    engine.write({key(1, "a"): b"new", key(1, "bb"): b"new", key(1, "c"): None})
    engine.flush()
    engine.drop(1)

    assert snapshot.get(key(1, "a")) == b"old"
    assert snapshot.get(key(1, "bb")) is None
    assert snapshot.get(key(1, "c")) == b"old"
    assert everything(snapshot) == before
    assert everything(snapshot, reverse=True) == before[::-1]
    assert everything(engine) == []
    snapshot.close()
    snapshot.close()


def test_reads_of_one_snapshot_do_not_disturb_each_other(engine: Engine) -> None:
    engine.write({key(1, name): name.encode() for name in "abcdef"})
    before = everything(engine)
    snapshot = engine.snapshot()
    engine.write({key(1, name): None for name in "abcdef"})

    forwards = snapshot.scan(key(1, "a"), key(1, "z"))
    backwards = snapshot.scan(key(1, "a"), key(1, "z"), reverse=True)
    met: tuple[list[Row], list[Row]] = ([], [])
    for row, other in zip(forwards, backwards, strict=True):
        assert snapshot.get(key(1, "c")) == b"c"
        assert snapshot.get(key(1, "cc")) is None
        met[0].append(row)
        met[1].append(other)

    assert met == (before, before[::-1])


def test_a_snapshot_ends_but_its_scans_go_on(engine: Engine) -> None:
    engine.write({key(1, name): name.encode() for name in "abc"})
    before = everything(engine)
    early, late = engine.snapshot(), engine.snapshot()
    begun_before_the_write = early.scan(key(1, ""), key(1, "z"))
    engine.write({key(1, "a"): None})
    begun_after_the_write = late.scan(key(1, ""), key(1, "z"))
    early.close()
    late.close()
    engine.write({key(1, "b"): None})

    assert list(begun_before_the_write) == before
    assert list(begun_after_the_write) == before
    with pytest.raises(AssertionError, match="closed snapshot"):
        late.get(key(1, "a"))


def test_a_snapshot_closed_before_the_next_write_is_gone(engine: Engine) -> None:
    engine.write({key(1, "a"): b"1"})
    snapshot = engine.snapshot()
    snapshot.close()
    engine.write({key(1, "a"): b"2"})
    with pytest.raises(AssertionError, match="closed snapshot"):
        snapshot.scan(key(1, "a"), key(1, "b"))


def test_dropping_a_space_leaves_its_neighbours(engine: Engine) -> None:
    for space in (1, 2, 3, 256):
        engine.write({key(space, name): b"" for name in ("", "a", "\x7f")})
    engine.flush()
    engine.drop(2)

    assert engine.spaces() == [1, 3, 256]
    assert len(everything(engine)) == 9
    assert engine.get(key(2, "a")) is None


def test_a_dropped_space_can_be_filled_again(engine: Engine) -> None:
    engine.write({key(2, "a"): b"old", key(2, "b"): b"old"})
    engine.drop(2)
    engine.drop(2)
    engine.write({key(2, "a"): b"new"})
    assert everything(engine) == [(key(2, "a"), b"new")]


def test_spaces_are_those_with_rows(engine: Engine) -> None:
    engine.write({key(space, "a"): b"" for space in (65536, 5, 0, 0xFFFFFFFE)})
    assert engine.spaces() == [0, 5, 65536, 0xFFFFFFFE]
    engine.write({key(5, "a"): None})
    assert engine.spaces() == [0, 65536, 0xFFFFFFFE]


def test_stats_grow_with_the_rows_and_know_no_pressure_at_rest(engine: Engine) -> None:
    before = engine.stats()
    engine.write({key(1, str(number)): bytes(1000) for number in range(1000)})
    after = engine.stats()
    assert after.memory_bytes + after.disk_bytes > before.memory_bytes + before.disk_bytes
    assert 0 <= before.pressure < 1


class Model:
    """One engine beside plain dictionaries, and the views that are still held."""

    def __init__(self, engine: Engine, randomness: random.Random) -> None:
        self.engine = engine
        self.randomness = randomness
        self.rows: dict[bytes, bytes] = {}
        self.snapshots: list[tuple[EngineSnapshot, dict[bytes, bytes]]] = []
        self.scans: list[tuple[Iterator[Row], list[Row]]] = []

    def key(self) -> bytes:
        space = self.randomness.choice((1, 2, 9))
        return space_prefix(space) + bytes(self.randomness.choices(b"\x00a\xff", k=3))

    def write(self) -> None:
        rows: dict[bytes, bytes | None] = {}
        for _ in range(self.randomness.randint(0, 20)):
            alive = self.randomness.random() < 0.6
            rows[self.key()] = self.randomness.randbytes(100) if alive else None
        self.engine.write(rows)
        for row_key, value in rows.items():
            if value is None:
                self.rows.pop(row_key, None)
            else:
                self.rows[row_key] = value

    def drop(self) -> None:
        space = self.randomness.choice((1, 2, 9))
        self.engine.drop(space)
        self.rows = {
            row_key: value
            for row_key, value in self.rows.items()
            if not row_key.startswith(space_prefix(space))
        }

    def read(self) -> None:
        row_key = self.key()
        assert self.engine.get(row_key) == self.rows.get(row_key)
        for snapshot, rows in self.snapshots:
            assert snapshot.get(row_key) == rows.get(row_key)

    def open_snapshot(self) -> None:
        self.snapshots.append((self.engine.snapshot(), self.rows.copy()))

    def close_snapshot(self) -> None:
        if self.snapshots:
            place = self.randomness.randrange(len(self.snapshots))
            self.snapshots.pop(place)[0].close()

    def open_scan(self) -> None:
        start, end = self.key(), self.key()
        reverse = self.randomness.random() < 0.5
        views: list[tuple[Engine | EngineSnapshot, dict[bytes, bytes]]]
        views = [(self.engine, self.rows), *self.snapshots]
        view, rows = self.randomness.choice(views)
        expected = sorted((k, v) for k, v in rows.items() if start <= k < end)
        expected.sort(reverse=reverse)
        self.scans.append((view.scan(start, end, reverse=reverse), expected))

    def advance_scans(self) -> None:
        """Some rows of each scan that is under way; a scan that has ended has shown them all."""
        for rows, expected in self.scans.copy():
            for _ in range(self.randomness.randint(0, 4)):
                assert next(rows, None) == (expected.pop(0) if expected else None)
        if len(self.scans) > 5:
            rows, expected = self.scans.pop(0)
            assert list(rows) == expected

    def flush(self) -> None:
        self.engine.flush()

    def check(self) -> None:
        assert everything(self.engine) == sorted(self.rows.items())
        spaces = {int.from_bytes(row_key[:4], "big") for row_key in self.rows}
        assert self.engine.spaces() == sorted(spaces)


@pytest.mark.parametrize("seed", range(5))
def test_an_engine_is_a_dictionary_with_an_order_and_a_memory(engine: Engine, seed: int) -> None:
    print(f"seed {seed}")
    randomness = random.Random(seed)
    model = Model(engine, randomness)
    steps = [
        *(model.write, model.write, model.write, model.read, model.read, model.drop),
        *(model.open_snapshot, model.close_snapshot, model.open_scan, model.open_scan),
        *(model.advance_scans, model.advance_scans, model.advance_scans, model.check),
    ]
    for number in range(1000):
        randomness.choice(steps)()
        if number % 100 == 99:
            model.flush()
    model.check()
