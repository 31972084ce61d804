"""``kvorum-server recover``: what a person decides is durable, obeyed, and refused when unfit."""

import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import KIB, Config, ConfigError
from kvorum_server.offline import TOOLS, ToolRefused, run
from kvorum_server.offline.recover import (
    EntryName,
    force_new_cluster,
    skip_entry,
    warning_text,
)
from kvorum_server.offline.verify import show_entry, verify
from kvorum_server.storage.errors import DirectoryInUse
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.record import (
    EntriesAppended,
    HardStateChanged,
    Record,
    ReplicaCreated,
    StateLost,
    entry_checksum,
)
from kvorum_server.types import (
    CATALOG_GROUP,
    FEATURE_LEVEL,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
)
from tests.unit.host_setup import GROUP, encoded, put
from tests.unit.offline_setup import IDENTITY, DiskNode, fingerprint, log_of_a_stranger

MEMBERS = (7, IDENTITY, 9)
THREE = Configuration.initial(MEMBERS)
NEW_ID = b"new cluster id.."
OLD_ID = (b"c" * 16).hex()


def entry(index: int, *submissions: wire.Submission, term: int = 3) -> Entry:
    return Entry(index, term, EntryKind.COMMANDS, 100 * index, 1, encoded(*submissions))


def checksum_shown(data: Path, index: int) -> int:
    """As the operator gets it."""
    match = re.search(r"^checksum  ([0-9a-f]{8})$", show_entry(data, GROUP, index), re.MULTILINE)
    assert match is not None
    return int(match[1], 16)


def value(node: DiskNode, key: bytes) -> bytes | None:
    result = node.host.replicas[GROUP].machine.read(wire.Query(get=wire.Get(key=key)))
    assert isinstance(result, wire.Result)
    return result.get.item.value if result.get.HasField("item") else None


# --- Skip an entry ---


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A node that has a, b and c in its log, and has applied none of it."""
    data = tmp_path / "data"
    node = DiskNode(data)
    node.found()
    for key in (b"a", b"b", b"c"):
        node.submit(put(key))
    node.stop(flush=False)
    shutil.rmtree(data / "state")
    return data


def place_of(data: Path, key: bytes) -> int:
    """The index of the entry that puts a key."""
    report = verify(data, lambda what, done, count: None)
    for index in range(report.groups[GROUP].log_first, report.groups[GROUP].log_last + 1):
        if f'key: "{key.decode()}"' in show_entry(data, GROUP, index):
            return index
    raise AssertionError(f"no entry puts {key!r}")


def test_a_skipped_entry_is_applied_as_an_empty_one(stopped: Path) -> None:
    index = place_of(stopped, b"b")
    skip_entry(stopped, EntryName(GROUP, index, checksum_shown(stopped, index)))
    assert verify(stopped, lambda what, done, count: None).groups[GROUP].skipped == [index]
    node = DiskNode(stopped)
    node.lead()
    assert [value(node, key) for key in (b"a", b"b", b"c")] == [b"v", None, b"v"]
    assert node.names.count("entry skipped") == 1
    node.submit(put(b"d"))
    assert value(node, b"d") == b"v"
    node.stop()
    node = DiskNode(stopped)
    assert value(node, b"b") is None, "the state is what it was before the restart"
    node.stop()


def test_a_skipped_entry_leaves_the_log_with_the_first_checkpoint(stopped: Path) -> None:
    patient = Config(segment_bytes=16 * KIB, checkpoint_entries=20, log_tail_entries=1000)
    index = place_of(stopped, b"b")
    skip_entry(stopped, EntryName(GROUP, index, checksum_shown(stopped, index)))
    node = DiskNode(stopped, patient)
    node.lead()
    for number in range(40):
        node.submit(put(b"%d" % number))
    start = node.host.replicas[GROUP].log_start
    node.stop()
    assert start >= index, "a newcomer that gets the log would apply what is skipped"
    assert verify(stopped, lambda what, done, count: None).groups[GROUP].skipped == []


def test_an_entry_with_another_checksum_is_not_skipped(stopped: Path) -> None:
    before = fingerprint(stopped)
    index = place_of(stopped, b"b")
    with pytest.raises(ToolRefused, match=r"has checksum [0-9a-f]{8} here, not 00000001"):
        skip_entry(stopped, EntryName(GROUP, index, 1))
    assert fingerprint(stopped) == before


def test_an_entry_that_is_applied_is_not_skipped(stopped: Path) -> None:
    index = place_of(stopped, b"b")
    node = DiskNode(stopped)
    node.lead()
    node.stop()
    with pytest.raises(ToolRefused, match="is applied on this node already"):
        skip_entry(stopped, EntryName(GROUP, index, checksum_shown(stopped, index)))


def test_only_commands_can_be_skipped(stopped: Path) -> None:
    with pytest.raises(ToolRefused, match="is a no_op, which never stops apply"):
        skip_entry(stopped, EntryName(GROUP, 1, checksum_shown(stopped, 1)))


def test_a_group_without_a_replica_here_has_nothing_to_skip(stopped: Path) -> None:
    with pytest.raises(ToolRefused, match="has no replica of group 8"):
        skip_entry(stopped, EntryName(8, 1, 1))


def test_an_entry_of_a_later_level_needs_an_upgrade(tmp_path: Path) -> None:
    later = Entry(1, 3, EntryKind.COMMANDS, 0, FEATURE_LEVEL + 1, encoded(put(b"a")))
    survivor(tmp_path, [later])
    with pytest.raises(ToolRefused, match="upgrade kvorum-server instead"):
        skip_entry(tmp_path, EntryName(GROUP, 1, entry_checksum(later)))


@pytest.mark.parametrize("is_the_one", [True, False])
def test_the_decision_waits_for_an_entry_that_is_still_to_come(
    tmp_path: Path, is_the_one: bool
) -> None:
    log = [entry(1, put(b"a")), entry(2, put(b"b"))]
    survivor(tmp_path, log[:1], members=(IDENTITY,))
    named = log[1] if is_the_one else entry(2, put(b"something else"))
    skip_entry(tmp_path, EntryName(GROUP, 2, entry_checksum(named)))
    log_of_a_stranger(tmp_path, [EntriesAppended(GROUP, 1, (log[1],))], members=(IDENTITY,))
    node = DiskNode(tmp_path)
    node.lead()
    assert value(node, b"a") == b"v"
    assert value(node, b"b") == (None if is_the_one else b"v")
    node.stop()


# --- A new cluster on a lone survivor ---


def survivor(
    data: Path,
    log: Sequence[Entry],
    *,
    commit: int = 0,
    members: Sequence[int] = MEMBERS,
    more: Sequence[Record] = (),
) -> None:
    """The log of one of three nodes, in both groups."""
    configuration = Configuration.initial(tuple(members))
    own = configuration.replica_of(IDENTITY)
    assert own is not None
    records: list[Record] = []
    for group in (CATALOG_GROUP, GROUP):
        records.append(ReplicaCreated(group, own, group + 1, configuration))
        records.append(HardStateChanged(group, own, HardState(5, members[0] % 3 + 1, 0)))
    records.append(EntriesAppended(GROUP, own, tuple(log)))
    records.append(HardStateChanged(GROUP, own, HardState(5, members[0] % 3 + 1, commit)))
    log_of_a_stranger(data, [*records, *more], members=members)


LOG = [entry(number, put(b"key %d" % number)) for number in range(1, 6)]


def recovered(data: Path) -> str:
    """The warning that the operator read."""
    shown: list[str] = []

    def confirm(warning: str) -> str:
        shown.append(warning)
        return f" {OLD_ID}\n"

    done = force_new_cluster(data, confirm, NEW_ID)
    assert NEW_ID.hex() in done
    return shown[0]


def test_a_lone_survivor_serves_all_that_it_had(tmp_path: Path) -> None:
    survivor(tmp_path, LOG, commit=3)
    recovered(tmp_path)
    assert verify(tmp_path, lambda what, done, count: None).is_clean
    node = DiskNode(tmp_path)
    node.lead()
    assert [value(node, b"key %d" % number) for number in range(1, 6)] == [b"v"] * 5
    (result,) = node.submit(put(b"after"))
    assert not result.HasField("error")
    for group in (CATALOG_GROUP, GROUP):
        configuration = node.host.replicas[group].consensus.configuration
        assert (configuration.voters, configuration.outgoing) == ((2,), ())
        assert configuration.members == (Member(2, IDENTITY),)
        assert configuration.next_replica == THREE.next_replica, "replica ids are not used again"
        assert configuration.version > THREE.version
        assert node.host.directory.catalog is not None
        placement = node.host.directory.catalog.placement(group)
        assert [seat.identity for seat in placement.seats] == [IDENTITY]
        assert placement.version == configuration.version
        assert node.host.replicas[group].consensus.term > 5
    catalog = node.host.directory.catalog
    assert catalog is not None
    assert [member.name for member in catalog.members()] == ["n2"]
    assert sorted(catalog.roster.removed) == [7, 9]
    for _ in range(40):
        node.tick()
    assert "members change" not in node.names, "there is nothing left to be changed"
    node.stop()


def test_a_learner_and_a_joint_configuration_are_recovered_as_well(tmp_path: Path) -> None:
    joint = Configuration(
        voters=(1, 4),
        outgoing=(1, 3),
        learners=(2,),
        members=(Member(1, 7), Member(2, IDENTITY), Member(3, 9), Member(4, 11)),
        next_replica=5,
        version=100,
    )
    change = Entry(6, 4, EntryKind.CONFIGURATION, 700, 1, joint.encode())
    survivor(tmp_path, [*LOG, change])
    recovered(tmp_path)
    node = DiskNode(tmp_path)
    node.lead()
    configuration = node.host.replicas[GROUP].consensus.configuration
    assert (configuration.voters, configuration.outgoing, configuration.learners) == ((2,), (), ())
    assert configuration.next_replica == 5
    assert node.host.directory.catalog is not None
    placement = node.host.directory.catalog.placement(GROUP)
    assert configuration.version == placement.version, "the next placement will be followed"
    assert value(node, b"key 5") == b"v"
    node.stop()


def test_a_catalog_comes_out_the_same_with_and_without_its_rows(tmp_path: Path) -> None:
    rosters = []
    for has_rows in (True, False):
        data = tmp_path / str(has_rows)
        survivor(data, LOG)
        DiskNode(data).stop()
        if not has_rows:
            shutil.rmtree(data / "state")
        recovered(data)
        node = DiskNode(data)
        node.lead()
        assert node.host.directory.catalog is not None
        rosters.append(node.host.directory.catalog.roster)
        node.stop()
    assert rosters[0] == rosters[1]


def test_the_new_cluster_has_another_id_and_remembers_the_old_one(tmp_path: Path) -> None:
    survivor(tmp_path, LOG)
    recovered(tmp_path)
    for _ in range(2):
        node = DiskNode(tmp_path)
        bootstrap = node.host.bootstrap
        assert bootstrap is not None
        assert bootstrap.cluster_id == NEW_ID
        assert bootstrap.recovered_from == b"c" * 16
        assert [member.name for member in bootstrap.members] == ["n1", "n2", "n3"]
        assert bootstrap.initial_cluster_hash == b"h" * 16, "the node starts with its old options"
        node.stop()


def test_the_warning_says_what_may_be_lost_and_what_must_not_be_done(tmp_path: Path) -> None:
    survivor(tmp_path, LOG, commit=3)
    warning = recovered(tmp_path)
    assert "founds a NEW cluster on n2" in warning
    assert "ACKNOWLEDGED WRITES MAY BE LOST" in warning
    assert "group 1: every entry after 5 (term 3, log time 500 ms)" in warning
    assert "group 1: entries 4 to 5 were not known to be committed here" in warning
    assert "NEVER START THE OTHER NODES AGAIN with their data (n1, n3)" in warning


def test_partitions_without_a_replica_here_are_named() -> None:
    warning = warning_text(
        Bootstrap(cluster_id=b"c" * 16, partitions=2), wire.MemberInfo(name="n2"), ["n1"], []
    )
    assert "group 1: EVERYTHING; it has no replica here" in warning
    assert "group 2: EVERYTHING" in warning


def test_a_wrong_cluster_id_changes_nothing(tmp_path: Path) -> None:
    survivor(tmp_path, LOG)
    before = fingerprint(tmp_path)
    with pytest.raises(ToolRefused, match="'yes' is not the id of the cluster; nothing was"):
        force_new_cluster(tmp_path, lambda warning: "yes", NEW_ID)
    assert fingerprint(tmp_path) == before


def test_what_is_damaged_or_no_member_is_refused(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    survivor(lost, LOG, more=[StateLost(GROUP, 2)])
    with pytest.raises(ToolRefused, match="the state of group 1 is lost on this node"):
        recovered(lost)
    fresh = tmp_path / "fresh"
    DiskNode(fresh).stop()
    with pytest.raises(ToolRefused, match="belongs to no cluster yet: start it instead"):
        recovered(fresh)
    damaged = tmp_path / "damaged"
    survivor(damaged, LOG)
    path = damaged / "log/0000000000000001.wal"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(ToolRefused, match=r"is damaged \(log/0+1\.wal at byte \d+: .*choose anoth"):
        recovered(damaged)
    with pytest.raises(ToolRefused, match=r"the log is damaged: log/.*nothing was changed"):
        skip_entry(damaged, EntryName(GROUP, 1, 1))
    assert path.read_bytes() == content
    with pytest.raises(ConfigError, match="it has no log/"):
        recovered(tmp_path / "nothing")


def test_a_running_node_is_not_recovered(tmp_path: Path) -> None:
    survivor(tmp_path, LOG)
    disk = FileDisk(tmp_path / "log")
    with pytest.raises(DirectoryInUse):
        recovered(tmp_path)
    with pytest.raises(DirectoryInUse):
        skip_entry(tmp_path, EntryName(GROUP, 1, 1))
    disk.close()


# --- The command line ---


def test_the_cluster_id_may_be_given_beforehand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survivor(tmp_path, LOG)
    assert run("recover", ["--data", str(tmp_path), "--force-new-cluster", "--yes", "no"]) == 1
    assert "'no' is not the id of the cluster" in capsys.readouterr().err
    assert run("recover", ["--data", str(tmp_path), "--force-new-cluster", "--yes", OLD_ID]) == 0
    shown = capsys.readouterr().out
    assert "MAY BE LOST" in shown
    assert "kvorum member add" in shown


def test_without_an_operator_nothing_is_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    survivor(tmp_path, LOG)
    before = fingerprint(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("recover", ["--data", str(tmp_path), "--force-new-cluster"]) == 1
    assert "'' is not the id of the cluster; nothing was changed" in capsys.readouterr().err
    assert fingerprint(tmp_path) == before
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{OLD_ID}\n"))
    assert run("recover", ["--data", str(tmp_path), "--force-new-cluster"]) == 0
    assert "Type the cluster id to go on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["recover", "--data", "x"], "one of the arguments --skip-entry --force-new-cluster"),
        (["recover", "--data", "x", "--skip-entry", "1:2"], "must be GROUP:INDEX:CHECKSUM"),
        (["verify", "--data", "x", "--entry", "1"], "must be GROUP:INDEX, 1:17 for instance"),
        (["verify"], "the following arguments are required: --data"),
        (["verify", "--data", "/nowhere"], "is no data directory of a node"),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments[0], arguments[1:]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kvorum-server: ")
    assert said.count("\n") == 1
    assert line in said


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_explains_itself(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(tool, ["--help"])
    assert ended.value.code == 0
    assert f"usage: kvorum-server {tool}" in capsys.readouterr().out
