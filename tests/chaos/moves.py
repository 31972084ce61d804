"""Members that come and go while everything else happens: the operator's part in a chaos run.

There is one more host than members; it is the *spare*. Two things happen to a member: its disk is
lost and an empty node of the same name and address takes its place; or the spare takes its place,
the member leaves by itself, and its host is the next spare. After some of each none of the first
members is left. Every change is asked for as an operator would, with the SDK, until the cluster has
noted it, and is over when every group has the members that it shall have.
"""

import asyncio

from kvorum import InvalidRequest, KvorumError
from tests.chaos.cluster import Nodes

SETTLE_SECONDS_MAX = 90.0
LEAVE_SECONDS_MAX = 15.0
POLL_SECONDS = 0.1


async def replace(nodes: Nodes, name: str) -> None:
    """A member loses its disk, and comes back empty."""
    nodes.kill(name)
    nodes.lose_disk(name)
    await _change(nodes, name, name)


async def swap(nodes: Nodes, name: str) -> None:
    """The spare takes the place of a member, which becomes the spare."""
    spare = nodes.spare
    nodes.expect_end(name)
    if not await _change(nodes, name, spare):
        return
    nodes.spare = name
    try:
        async with asyncio.timeout(LEAVE_SECONDS_MAX):
            while nodes.by_name[name].running:
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        nodes.violations.append(f"{name} was removed and still runs {LEAVE_SECONDS_MAX:g} s later")
    nodes.retire(name)


async def _change(nodes: Nodes, name: str, new_name: str) -> bool:
    """Asks the cluster, starts the new node, and returns once all groups have followed."""
    try:
        async with asyncio.timeout(SETTLE_SECONDS_MAX), nodes.cluster.client() as kv:
            address = nodes.place(new_name).address
            while True:
                try:
                    await kv.replace_member(name, new_name=new_name, address=address)
                    break
                except InvalidRequest as refusal:
                    nodes.violations.append(f"the replacement of {name} was refused: {refusal}")
                    return False
                except KvorumError:
                    await asyncio.sleep(POLL_SECONDS)
            nodes.start_joining(new_name)
            while not await _settled(nodes, new_name):
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        nodes.violations.append(
            f"{name} was not replaced by {new_name} within {SETTLE_SECONDS_MAX:g} s"
        )
        return False
    return True


async def _settled(nodes: Nodes, name: str) -> bool:
    """Whether every group has the members that it shall have, and nobody is awaited."""
    async with nodes.cluster.client(timeout=2.0) as kv:
        try:
            membership = await kv.membership()
        except KvorumError:
            return False
    names = [member.name for member in membership.members]
    return membership.settled and not membership.expected and names.count(name) == 1
