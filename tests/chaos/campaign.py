"""One chaos run from beginning to end: a cluster, clients, a schedule of faults, the evidence.

The phases: nodes and clients start; faults strike while the clients work; everything is undone, and
every process of clients must get a write and a read through within RECOVERY_SECONDS_MAX; the
clients end; all that they ever wrote is read once more. Then the evidence is judged. A run ends
early when a node has ended although nobody told it to: what comes after would prove little.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvorum import KvorumError
from tests.chaos.checks import Judgement, judge
from tests.chaos.clients import Progress, attempt
from tests.chaos.cluster import ClientProcess, Nodes, Settings, running_nodes, start_clients
from tests.chaos.conductor import Blow, Conductor
from tests.chaos.faults import Strike
from tests.chaos.network import Network
from tests.chaos.node_logs import Reign
from tests.chaos.records import Record, read
from tests.chaos.workload import LEDGER, generation_of, scan_of

RECOVERY_SECONDS_MAX = 30.0
RESIDENT_BYTES_MAX = 1 << 30
INSPECTION_SECONDS = 0.25
WORKERS = 5
"""Of each process of clients."""
FINAL_CLIENT = 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is: the schedule follows from ``seed``."""

    seed: int
    seconds: float
    settings: Settings
    schedule: tuple[Strike, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a run leaves; times are monotonic nanoseconds."""

    run: Run
    begin_ns: int
    healed_ns: int
    recovered_ns: int
    end_ns: int
    records: tuple[Record, ...]
    blows: tuple[Blow, ...]
    reigns: tuple[Reign, ...]
    starts: dict[str, tuple[int, ...]]
    resident_bytes_max: dict[str, int]
    judgement: Judgement
    violations: tuple[str, ...]

    @property
    def recovery_seconds(self) -> float:
        """From the end of the last fault until all clients could read and write."""
        return (self.recovered_ns - self.healed_ns) / 1e9

    @property
    def passed(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.violations


class Unwell(Exception):
    """The run cannot go on; the text says why."""


async def conduct(
    network: Network,
    client_hosts: Sequence[str],
    directory: Path,
    run: Run,
    tell: Callable[[str], None],
) -> Evidence:
    """Does a run. Its verdict is in the evidence; nothing is raised for what the nodes do wrong."""
    async with running_nodes(network, directory, run.settings) as nodes:
        conductor = Conductor(network, nodes, client_hosts)
        violations: list[str] = []
        begin_ns = time.monotonic_ns()
        healed_ns = recovered_ns = begin_ns
        async with working_clients(network, client_hosts, nodes, directory, run.seed) as clients:
            try:
                await _watched(nodes, clients, conductor.carry_out(run.schedule), tell)
                healed_ns = time.monotonic_ns()
                await _watched(nodes, clients, _recover(clients, healed_ns), tell)
            except Unwell as unwell:
                violations.append(str(unwell))
            recovered_ns = time.monotonic_ns()
            await asyncio.gather(*(client.end() for client in clients))
        records = read(client.history for client in clients)
        tell(f"{len(records)} operations; the last reads and the verdict")
        final: list[Record] = []
        ledger: dict[bytes, bytes] | None = None
        try:
            final, ledger = await _final_reads(nodes, records)
        except Unwell as unwell:
            violations.append(str(unwell))
        (directory / "final.jsonl").write_text("".join(record.line() for record in final))
        nodes.inspect()
        for name in nodes.names:
            await nodes.terminate(name)
        judgement = judge(records, final, ledger)
        violations += [*judgement.violations, *nodes.violations, *nodes.complaints()]
        violations += _memory(nodes)
        return Evidence(
            run=run,
            begin_ns=begin_ns,
            healed_ns=healed_ns,
            recovered_ns=recovered_ns,
            end_ns=time.monotonic_ns(),
            records=tuple(records),
            blows=tuple(sorted(conductor.blows, key=lambda blow: blow.begin_ns)),
            reigns=tuple(reign for log in nodes.logs.values() for reign in log.reigns),
            starts={name: tuple(log.starts) for name, log in nodes.logs.items()},
            resident_bytes_max=nodes.resident_bytes_max,
            judgement=judgement,
            violations=tuple(violations),
        )


@contextlib.asynccontextmanager
async def working_clients(
    network: Network, hosts: Sequence[str], nodes: Nodes, directory: Path, seed: int
) -> AsyncIterator[list[ClientProcess]]:
    """A process of clients on each host; none is left at the end."""
    clients: list[ClientProcess] = []
    try:
        for number, host in enumerate(hosts):
            history = directory / f"{host}.jsonl"
            numbers = (number * 100, WORKERS, seed)
            clients.append(
                await start_clients(network, host, nodes.cluster.endpoints, history, numbers)
            )
        yield clients
    finally:
        for client in clients:
            await client.kill()


async def _watched(
    nodes: Nodes,
    clients: Sequence[ClientProcess],
    work: Coroutine[None, None, None],
    tell: Callable[[str], None],
) -> None:
    """Does ``work`` and keeps an eye on everything meanwhile. Raises Unwell when a node ends."""
    task = asyncio.create_task(work)
    began = time.monotonic()
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=INSPECTION_SECONDS)
            nodes.inspect()
            tell(progress_line(time.monotonic() - began, nodes.leader(), clients))
            if nodes.violations or not all(client.running for client in clients):
                raise Unwell("the run was ended early, because of what else is wrong")
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def progress_line(seconds: float, leader: str | None, clients: Sequence[ClientProcess]) -> str:
    """How far a run is, in one line."""
    acknowledged = sum(client.progress.acknowledged for client in clients)
    unknown = sum(client.progress.unknown for client in clients)
    failed = sum(client.progress.failed for client in clients)
    return (
        f"{seconds:6.1f} s  leader {leader or '-':3}  {acknowledged:7,} acknowledged  "
        f"{failed:5,} failed  {unknown:5,} unknown"
    )


async def _recover(clients: Sequence[ClientProcess], healed_ns: int) -> None:
    """Returns once every process of clients has got a write and a read through that began now.

    Raises Unwell when that takes too long.
    """

    def is_back(progress: Progress) -> bool:
        return min(progress.written_at_ns, progress.read_at_ns) > healed_ns

    async def comes_back(client: ClientProcess) -> None:
        while not is_back(client.progress):
            client.heard.clear()
            await client.heard.wait()

    try:
        async with asyncio.timeout(RECOVERY_SECONDS_MAX):
            await asyncio.gather(*map(comes_back, clients))
    except TimeoutError:
        late = [client.host for client in clients if not is_back(client.progress)]
        raise Unwell(
            f"{' and '.join(late)} could not read and write {RECOVERY_SECONDS_MAX:g} s after the "
            "end of the last fault"
        ) from None


async def _final_reads(
    nodes: Nodes, records: Sequence[Record]
) -> tuple[list[Record], dict[bytes, bytes]]:
    """What every generation and the ledger hold when all is over, linearizable reads as before.

    Raises Unwell when nobody can read.
    """
    generations = {generation_of(record.operation) for record in records} - {None}
    final: list[Record] = []
    try:
        async with nodes.cluster.client() as kv:
            ledger = {item.key: item.value async for item in kv.scan(prefix=LEDGER)}
            for generation in sorted(filter(None, generations)):
                final.append(await attempt(kv, FINAL_CLIENT, scan_of(generation)))
                if final[-1].error:
                    raise Unwell(f"the last reads failed: {final[-1].error}")
    except KvorumError as error:
        raise Unwell(f"the last reads failed: {error}") from None
    return final, ledger


def _memory(nodes: Nodes) -> list[str]:
    return [
        f"{name} took {resident >> 20} MiB of memory"
        for name, resident in nodes.resident_bytes_max.items()
        if resident > RESIDENT_BYTES_MAX
    ]
