"""The verbs for the cluster itself: status and compact.

``status`` asks nodes one by one and needs no quorum, because it is most wanted when there is none:
it asks the given endpoints and every node that those name, and shows who does not answer and why.
The other is an ordinary request. Members have a module of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.output import write_json, write_line
from kvorum_cli.settings import (
    Number,
    Settings,
    Verb,
    call,
    settings,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvorum import AsyncClient, NodeStatus
    from kvorum_cli.table import NodeView

WATCH_SECONDS = 1.0
STATUS_SECONDS_MAX = 2.0
"""A node that does not answer this question within two seconds is shown as unreachable."""


@click.command(
    cls=Verb,
    examples="""
    kvorum status
    kvorum status --watch
    kvorum status --output json
    """,
)
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
def status(watch: bool) -> None:
    """Show every node and group.

    Each node is asked, so this works without a quorum. Exits with 4 when no node answers.
    """
    if watch:
        call(_watch)
        return
    chosen = settings()
    views = call(lambda client: ask_nodes(client, chosen))
    _show(chosen, views)
    if all(view.status is None for view in views):
        hint = "" if chosen.endpoints_given else "; 'kvorum up' starts a cluster"
        raise Stop(Exit.UNAVAILABLE, f"no node answers at {chosen.endpoints_or_default}{hint}")


async def ask_nodes(client: AsyncClient, chosen: Settings) -> list[NodeView]:
    """The status of the endpoints given, and of the nodes that they name; each node once."""
    import asyncio

    from kvorum import NodeStatus, Unavailable
    from kvorum_cli.table import NodeView

    timeout = min(chosen.timeout_seconds, STATUS_SECONDS_MAX)

    async def ask(endpoint: str) -> NodeStatus | Unavailable:
        try:
            return await client.status(endpoint, timeout=timeout)
        except Unavailable as error:
            return error

    asked: dict[str, NodeStatus | Unavailable] = {}
    names: dict[str, str] = {}
    wanted = list(dict.fromkeys(part.strip() for part in chosen.endpoints_or_default.split(",")))
    while wanted:
        answers = await asyncio.gather(*map(ask, wanted))
        asked.update(zip(wanted, answers, strict=True))
        known = {answer.identity for answer in asked.values() if isinstance(answer, NodeStatus)}
        members = [
            member
            for answer in answers
            if isinstance(answer, NodeStatus)
            for member in answer.members
        ]
        names.update({member.address: member.name for member in members})
        wanted = list(
            dict.fromkeys(
                member.address
                for member in members
                if member.address not in asked
                and member.identity not in known
                and not member.expected
            )
        )
    views: dict[int | str, NodeView] = {}
    for endpoint, answer in asked.items():
        if isinstance(answer, NodeStatus):
            address = endpoint
            views.setdefault(answer.identity, NodeView(answer.name, address, answer))
        else:
            views[endpoint] = NodeView(names.get(endpoint, ""), endpoint, None, _reason(answer))
    return sorted(views.values(), key=lambda view: (view.name == "", view.name, view.address))


def _reason(error: Exception) -> str:
    """The end of the SDK's sentence: the address stands in the row already."""
    return "unreachable: " + str(error).rpartition("gave no status: ")[2]


def _show(chosen: Settings, views: list[NodeView]) -> None:
    if chosen.json:
        write_json(json_status(views))
        return
    from kvorum_cli.table import console, print_renderables

    print_renderables(console(chosen.color), *_parts(views))


def _parts(views: list[NodeView]) -> list[RenderableType]:
    from kvorum_cli.table import group_table, headline, known_groups, node_table

    statuses = [view.status for view in views if view.status is not None]
    parts: list[RenderableType] = [headline(statuses[0])] if statuses else []
    parts.append(node_table(views))
    if statuses:
        parts += ["", group_table(known_groups(statuses))]
    return parts


async def _watch(client: AsyncClient) -> None:
    import asyncio

    from kvorum_cli.table import console

    chosen = settings()
    target = console(chosen.color)
    if chosen.json or not target.is_terminal:
        while True:
            _show(chosen, await ask_nodes(client, chosen))
            await asyncio.sleep(WATCH_SECONDS)
    from rich.console import Group
    from rich.live import Live

    with Live(console=target, auto_refresh=False) as live:
        while True:
            views = await ask_nodes(client, chosen)
            live.update(Group(*_parts(views)), refresh=True)
            await asyncio.sleep(WATCH_SECONDS)


def json_status(views: list[NodeView]) -> dict[str, object]:
    """Everything that the nodes said, and who said nothing."""
    return {
        "nodes": [_json_node(view.address, view.status) for view in views if view.status],
        "unreachable": [
            {"name": view.name, "address": view.address, "reason": view.problem}
            for view in views
            if view.status is None
        ],
    }


def _json_node(address: str, node: NodeStatus) -> dict[str, object]:
    import dataclasses

    fields = dataclasses.asdict(node)
    del fields["endpoint"]
    return {**fields, "address": address, "cluster_id": node.cluster_id.hex()}


@click.command(
    cls=Verb,
    examples="""
    kvorum compact 1200
    kvorum compact --keep 1000
    """,
)
@click.argument("revision", type=Number(1), required=False)
@click.option("--keep", type=Number(1), metavar="N", help="Keep the last N revisions.")
def compact(revision: int | None, keep: int | None) -> None:
    """Forget the history before REVISION.

    Present values stay. Reading at an older revision is refused afterwards.
    """
    if (revision is None) == (keep is None):
        raise click.UsageError("give either REVISION or --keep")

    async def run(client: AsyncClient) -> int:
        limit = revision
        if limit is None:
            assert keep is not None, "one of the two is given"
            limit = await _present_revision(client) - keep + 1
        if limit < 1:
            return 0
        await client.compact(limit)
        return limit

    oldest = call(run)
    if settings().json:
        write_json({"oldest_revision": max(oldest, 1)})
    elif oldest:
        write_line(f"compacted: revision {oldest} is the oldest that can be read")
    else:
        write_line("nothing to compact: the cluster has fewer revisions")


async def _present_revision(client: AsyncClient) -> int:
    """The revision of the cluster: a txn that reads says which one it read."""
    from kvorum import Get

    answer = await client.txn(then=[Get("\x00")])
    return answer.revision
