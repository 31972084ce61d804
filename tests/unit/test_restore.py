"""The data directory that a restore makes: whole, or not there at all."""

import dataclasses
import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from kvorum_proto.backup_file import (
    BackupItem,
    BackupWriter,
    DamagedBackup,
    ItemsBlock,
    encode_item,
)
from kvorum_proto.backup_pb2 import BackupGroup, BackupHeader
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server import offline
from kvorum_server.config import Config, ConfigError
from kvorum_server.host import Host
from kvorum_server.initial_cluster import InitialCluster
from kvorum_server.kv.backup import slices
from kvorum_server.offline.restore import STAGING_SUFFIX, Restore, RestoreRefused, main, restore
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.recovery import Recovered
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.wal import WriteAheadLog
from kvorum_server.types import FEATURE_LEVEL

CLUSTER = "n1=127.0.0.1:7400,n2=127.0.0.1:7401,n3=127.0.0.1:7402"
ITEMS = [BackupItem(b"k%02d" % n, b"v%d" % n, n + 2, n + 2, 1, 0) for n in range(10)]
GROUP = BackupGroup(group=1, revision=11, index=20, term=4, log_time=5000)


def file_of(
    path: Path,
    items: Sequence[BackupItem] = ITEMS,
    *,
    level: int = 1,
    protocol: str = "raft",
    partitions: int = 1,
    groups: Sequence[BackupGroup] = (GROUP,),
) -> Path:
    """A backup with the items in every group, three in a block."""
    opened = io.BytesIO()
    writer = BackupWriter(opened.write)
    writer.begin(
        BackupHeader(
            cluster_id=b"old" * 5,
            partitions=partitions,
            level=level,
            protocol=protocol,
            settings={"session_window": 64},
        )
    )
    for group in groups:
        writer.group(group)
        for first in range(0, len(items), 3):
            block = items[first : first + 3]
            writer.items(len(block), b"".join(encode_item(*item) for item in block))
    writer.finish()
    path.write_bytes(opened.getvalue())
    return path


def wanted(directory: Path, name: str = "n1", **changes: object) -> Restore:
    values: dict[str, object] = {
        "file": directory / "a.kvb",
        "data": directory / name,
        "name": name,
        "cluster": InitialCluster.parse(CLUSTER),
        "token": "a token",
        "replicas": 3,
    }
    return Restore(**(values | changes))  # type: ignore[arg-type]


def quiet(items: int, read_bytes: int) -> None:
    """Nobody watches."""


def opened(data: Path) -> tuple[Recovered, Host, list[BackupItem]]:
    """What a node finds in a directory: its log, itself, and the items of its partition."""
    with ExitStack() as resources:
        disk = FileDisk(data / "log")
        resources.callback(disk.close)
        log, recovered = WriteAheadLog.open(disk, segment_bytes=64 * 1024, new_identity=lambda: 0)
        resources.callback(log.close)
        engine = RocksEngine(data / "state", Config())
        resources.callback(engine.close)
        host = Host(config=Config(), engine=engine, recovered=recovered, randomness=Random(1))
        host.turn(0, [])
        host.check_invariants()
        view = host.view(1)
        items: list[BackupItem] = []
        if view is not None:
            for part in slices(view.rows(), rows_max=100, bytes_max=10_000):
                items += ItemsBlock("", 0, part.count, part.payload).items()
        return recovered, host, items


def certificate(data: Path) -> Bootstrap:
    recovered, _, _ = opened(data)
    assert recovered.bootstrap is not None
    return Bootstrap.FromString(recovered.bootstrap)


def test_every_node_finds_itself_in_one_cluster_with_all_items(tmp_path: Path) -> None:
    file_of(tmp_path / "a.kvb")
    told = [restore(wanted(tmp_path, name), quiet) for name in ("n1", "n2", "n3")]
    assert len({answer["cluster_id"] for answer in told}) == 1
    certificates = [certificate(tmp_path / name) for name in ("n1", "n2", "n3")]
    assert certificates[0] == certificates[1] == certificates[2]
    members = {member.name: member for member in certificates[0].members}
    assert len({member.identity for member in members.values()}) == 3
    for name, answer in zip(("n1", "n2", "n3"), told, strict=True):
        recovered, host, items = opened(tmp_path / name)
        assert recovered.identity == members[name].identity
        assert f"{recovered.identity:016x}" == answer["identity"]
        assert items == ITEMS
        assert (answer["items"], answer["revisions"]) == (10, {"1": 1_000_000_011})
        status = host.replicas[1].machine.status()
        assert (status.applied_index, status.applied_term) == (1_000_000_020, 4)
        assert (status.revision, status.log_time) == (1_000_000_011, 5000)
        assert recovered.replicas[1].hard_state.vote == 0
        assert host.replicas[0].machine.status().applied_index == 0


def test_the_new_cluster_has_another_id_and_the_old_settings(tmp_path: Path) -> None:
    file_of(tmp_path / "a.kvb")
    restore(wanted(tmp_path), quiet)
    born = certificate(tmp_path / "n1")
    assert born.cluster_id != b"old" * 5
    assert len(born.cluster_id) == 16
    assert born.settings["session_window"] == 64
    assert born.initial_cluster_hash == InitialCluster.parse(CLUSTER).hash


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "another token"},
        {"revision_bump": 5},
        {"replicas": 2},
        {"cluster": InitialCluster.parse(CLUSTER + ",n4=127.0.0.1:7403")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_nodes_that_were_told_different_things_are_strangers(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    file_of(tmp_path / "a.kvb")
    one = restore(wanted(tmp_path), quiet)
    changed = {"data": tmp_path / "other", **changes}
    other = restore(dataclasses.replace(wanted(tmp_path), **changed), quiet)  # type: ignore[arg-type]
    assert one["cluster_id"] != other["cluster_id"]
    assert one["identity"] != other["identity"]


def test_nodes_that_were_given_different_files_are_strangers(tmp_path: Path) -> None:
    file_of(tmp_path / "a.kvb")
    one = restore(wanted(tmp_path), quiet)
    file_of(tmp_path / "a.kvb", ITEMS[:9])
    other = restore(wanted(tmp_path, data=tmp_path / "other"), quiet)
    assert one["cluster_id"] != other["cluster_id"]


def test_a_node_without_a_replica_of_the_partition_gets_the_catalog_only(tmp_path: Path) -> None:
    file_of(tmp_path / "a.kvb")
    told = restore(wanted(tmp_path, "n3", replicas=2), quiet)
    assert told["items"] == 0
    recovered, host, _ = opened(tmp_path / "n3")
    assert list(recovered.replicas) == [0]
    assert host.view(1) is None


def test_several_partitions_keep_their_number(tmp_path: Path) -> None:
    second = BackupGroup(group=2, revision=500, index=600, term=2)
    file_of(tmp_path / "a.kvb", partitions=2, groups=(GROUP, second))
    told = restore(wanted(tmp_path, revision_bump=1000), quiet)
    assert told["items"] == 20
    assert told["revisions"] == {"1": 1011, "2": 1500}
    assert certificate(tmp_path / "n1").partitions == 2


def test_an_empty_cluster_can_be_restored(tmp_path: Path) -> None:
    file_of(tmp_path / "a.kvb", [], groups=(BackupGroup(group=1, revision=1),))
    assert restore(wanted(tmp_path), quiet)["items"] == 0
    _, host, items = opened(tmp_path / "n1")
    assert items == []
    assert host.replicas[1].machine.status().revision == 1_000_000_001


# --- Nothing or all of it ---


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "a.kvb")


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    data = file_of(tmp_path / "a.kvb").read_bytes()
    for offset in (20, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[offset] ^= 1
        (tmp_path / "a.kvb").write_bytes(bytes(damaged))
        with pytest.raises(DamagedBackup, match=r"a\.kvb is damaged at byte \d+"):
            restore(wanted(tmp_path), quiet)
        assert left_in(tmp_path) == []


def test_until_it_is_whole_it_stands_under_a_name_that_no_node_is_started_with(
    tmp_path: Path,
) -> None:
    large = [item._replace(value=b"v" * 1_000_000) for item in ITEMS]
    file_of(tmp_path / "a.kvb", large)
    seen: list[list[str]] = []

    def interrupt(items: int, read_bytes: int) -> None:
        assert items > 0
        assert read_bytes > 4_000_000
        seen.append(left_in(tmp_path))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(wanted(tmp_path), interrupt)
    assert seen == [[f"n1{STAGING_SUFFIX}"]]
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"groups": ()}, "it lacks group 1"),
        ({"groups": (BackupGroup(group=2, revision=11),)}, "a group 2, which its header"),
        ({"groups": (BackupGroup(group=0, revision=11),)}, "a group 0, which its header"),
        ({"groups": (BackupGroup(group=1, revision=5),)}, "its group is at 5"),
        ({"groups": (BackupGroup(group=1, revision=-5),)}, "cannot be at revision -5"),
        ({"groups": (BackupGroup(group=1, revision=9, index=1 << 63),)}, "cannot be at"),
        ({"items": ITEMS[::-1]}, "does not follow"),
        ({"items": [*ITEMS[:3], *ITEMS[:3]]}, "does not follow"),
    ],
)
def test_a_file_that_is_no_cluster_leaves_nothing_behind(
    tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    file_of(tmp_path / "a.kvb", **options)  # type: ignore[arg-type]
    with pytest.raises(DamagedBackup, match=reason):
        restore(wanted(tmp_path), quiet)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"level": FEATURE_LEVEL + 1}, "upgrade"),
        ({"protocol": "telepathy"}, "agrees by 'telepathy'"),
        ({"partitions": 0, "groups": ()}, "a cluster of 0 partitions"),
        ({"partitions": 1 << 30}, "a cluster of 1073741824 partitions"),
    ],
)
def test_what_only_a_newer_program_could_restore_is_refused(
    tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    file_of(tmp_path / "a.kvb", **options)  # type: ignore[arg-type]
    with pytest.raises(RestoreRefused, match=reason):
        restore(wanted(tmp_path), quiet)
    assert left_in(tmp_path) == []


def test_a_place_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    file_of(tmp_path / "a.kvb")
    (tmp_path / "n1").mkdir()
    restore(wanted(tmp_path), quiet)
    with pytest.raises(RestoreRefused, match="is not empty; choose another --data"):
        restore(wanted(tmp_path), quiet)
    with pytest.raises(RestoreRefused, match="is not empty"):
        restore(wanted(tmp_path, data=tmp_path / "a.kvb"), quiet)
    (tmp_path / f"n2{STAGING_SUFFIX}").mkdir()
    with pytest.raises(RestoreRefused, match="another restore is under way, or one has crashed"):
        restore(wanted(tmp_path, "n2"), quiet)
    with pytest.raises(RestoreRefused, match="mount point"):
        restore(wanted(tmp_path, data=Path("/")), quiet)


# --- The subcommand ---


def command(directory: Path, *more: str) -> list[str]:
    return [
        *(str(directory / "a.kvb"), "--data", str(directory / "n1"), "--name", "n1"),
        *("--initial-cluster", CLUSTER, "--token", "t", *more),
    ]


def test_the_subcommand_tells_programs_what_it_has_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = [item._replace(value=b"v" * 1_000_000) for item in ITEMS]
    file_of(tmp_path / "a.kvb", large)
    assert main(command(tmp_path, "--revision-bump", "100")) == 0
    *progress, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert progress
    assert all({"items", "read_bytes"} == set(line) for line in progress)
    assert last["restored"]["revisions"] == {"1": 111}
    assert certificate(tmp_path / "n1").replicas == 3


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        ((), 1, "a.kvb is no backup of kvorum"),
        (("--revision-bump", "0"), 2, "must be a number from 1"),
        (("--name", "n9"), 2, "name is 'n9', which initial_cluster does not name"),
        (("--initial-cluster", "n1"), 2, "must be name=host:port"),
        (("--replicas", "4"), 2, "initial_cluster names 3 nodes"),
        (("--tempo", "4"), 2, "unrecognized arguments: --tempo"),
        (("--data", "/dev/null/x"), 1, "/dev/null/x"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], code: int, told: str
) -> None:
    if code == 1 and not more:
        (tmp_path / "a.kvb").write_text("hello")
    else:
        file_of(tmp_path / "a.kvb")
    assert offline.run("restore", command(tmp_path, *more)) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert told in captured.err
    assert left_in(tmp_path) == []


def test_options_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--token"):
        main(command(tmp_path)[:-2])
