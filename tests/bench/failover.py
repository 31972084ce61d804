"""How long a cluster takes no writes after its leader is struck under load.

A client keeps puts in flight; the leader gets a kill -9, or what else is to be measured, at a
random moment; the outage is the longest time from there on in which no put was acknowledged, all
read from the machine's one monotonic clock. The longest, not the time until the next answer:
answers of the dead leader may still be on their way. Then the blow is undone, the victim is started
again if it has to be, and the next run waits until it has caught up.

Left out: the same for etcd, whose Python client knows one endpoint only.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tests.bench.load import Job
from tests.bench.systems import ClientProcess, KvorumSystem, Stage
from tests.integration.cluster import NodeProcess, eventually

IN_FLIGHT = 64
LOAD_SECONDS = 4.0
STRIKE_AFTER_SECONDS = (0.7, 1.3)
"""Bounds of the random time after which the leader is struck; ticks must not fall into step."""
KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Outage:
    """One run: without an acknowledged write for so long; puts that failed for good."""

    milliseconds: float
    failures: int
    per_second: float


class Blow(Protocol):
    """What is done to a leader, and undone before the next run."""

    def strike(self, victim: NodeProcess) -> None:
        """Makes it useless."""

    def undo(self, victim: NodeProcess) -> None:
        """Lets it come back; a process that has ended is started afterwards."""


class Kill:
    """kill -9."""

    def strike(self, victim: NodeProcess) -> None:
        victim.kill()

    def undo(self, victim: NodeProcess) -> None:
        """Nothing is left to undo: who has ended is started."""


async def measure(
    system: KvorumSystem, runs: int, tell: Callable[[str], None], blow: Blow
) -> list[Outage]:
    """Strikes at the leader ``runs`` times."""
    outages: list[Outage] = []
    randomness = random.Random()
    async with Stage([system]) as stage:
        client = stage.clients[0]
        await client.run(Job(operation="fill", keys=KEYS))
        for number in range(1, runs + 1):
            tell(f"run {number} of {runs}")
            after_seconds = randomness.uniform(*STRIKE_AFTER_SECONDS)
            outages.append(await _strike(system, client, blow, after_seconds))
            await _whole_again(system)
    return outages


async def _strike(
    system: KvorumSystem, client: ClientProcess, blow: Blow, after_seconds: float
) -> Outage:
    job = Job(operation="put", in_flight=IN_FLIGHT, seconds=LOAD_SECONDS, keys=KEYS)
    victim = await system.cluster.leader()
    load = asyncio.create_task(client.run(job))
    await asyncio.sleep(after_seconds)
    struck_ns = time.monotonic_ns()
    try:
        blow.strike(victim)
        measurement = await load
    finally:
        blow.undo(victim)
    return Outage(
        milliseconds=longest_since(struck_ns, measurement.silences_ns) / 1e6,
        failures=measurement.failures,
        per_second=measurement.per_second,
    )


def longest_since(moment: int, silences: Iterable[tuple[int, int]]) -> int:
    """How long the longest silence was, of each only what lies after ``moment``.

    Of the second only 5 count; the last is a hiccup of the machine, and no outage of 1930.

    >>> longest_since(100, [(0, 90), (70, 105), (2000, 2030)])
    30
    """
    lengths = [end - max(begin, moment) for begin, end in silences if end > moment]
    assert lengths, f"nothing was acknowledged after {moment}: {silences}"
    return max(lengths)


async def _whole_again(system: KvorumSystem) -> None:
    cluster = system.cluster
    cluster.start()
    index = await cluster.applied(await cluster.leader())

    async def caught_up() -> bool:
        applied = [await cluster.applied(node) for node in cluster.nodes]
        return min(applied) >= index

    await eventually(caught_up, "the victim has caught up")
