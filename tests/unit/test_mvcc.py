"""Writing versions and reading the past: what single entries leave in the tables."""

import pytest

from kvorum_proto.command_pb2 import (
    Compact,
    Delete,
    ErrorCode,
    Get,
    Increment,
    Operation,
    Put,
    Query,
    Range,
    Submission,
    Txn,
)
from kvorum_server.kv.history import History
from kvorum_server.kv.mvcc import Versions, lease_of, value_of
from kvorum_server.kv.rows import CHUNK_BYTES, HistoryKind, events, is_tombstone, mod_revision
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import DamagedRows, Table, table_end, table_prefix
from tests.unit.kv_harness import SPACE, Harness


def put(key: bytes, value: bytes = b"") -> Submission:
    return Submission(put=Put(key=key, value=value))


def delete(key: bytes) -> Submission:
    return Submission(delete=Delete(key=key))


def table(harness: Harness, table: Table) -> list[tuple[bytes, bytes]]:
    return list(harness.engine.scan(table_prefix(SPACE, table), table_end(SPACE, table)))


def test_revisions_count_changes_and_versions_count_writes_since_creation() -> None:
    harness = Harness()
    assert harness.machine.status().revision == 1, "an empty group has revision 1"
    assert [harness.put(b"a", b"1"), harness.put(b"a", b"2")] == [2, 3]
    assert harness.do(delete(b"missing")).delete.revision == 3, "nothing changed, no revision"
    harness.do(delete(b"a"))
    harness.put(b"a", b"3")
    item = harness.read(Query(get=Get(key=b"a"))).get.item
    assert (item.create_revision, item.mod_revision, item.version) == (5, 5, 1)


def test_a_key_that_is_overwritten_points_to_its_old_versions() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3"):
        harness.put(b"a", value)
    pointers = table(harness, Table.HISTORY)
    assert [row[0] for _, row in pointers] == [HistoryKind.POINTER] * 2
    assert [harness.get(b"a", revision) for revision in (1, 2, 3, 4)] == [None, b"1", b"2", b"3"]


def test_keys_of_zero_bytes_do_not_get_among_each_others_versions() -> None:
    harness = Harness()
    for value in (b"1", b"2"):
        for key in (b"a", b"a\x00", b"a\x00\x01", b"a\x01"):
            harness.put(key, key + value)
    everything = Range(key=b"a", range_end=b"\x00", revision=5)
    found = harness.read(Query(range=everything)).range.items
    assert [(item.key, item.value) for item in found] == [
        (key, key + b"1") for key in (b"a", b"a\x00", b"a\x00\x01", b"a\x01")
    ]


def test_the_events_of_an_entry_are_one_row_and_tell_what_happened() -> None:
    harness = Harness()
    harness.apply(put(b"a", b"1"), put(b"b", b"2"), delete(b"a"), delete(b"a"))
    ((_, row),) = table(harness, Table.EVENT)
    told = [(key, value_of(version), is_tombstone(version)) for _, key, version in events(row)]
    assert told == [(b"a", b"1", False), (b"b", b"2", False), (b"a", b"", True)]
    assert [mod_revision(version) for _, _, version in events(row)] == [2, 3, 4]
    assert [previous for previous, _, _ in events(row)] == [0, 0, 2]


def test_events_split_at_64_kib_and_every_version_is_found_again() -> None:
    harness = Harness()
    values = {
        b"small": b"s",
        b"half": b"h" * (CHUNK_BYTES // 2),
        b"half too": b"t" * (CHUNK_BYTES // 2),
        b"huge": b"u" * (3 * CHUNK_BYTES),
        b"last": b"l",
    }
    harness.apply(*(put(key, value) for key, value in values.items()))
    sizes = [len(row) for _, row in table(harness, Table.EVENT)]
    assert len(sizes) == 4
    assert [size > CHUNK_BYTES for size in sizes] == [False, False, True, False]
    revision = harness.machine.status().revision
    harness.apply(*(put(key, b"newer") for key in values))
    assert {key: harness.get(key, revision) for key in values} == values


def test_a_transaction_reads_versions_of_its_own_entry_that_are_no_rows_yet() -> None:
    harness = Harness()
    read = Operation(range=Range(key=b"a", revision=3))
    results = harness.apply(
        put(b"b", b"other"),
        put(b"a", b"1"),
        put(b"a", b"2"),
        Submission(txn=Txn(success=[Operation(put=Put(key=b"a", value=b"3")), read])),
    )
    assert results[-1].txn.results[1].range.items[0].value == b"1"


def test_a_refused_transaction_leaves_no_trace_in_any_table() -> None:
    harness, untouched = Harness(), Harness()
    doomed = Txn(
        success=[
            Operation(put=Put(key=b"a", value=b"changed")),
            Operation(delete=Delete(key=b"b")),
            Operation(put=Put(key=b"new", value=b"n" * CHUNK_BYTES)),
            Operation(increment=Increment(key=b"c", by=1)),
        ]
    )
    start = [put(b"a", b"1"), put(b"b", b"2"), put(b"c", b"no number")]
    end = [put(b"a", b"after"), put(b"b", b"after")]
    results = harness.apply(*start, Submission(txn=doomed), *end)
    untouched.apply(*start, *end)
    assert results[3].error.code == ErrorCode.NOT_AN_INTEGER
    assert harness.rows() == untouched.rows()


def test_a_version_that_compaction_has_passed_is_kept_inline_when_it_is_superseded() -> None:
    harness = Harness()
    harness.put(b"a", b"1")
    harness.put(b"b", b"1")
    harness.do(Submission(compact=Compact(revision=3)))
    harness.put(b"a", b"2")
    ((_, row),) = table(harness, Table.HISTORY)
    assert row[0] == HistoryKind.INLINE
    assert harness.get(b"a", 3) == b"1"


def test_a_version_knows_its_lease() -> None:
    versions = Versions(1, Overlay(MemoryEngine()), revision=1, compacted_revision=0)
    versions.put(b"a", b"value", lease=77)
    version = versions.get(b"a")
    assert version is not None
    assert (lease_of(version), value_of(version)) == (77, b"value")


def test_a_pointer_into_nothing_is_damage_and_not_an_empty_answer() -> None:
    harness = Harness()
    harness.put(b"a", b"1")
    harness.put(b"a", b"2")
    harness.engine.write({key: None for key, _ in table(harness, Table.EVENT)})
    with pytest.raises(DamagedRows, match="no event row holds revision 2"):
        History(SPACE).version_at(harness.engine, b"a", 2)


def test_a_pointer_to_another_keys_event_is_damage() -> None:
    harness = Harness()
    harness.apply(put(b"a", b"1"), put(b"b", b"1"))
    harness.put(b"a", b"2")
    (key, row), *_ = table(harness, Table.EVENT)
    harness.engine.write({key: row.replace(b"a", b"x", 1)})
    with pytest.raises(DamagedRows, match="another key"):
        harness.get(b"a", 2)
