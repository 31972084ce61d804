"""What a million keys cost: memory, time to start again, and the price of a key that never rests.

Loads the keys in batches, reads the resident memory of every node, stops and kills all nodes and
times the way back to serving (a linearizable get of a loaded key and a put, from the moment the
processes are started), then overwrites one key 300,000 times and compares reading it with reading
another, in turns, because only the comparison is fair to a busy machine.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from tests.bench.load import Job, Measurement, key_of
from tests.bench.machine import resident_megabytes
from tests.bench.systems import KvorumSystem, Stage, stop_nodes

READ_ROUNDS = 3
READ_SECONDS = 1.0
READS_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Read:
    """Reading one key again and again: time and processor time of the servers for each read."""

    elapsed_us: float
    servers_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What came out. Lists have a figure for each node."""

    keys: int
    load_seconds: float
    resident_megabytes: list[float]
    stop_seconds: float
    restart_seconds: float
    restart_after_kill_seconds: float
    resident_after_restart_megabytes: list[float]
    overwrites: int
    overwrites_per_second: float
    read_overwritten: Read
    read_other: Read
    resident_peak_megabytes: list[float]


async def measure(
    system: KvorumSystem, keys: int, overwrites: int, tell: Callable[[str], None]
) -> Size:
    """Runs everything once."""
    async with Stage([system]) as stage:
        client = stage.clients[0]
        tell(f"writing {keys:,} keys")
        loaded = await client.run(Job(operation="fill", keys=keys))
        resident = _resident(system)
        tell("restarting")
        stopped = await stop_nodes(system.cluster, signal.SIGTERM)
        restarted = await _serving_again(system, keys)
        await stop_nodes(system.cluster, signal.SIGKILL)
        restarted_after_kill = await _serving_again(system, keys)
        resident_again = _resident(system)
        tell(f"overwriting a key {overwrites:,} times")
        hot = await client.run(
            Job(operation="put", keys=1, calls_max=overwrites, seconds=3600, in_flight=256)
        )
        tell("reading it")
        overwritten: list[Measurement] = []
        other: list[Measurement] = []
        for _ in range(READ_ROUNDS):
            for key, found in ((0, overwritten), (keys // 2, other)):
                found.append(await client.run(_reading(system, key)))
        return Size(
            keys=keys,
            load_seconds=loaded.seconds,
            resident_megabytes=resident,
            stop_seconds=round(stopped, 3),
            restart_seconds=round(restarted, 3),
            restart_after_kill_seconds=round(restarted_after_kill, 3),
            resident_after_restart_megabytes=resident_again,
            overwrites=hot.operations,
            overwrites_per_second=hot.per_second,
            read_overwritten=_read(overwritten),
            read_other=_read(other),
            resident_peak_megabytes=_resident(system, peak=True),
        )


async def _serving_again(system: KvorumSystem, keys: int) -> float:
    """Starts all nodes: the seconds until they serve reads and writes of what was there."""
    started = time.monotonic()
    system.cluster.start()
    async with system.cluster.client() as client:
        item = await client.get(key_of(keys - 1))
        assert item is not None, "a key is lost"
        await client.put(item.key, item.value)
    return time.monotonic() - started


def _resident(system: KvorumSystem, *, peak: bool = False) -> list[float]:
    return [round(resident_megabytes(process, peak=peak), 1) for process in system.processes]


def _reading(system: KvorumSystem, key: int) -> Job:
    return Job(
        operation="get",
        first_key=key,
        keys=1,
        seconds=READ_SECONDS,
        warm_up_seconds=READ_SECONDS / 4,
        in_flight=READS_IN_FLIGHT,
        servers=system.processes,
    )


def _read(rounds: list[Measurement]) -> Read:
    return Read(
        elapsed_us=round(median(1e6 / one.per_second for one in rounds), 2),
        servers_us=round(median(one.servers_cpu_us for one in rounds), 2),
    )
