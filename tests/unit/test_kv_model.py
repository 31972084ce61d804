"""Random stories told to a KvMachine and to the model: every answer and every readable past agree.

A story mixes commands with what must not show: clean-up slices, engine writes at any place,
restarts from rows. A second machine lives through the same log on another engine without any of
that, one entry at a time from the payload; its answers must be the same bytes, and so must its
visible state.
"""

from collections import Counter

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kvorum_proto.command_pb2 import (
    Compact,
    Compare,
    Delete,
    DeleteRange,
    Error,
    Get,
    Increment,
    Operation,
    Put,
    Query,
    Range,
    Result,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.storage.rows import Table
from tests.unit.kv_harness import Harness
from tests.unit.kv_model import Model

CONFIG = Config(
    range_keys_max=3,
    scan_page_keys_max=3,
    scan_slice_rows=2,
    compaction_slice_rows=1,
    transaction_depth_max=3,
)
KEYS = st.sampled_from([b"a", b"a\x00", b"a\x00b", b"ab", b"b", b"\xff", b"n1", b"n2"])
ENDS = st.sampled_from([b"", b"\x00", b"a\x00\x00", b"b", b"n2"])
VALUES = st.sampled_from([b"", b"x", b"y\x00", b"7", b"-3", b"007", b"9223372036854775807"])
REVISIONS = st.integers(0, 12)

puts = st.builds(Put, key=KEYS, value=VALUES, previous=st.booleans())
keeping_puts = st.builds(Put, key=KEYS, ignore_value=st.booleans(), ignore_lease=st.just(True))
leased_puts = st.builds(Put, key=KEYS, lease=st.just(5))
deletes = st.builds(Delete, key=KEYS, previous=st.booleans())
delete_ranges = st.builds(
    DeleteRange, key=KEYS, range_end=ENDS, previous=st.booleans(), atomic=st.booleans()
)
increments = st.builds(
    Increment,
    key=KEYS,
    by=st.sampled_from([1, -1, 5, 2**63 - 1, -(2**63)]),
    minimum=st.sampled_from([None, 0]),
    maximum=st.sampled_from([None, 10]),
)
ranges = st.builds(
    Range,
    key=KEYS,
    range_end=ENDS,
    limit=st.sampled_from([0, 1, 2]),
    reverse=st.booleans(),
    keys_only=st.booleans(),
    count_only=st.booleans(),
    revision=st.one_of(st.just(0), REVISIONS),
)
compares = st.one_of(
    st.builds(Compare, key=KEYS, range_end=ENDS, relation=st.integers(0, 3), value=VALUES),
    st.builds(Compare, key=KEYS, range_end=ENDS, relation=st.integers(0, 3), version=REVISIONS),
    st.builds(Compare, key=KEYS, relation=st.integers(0, 3), mod_revision=REVISIONS),
    st.builds(Compare, key=KEYS, relation=st.integers(0, 3), create_revision=REVISIONS),
    st.builds(Compare, key=KEYS, relation=st.integers(0, 3), lease=st.just(0)),
)
plain_operations = st.one_of(
    st.builds(Operation, put=st.one_of(puts, keeping_puts)),
    st.builds(Operation, delete=deletes),
    st.builds(Operation, delete_range=delete_ranges),
    st.builds(Operation, increment=increments),
    st.builds(Operation, range=ranges),
)


def txns_of(operations: st.SearchStrategy[Operation]) -> st.SearchStrategy[Txn]:
    """Transactions over some operations; those that write a key twice are thrown out later."""
    return st.builds(
        Txn,
        compares=st.lists(compares, max_size=2),
        success=st.lists(operations, max_size=4),
        failure=st.lists(operations, max_size=3),
    )


txns = txns_of(st.one_of(plain_operations, st.builds(Operation, txn=txns_of(plain_operations))))
doomed_txns = st.builds(
    lambda done, failing: Txn(success=[*done, failing]),
    done=st.lists(plain_operations, min_size=1, max_size=3),
    failing=st.builds(Operation, put=leased_puts),
)
past_reads = st.builds(
    Txn,
    success=st.lists(
        st.one_of(
            st.builds(Operation, range=st.builds(Range, key=KEYS, revision=st.integers(1, 12))),
            st.builds(Operation, put=puts),
        ),
        min_size=1,
        max_size=3,
    ),
)
commands = st.one_of(
    st.builds(Submission, put=st.one_of(puts, puts, keeping_puts, leased_puts)),
    st.builds(Submission, delete=deletes),
    st.builds(Submission, delete_range=delete_ranges),
    st.builds(Submission, increment=increments),
    st.builds(Submission, txn=txns),
    st.builds(Submission, txn=doomed_txns),
    st.builds(Submission, txn=past_reads),
    st.builds(Submission, compact=st.builds(Compact, revision=st.integers(0, 15))),
)
entries = st.lists(commands, min_size=0, max_size=5)
steps = st.one_of(
    entries, entries, entries, st.sampled_from(["clear", "clear", "flush", "restart"])
)


def without_text(result: Result) -> Result:
    """The model knows codes, not messages."""
    if result.HasField("error"):
        return Result(error=Error(code=result.error.code))
    return result


def assert_same_past(machine: Harness, model: Model) -> None:
    """Every key and a few ranges, at every revision that can be read."""
    keys = sorted({key for state in model.states.values() for key in state})
    for revision in (0, *model.readable()):
        for key in keys:
            get = Get(key=key, revision=revision)
            assert machine.read(Query(get=get)) == model.get(get), f"get {key!r} at {revision}"
        for query in (
            Range(key=b"", range_end=b"\x00", revision=revision),
            Range(key=b"a", range_end=b"b", revision=revision, reverse=True, limit=2),
            Range(key=b"a\x00", range_end=b"\x00", revision=revision, count_only=True),
            Range(key=b"a", range_end=b"\x00", revision=revision, reverse=True, keys_only=True),
        ):
            assert machine.read(Query(range=query)) == model.range(query), f"{query}"


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=st.lists(steps, max_size=25))
def test_every_story_reads_like_the_model(story: list[list[Submission] | str]) -> None:
    """Answers and readable past agree with the model, whatever happens behind the scenes."""
    model = Model(CONFIG.range_keys_max, CONFIG.scan_page_keys_max)
    busy, quiet = Harness(CONFIG), Harness(CONFIG)
    for step in story:
        if step == "clear":
            busy.machine.clear_away()
        elif step == "restart":
            busy.overlay.flush()
            busy.restart()
        elif isinstance(step, list):
            submissions = [one for one in step if busy.machine.admit(one) is None]
            expected = [model.apply(one) for one in submissions]
            entry = busy.entry(*submissions)
            results = busy.machine.apply(entry, submissions)
            note(f"{submissions} -> {expected}")
            assert [without_text(Result.FromString(one)) for one in results] == expected
            assert quiet.machine.apply(entry) == results, "apply is deterministic"
        busy.overlay.flush()
        busy.machine.check_invariants()
        assert_same_past(busy, model)
    quiet.overlay.flush()
    assert_same_past(quiet, model)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=st.lists(entries, max_size=12))
def test_clearing_away_all_leaves_only_what_can_be_read(story: list[list[Submission]]) -> None:
    """After compaction at the newest revision and full clean-up there is one row for each key."""
    machine = Harness(CONFIG)
    for submissions in story:
        machine.apply(*(one for one in submissions if machine.machine.admit(one) is None))
    newest = Submission(compact=Compact(revision=machine.machine.status().revision))
    machine.do(newest)
    while machine.machine.clear_away():
        machine.overlay.flush()
    machine.overlay.flush()
    everything = Query(range=Range(key=b"", range_end=b"\x00", count_only=True))
    keys = machine.read(everything).range.count
    tables = Counter(key[4] for key, _ in machine.rows())
    assert tables[Table.CURRENT] == keys
    assert tables[Table.HISTORY] == 0, "no version but the current ones is kept"
    assert tables[Table.EVENT] == 0
