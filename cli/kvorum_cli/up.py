"""The verbs up and down: a cluster on this machine, as long as you watch it, or until told to stop.

``up`` stays in front: it shows the table of nodes, twice a second on a terminal, and once plus
every transition elsewhere; Ctrl-C, SIGTERM or a closed terminal ends the nodes in order. ``up
--detach`` returns as soon as the cluster serves. Either way the directory remembers everything, and
the next ``up`` goes on with the data.

A node that dies is shown with the last line of its log, and the others go on; ``up --detach`` from
a second shell starts it again. When the last one has died, ``up`` ends.
"""

from __future__ import annotations

from pathlib import Path

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.output import write_json, write_line, write_note
from kvorum_cli.settings import DATA_DEFAULT, Number, Verb, settings

NODES_MAX = 15


@click.command(
    cls=Verb,
    examples="""
    kvorum up
    kvorum up --nodes 5 --base-port 7500 --data /var/tmp/five
    kvorum up --detach && kvorum put greeting hello; kvorum down
    """,
)
@click.option("--nodes", type=Number(1, NODES_MAX), metavar="N", help="How many nodes. [3]")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DEFAULT,
    metavar="DIRECTORY",
    help=f"Where everything is kept. [{DATA_DEFAULT}]",
)
@click.option(
    "--base-port",
    type=Number(1, 65_535),
    metavar="PORT",
    help="The first node listens here, the others on the next ports. [7400]",
)
@click.option("--detach", is_flag=True, help="Return when the cluster serves; leave it running.")
@click.option("--partitions", type=Number(1), metavar="N", help="Partitions of a new cluster. [1]")
@click.option(
    "--replicas",
    type=Number(1),
    metavar="N",
    help="Replicas of each partition of a new cluster. [3, or fewer with fewer nodes]",
)
@click.option("--consensus", metavar="NAME", help="Consensus protocol of a new cluster. [raft]")
def up(
    nodes: int | None,
    data: Path,
    base_port: int | None,
    detach: bool,
    partitions: int | None,
    replicas: int | None,
    consensus: str | None,
) -> None:
    """Run a cluster on this machine until Ctrl-C.

    What --data holds already goes on as it was made. Options of the nodes are taken from the
    environment: KVORUM_LOG_LEVEL=debug kvorum up.
    """
    import asyncio

    from kvorum_cli.local_cluster import LocalCluster, Wanted
    from kvorum_cli.supervisor import run_detached, run_in_front

    if settings().endpoints is not None:
        raise click.UsageError("up starts a cluster of its own: leave out --endpoints")
    wanted = Wanted(
        nodes=nodes,
        base_port=base_port,
        partitions=partitions,
        replicas=replicas,
        consensus=consensus,
    )
    cluster = LocalCluster.prepare(data, wanted)
    running = cluster.running()
    missing = [node for node in cluster.manifest.nodes if node not in running]
    if running and not (detach and missing):
        names = ", ".join(f"{node.name} (pid {node.pid})" for node in running)
        option = cluster.data_option
        rest = f"; 'kvorum up --detach{option}' starts the others" if missing else ""
        raise Stop(
            Exit.REFUSED,
            f"the cluster in {data} runs already: {names}; 'kvorum down{option}' stops it{rest}",
        )
    if detach:
        asyncio.run(run_detached(cluster, missing, settings()))
    else:
        asyncio.run(run_in_front(cluster, settings()))


@click.command(
    cls=Verb,
    examples="""
    kvorum down
    kvorum down --data /var/tmp/five
    """,
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DEFAULT,
    metavar="DIRECTORY",
    help=f"The directory that was given to 'kvorum up'. [{DATA_DEFAULT}]",
)
def down(data: Path) -> None:
    """Stop the cluster of 'kvorum up'.

    Its data stays. Works from any shell, also after 'up' itself was killed. Exits with 1 when
    nothing runs.
    """
    import asyncio

    from kvorum_cli.local_cluster import LocalCluster

    cluster = LocalCluster.find(data)
    running = [node.name for node in cluster.running()]
    killed = asyncio.run(cluster.stop())
    if settings().json:
        write_json({"stopped": running, "killed": killed})
    elif running:
        write_line(f"stopped {', '.join(running)}; the data stays in {data}")
    if killed:
        write_note(f"{', '.join(killed)} did not stop in time and had to be killed")
    if not running:
        raise Stop(Exit.NOT_FOUND, f"no node of the cluster in {data} runs")
