"""``kvorum member``: who belongs to the cluster.

An operator states a wish; the cluster gets there by itself, in small steps of which none may cost a
quorum. So each verb here says what was noted, and then waits until the groups have really changed
(or not, with ``--no-wait``), with one line of progress that names what is still missing: a node to
be started, a learner that catches up, a node that has to answer first. Waiting ends with Ctrl-C and
changes nothing: the cluster goes on.

A name that no member has is refused here, with the nearest one that exists; every other refusal is
the cluster's own sentence.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.output import write_json, write_line
from kvorum_cli.settings import Number, Verb, Verbs, call, settings, show_help_without_verb

if TYPE_CHECKING:
    from kvorum import AsyncClient, ClusterStatus, Member, Membership
    from kvorum_cli.table import MemberView

T = TypeVar("T")

POLL_SECONDS = 0.2
STATUS_SECONDS_MAX = 2.0
"""A node that does not answer within two seconds is shown as unreachable."""

wait_option = click.option(
    "--wait/--no-wait", default=True, help="Wait until the groups have changed. [--wait]"
)
start_option = click.option(
    "--wait/--no-wait", default=False, help="Wait until the node has joined. [--no-wait]"
)


@click.group(cls=Verbs)
@click.pass_context
def member(context: click.Context) -> None:
    """Show and change the members of the cluster."""
    show_help_without_verb(context)


# --- list ---


@member.command(
    "list",
    cls=Verb,
    examples="""
    kvorum member list
    kvorum member list --output json
    """,
)
def list_members() -> None:
    """List the nodes and how they are.

    Who votes, who learns, who is expected and has not come yet, who is leaving.
    """

    async def run(client: AsyncClient) -> tuple[Membership, ClusterStatus]:
        membership = await client.membership()
        timeout = min(settings().timeout_seconds, STATUS_SECONDS_MAX)
        return membership, await client.cluster_status(timeout=timeout)

    from kvorum_cli.table import console, member_table, member_views, print_renderables

    membership, status = call(run)
    views = member_views(membership, status)
    if settings().json:
        write_json(_json_members(membership, views))
        return
    print_renderables(console(settings().color), member_table(views))


def _json_members(membership: Membership, views: list[MemberView]) -> dict[str, object]:
    return {
        "members": [
            {
                "name": view.name,
                "address": view.address,
                "role": view.role,
                "state": view.state,
                "lag": view.lag,
                "identity": view.identity or None,
                "supported_level": view.supported_level,
                "replaces": view.replaces or None,
            }
            for view in views
        ],
        "groups": [
            {
                "group": group.group,
                "voters": list(group.voters),
                "learners": list(group.learners),
                "settled": group.settled,
            }
            for group in membership.groups
        ],
    }


# --- Changes ---


@member.command(
    cls=Verb,
    examples="""
    kvorum member add n4 10.0.0.4:7400
    kvorum member add n5 10.0.0.5:7400 --learner
    """,
)
@click.argument("name")
@click.argument("address", metavar="HOST:PORT")
@click.option("--learner", is_flag=True, help="It receives everything and does not vote.")
@start_option
def add(name: str, address: str, learner: bool, wait: bool) -> None:
    """Let a node join, and print the command that starts it.

    It votes once it has caught up. HOST:PORT is where the other nodes will reach it.
    """
    _check_address(address)

    async def run(client: AsyncClient) -> Membership:
        await client.add_member(name, address, learner=learner)
        return await client.membership()

    membership = call(run, name)
    _tell_start(name, address, membership, {"added": name})
    if wait:
        _wait_for(lambda now: missing_to_join(now, name), f"{name} is a member")


@member.command(
    cls=Verb,
    examples="""
    kvorum member replace n2 n5 10.0.0.5:7400
    kvorum member replace n2
    """,
)
@click.argument("name")
@click.argument("new_name", required=False)
@click.argument("address", metavar="[HOST:PORT]", required=False)
@start_option
def replace(name: str, new_name: str | None, address: str | None, wait: bool) -> None:
    """Let a new node take the places of a member.

    Prints the command that starts it. The old one leaves when the new one has caught up; it may be
    dead. Without NEW_NAME and HOST:PORT the new node has those of the old one: a machine that comes
    back with an empty disk.
    """
    if new_name is not None and address is None:
        raise click.UsageError("give HOST:PORT of the new node as well, or only the old name")
    if address is not None:
        _check_address(address)

    async def run(client: AsyncClient) -> tuple[str, Membership]:
        old = await _find(client, name)
        target = address or old.address
        await client.replace_member(name, new_name=new_name or name, address=target)
        return target, await client.membership()

    newcomer = new_name or name
    target, membership = call(run, name)
    _tell_start(newcomer, target, membership, {"replaced": name, "by": newcomer})
    if wait:
        _wait_for(lambda now: missing_to_join(now, newcomer), f"{newcomer} has replaced {name}")


@member.command(cls=Verb, examples="kvorum member promote n5")
@click.argument("name")
@wait_option
def promote(name: str, wait: bool) -> None:
    """Let a learner vote."""

    async def run(client: AsyncClient) -> None:
        await _find(client, name)
        await client.promote_member(name)

    call(run, name)
    _tell({"promoted": name}, f"{name} shall vote")
    if wait:
        _wait_for(lambda now: missing_to_join(now, name), f"{name} votes")


@member.command(cls=Verb, examples="kvorum member remove n2")
@click.argument("name")
@wait_option
def remove(name: str, wait: bool) -> None:
    """Remove a member.

    Or a node that was expected and has not come. Refused when a group could not do without it. A
    removed node stops by itself; its data directory is of no use to this cluster any more.
    """

    async def run(client: AsyncClient) -> None:
        await _find(client, name, expected=True)
        await client.remove_member(name)

    call(run, name)
    _tell({"removed": name}, f"{name} shall leave")
    if wait:
        _wait_for(missing_to_settle, f"{name} is no member any more")


@member.command(
    cls=Verb,
    examples="""
    kvorum member transfer n2
    kvorum member transfer n2 --group 1
    """,
)
@click.argument("name")
@click.option("--group", type=Number(0), metavar="N", help="Only this group. [all]")
@wait_option
def transfer(name: str, group: int | None, wait: bool) -> None:
    """Make a member the leader, of every group or of one."""

    async def run(client: AsyncClient) -> list[int]:
        await _find(client, name)
        membership = await client.membership()
        voting = [one.group for one in membership.groups if name in one.voters]
        if group is not None and group not in voting:
            raise Stop(Exit.REFUSED, f"transfer {name}: it does not vote in group {group}")
        wanted = voting if group is None else [group]
        for number in wanted:
            await client.transfer_leadership(number, name)
        return wanted

    wanted = call(run, name)
    _tell({"leader": name, "groups": wanted}, f"{name} shall lead {_named_groups(wanted)}")
    if wait:
        call(lambda client: _await_leader(client, name, wanted), name)


# --- Names ---


async def _find(client: AsyncClient, name: str, *, expected: bool = False) -> Member:
    """The member of a name. Raises Stop with the nearest name that there is."""
    from kvorum import Member

    membership = await client.membership()
    present = {one.name: one for one in membership.members}
    if name in present:
        return present[name]
    coming = {one.name: one for one in membership.expected}
    if expected and name in coming:
        return Member(0, name, coming[name].address)
    if name in coming:
        raise Stop(Exit.REFUSED, f"{name} has not joined yet; start it, or remove it")
    names = sorted(present)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"members: {_list(names)}"
    raise Stop(Exit.REFUSED, f"no member is named {name!r}; {hint}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _named_groups(groups: list[int]) -> str:
    return f"group{'' if len(groups) == 1 else 's'} {_list(map(str, groups))}"


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "," in address:
        raise click.UsageError(f"{address!r} must be host:port")


# --- What is told ---


def _tell(answer: dict[str, object], line: str) -> None:
    if settings().json:
        write_json(answer)
    else:
        write_line(line)
    sys.stdout.flush()  # what follows may wait for somebody who acts on it


def _tell_start(name: str, address: str, membership: Membership, answer: dict[str, object]) -> None:
    """The command that starts a node which may join now."""
    members = [one.address for one in membership.members if not one.leaving and one.name != name]
    command = f"kvorum-server --name {name} --listen {address} --join {','.join(members)}"
    _tell(
        {**answer, "start": command},
        f"{name} may join; start it with an empty --data directory:\n  {command}",
    )


# --- Waiting ---


def missing_to_join(membership: Membership, name: str) -> str:
    """What is missing until a node is a member in all of its groups; empty when nothing is."""
    if any(one.name == name for one in membership.expected):
        return f"{name} to be started"
    return missing_to_settle(membership)


def missing_to_settle(membership: Membership) -> str:
    """What is missing until every group has the members that it shall have."""
    unsettled = sum(not group.settled for group in membership.groups)
    if unsettled:
        return f"{unsettled} of {len(membership.groups)} groups to change"
    leaving = [one.name for one in membership.members if one.leaving]
    return f"{_list(leaving)} to leave" if leaving else ""


def _wait_for(missing: Callable[[Membership], str], done: str) -> None:
    """Shows what is missing until nothing is."""

    async def run(client: AsyncClient) -> None:
        import asyncio

        line = ProgressLine()
        while what := missing(await client.membership()):
            reasons = await _reasons(client)
            line.show(f"waiting for {what}" + (f" ({reasons})" if reasons else ""))
            await asyncio.sleep(POLL_SECONDS)
        line.end(done)

    call(run)


async def _reasons(client: AsyncClient) -> str:
    """What the leaders of the groups wait for."""
    status = await client.cluster_status(timeout=STATUS_SECONDS_MAX)
    reasons = {
        f"group {group.group}: {group.waiting}"
        for node in status.nodes
        for group in node.groups
        if group.waiting
    }
    return "; ".join(sorted(reasons))


async def _await_leader(client: AsyncClient, name: str, groups: list[int]) -> None:
    """Until the node leads; a leader that could not hand over is asked again, up to the timeout."""
    import asyncio

    line = ProgressLine()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings().timeout_seconds
    while missing := await _led_elsewhere(client, name, groups):
        if loop.time() > deadline:
            raise Stop(
                Exit.UNAVAILABLE,
                f"{name} does not lead {_named_groups(missing)} yet: it may be behind or down; "
                "'kvorum status' shows it",
            )
        line.show(f"waiting for {name} to lead {_named_groups(missing)}")
        for group in missing:
            await client.transfer_leadership(group, name)
        await asyncio.sleep(POLL_SECONDS)
    line.end(f"{name} leads {_named_groups(groups)}")


async def _led_elsewhere(client: AsyncClient, name: str, groups: list[int]) -> list[int]:
    status = await client.cluster_status(timeout=STATUS_SECONDS_MAX)
    led = {
        group.group
        for node in status.nodes
        if node.name == name
        for group in node.groups
        if group.role == "leader"
    }
    return [group for group in groups if group not in led]


class ProgressLine:
    """One line on standard error that is written over; where nobody watches, one per change."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        """What is going on now."""
        if text == self._shown:
            return
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        else:
            sys.stderr.write(f"{text}\n")
        self._shown = text

    def end(self, text: str) -> None:
        """It is done."""
        if self._shown and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if not settings().json:
            write_line(text)
