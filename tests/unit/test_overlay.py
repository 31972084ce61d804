"""The rows of a turn over the engine: commands see each other, the engine sees them at once."""

import random
from collections.abc import Mapping

import pytest

from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay

Row = tuple[bytes, bytes]


class CountingEngine(MemoryEngine):
    """Remembers what it was asked to write."""

    __slots__ = ("writes",)

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[dict[bytes, bytes | None]] = []

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        self.writes.append(dict(rows))
        super().write(rows)


@pytest.fixture
def engine() -> CountingEngine:
    engine = CountingEngine()
    engine.write({b"a": b"1", b"c": b"3", b"e": b"5"})
    engine.writes.clear()
    return engine


def test_a_command_sees_the_rows_of_the_commands_before_it(engine: CountingEngine) -> None:
    overlay = Overlay(engine)
    overlay.put(b"b", b"new")
    overlay.put(b"c", b"changed")
    overlay.delete(b"e")

    assert [overlay.get(key) for key in (b"a", b"b", b"c", b"e")] == [
        *(b"1", b"new", b"changed"),
        None,
    ]
    assert list(overlay.scan(b"a", b"z")) == [(b"a", b"1"), (b"b", b"new"), (b"c", b"changed")]


def test_the_engine_sees_nothing_until_the_turn_is_flushed(engine: CountingEngine) -> None:
    overlay = Overlay(engine)
    overlay.put(b"b", b"2")
    overlay.delete(b"a")
    assert engine.get(b"a") == b"1"
    assert engine.writes == []

    overlay.flush()
    assert engine.writes == [{b"b": b"2", b"a": None}], "one write for the whole turn"
    assert len(overlay) == 0
    assert overlay.get(b"b") == b"2"


def test_a_turn_without_changes_writes_nothing(engine: CountingEngine) -> None:
    Overlay(engine).flush()
    assert engine.writes == []


def test_the_last_of_several_changes_of_a_row_counts(engine: CountingEngine) -> None:
    overlay = Overlay(engine)
    overlay.delete(b"a")
    assert list(overlay.scan(b"a", b"b")) == []
    overlay.put(b"a", b"again")
    assert list(overlay.scan(b"a", b"b")) == [(b"a", b"again")]
    overlay.flush()
    assert engine.writes == [{b"a": b"again"}]


def test_scans_backwards_mix_both_in_order(engine: CountingEngine) -> None:
    overlay = Overlay(engine)
    overlay.put(b"b", b"2")
    overlay.put(b"f", b"6")
    overlay.delete(b"c")
    keys = [key for key, _ in overlay.scan(b"a", b"z", reverse=True)]
    assert keys == [b"f", b"e", b"b", b"a"]


def test_a_scan_shows_the_rows_of_its_call(engine: CountingEngine) -> None:
    overlay = Overlay(engine)
    overlay.put(b"b", b"2")
    before = list(overlay.scan(b"a", b"z"))

    scan = overlay.scan(b"a", b"z")
    first = next(scan)
    overlay.put(b"b", b"later")
    overlay.put(b"bb", b"later")
    overlay.flush()
    overlay.delete(b"e")
    overlay.flush()

    assert [first, *scan] == before


@pytest.mark.parametrize("seed", range(20))
def test_an_overlay_is_a_dictionary_over_a_dictionary(seed: int) -> None:
    print(f"seed {seed}")
    randomness = random.Random(seed)
    overlay = Overlay(MemoryEngine())
    model: dict[bytes, bytes] = {}

    def key() -> bytes:
        return bytes(randomness.choices(b"abc", k=2))

    for _ in range(300):
        match randomness.choice(("put", "put", "delete", "get", "scan", "scan", "flush")):
            case "put":
                row, value = key(), randomness.randbytes(4)
                overlay.put(row, value)
                model[row] = value
            case "delete":
                row = key()
                overlay.delete(row)
                model.pop(row, None)
            case "get":
                row = key()
                assert overlay.get(row) == model.get(row)
            case "scan":
                start, end, reverse = key(), key(), randomness.random() < 0.5
                expected: list[Row] = sorted((k, v) for k, v in model.items() if start <= k < end)
                expected.sort(reverse=reverse)
                assert list(overlay.scan(start, end, reverse=reverse)) == expected
            case _:
                overlay.flush()
