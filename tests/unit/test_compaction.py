"""Forgetting: what compaction refuses, what the clean-up leaves, when it is due."""

from kvorum_proto.command_pb2 import Compact, Delete, ErrorCode, Put, Submission
from kvorum_server.config import Config
from kvorum_server.kv.compaction import SAMPLES, Cleaner, Retention
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import Table
from tests.unit.kv_harness import Harness


def compact(harness: Harness, revision: int) -> None:
    result = harness.do(Submission(compact=Compact(revision=revision)))
    assert result.HasField("compact"), result


def count(harness: Harness, table: Table) -> int:
    return sum(key[4] == table for key, _ in harness.rows())


def clear_all(harness: Harness) -> int:
    """How many slices it took."""
    slices = 1
    while harness.machine.clear_away():
        harness.overlay.flush()
        slices += 1
    harness.overlay.flush()
    return slices


def test_compacting_twice_or_ahead_is_refused() -> None:
    harness = Harness()
    harness.put(b"a", b"1")
    compact(harness, 2)
    for revision, code in ((2, ErrorCode.COMPACTED), (1, ErrorCode.COMPACTED)):
        again = harness.do(Submission(compact=Compact(revision=revision)))
        assert (again.error.code, again.error.oldest_revision) == (code, 2)
    ahead = harness.do(Submission(compact=Compact(revision=3)))
    assert ahead.error.code == ErrorCode.FUTURE_REVISION


def test_a_key_overwritten_a_thousand_times_leaves_one_version() -> None:
    harness = Harness(Config(compaction_slice_rows=100))
    for n in range(10):
        harness.apply(*(Submission(put=Put(key=b"a", value=b"%d" % m)) for m in range(100)))
        assert count(harness, Table.HISTORY) == 100 * (n + 1) - 1
    compact(harness, harness.machine.status().revision)
    assert clear_all(harness) > 5, "the work came in slices"
    assert (count(harness, Table.HISTORY), count(harness, Table.EVENT)) == (0, 0)
    assert harness.get(b"a") == b"99"


def test_a_deleted_key_leaves_nothing() -> None:
    harness = Harness()
    harness.put(b"a", b"1")
    harness.do(Submission(delete=Delete(key=b"a")))
    harness.put(b"b", b"1")
    compact(harness, 4)
    clear_all(harness)
    assert count(harness, Table.HISTORY) == 0
    assert [harness.get(b"a", revision) for revision in (0, 4)] == [None, None]


def test_a_version_still_readable_moves_out_of_its_event_row() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3"):
        harness.put(b"a", value)
    compact(harness, 3)
    clear_all(harness)
    assert count(harness, Table.EVENT) == 1, "the event of revision 4 stays"
    assert [harness.get(b"a", revision) for revision in (3, 4)] == [b"2", b"3"]
    compact(harness, 4)
    clear_all(harness)
    assert count(harness, Table.HISTORY) == 0


def test_an_entry_that_reaches_past_the_compacted_revision_is_left_whole() -> None:
    harness = Harness()
    harness.apply(*(Submission(put=Put(key=b"a", value=b"%d" % n)) for n in range(4)))
    compact(harness, 3)
    clear_all(harness)
    assert count(harness, Table.EVENT) == 1
    assert [harness.get(b"a", revision) for revision in (3, 4, 5)] == [b"1", b"2", b"3"]


def test_the_clean_up_goes_on_after_a_restart_where_it_was() -> None:
    harness = Harness(Config(compaction_slice_rows=1))
    for n in range(6):
        harness.put(b"a", b"%d" % n)
    compact(harness, 7)
    assert harness.machine.clear_away()
    harness.overlay.flush()
    assert count(harness, Table.EVENT) == 5
    harness.restart()
    clear_all(harness)
    assert count(harness, Table.EVENT) == 0
    assert harness.get(b"a", 7) == b"5"


def test_nothing_to_clear_costs_nothing() -> None:
    cleaner = Cleaner(1, Overlay(MemoryEngine()))
    assert not cleaner.advance(0, 1)
    assert not cleaner.advance(5, 1)
    assert not cleaner.advance(5, 1)


def test_compaction_by_count_is_due_with_some_slack() -> None:
    harness = Harness(Config(history_revisions_max=20))
    for n in range(21):
        assert harness.machine.maintenance() is None
        harness.put(b"a", b"%d" % n)
    harness.put(b"a", b"last")
    due = harness.machine.maintenance()
    assert due == Submission(compact=Compact(revision=3))
    assert harness.do(due).HasField("compact")
    assert harness.machine.maintenance() is None


def test_compaction_by_age_follows_log_time() -> None:
    harness = Harness(Config(history_age_ms=1600, history_revisions_max=0))
    for n in range(40):
        harness.do(Submission(put=Put(key=b"a", value=b"%d" % n)), stamp=1000 + n * 100)
    due = harness.machine.maintenance()
    assert due is not None
    kept = range(due.compact.revision, harness.machine.status().revision + 1)
    age_ms = (len(kept) - 1) * 100
    assert 1600 <= age_ms <= 1600 + 2 * 1600 // SAMPLES
    harness.restart()
    again = harness.machine.maintenance()
    assert again is not None
    assert 0 < again.compact.revision <= due.compact.revision, "coarser, never too early"


def test_without_limits_nothing_is_ever_due() -> None:
    harness = Harness(Config(history_age_ms=0, history_revisions_max=0))
    for n in range(50):
        harness.do(Submission(put=Put(key=b"a", value=b"%d" % n)), stamp=n * 1_000_000)
    assert harness.machine.maintenance() is None


def test_samples_stay_few_however_many_entries_there_are() -> None:
    retention = Retention(Config(history_age_ms=1600))
    for n in range(10_000):
        retention.note(n, n)
    assert len(retention._samples) <= SAMPLES + 2
