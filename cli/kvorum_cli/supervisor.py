"""Watching a local cluster: what ``kvorum up`` does once it has decided to start one.

Every half second each node is asked for its status, and its process is looked at; together they
make the rows of the table. On a terminal the table is redrawn in place. Elsewhere (a log file, a
service) it is printed once, when the cluster serves, and then a line for each change of a node's
role or state.

However the watching ends, in order or by an exception, the nodes are stopped before this returns;
only :func:`run_detached` leaves them, and only after they serve.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kvorum import AsyncClient, NodeStatus, Unavailable
from kvorum_cli.exits import Exit, Stop
from kvorum_cli.local_cluster import LocalCluster, LocalNode
from kvorum_cli.output import write_json, write_line, write_note
from kvorum_cli.settings import DEFAULT_ENDPOINTS, Settings, version
from kvorum_cli.table import HEALTHY, NodeView, console, headline, node_table, print_renderables

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_SECONDS = 0.5
STATUS_SECONDS = 1.0
START_SECONDS_MAX = 30.0
DOWN = "down"
STARTING = "starting"
SERVING = (HEALTHY, "catching up")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Watcher:
    """Asks the nodes of a local cluster how they are."""

    def __init__(self, cluster: LocalCluster, client: AsyncClient) -> None:
        self._cluster = cluster
        self._client = client
        self._seen: set[str] = set()

    async def look(self) -> list[NodeView]:
        """A view of every node, in their order."""
        self._cluster.refresh()
        running = {node.name for node in self._cluster.running()}
        views = await asyncio.gather(
            *(self._look_at(node, node.name in running) for node in self._cluster.manifest.nodes)
        )
        self._seen -= {view.name for view in views if view.state == DOWN}
        self._seen |= {view.name for view in views if view.status is not None}
        return views

    async def _look_at(self, node: LocalNode, is_running: bool) -> NodeView:
        if not is_running:
            return NodeView(node.name, node.address, None, DOWN)
        try:
            status = await self._client.status(node.address, timeout=STATUS_SECONDS)
        except Unavailable:
            problem = "not answering" if node.name in self._seen else STARTING
            return NodeView(node.name, node.address, None, problem)
        return NodeView(node.name, node.address, status)


def serves(views: Sequence[NodeView]) -> bool:
    """Whether every node is there and every group has a leader."""
    return all(view.state in SERVING for view in views)


async def run_detached(
    cluster: LocalCluster, missing: Sequence[LocalNode], settings: Settings
) -> None:
    """Starts nodes and returns when the whole cluster serves. Raises Stop when it does not."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS_MAX
    serving = False
    cluster.start(missing)
    try:
        async with AsyncClient(cluster.manifest.endpoints) as client:
            watcher = Watcher(cluster, client)
            while not serves(views := await watcher.look()):
                _refuse_dead(cluster, views)
                if loop.time() > deadline:
                    states = ", ".join(f"{view.name} is {view.state}" for view in views)
                    raise Stop(
                        Exit.UNAVAILABLE,
                        f"the cluster does not serve after {START_SECONDS_MAX:g} s: {states}; "
                        f"the logs are {cluster.directory}/*.log",
                    )
                await asyncio.sleep(REFRESH_SECONDS / 5)
        serving = True
    finally:
        if not serving:
            await cluster.stop()
    if settings.json:
        write_json(json_cluster(cluster))
    else:
        print_renderables(console(settings.color), *cluster_parts(cluster, views))


async def run_in_front(cluster: LocalCluster, settings: Settings) -> None:
    """Starts all nodes, shows them until told to stop, and stops them."""
    async with _stop_signal() as told_to_stop:
        try:
            cluster.start(cluster.manifest.nodes)
            async with AsyncClient(cluster.manifest.endpoints) as client:
                watcher = Watcher(cluster, client)
                if sys.stdout.isatty() and not settings.json:
                    await _show_live(cluster, watcher, settings, told_to_stop)
                else:
                    await _print_transitions(cluster, watcher, settings, told_to_stop)
        finally:
            killed = await cluster.stop()
    if killed:
        write_note(f"{', '.join(killed)} did not stop in time and had to be killed")
    if not settings.json:
        again = f"'kvorum up{cluster.data_option}' goes on with it"
        write_line(f"stopped; the data stays in {cluster.directory}, {again}")


@asynccontextmanager
async def _stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that is set by the signals that end us; one that is ignored stays ignored."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _show_live(
    cluster: LocalCluster, watcher: Watcher, settings: Settings, told_to_stop: asyncio.Event
) -> None:
    from rich.console import Group
    from rich.live import Live

    with Live(console=console(settings.color), auto_refresh=False) as live:
        while not told_to_stop.is_set():
            views = await watcher.look()
            live.update(Group(*cluster_parts(cluster, views)), refresh=True)
            if all(view.state == DOWN for view in views):
                break
            await _is_set_within(told_to_stop, REFRESH_SECONDS)
    if not told_to_stop.is_set():
        raise _all_dead(cluster, views)


async def _print_transitions(
    cluster: LocalCluster, watcher: Watcher, settings: Settings, told_to_stop: asyncio.Event
) -> None:
    shown = False
    before: dict[str, tuple[str, int, str]] = {}
    while not told_to_stop.is_set():
        views = await watcher.look()
        now = {view.name: (view.role, view.term, view.state) for view in views}
        for view in views:
            changed = now[view.name] != before.get(view.name)
            if changed and (shown or view.state == DOWN):
                _print_transition(cluster, view, settings)
        before = now
        if all(view.state == DOWN for view in views):
            raise _all_dead(cluster, views)
        if not shown and serves(views):
            shown = True
            if settings.json:
                write_json(json_cluster(cluster))
            else:
                print_renderables(console(settings.color), *cluster_parts(cluster, views))
        sys.stdout.flush()
        await _is_set_within(told_to_stop, REFRESH_SECONDS)


def _print_transition(cluster: LocalCluster, view: NodeView, settings: Settings) -> None:
    words = cluster.last_words(view.name) if view.state == DOWN else ""
    if settings.json:
        write_json(
            {
                "node": view.name,
                "role": view.role,
                "term": view.term,
                "state": view.state,
                **({"last_log_line": words} if words else {}),
            }
        )
        return
    time = datetime.now().strftime("%H:%M:%S")
    role = f"{view.role} in term {view.term}, " if view.groups else ""
    write_line(f"{time} {view.name}: {role}{view.state}{f': {words}' if words else ''}")


def _refuse_dead(cluster: LocalCluster, views: Sequence[NodeView]) -> None:
    dead = [view for view in views if view.state == DOWN]
    if dead:
        raise Stop(Exit.UNAVAILABLE, f"the cluster was stopped: {_epitaph(cluster, dead[0])}")


def _all_dead(cluster: LocalCluster, views: Sequence[NodeView]) -> Stop:
    return Stop(Exit.UNAVAILABLE, f"no node is left; {_epitaph(cluster, views[0])}")


def _epitaph(cluster: LocalCluster, view: NodeView) -> str:
    words = cluster.last_words(view.name)
    return f"{view.name} ended; the last line of {cluster.log_of(view.name)}: {words or 'none'}"


# --- What is shown ---


def cluster_parts(cluster: LocalCluster, views: Sequence[NodeView]) -> list[RenderableType]:
    """Headline, table, what to know about dead nodes, and how to go on."""
    from rich.text import Text

    statuses = [view.status for view in views if isinstance(view.status, NodeStatus)]
    place = f"data {cluster.directory}"
    if statuses:
        first = headline(statuses[0], place)
    else:
        first = f"kvorum {version()} · {len(views)} nodes · {place}"
    parts: list[RenderableType] = [Text(first, style="bold"), node_table(views)]
    dead = [view for view in views if view.state == DOWN]
    parts += [Text(_epitaph(cluster, view)) for view in dead]
    if dead:
        again = f"{program()} up --detach{cluster.data_option}"
        parts.append(Text(f"from a second shell, '{again}' starts what is down again"))
    if serves(views):
        parts.append(Text(f"try it from a second shell: {try_line(cluster.manifest.endpoints)}"))
    return parts


def program() -> str:
    """How to call this program again: by name when the shell would find it, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which("kvorum")
    if called.name != "kvorum" or (found and Path(found).resolve() == called.resolve()):
        return "kvorum"
    return str(called)


def try_line(endpoints: str) -> str:
    """How a newcomer makes the first request."""
    variable = "" if endpoints == DEFAULT_ENDPOINTS else f"export KVORUM_ENDPOINTS={endpoints}; "
    return f"{variable}{program()} put greeting hello && {program()} get greeting"


def json_cluster(cluster: LocalCluster) -> dict[str, object]:
    """The cluster for programs: where it is and which processes it is made of."""
    return {
        "data": str(cluster.directory),
        "endpoints": cluster.manifest.endpoints,
        "nodes": [
            {
                "name": node.name,
                "address": node.address,
                "pid": node.pid,
                "log": str(cluster.log_of(node.name)),
            }
            for node in cluster.manifest.nodes
        ],
    }
