"""Backups of real clusters: saved under load, judged, restored into clusters of other sizes."""

import asyncio
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvorum import (
    AsyncClient,
    BackupSummary,
    Client,
    Compacted,
    Conflict,
    InvalidRequest,
    Item,
    Unavailable,
    WrongCluster,
)
from kvorum._backup import PATIENCE_SECONDS_MIN
from kvorum_cli.backup import _revisions
from kvorum_cli.main import run
from kvorum_cli.restore import Options, restore_here, restore_one
from kvorum_proto.backup_file import (
    BackupReader,
    BackupWriter,
    ItemsBlock,
    encode_item,
    read_through,
)
from kvorum_proto.backup_pb2 import BackupGroup, BackupHeader
from tests.integration.cluster import Cluster, eventually, running_cluster
from tests.integration.test_cli import base_port, up

BUMP = 1_000_000_000


def items_in(data: bytes) -> list[Item]:
    reader = BackupReader(io.BytesIO(data), "test")
    return [
        Item(*item)
        for block in reader.blocks()
        if isinstance(block, ItemsBlock)
        for item in block.items()
    ]


async def items_at(kv: AsyncClient, revision: int = 0) -> list[Item]:
    return [item async for item in kv.scan(revision=revision)]


class Load:
    """Writes for as long as it is entered, and remembers what was acknowledged."""

    def __init__(self, kv: AsyncClient) -> None:
        self.acknowledged = 0
        self._kv = kv
        self._stopping = False

    async def __aenter__(self) -> "Load":
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await self._task

    async def _write(self) -> None:
        number = 0
        while not self._stopping:
            number += 1
            keys = [f"load/{number % 97}/{part}" for part in range(20)]
            results = await self._kv.put_many({key: str(number) for key in keys})
            await self._kv.delete(keys[0])
            self.acknowledged = max(result.revision for result in results.values())

    async def reaches(self, revision: int) -> None:
        async def reached() -> bool:
            return self.acknowledged >= revision

        await eventually(reached, f"the load has reached revision {revision}")


@pytest.mark.parametrize("reads", ["leader", "follower"])
def test_a_backup_under_load_is_exactly_the_state_at_its_revision(
    tmp_path: Path, reads: str
) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster, cluster.client() as kv:
            source = ""
            if reads == "follower":
                leader = await cluster.leader()
                source = next(node.name for node in cluster.nodes if node is not leader)
            file = io.BytesIO()
            seen: list[tuple[int, int]] = []
            async with Load(kv) as load:
                await load.reaches(2000)
                before = load.acknowledged
                summary = await kv.backup(
                    file,
                    source=source,
                    progress=lambda items, size_bytes: seen.append((items, size_bytes)),
                )
                await load.reaches(before + 500)
            ((group, revision),) = summary.revisions
            assert group == 1
            assert revision >= before, "a write that was acknowledged before is missing"
            assert items_in(file.getvalue()) == await items_at(kv, revision)
            assert summary.items == len(items_in(file.getvalue())) == seen[-1][0]
            assert summary.size_bytes == len(file.getvalue())
            contents = read_through(io.BytesIO(file.getvalue()), "test")
            assert contents.checksum == summary.checksum
            assert contents.header.cluster_id == summary.cluster_id
            assert contents.header.created_ms > 1_700_000_000_000

    asyncio.run(story())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Item], bytes]:
    """A backup, what was in it, and the id of its cluster."""
    directory = tmp_path_factory.mktemp("saved")
    path = directory / "nightly.kvb"

    async def story() -> tuple[list[Item], BackupSummary]:
        async with running_cluster(directory) as cluster, cluster.client() as kv:
            await kv.put_many({f"key/{number:04}": "v" * number for number in range(1500)})
            await kv.put("key/0001", "again")
            await kv.delete("key/0002")
            await kv.put(b"\xff\x00binary", b"\x00\x01")
            with path.open("wb") as file:
                summary = await kv.backup(file)
            return await items_at(kv), summary

    items, summary = asyncio.run(story())
    assert summary.items == len(items)
    return path, items, summary.cluster_id


async def check_restored(kv: AsyncClient, items: list[Item]) -> None:
    """The cluster has these items and goes on where the old one can never have been."""
    assert await items_at(kv) == items
    highest = max(item.mod_revision for item in items)
    done = await kv.put("after", "the restore")
    assert done.revision > BUMP
    with pytest.raises(Compacted) as raised:
        await kv.get("after", revision=highest)
    assert raised.value.oldest_revision >= BUMP + highest
    before = next(item for item in items if item.key == b"key/0001")
    assert before.version == 2
    await kv.compare_and_set("key/0001", "cas", expected=before)
    with pytest.raises(Conflict):
        await kv.compare_and_set("key/0001", "cas", expected=before)
    assert await kv.get("key/0001", revision=done.revision) == before


def test_a_backup_becomes_a_cluster_of_one_node_that_up_starts(
    saved: tuple[Path, list[Item], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, items, old_cluster_id = saved
    data, port = str(tmp_path / "new"), str(base_port(1))
    restoring = ["backup", "restore", str(path), "--data", data, "--base-port", port]
    assert run([*restoring, "--output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["nodes"] == ["n1"]
    assert told["items"] == len(items)
    assert told["cluster_id"] != old_cluster_id.hex()

    async def story() -> None:
        async with AsyncClient(f"127.0.0.1:{port}", timeout=30.0) as kv:
            await check_restored(kv, items)
        async with AsyncClient(f"127.0.0.1:{port}", cluster_id=old_cluster_id, timeout=5.0) as kv:
            with pytest.raises(WrongCluster):
                await kv.get("after")

    started = up(Path(data))
    assert started.returncode == 0, started.stderr
    try:
        asyncio.run(story())
        assert run([*restoring]) == 5
        assert "is not empty; choose another --data" in capsys.readouterr().err
    finally:
        assert run(["down", "--data", data]) == 0


def test_a_backup_becomes_a_cluster_of_machines_that_agree(
    saved: tuple[Path, list[Item], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, items, _ = saved
    cluster = Cluster(tmp_path)

    def restore(name: str, token: str) -> None:
        arguments = ["--name", name, "--initial-cluster", cluster.initial, "--token", token]
        data = ["--data", str(tmp_path / name)]
        assert run(["backup", "restore", str(path), *data, *arguments]) == 0

    for node in cluster.nodes:
        restore(node.name, "the same" if node.name != "n3" else "another")
    assert f"restored {len(items):,} items at revision {BUMP}"[:-9] in capsys.readouterr().out

    async def story() -> None:
        cluster.start()
        *agreeing, stranger = cluster.nodes
        endpoints = [node.address for node in agreeing]
        async with AsyncClient(endpoints, timeout=30.0) as kv:
            await check_restored(kv, items)

        async def is_a_stranger() -> bool:
            return "belongs to cluster" in "".join(node.log for node in cluster.nodes)

        await eventually(is_a_stranger, "the nodes tell the stranger what it is")
        stranger.end()
        for file in (tmp_path / "n3").rglob("*"):
            if file.is_file():
                file.unlink()
        (tmp_path / "n3").rename(tmp_path / "old")
        restore("n3", "the same")
        stranger.start()

        async def follows() -> bool:
            applied = [await cluster.applied(node) for node in cluster.nodes]
            return applied[2] == max(applied) > BUMP

        await eventually(follows, "the third node follows the others")

    try:
        asyncio.run(story())
    finally:
        cluster.end()


def test_a_node_that_dies_takes_its_backup_with_it_and_the_next_one_succeeds(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster, cluster.client() as kv:
            await kv.put_many({f"large/{number}": "v" * 200_000 for number in range(150)})
            leader = await cluster.leader()

            def kill(_items: int, _size_bytes: int) -> None:
                if leader.running:
                    leader.kill()

            with pytest.raises(Unavailable, match="begin again"):
                await kv.backup(io.BytesIO(), progress=kill)
            with pytest.raises(Unavailable, match=f"{leader.name} does not answer"):
                await kv.backup(io.BytesIO(), source=leader.name)
            assert (await kv.backup(io.BytesIO())).items == 151
            with pytest.raises(InvalidRequest, match="no node of the cluster is named 'n9'"):
                await kv.backup(io.BytesIO(), source="n9")

    assert PATIENCE_SECONDS_MIN > 10
    asyncio.run(story())


# --- The command line ---


def test_the_commands_of_the_page_are_those_of_the_program() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/backup.md"
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.startswith("kvorum ")]
    assert len(commands) >= 5
    for command in commands:
        assert run([*shlex.split(command)[1:], "--help"]) == 0, command


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cluster = Cluster(tmp_path_factory.mktemp("one"), 1)
    try:
        cluster.start()
        asyncio.run(cluster.ready())
        yield cluster.endpoints
    finally:
        cluster.end()


def test_save_and_inspect(
    endpoints: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.kvb"
    save = ["--endpoints", endpoints, "backup", "save", str(path)]
    assert run(save) == 0
    told = capsys.readouterr()
    assert told.out == f"saved 1 item at revision 2 to {path}, {path.stat().st_size} B\n"
    assert told.err == "", "no progress bar where nobody can see it"
    assert run(save) == 5
    assert f"{path} exists; --force replaces it" in capsys.readouterr().err
    assert run([*save, "--force", "--output", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["items"], answer["revisions"]) == (1, {"1": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["a.kvb"]

    assert run(["backup", "inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}: whole and undamaged, ")
    assert lines[-2].split() == ["GROUP", "REVISION", "COMPACTED", "ITEMS", "SIZE"]
    assert lines[-1].split()[:4] == ["1", "2", "0", "1"]
    assert run(["backup", "inspect", str(path), "--output", "json"]) == 0
    contents = json.loads(capsys.readouterr().out)
    assert contents["checksum"] == answer["checksum"]
    assert contents["cluster_id"] == answer["cluster_id"]
    assert contents["groups"][0]["items"] == 1


def test_a_damaged_file_is_refused_by_its_byte(
    endpoints: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.kvb"
    assert run(["--endpoints", endpoints, "backup", "save", str(path)]) == 0
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    verbs = (["inspect", str(path)], ["restore", str(path), "--data", str(tmp_path / "new")])
    for verb in verbs:
        assert run(["backup", *verb]) == 5
        told = capsys.readouterr().err
        assert told.startswith(f"kvorum: {path} is damaged at byte ")
        assert told.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.kvb"]


def test_a_save_that_fails_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["--endpoints", "127.0.0.1:1", "--timeout", "0.3", "backup", "save"]
    assert run([*nowhere, str(tmp_path / "a.kvb")]) == 4
    assert list(tmp_path.iterdir()) == []
    assert run([*nowhere, str(tmp_path / "absent" / "a.kvb")]) == 74
    assert "cannot write" in capsys.readouterr().err


def test_a_disk_without_room_leaves_no_file(
    endpoints: str, saved: tuple[Path, list[Item], bytes], tmp_path: Path
) -> None:
    """A limit on the size of files stands in for a full disk."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200));"
        "from kvorum_cli.main import main; main()"
    )
    verbs = (
        (["--endpoints", endpoints, "backup", "save", str(tmp_path / "a.kvb")], 74),
        (["backup", "restore", str(saved[0]), "--data", str(tmp_path / "new")], 5),
    )
    for arguments, code in verbs:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("kvorum: cannot write ")
        assert done.stderr.count("\n") == 1
        assert "File too large" in done.stderr
        assert list(tmp_path.iterdir()) == []


class Interrupted(Exception):
    """What somebody presses."""


@pytest.mark.parametrize("when", ["n1", "n2"])
def test_a_restore_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, when: str) -> None:
    path = tmp_path / "large.kvb"
    with path.open("wb") as file:
        writer = BackupWriter(file.write)
        writer.begin(BackupHeader(partitions=1, level=1, protocol="raft"))
        writer.group(BackupGroup(group=1, revision=50, index=60, term=1))
        for number in range(2, 50):
            item = encode_item(b"%03d" % number, os.urandom(1 << 20), number, number, 1, 0)
            writer.items(1, item)
        writer.finish()

    def interrupt(words: str, _done: int, _total: int | None) -> None:
        if words == when:
            raise Interrupted

    with pytest.raises(Interrupted):
        restore_here(Options(file=path), tmp_path / "new", 3, None, interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["large.kvb"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--name", "n1"], 2, "--name, --initial-cluster and --token go together"),
        (["--nodes", "0"], 2, "must be from 1 to 15"),
        (["--replicas", "2"], 2, "1 nodes cannot hold 2 replicas"),
        (
            ["--name", "n1", "--initial-cluster", "n1=h:1", "--token", "t", "--nodes", "2"],
            2,
            "for clusters on this machine only",
        ),
        (["--name", "n2", "--initial-cluster", "n1=h:1", "--token", "t"], 2, "does not name"),
    ],
)
def test_restores_that_cannot_be(
    saved: tuple[Path, list[Item], bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    data = tmp_path / "new"
    assert run(["backup", "restore", str(saved[0]), "--data", str(data), *arguments]) == code
    assert told in capsys.readouterr().err
    assert not data.exists()


def test_progress_is_told_in_bytes_of_the_file(
    saved: tuple[Path, list[Item], bytes], tmp_path: Path
) -> None:
    shown: list[tuple[str, int, int | None]] = []
    restored = restore_one(
        Options(file=saved[0], revision_bump=5),
        tmp_path / "n1",
        "n1",
        "n1=127.0.0.1:7400",
        "t",
        lambda words, done, total: shown.append((words, done, total)),
    )
    assert restored.items == len(saved[1])
    assert all(done <= (total or 0) == saved[0].stat().st_size for _, done, total in shown)
    assert _revisions(restored.revisions).startswith("revision ")


def test_the_blocking_client_saves_too(endpoints: str) -> None:
    file = io.BytesIO()
    with Client(endpoints) as kv:
        summary = kv.backup(file)
    assert summary.size_bytes == len(file.getvalue())
    assert items_in(file.getvalue())[0].key == b"ready"
