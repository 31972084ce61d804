"""A node in this process: how it starts, what it says of itself, and how it ends."""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog

from kvorum_proto.kv_pb2 import ServerHello
from kvorum_server import logs
from kvorum_server.config import Config, ConfigError
from kvorum_server.events import Flushed, Proposed
from kvorum_server.node import Node
from kvorum_server.status import node_status, resident_bytes
from kvorum_server.storage.errors import DirectoryInUse, DiskFailure
from kvorum_server.worker import Worker
from tests.integration.cluster import eventually, free_ports
from tests.unit.host_setup import GROUP, encoded, put


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def config_of(directory: Path, **options: str) -> Config:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    options = {"initial_cluster": f"n1={address}", "log_format": "json"} | options
    return Config(data=directory, listen=address, segment_bytes=64 * 1024, **options)  # type: ignore[arg-type]


async def leads(node: Node) -> None:
    async def is_leader() -> bool:
        if "greeting" not in vars(node):
            return False
        leaders = [partition.leader for partition in node.server_hello().table.partitions]
        return leaders == [node.config.listen] and node.host.replicas[0].is_leader

    await eventually(is_leader, "the node leads its cluster")


def running(config: Config, story: Callable[[Node], Awaitable[None]]) -> int:
    """Runs a node and, once it leads, ``story``, which has to end it; the exit code."""

    async def run() -> int:
        node = Node(config)
        life = asyncio.create_task(node.run())
        try:
            await leads(node)
            await story(node)
        finally:
            if not node._stopped.done():
                node._begin_stop()
            code = await life
        return code

    return asyncio.run(run())


def test_a_node_alone_founds_its_cluster_and_says_who_it_is(tmp_path: Path) -> None:
    hellos: list[ServerHello] = []

    async def story(node: Node) -> None:
        status = node_status(node)
        hello = node.server_hello()
        hellos.append(hello)
        assert (status.name, status.identity) == ("n1", node.host.identity)
        assert {group.group: group.role for group in status.groups} == {0: "leader", 1: "leader"}
        assert [(member.name, member.connected) for member in status.members] == [("n1", True)]
        assert status.disk_bytes > 0
        assert status.disk_free_bytes > 0
        assert status.resident_bytes == pytest.approx(resident_bytes(), rel=0.5)
        assert not status.alarms
        assert status.table == hello.table
        assert [partition.leader for partition in hello.table.partitions] == [node.config.listen]
        assert list(hello.addresses) == [node.config.listen]

    config = config_of(tmp_path)
    assert running(config, story) == 0
    assert running(config, story) == 0
    before, after = hellos
    assert before.cluster_id == after.cluster_id
    assert before.member == after.member


def test_a_broken_disk_ends_the_node_with_the_error_for_its_operator(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.wal._segments[-1].file.close()
        node.post(Proposed(1, GROUP, (1,), encoded(put(b"k"))))
        await asyncio.wait([node._stopped])
        node.post(Flushed(99))  # after the end nothing is taken in any more

    with pytest.raises(DiskFailure, match="the node stops"):
        running(config_of(tmp_path), story)


def test_a_disk_that_breaks_in_silence_is_noticed_too(tmp_path: Path) -> None:
    """Nobody writes but the node itself, which claims from a tick what is durable."""

    async def story(node: Node) -> None:
        node.wal._segments[-1].file.close()
        await asyncio.wait([node._stopped])

    config = dataclasses.replace(config_of(tmp_path), claim_idle_ms=1500)
    with pytest.raises(DiskFailure, match="the node stops"):
        running(config, story)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_bug_ends_the_node_with_its_trace(
    log_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(node: Node) -> None:
        node.post(Flushed(99))
        await node._stopped

    config = config_of(tmp_path, log_format=log_format)
    logs.configure(config)
    assert running(config, story) == 1
    output = capsys.readouterr().err
    assert len([line for line in output.splitlines() if "failed" in line]) == 1
    assert "one flush runs at a time" in output
    assert "Traceback" in output
    if log_format == "json":
        assert all(json.loads(line)["node"] == "n1" for line in output.splitlines())


def test_peers_that_will_not_have_it_end_the_node_with_their_reason(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node._sent_away("bring the node back")
        node._sent_away("said once is enough")

    with pytest.raises(ConfigError, match="bring the node back"):
        running(config_of(tmp_path), story)


def test_a_node_that_cannot_begin_leaves_its_directory_to_others(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    async def story(_: Node) -> None:
        with pytest.raises(DirectoryInUse):
            await Node(config).run()

    assert running(config, story) == 0
    other = config_of(tmp_path, name="n2", initial_cluster=config.initial_cluster)
    with pytest.raises(ConfigError, match="is the data directory of 'n1'"):
        asyncio.run(Node(other).run())
    assert running(config, story) == 0


def test_a_worker_runs_calls_in_order_and_ends_with_the_first_that_raises() -> None:
    async def story() -> None:
        failures: list[BaseException] = []
        done: list[str] = []
        failed = asyncio.Event()

        def fail(error: BaseException) -> None:
            failures.append(error)
            failed.set()

        worker = Worker("test", fail)
        worker.submit(lambda: done.append("call"), lambda: done.append("done"))
        worker.submit(lambda: done.remove("absent"), lambda: done.append("never"))
        worker.submit(lambda: done.append("never"), lambda: done.append("never"))
        await failed.wait()
        worker.stop()
        assert done == ["call", "done"]
        assert [type(error) for error in failures] == [ValueError]

    asyncio.run(story())


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_logs_are_lines_for_programs_or_for_people(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(Config(log_format=log_format, log_level="warning"))
    log = structlog.get_logger()
    log.info("too quiet")
    log.warning("disk full", node="n1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "disk full" in line
    assert (line[0] == "{") == (log_format == "json")
