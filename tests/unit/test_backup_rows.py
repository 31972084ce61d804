"""From the rows of a group to items and back: the new group has the same present, and no past."""

import pytest

from kvorum_proto.backup_file import BackupItem, ItemsBlock
from kvorum_proto.backup_pb2 import BackupGroup
from kvorum_proto.command_pb2 import (
    Compare,
    Delete,
    ErrorCode,
    Operation,
    Put,
    Query,
    Range,
    Submission,
    Txn,
)
from kvorum_server.kv.backup import (
    GroupView,
    contradiction,
    restored_meta,
    restored_rows,
    slices,
)
from kvorum_server.kv.session import POSITION_BITS
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.rows import DamagedRows, MetaRow
from tests.unit.host_setup import GROUP, alone, put, trio
from tests.unit.kv_harness import SPACE, Harness

BUMP = 1000
EVERYTHING = Range(key=b"\x00", range_end=b"\x00")


def view_of(harness: Harness) -> GroupView:
    return GroupView(1, SPACE, harness.engine.snapshot())


def items_of(view: GroupView, rows_max: int = 2, bytes_max: int = 10_000) -> list[BackupItem]:
    found: list[BackupItem] = []
    for part in slices(view.rows(), rows_max=rows_max, bytes_max=bytes_max):
        found += ItemsBlock("test", 0, part.count, part.payload).items()
    return found


def restored(view: GroupView) -> Harness:
    """A group on rows made from a view."""
    engine = MemoryEngine()
    engine.write(restored_rows(SPACE, items_of(view)))
    engine.write({MetaRow.key(SPACE): restored_meta(view.saved, BUMP).encode()})
    return Harness(engine=engine)


def with_history() -> Harness:
    harness = Harness()
    for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"n\x00ul", b""), (b"c", b"3")):
        harness.put(key, value)
    harness.do(Submission(delete=Delete(key=b"b")))
    return harness


def test_a_backup_has_the_present_with_its_revisions_and_versions() -> None:
    view = view_of(with_history())
    assert items_of(view) == [
        BackupItem(b"a", b"2", 2, 4, 2, 0),
        BackupItem(b"c", b"3", 6, 6, 1, 0),
        BackupItem(b"n\x00ul", b"", 5, 5, 1, 0),
    ]
    assert (view.saved.group, view.saved.revision, view.saved.index) == (1, 7, 6)


def test_a_view_does_not_see_what_is_written_after_it() -> None:
    harness = with_history()
    view = view_of(harness)
    harness.put(b"a", b"later")
    harness.put(b"d", b"later")
    assert [item.value for item in items_of(view)] == [b"2", b"3", b""]
    assert view.saved.revision == 7
    view.close()
    view.close()


def test_an_empty_group_is_at_revision_1() -> None:
    view = view_of(Harness())
    assert items_of(view) == []
    assert view.saved == BackupGroup(group=1, revision=1)


def test_slices_end_where_a_limit_is_reached() -> None:
    harness = Harness()
    for number in range(10):
        harness.put(b"k%d" % number, b"v" * 100)
    view = view_of(harness)
    by_rows = [part.count for part in slices(view.rows(), rows_max=4, bytes_max=10_000)]
    assert by_rows == [4, 4, 2]
    by_bytes = [part.count for part in slices(view.rows(), rows_max=100, bytes_max=250)]
    assert by_bytes == [2, 2, 2, 2, 2]


def test_a_restored_group_has_the_same_items_far_from_where_the_old_one_was() -> None:
    old = with_history()
    new = restored(view_of(old))
    answers = [harness.read(Query(range=EVERYTHING)).range for harness in (old, new)]
    assert list(answers[0].items) == list(answers[1].items)
    assert [answer.revision for answer in answers] == [7, 7 + BUMP]
    status = new.machine.status()
    assert status.applied_index == old.machine.status().applied_index + BUMP
    assert status.log_time == old.machine.status().log_time
    assert status.sessions == 0


def test_everything_before_the_restore_is_compacted() -> None:
    new = restored(view_of(with_history()))
    assert new.get(b"a", revision=7 + BUMP) == b"2"
    for revision in (1, 4, 7, 6 + BUMP):
        query = Query()
        query.get.key, query.get.revision = b"a", revision
        error = new.read(query).error
        assert (error.code, error.oldest_revision) == (ErrorCode.COMPACTED, 7 + BUMP)


def test_a_restored_group_goes_on_writing_history() -> None:
    new = restored(view_of(with_history()))
    assert new.put(b"a", b"new") == 8 + BUMP
    new.do(Submission(delete=Delete(key=b"c")))
    assert new.get(b"a", revision=7 + BUMP) == b"2"
    assert new.get(b"c", revision=8 + BUMP) == b"3"
    assert new.get(b"c") is None
    while new.machine.clear_away():
        new.overlay.flush()
    new.restart()
    assert new.get(b"a", revision=7 + BUMP) == b"2"


@pytest.mark.parametrize("field", ["mod_revision", "version"])
def test_a_compare_and_set_that_was_prepared_before_still_holds(field: str) -> None:
    old = with_history()
    (item,) = old.read(Query(range=Range(key=b"a"))).range.items
    new = restored(view_of(old))
    compare = Compare(key=b"a", **{field: getattr(item, field)})
    result = new.do(
        Submission(
            txn=Txn(compares=[compare], success=[Operation(put=Put(key=b"a", value=b"cas"))])
        )
    )
    assert result.txn.succeeded
    assert new.get(b"a") == b"cas"


def test_a_session_of_the_old_cluster_is_unknown_and_its_id_never_comes_again() -> None:
    old = Harness()
    session = old.open_session()
    command = Submission(
        session=session, sequence=1, acknowledged_below=1, put=Put(key=b"once", value=b"1")
    )
    assert old.do(command).put.revision == 2
    new = restored(view_of(old))
    assert new.do(command).error.code == ErrorCode.SESSION_EXPIRED
    assert new.get(b"once") == b"1"
    assert new.open_session() > session + (BUMP - 1 << POSITION_BITS)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (BackupItem(b"b", b"", 2, 2, 1, 0), None),
        (BackupItem(b"a", b"", 2, 2, 1, 0), "does not follow"),
        (BackupItem(b"", b"", 2, 2, 1, 0), "does not follow"),
        (BackupItem(b"b", b"", 2, 10, 1, 0), "its group is at 9"),
        (BackupItem(b"b", b"", 3, 2, 1, 0), "before it was created"),
        (BackupItem(b"b", b"", 0, 2, 1, 0), "before it was created"),
        (BackupItem(b"b", b"", 2, 2, 0, 0), "or not at all"),
        (BackupItem(b"b", b"", 2, 2, 1 << 62, 0), "or not at all"),
    ],
)
def test_items_that_no_group_can_have_are_found(item: BackupItem, reason: str | None) -> None:
    found = contradiction(BackupGroup(group=1, revision=9), b"a", [item])
    assert found is None if reason is None else reason in str(found)


def test_rows_that_are_damaged_give_no_view() -> None:
    engine = MemoryEngine()
    engine.write({MetaRow.key(SPACE): b"\x00\x01rotten"})
    with pytest.raises(DamagedRows):
        GroupView(1, SPACE, engine.snapshot())


# --- What a Host shows of itself ---


def test_a_host_shows_its_partition_between_two_turns_and_nothing_else() -> None:
    machine = alone()
    machine.propose(put(b"a", b"1"), put(b"b", b"2"))
    machine.settle()
    view = machine.host.view(GROUP)
    assert view is not None
    machine.propose(put(b"a", b"later"))
    machine.settle()
    assert [(item.key, item.value) for item in items_of(view)] == [(b"a", b"1"), (b"b", b"2")]
    assert machine.host.view(0) is None
    assert machine.host.view(99) is None


def test_a_host_shows_nothing_of_a_state_that_is_lost() -> None:
    machine = trio().machines[0]
    assert machine.host.view(GROUP) is not None
    machine.replica.consensus.lose_state()
    assert machine.host.view(GROUP) is None
