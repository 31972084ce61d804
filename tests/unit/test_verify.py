"""``kvorum-server verify``: finds what is damaged, says where, and changes nothing."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_server.config import Config, ConfigError
from kvorum_server.kv.rows import EVENT_KEY, POINTER, REVISION, SESSION_KEY, VERSION, HistoryKind
from kvorum_server.offline.log_check import LogCheck
from kvorum_server.offline.report import FINDINGS_MAX, Finding, Findings, Report
from kvorum_server.offline.row_check import RowCheck
from kvorum_server.offline.verify import main, show_entry, verify
from kvorum_server.storage.data_directory import note_damage
from kvorum_server.storage.errors import DirectoryInUse, StateDamaged
from kvorum_server.storage.filedisk import FileDisk, ReadOnlyDisk
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.record import EntriesAppended, HardStateChanged, ReplicaCreated
from kvorum_server.storage.recovery import RecoveredReplica
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.rows import MetaRow, Table, escape, table_prefix
from kvorum_server.storage.segment import PREFIX_BYTES, write_at
from kvorum_server.types import Configuration, Entry, EntryKind, HardState
from tests.unit.host_setup import GROUP
from tests.unit.offline_setup import (
    CONFIG,
    IDENTITY,
    DiskNode,
    fingerprint,
    log_of_a_stranger,
    node_with_history,
)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("healthy")
    node_with_history(data)
    return data


@pytest.fixture
def data(healthy: Path, tmp_path: Path) -> Path:
    """A copy of a healthy directory, to be damaged."""
    copy = tmp_path / "data"
    shutil.copytree(healthy, copy)
    return copy


def checked(data: Path) -> Report:
    """The report; whatever it says, looking has changed nothing."""
    before = fingerprint(data)
    report = verify(data, lambda what, done, count: None)
    assert fingerprint(data) == before
    return report


def only_finding(report: Report) -> Finding:
    (finding,) = report.findings.kept
    return finding


def segments(data: Path) -> list[Path]:
    """The segments that hold something, oldest first."""
    found = sorted((data / "log").glob("*.wal"))
    return [path for path in found if path.read_bytes()[PREFIX_BYTES:].strip(b"\0")]


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


# --- What is well ---


def test_a_healthy_directory_is_clean_and_stays_as_it_was(
    healthy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint(healthy)
    assert main(["--data", str(healthy)]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("no damage found\n")
    assert f"node      {IDENTITY:016x}, started 1 times" in shown
    assert fingerprint(healthy) == before


def test_the_report_says_what_there_is(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(healthy), "--output", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"]
    assert report["cluster_id"] == (b"c" * 16).hex()
    assert report["segments"] >= 1
    assert report["spare_segments"] == 2
    catalog, partition = report["groups"]
    assert (catalog["group"], partition["group"]) == (0, 1)
    assert partition["applied"] == partition["log_last"]
    assert partition["commit"] <= partition["applied"]
    assert partition["voters"] == [1]
    tables = partition["rows"]
    assert {"meta", "current", "history", "event", "session"} <= set(tables)


def test_progress_is_shown_on_a_terminal_and_nowhere_else(
    healthy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--data", str(healthy)]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["--data", str(healthy)]) == 0
    assert re.search(r"log segments \[=+ *\] 1 of \d", capsys.readouterr().err)


def test_a_node_that_never_flushed_is_well(tmp_path: Path) -> None:
    node = DiskNode(tmp_path)
    node.found()
    node.stop(flush=False)
    shutil.rmtree(tmp_path / "state")
    assert checked(tmp_path).is_clean


def test_a_torn_tail_is_a_note(data: Path) -> None:
    path = segments(data)[-1]
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    path.write_bytes(content[: end + 8] + b"half of a write" + content[end + 23 :])
    report = checked(data)
    assert report.is_clean
    (note,) = report.notes
    assert f"log/{path.name} at byte" in note
    assert "the next start cuts it" in note


def test_rows_of_no_replica_are_a_note(data: Path) -> None:
    engine = RocksEngine(data / "state", CONFIG)
    engine.write({table_prefix(99, Table.CURRENT) + escape(b"left"): b"over"})
    engine.close()
    report = checked(data)
    assert report.is_clean
    assert "space 99 with 1 rows belongs to no replica" in report.notes[0]


# --- Where it refuses to look ---


def test_a_running_node_is_left_alone(data: Path) -> None:
    disk = FileDisk(data / "log")
    with pytest.raises(DirectoryInUse, match="in use by another kvorum-server"):
        verify(data, lambda what, done, count: None)
    disk.close()
    assert checked(data).is_clean


def test_a_copy_without_its_lock_file_can_be_checked(data: Path) -> None:
    (data / "log/LOCK").unlink()
    assert checked(data).is_clean
    assert ReadOnlyDisk(data / "log").names()


def test_what_is_no_data_directory_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no data directory of a node: it has no log/"):
        verify(tmp_path, lambda what, done, count: None)
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError, match="no node was ever started on it"):
        verify(tmp_path, lambda what, done, count: None)


# --- The log ---


def test_a_flip_in_any_write_is_found_where_it_is(healthy: Path, tmp_path: Path) -> None:
    path = segments(healthy)[0]
    content = path.read_bytes()
    number, offset, writes = int(path.stem), PREFIX_BYTES, []
    while (write := write_at(content, number, offset)) is not None:
        writes.append((offset, write.end))
        offset = write.end
    assert len(writes) > 2
    # The last write of the log is the claim itself; before it, everything was promised.
    for start, end in writes[:-1][::3]:
        copy = tmp_path / str(start)
        shutil.copytree(healthy, copy)
        flip(copy / "log" / path.name, (start + end) // 2)
        finding = only_finding(checked(copy))
        assert (finding.file, finding.offset) == (f"log/{path.name}", start)


def test_damage_of_the_log_is_exit_code_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segments(data)[0]
    flip(path, 5)
    assert main(["--data", str(data)]) == 1
    assert f"damage: log/{path.name} at byte 0: the file does not begin" in capsys.readouterr().out


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    node = DiskNode(tmp_path, Config(segment_bytes=4096))
    node.found()
    node_names = [f"key {number}" for number in range(30)]
    for name in node_names:
        node.submit(put(name))
    node.stop()
    missing = segments(tmp_path)[1]
    missing.unlink()
    finding = only_finding(checked(tmp_path))
    assert (finding.file, finding.offset) == (f"log/{missing.name}", 0)
    assert finding.message == "the segment is missing"


def test_entries_that_do_not_parse_or_go_back_in_time_are_found(tmp_path: Path) -> None:
    members = Configuration.initial((IDENTITY,))
    garbage = Entry(1, 5, EntryKind.COMMANDS, 100, 1, b"\xff\xff")
    no_members = Entry(2, 5, EntryKind.CONFIGURATION, 100, 1, b"\xff")
    older = Entry(3, 4, EntryKind.NO_OP, 90, 1, b"")
    newer_level = Entry(4, 5, EntryKind.NO_OP, 100, 99, b"")
    log_of_a_stranger(
        tmp_path,
        [
            ReplicaCreated(GROUP, 1, 1, members),
            HardStateChanged(GROUP, 1, HardState(5, 1, 0)),
            EntriesAppended(GROUP, 1, (garbage, no_members, older, newer_level)),
        ],
        members=[IDENTITY],
    )
    report = checked(tmp_path)
    assert [finding.message.split(" of group 1 ")[1][:30] for finding in report.findings.kept] == [
        "does not parse as commands",
        "does not parse as a configurat",
        "has term 4 and log time 90, th",
    ]
    assert all(finding.file.endswith(".wal") for finding in report.findings.kept)
    assert "entry 4 of group 1 needs feature level 99" in report.notes[0]


# --- The state ---


def test_a_flip_in_a_file_of_the_engine_is_found_where_it_is(data: Path) -> None:
    path = max((data / "state").glob("*.sst"), key=lambda file: file.stat().st_size)
    flip(path, path.stat().st_size // 4)
    finding = only_finding(checked(data))
    assert finding.file == f"state/{path.name}"
    assert finding.offset is not None
    assert finding.offset <= path.stat().st_size // 4
    assert "checksum mismatch" in finding.message


def test_a_state_that_is_gone_is_found(data: Path) -> None:
    shutil.rmtree(data / "state")
    catalog, partition = checked(data).findings.kept
    assert catalog.line().startswith("state: it is missing, but a checkpoint of group 0 at")
    assert partition.line().startswith("state: it is missing, but a checkpoint of group 1 at")


def put(name: str) -> wire.Submission:
    return wire.Submission(put=wire.Put(key=name.encode(), value=b"v" * 400))


def test_a_row_of_the_catalog_that_does_not_parse_is_found(data: Path) -> None:
    space = checked(data).groups[0].space
    engine = RocksEngine(data / "state", CONFIG)
    engine.write({table_prefix(space, Table.PLACEMENT) + bytes(4): b"\xff"})
    engine.close()
    finding = only_finding(checked(data))
    assert "group 0, row " in finding.message
    assert finding.message.endswith("it does not parse as Placement")


def test_what_a_running_node_found_is_told_again(data: Path) -> None:
    note_damage(data, StateDamaged(1, 2, 3))
    finding = only_finding(checked(data))
    assert finding.file == "state/damage.txt"
    assert "the state of group 1 ends at entry 2" in finding.message


Rows = dict[bytes, bytes | None]
Damage = Callable[[RocksEngine, int], Rows]


def first_row(engine: RocksEngine, space: int, table: Table) -> tuple[bytes, bytes]:
    prefix = table_prefix(space, table)
    return next(engine.scan(prefix, prefix + b"\xff" * 64))


def newest_row(engine: RocksEngine, space: int, table: Table) -> tuple[bytes, bytes]:
    prefix = table_prefix(space, table)
    return next(engine.scan(prefix, prefix + b"\xff" * 64, reverse=True))


def another_value(engine: RocksEngine, space: int) -> Rows:
    key, version = newest_row(engine, space, Table.CURRENT)
    return {key: version[:-1] + b"?"}


def lost_key(engine: RocksEngine, space: int) -> Rows:
    key, _ = newest_row(engine, space, Table.CURRENT)
    return {key: None}


def short_version(engine: RocksEngine, space: int) -> Rows:
    key, version = newest_row(engine, space, Table.CURRENT)
    return {key: version[: VERSION.size - 1]}


def future_version(engine: RocksEngine, space: int) -> Rows:
    key, version = newest_row(engine, space, Table.CURRENT)
    create, _, *rest = VERSION.unpack_from(version)
    return {key: VERSION.pack(create, 1 << 40, *rest) + version[VERSION.size :]}


def lost_event(engine: RocksEngine, space: int) -> Rows:
    key, _ = newest_row(engine, space, Table.EVENT)
    return {key: None}


def short_event(engine: RocksEngine, space: int) -> Rows:
    key, row = newest_row(engine, space, Table.EVENT)
    return {key: row[:-1]}


def event_of_the_future(engine: RocksEngine, space: int) -> Rows:
    _, row = newest_row(engine, space, Table.EVENT)
    return {table_prefix(space, Table.EVENT) + EVENT_KEY.pack(1 << 40, 0): row}


def lost_history(engine: RocksEngine, space: int) -> Rows:
    prefix = table_prefix(space, Table.HISTORY)
    pointers = [
        key
        for key, row in engine.scan(prefix, prefix + b"\xff" * 64)
        if row[0] == HistoryKind.POINTER and POINTER.unpack(row)[1] > 40
        if REVISION.unpack(key[-8:])[0] > 30
    ]
    return {pointers[0]: None}


def unknown_history(engine: RocksEngine, space: int) -> Rows:
    key, _ = newest_row(engine, space, Table.HISTORY)
    return {key: b"\x09"}


def session_of_the_future(engine: RocksEngine, space: int) -> Rows:
    key, row = first_row(engine, space, Table.SESSION)
    identity, _ = SESSION_KEY.unpack(key[5:])
    return {key[:5] + SESSION_KEY.pack(identity, 1 << 40): row}


def long_session(engine: RocksEngine, space: int) -> Rows:
    key, row = first_row(engine, space, Table.SESSION)
    return {key: row + b"?"}


def state_ahead_of_the_log(engine: RocksEngine, space: int) -> Rows:
    key = MetaRow.key(space)
    row = engine.get(key)
    assert row is not None
    meta = MetaRow.decode(space, row)
    return {key: MetaRow(1 << 40, meta.term, meta.stamp, meta.revision).encode()}


def state_of_another_term(engine: RocksEngine, space: int) -> Rows:
    key = MetaRow.key(space)
    row = engine.get(key)
    assert row is not None
    meta = MetaRow.decode(space, row)
    other = MetaRow(meta.index, meta.term + 1, meta.stamp, meta.revision, meta.compacted_revision)
    return {key: other.encode()}


def lost_meta(engine: RocksEngine, space: int) -> Rows:
    return {MetaRow.key(space): None}


def unknown_table(engine: RocksEngine, space: int) -> Rows:
    return {table_prefix(space, Table.META)[:4] + b"\xee": b"what"}


DAMAGES: tuple[tuple[Damage, str], ...] = (
    (another_value, "the event of revision 51 is another or missing"),
    (lost_key, "can no longer be found"),
    (short_version, "a current row of a wrong length"),
    (future_version, "the group is at revision"),
    (lost_event, "is another or missing"),
    (short_event, "an event of"),
    (event_of_the_future, "the group is at"),
    (lost_history, "can no longer be found"),
    (unknown_history, "kind 9 is unknown"),
    (session_of_the_future, "the state is at"),
    (long_session, "results in"),
    (state_ahead_of_the_log, "the log says between"),
    (state_of_another_term, "was applied with term 2"),
    (lost_meta, "it is missing, but a checkpoint at"),
    (unknown_table, "table 238 is unknown to this program"),
)


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=lambda value: str(value)[:30])
def test_rows_that_contradict_each_other_are_found(
    data: Path, damage: Damage, message: str
) -> None:
    space = checked(data).groups[1].space
    engine = RocksEngine(data / "state", CONFIG)
    engine.write(damage(engine, space))
    engine.flush()
    engine.close()
    report = checked(data)
    assert any(message in finding.message for finding in report.findings.kept), report.findings.kept
    assert all("group 1, row " in finding.message for finding in report.findings.kept)


def test_a_replica_that_applied_nothing_has_no_rows_and_that_is_well() -> None:
    findings = Findings()
    check = LogCheck(findings, [])
    assert not check.used_segments
    engine = MemoryEngine()
    members = Configuration.initial((IDENTITY,))
    replica = RecoveredReplica(1, 1, 5, HardState(), (0, 0), 0, members, [], 0)
    rows = RowCheck(engine, replica, findings)
    rows.run(lambda done: None)
    assert (rows.meta, dict(rows.counts), findings.count) == (None, {}, 0)


def test_a_report_keeps_the_first_findings_and_counts_all() -> None:
    report = Report("data")
    for number in range(FINDINGS_MAX + 7):
        report.findings.add("state", None, f"row {number}")
    shown = report.as_text()
    assert "damage: state: row 99\ndamage: and 7 more" in shown
    assert shown.endswith("damaged: 107 findings")


# --- One entry ---


def test_an_entry_is_shown_with_its_commands(
    healthy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = checked(healthy).groups[1].log_last
    assert main(["--data", str(healthy), "--entry", f"1:{last}"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["group     1", f"index     {last}"]
    assert "kind      commands" in shown
    assert shown[-2:] == [
        'command   0: put { key: "a" value: "1" }',
        'command   1: put { key: "b" value: "2" }',
    ]


def test_an_entry_that_the_log_does_not_hold(healthy: Path) -> None:
    with pytest.raises(ConfigError, match=r"no entry 9999 of group 1; it holds \d+ to \d+"):
        show_entry(healthy, 1, 9999)
    with pytest.raises(ConfigError, match="no entry 1 of group 7; it holds none"):
        show_entry(healthy, 7, 1)
