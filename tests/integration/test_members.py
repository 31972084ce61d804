"""A cluster whose members all change, under load: it grows, shrinks, and in the end none of the
machines that it began with is left. The verbs are those of the command line, on real processes.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvorum import Membership
from tests.integration.cluster import (
    Cluster,
    NodeProcess,
    Place,
    eventually,
    loopback,
    running_cluster,
)
from tests.integration.history import History
from tests.integration.test_faults import load

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Answer:
    """What a call of the command line gave."""

    code: int
    output: str
    notes: str


async def started(cluster: Cluster, *arguments: str) -> asyncio.subprocess.Process:
    """``kvorum``, as an operator would run it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from kvorum_cli.main import main; main()",
        *("--endpoints", cluster.endpoints, "--timeout", "30"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


async def kvorum(cluster: Cluster, *arguments: str) -> Answer:
    """Runs ``kvorum`` to its end."""
    process = await started(cluster, *arguments)
    output, notes = await process.communicate()
    assert process.returncode is not None
    return Answer(process.returncode, output.decode(), notes.decode())


async def done(cluster: Cluster, *arguments: str) -> str:
    """The output of a verb that succeeds."""
    answer = await kvorum(cluster, *arguments)
    assert answer.code == 0, answer
    return answer.output


async def membership(cluster: Cluster) -> Membership:
    async with cluster.client() as kv:
        return await kv.membership()


async def identities(cluster: Cluster) -> dict[str, int]:
    return {member.name: member.identity for member in (await membership(cluster)).members}


async def a_follower(cluster: Cluster) -> NodeProcess:
    """A node that leads nothing."""
    leaders = [await cluster.leader(group) for group in (0, 1)]
    return next(node for node in cluster.nodes if node not in leaders)


async def settled(cluster: Cluster, *expected: str) -> None:
    """Returns once these are the members and every group has followed."""

    async def holds() -> bool:
        now = await membership(cluster)
        came = not now.expected and [one.name for one in now.members] == list(expected)
        return came and now.settled

    await eventually(holds, f"the members are {expected}, in every group")


async def newcomer(
    cluster: Cluster, directory: Path, name: str, place: Place, command: str
) -> NodeProcess:
    """Starts a node with what the command line printed for it."""
    words = command.split()
    members = words[words.index("--join") + 1]
    printed = f"kvorum-server --name {name} --listen {place.address} --join {members}"
    assert command == printed
    node = NodeProcess(name, place, directory, ["--join", members])
    cluster.nodes.append(node)
    node.start()
    return node


async def add(cluster: Cluster, directory: Path, name: str, *more: str) -> NodeProcess:
    (place,) = loopback(1)
    arguments = ["member", "add", name, place.address, *more, "--output", "json"]
    answer = json.loads(await done(cluster, *arguments))
    return await newcomer(cluster, directory, name, place, answer["start"])


async def replace(cluster: Cluster, directory: Path, old: str, name: str) -> None:
    """Replaces a node; the verb waits until that is done, while its command is obeyed."""
    (place,) = loopback(1)
    process = await started(cluster, "member", "replace", old, name, place.address, "--wait")
    assert process.stdout is not None
    first, second = await process.stdout.readline(), await process.stdout.readline()
    assert first.decode() == f"{name} may join; start it with an empty --data directory:\n"
    await newcomer(cluster, directory, name, place, second.decode().strip())
    output, notes = await process.communicate()
    assert output.decode() == f"{name} has replaced {old}\n"
    assert f"waiting for {name} to be started" in notes.decode()


def node_of(cluster: Cluster, name: str) -> NodeProcess:
    return next(node for node in cluster.nodes if node.name == name)


async def gone(cluster: Cluster, name: str) -> None:
    """A removed node stops by itself; it is no part of the cluster any more."""
    node = node_of(cluster, name)
    assert await asyncio.to_thread(node.wait) == 0, node.log[-2000:]
    cluster.nodes.remove(node)


def test_every_machine_is_exchanged_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        history = History()
        async with (
            running_cluster(tmp_path) as cluster,
            load(cluster, history),
            cluster.client() as idle,
        ):
            assert await idle.get("nothing") is None
            await add(cluster, tmp_path, "m0")
            await add(cluster, tmp_path, "m1")
            await settled(cluster, "m0", "m1", "n1", "n2", "n3")

            leader = await cluster.leader()
            await done(cluster, "member", "remove", leader.name)
            await gone(cluster, leader.name)
            rest = [node.name for node in cluster.nodes if node.name.startswith("n")]
            await settled(cluster, "m0", "m1", *rest)

            for number, old in enumerate(rest, 2):
                await replace(cluster, tmp_path, old, f"m{number}")
                await gone(cluster, old)
            await settled(cluster, "m0", "m1", "m2", "m3")
            await done(cluster, "member", "remove", "m0")
            await gone(cluster, "m0")
            await settled(cluster, "m1", "m2", "m3")
            assert await idle.get("nothing") is None, "it asked nothing, and was told of m1"
        history.check()
        assert history.acknowledged > 500

    asyncio.run(story())


def test_the_verbs_tell_what_is_and_refuse_what_would_break_the_cluster(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster:
            table = (await done(cluster, "member", "list")).splitlines()
            assert table[0].split() == ["NAME", "ADDRESS", "ROLE", "LAG", "IDENTITY", "STATE"]
            assert [row.split()[0] for row in table[1:]] == ["n1", "n2", "n3"]
            assert all(row.endswith("healthy") for row in table[1:])

            wrong = await kvorum(cluster, "member", "remove", "nn2")
            assert (wrong.code, wrong.output) == (5, "")
            assert "no member is named 'nn2'; did you mean 'n2'" in wrong.notes
            taken = await kvorum(cluster, "member", "add", "n1", "127.0.0.1:1")
            assert taken.code == 5
            assert "n1 is a member already" in taken.notes
            bad = await kvorum(cluster, "member", "add", "n4", "nowhere")
            assert bad.code == 2

            learner = await add(cluster, tmp_path, "m4", "--learner")
            await settled(cluster, "m4", "n1", "n2", "n3")
            assert "learner" in await done(cluster, "member", "list")
            assert (await done(cluster, "member", "promote", "m4")).endswith("m4 votes\n")
            found = await membership(cluster)
            assert all("m4" in group.voters for group in found.groups)

            led = await done(cluster, "member", "transfer", "m4")
            assert led.endswith("m4 leads groups 0, 1\n")
            assert await cluster.leader(1) is learner

            await done(cluster, "member", "add", "m5", "127.0.0.1:2")
            listed = json.loads(await done(cluster, "member", "list", "--output", "json"))
            assert [one["state"] for one in listed["members"]][-1] == "expected"
            await done(cluster, "member", "remove", "m5")
            assert "m5" not in await done(cluster, "member", "list")

            for name in ("n1", "n2"):
                node_of(cluster, name).kill()
            # Two of four are left: no quorum, and nothing that needs one is answered.
            dead = await kvorum(cluster, "member", "remove", "n1", "--timeout", "1")
            assert dead.code in (4, 6)
            assert len(dead.notes.splitlines()) == 1

    asyncio.run(story())


def test_a_removal_that_would_cost_the_quorum_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster:
            victim = await a_follower(cluster)
            victim.kill()
            others = [node.name for node in cluster.nodes if node is not victim]

            async def refused() -> bool:
                answer = await kvorum(cluster, "member", "remove", others[0], "--no-wait")
                return answer.code == 5 and f"{victim.name} not connected" in answer.notes

            await eventually(refused, "the removal is refused")
            assert sorted(await identities(cluster)) == ["n1", "n2", "n3"]

    asyncio.run(story())


def test_a_machine_that_lost_its_disk_comes_back_under_its_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster:
            async with cluster.client() as kv:
                await kv.put("k", "kept")
            lost = await a_follower(cluster)
            before = await identities(cluster)
            lost.kill()
            output = await done(cluster, "member", "replace", lost.name)
            command = output.splitlines()[1].split()
            members = command[command.index("--join") + 1]
            assert lost.address not in members
            cluster.nodes.remove(lost)
            directory = tmp_path / "fresh"
            directory.mkdir()
            place = Place(lost.address)
            await newcomer(cluster, directory, lost.name, place, output.splitlines()[1].strip())
            await settled(cluster, "n1", "n2", "n3")
            after = await identities(cluster)
            changed = {name for name in before if before[name] != after[name]}
            assert changed == {lost.name}

    asyncio.run(story())


def test_a_removed_node_that_is_started_again_is_no_member(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_cluster(tmp_path) as cluster:
            node = await a_follower(cluster)
            await done(cluster, "member", "remove", node.name)
            await gone(cluster, node.name)
            rest = sorted(await identities(cluster))
            told = node.log.count("removed from the cluster")
            node.start()
            assert await asyncio.to_thread(node.wait) == 0, "it knows, and stops as it was told"
            assert node.log.count("removed from the cluster") == told + 1
            await cluster.ready()
            assert sorted(await identities(cluster)) == rest

    asyncio.run(story())
