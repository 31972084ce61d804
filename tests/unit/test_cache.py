"""The cache of current rows: never wrong, never larger than it was told, warm rows stay."""

import random

import pytest

from kvorum_server.kv.cache import ROW_OVERHEAD_BYTES, RowCache

NOT_CACHED = b"not cached"


@pytest.mark.parametrize("seed", range(20))
def test_what_it_answers_is_the_newest_row(seed: int) -> None:
    randomness = random.Random(seed)
    cache = RowCache(bytes_max=20 * ROW_OVERHEAD_BYTES)
    rows: dict[bytes, bytes | None] = {}
    answered = 0
    for step in range(2_000):
        key = b"%d" % randomness.randrange(30)
        match randomness.randrange(4):
            case 0:
                rows[key] = b"%d" % step
                cache.put(key, rows[key])
            case 1:
                rows[key] = None
                cache.put(key, None)
            case 2:
                rows.pop(key, None)
                cache.forget(key)
            case _:
                found = cache.find(key, NOT_CACHED)
                if found is not NOT_CACHED:
                    assert key in rows, f"seed {seed}: a forgotten row came back"
                    assert found == rows[key], f"seed {seed}: an old row"
                    answered += 1
    assert answered > 50, "a cache that holds nothing is right and useless"


def test_rows_that_are_used_outlive_those_that_are_not() -> None:
    cache = RowCache(bytes_max=100 * ROW_OVERHEAD_BYTES)
    cache.put(b"warm", b"1")
    cache.put(b"cold", b"1")
    for number in range(10_000):
        cache.put(b"%d" % number, b"")
        assert cache.find(b"warm", NOT_CACHED) == b"1"
    assert cache.find(b"cold", NOT_CACHED) is NOT_CACHED


def test_a_cache_without_room_holds_one_row_at_most() -> None:
    cache = RowCache(bytes_max=0)
    cache.put(b"a", b"1")
    cache.put(b"b", b"1")
    assert cache.find(b"a", NOT_CACHED) is NOT_CACHED
