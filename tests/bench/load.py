"""The load of one client process, the same for every system: what to send, and what came of it.

A job keeps a number of calls in flight for a while (a closed loop: each worker waits for its answer
before it asks again, so latencies are those at the rate that was reached). Keys and values are made
beforehand and calls come out of a chain of C iterators, so that a worker does little besides the
call: one reading of the clock and two appends to an array.

The processor time of servers and client is read in the same moments as the clock, here, where the
window of measurement begins and ends. Nothing but the standard library is imported, so that a
client can live in an interpreter where our own packages are not installed.

Left out: arrivals at a given rate, and several client processes.
"""

import asyncio
import dataclasses
import json
import os
import random
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Protocol

KEY_COUNT = 100_000
VALUE_BYTES = 256
VALUES = 64
GET_SHARE = 0.9
PATTERN_LENGTH = 4099
"""Prime, so that the pattern of a mixed load never falls into step with the keys."""
FAILURE_PAUSE_SECONDS = 0.02
FILL_BATCH = 1_000
FILL_BATCHES_IN_FLIGHT = 4
SILENCES = 10
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

Call = Callable[[], Awaitable[object]]


class Connection(Protocol):
    """What a system's client library must offer."""

    passing: tuple[type[Exception], ...]
    """Errors that a load survives; they are counted."""

    async def put(self, key: bytes, value: bytes, /) -> object:
        """Stores a value, durable on a quorum when it returns."""

    async def get(self, key: bytes, /) -> object:
        """Reads a value, linearizable."""

    async def put_many(self, items: dict[bytes, bytes], /) -> object:
        """Stores many values, each a write of its own."""

    async def close(self) -> None:
        """Ends the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One load: ``operation`` is put, get, mixed (nine gets for a put) or fill.

    Keys are ``keys`` numbers from ``first_key`` on, in an order of their own. The load ends after
    ``seconds``, or after ``calls_max`` calls when that is not 0. A fill writes each key once.
    """

    operation: str
    in_flight: int = 256
    seconds: float = 5.0
    warm_up_seconds: float = 0.0
    first_key: int = 0
    keys: int = KEY_COUNT
    calls_max: int = 0
    servers: tuple[int, ...] = ()

    def line(self) -> bytes:
        """The job as a line of JSON."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: str | bytes) -> "Job":
        """A job from its line."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came of a job. ``cpu_us`` are for each operation, all servers together.

    ``silences_ns`` are the longest times without an answer, from when until when, on the machine's
    monotonic clock, which all its processes share.
    """

    operations: int
    failures: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    servers_cpu_us: float
    client_cpu_us: float
    silences_ns: tuple[tuple[int, int], ...]

    def line(self) -> bytes:
        """The measurement as a line of JSON."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: str | bytes) -> "Measurement":
        """A measurement from its line."""
        return cls(**json.loads(line))


@dataclass(slots=True)
class Samples:
    """When each answered call began and ended, in nanoseconds, and how many failed."""

    began_ns: "array[int]" = field(default_factory=lambda: array("q"))
    ended_ns: "array[int]" = field(default_factory=lambda: array("q"))
    failures: int = 0


def key_of(number: int) -> bytes:
    """
    >>> key_of(42), len(key_of(42))
    (b'key/000000000042', 16)
    """
    return b"key/%012d" % number


def cpu_seconds(process: int) -> float:
    """The processor time that a process has had, all threads, in user mode and in the kernel."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


async def run(connection: Connection, job: Job) -> Measurement:
    """Does a job; the warm-up leaves no trace in what is measured."""
    if job.operation == "fill":
        return await _measured(job, partial(_fill, connection, job))
    calls = _calls(connection, job)
    if job.warm_up_seconds:
        await _load(connection, job.in_flight, job.warm_up_seconds, calls)
    if job.calls_max:
        calls = islice(calls, job.calls_max)
    return await _measured(job, partial(_load, connection, job.in_flight, job.seconds, calls))


async def _measured(job: Job, work: Callable[[], Awaitable[Samples]]) -> Measurement:
    servers = sum(map(cpu_seconds, job.servers))
    client, started = time.process_time(), time.perf_counter()
    samples = await work()
    seconds = time.perf_counter() - started
    client = time.process_time() - client
    servers = sum(map(cpu_seconds, job.servers)) - servers
    return _measurement(samples, seconds, servers, client)


def _measurement(samples: Samples, seconds: float, servers: float, client: float) -> Measurement:
    ended = samples.ended_ns
    operations = len(ended)
    latencies = sorted(map(int.__sub__, ended, samples.began_ns)) or [0]
    silences = nlargest(SILENCES, pairwise(ended), key=lambda pair: pair[1] - pair[0])
    return Measurement(
        operations=operations,
        failures=samples.failures,
        seconds=round(seconds, 3),
        per_second=round(operations / seconds, 1),
        p50_ms=percentile_ms(latencies, 0.5),
        p99_ms=percentile_ms(latencies, 0.99),
        p999_ms=percentile_ms(latencies, 0.999),
        servers_cpu_us=round(servers / max(operations, 1) * 1e6, 2),
        client_cpu_us=round(client / max(operations, 1) * 1e6, 2),
        silences_ns=tuple(silences),
    )


def percentile_ms(ordered_ns: list[int], share: float) -> float:
    """The value of nearest rank.

    >>> percentile_ms([1_000_000, 2_000_000, 9_000_000], 0.5)
    2.0
    """
    return ordered_ns[min(int(share * len(ordered_ns)), len(ordered_ns) - 1)] / 1e6


def _calls(connection: Connection, job: Job) -> Iterator[Call]:
    """An endless supply of calls, ready to be made."""
    randomness = random.Random(job.first_key + job.keys)
    keys = [key_of(job.first_key + number) for number in range(job.keys)]
    randomness.shuffle(keys)
    values = cycle([randomness.randbytes(VALUE_BYTES) for _ in range(VALUES)])
    puts: Iterator[Call] = map(partial, cycle([connection.put]), cycle(keys), values)
    gets: Iterator[Call] = map(partial, cycle([connection.get]), cycle(keys))
    match job.operation:
        case "put":
            return puts
        case "get":
            return gets
        case "mixed":
            weights = (GET_SHARE, 1 - GET_SHARE)
            pattern = randomness.choices((gets, puts), weights, k=PATTERN_LENGTH)
            return map(next, cycle(pattern))
    raise ValueError(f"{job.operation} is no operation")


async def _load(
    connection: Connection, in_flight: int, seconds: float, calls: Iterator[Call]
) -> Samples:
    """Keeps calls going until time is up or none are left."""
    samples = Samples()
    until = time.monotonic_ns() + int(seconds * 1e9)
    workers = (_work(connection.passing, calls, until, samples) for _ in range(in_flight))
    await asyncio.gather(*workers)
    return samples


async def _work(
    passing: tuple[type[Exception], ...], calls: Iterator[Call], until: int, samples: Samples
) -> None:
    now, clock = time.monotonic_ns(), time.monotonic_ns
    began, ended = samples.began_ns.append, samples.ended_ns.append
    for call in calls:
        started = now
        try:
            await call()
        except passing:
            samples.failures += 1
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)
            now = clock()
        else:
            now = clock()
            began(started)
            ended(now)
        if now >= until:
            return


async def _fill(connection: Connection, job: Job) -> Samples:
    """Writes every key once, in batches; each batch counts as so many calls of its duration."""
    samples = Samples()
    end = job.first_key + job.keys
    starts = iter(range(job.first_key, end, FILL_BATCH))

    async def write() -> None:
        for start in starts:
            numbers = range(start, min(start + FILL_BATCH, end))
            items = {key_of(number): random.randbytes(VALUE_BYTES) for number in numbers}
            began = time.monotonic_ns()
            await connection.put_many(items)
            ended = time.monotonic_ns()
            samples.began_ns.extend([began] * len(items))
            samples.ended_ns.extend([ended] * len(items))

    await asyncio.gather(*(write() for _ in range(FILL_BATCHES_IN_FLIGHT)))
    return samples
