"""What a directory of `kvorum up` remembers, and what is refused before a process is started."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from kvorum_cli import supervisor
from kvorum_cli.exits import Exit, Stop
from kvorum_cli.local_cluster import (
    LOG_LINE_LENGTH_MAX,
    MANIFEST,
    LocalCluster,
    LocalNode,
    Manifest,
    Wanted,
    command_line,
    load_manifest,
    require_port,
    require_server,
)
from kvorum_cli.table import NodeView


def write_manifest(directory: Path, nodes: int = 3, pid: int | None = None) -> None:
    """As an earlier `up` would have left it, with data."""
    content = {
        "format": 1,
        "nodes": [
            {"name": f"n{number + 1}", "address": f"127.0.0.1:{7400 + number}", "pid": pid}
            for number in range(nodes)
        ],
        "partitions": 1,
        "replicas": 3,
        "consensus": "raft",
    }
    (directory / "n1").mkdir()
    (directory / MANIFEST).write_text(json.dumps(content))


def refusal(action: object) -> tuple[int, str]:
    """The code and line of a Stop that an action must raise."""
    assert callable(action)
    with pytest.raises(Stop) as raised:
        action()
    return raised.value.code, str(raised.value)


def test_a_new_cluster_is_three_nodes_on_the_default_ports(tmp_path: Path) -> None:
    cluster = LocalCluster.prepare(tmp_path / "new", Wanted())
    assert cluster.manifest.endpoints == "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
    assert cluster.manifest.initial_cluster.startswith("n1=127.0.0.1:7400,n2=")
    assert not (tmp_path / "new").exists(), "nothing is written before something is started"


def test_fewer_nodes_hold_fewer_replicas() -> None:
    assert Wanted(nodes=1).manifest().replicas == 1
    assert Wanted(nodes=5).manifest().replicas == 3


def test_what_is_there_goes_on_as_it_was_made(tmp_path: Path) -> None:
    write_manifest(tmp_path, nodes=5)
    assert len(LocalCluster.prepare(tmp_path, Wanted()).manifest.nodes) == 5
    assert len(LocalCluster.prepare(tmp_path, Wanted(nodes=5)).manifest.nodes) == 5


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (Wanted(nodes=3), "--nodes 5, not 3: leave out --nodes"),
        (Wanted(base_port=7500), "--base-port 7400, not 7500"),
        (Wanted(partitions=4), "--partitions 1, not 4"),
        (Wanted(replicas=5), "--replicas 3, not 5"),
        (Wanted(consensus="paxos"), "--consensus raft, not paxos"),
    ],
)
def test_a_cluster_cannot_be_made_twice(tmp_path: Path, wanted: Wanted, complaint: str) -> None:
    write_manifest(tmp_path, nodes=5)
    code, line = refusal(lambda: LocalCluster.prepare(tmp_path, wanted))
    assert code == Exit.USAGE
    assert complaint in line


def test_an_attempt_that_never_kept_data_may_be_corrected(tmp_path: Path) -> None:
    write_manifest(tmp_path, nodes=5)
    (tmp_path / "n1").rmdir()
    assert len(LocalCluster.prepare(tmp_path, Wanted(nodes=1)).manifest.nodes) == 1


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (Wanted(nodes=2, replicas=3), "2 nodes cannot hold 3 replicas of anything"),
        (Wanted(base_port=65_534), "3 nodes from port 65534 go beyond port 65535"),
    ],
)
def test_what_cannot_be_is_refused(wanted: Wanted, complaint: str) -> None:
    assert refusal(wanted.manifest) == (Exit.USAGE, complaint)


def test_data_without_a_manifest_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "n2").mkdir()
    code, line = refusal(lambda: LocalCluster.prepare(tmp_path, Wanted()))
    assert code == Exit.REFUSED
    assert "holds n2 but no cluster.json" in line


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 1, "nodes": [{}]}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    code, line = refusal(lambda: load_manifest(tmp_path))
    assert code == Exit.REFUSED
    assert "is not what 'kvorum up' wrote" in line


def test_a_newer_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"format": 2}')
    assert "has format 2, this kvorum knows 1" in refusal(lambda: load_manifest(tmp_path))[1]


def test_down_where_nothing_was_ever_up(tmp_path: Path) -> None:
    code, line = refusal(lambda: LocalCluster.find(tmp_path))
    assert (code, line) == (Exit.NOT_FOUND, f"{tmp_path} holds no cluster of 'kvorum up'")


def test_a_pid_that_now_belongs_to_somebody_else_is_never_signalled(tmp_path: Path) -> None:
    write_manifest(tmp_path, pid=os.getpid())
    cluster = LocalCluster.find(tmp_path)
    assert cluster.running() == []
    assert asyncio.run(cluster.stop()) == []
    remembered = load_manifest(tmp_path)
    assert remembered is not None
    assert {node.pid for node in remembered.nodes} == {None}


def test_the_command_line_of_a_process() -> None:
    assert sys.executable in command_line(os.getpid()) or "pytest" in command_line(os.getpid())
    assert command_line(2**22 - 1) == ""


def test_a_node_is_told_everything_by_options(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, Wanted(nodes=1, base_port=7410).manifest())
    command = cluster.command_of(cluster.manifest.nodes[0])
    assert command[1:4] == ["-P", "-m", "kvorum_server"]
    assert dict(zip(command[4::2], command[5::2], strict=True)) == {
        "--name": "n1",
        "--data": str(tmp_path / "n1"),
        "--listen": "127.0.0.1:7410",
        "--initial-cluster": "n1=127.0.0.1:7410",
        "--partitions": "1",
        "--replicas": "1",
        "--consensus": "raft",
    }


def test_a_port_in_use_is_named_with_a_remedy() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        code, line = refusal(lambda: require_port(address))
    assert code == Exit.REFUSED
    assert line.startswith(f"cannot listen on {address}: address already in use; stop what")
    require_port(address)


def test_the_server_is_installed_here() -> None:
    assert require_server() is None  # type: ignore[func-returns-value]


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" / "below"
    cluster = LocalCluster(directory, Manifest((LocalNode("n1", "127.0.0.1:0"),)))
    code, line = refusal(lambda: cluster.start(()))
    assert (code, line) == (Exit.REFUSED, f"cannot write {directory}: Not a directory")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (b"", ""),
        (b"first\nlast words  \n\n", "last words"),
        (b"\x1b[31mred\x1b[0m  end", "red end"),
        (b"x" * 9000, "x" * LOG_LINE_LENGTH_MAX),
    ],
)
def test_the_last_words_of_a_node(tmp_path: Path, log: bytes, words: str) -> None:
    cluster = LocalCluster(tmp_path, Wanted(nodes=1).manifest())
    assert cluster.last_words("n1") == ""
    cluster.log_of("n1").write_bytes(log)
    assert cluster.last_words("n1") == words


def test_what_is_shown_of_a_cluster_with_a_dead_node(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, Wanted(nodes=1).manifest())
    cluster.log_of("n1").write_text("disk full\n")
    views = [NodeView("n1", "127.0.0.1:7400", None, supervisor.DOWN)]
    assert not supervisor.serves(views)
    shown = [str(part) for part in supervisor.cluster_parts(cluster, views)]
    assert shown[2] == f"n1 ended; the last line of {tmp_path}/n1.log: disk full"
    assert f"up --detach --data {tmp_path}" in shown[3]


def test_how_to_try_it_names_the_cluster_when_it_is_not_the_default() -> None:
    assert supervisor.try_line("127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402").startswith("kvorum ")
    assert supervisor.try_line("a:1").startswith("export KVORUM_ENDPOINTS=a:1; ")
