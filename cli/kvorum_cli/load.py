"""The load that ``kvorum bench`` makes, and what it measures.

N workers share one AsyncClient; each sends an operation, waits for its answer, notes how long it
took and goes on (a closed loop, so that a slow cluster is asked less, and latencies are those at
the rate that was reached). At tens of thousands of operations a second a microsecond here is a few
per cent of the result, so the loop of a worker holds nothing but the call, one reading of the clock
and one ``append`` to an array of integers. Keys and values are made before, the calls come out of a
chain of C iterators, percentiles are found afterwards, and the bar is moved by another task.

Phases: fill (each key once, when the operation reads), warm-up, measurement, clearing away. A
failed operation is counted by its error and tried no more; errors that repeating cannot cure end
the run.

Left out: open-loop load (arrivals at a given rate), several client processes. Start several.
"""

from __future__ import annotations

import asyncio
import os
import random
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from time import perf_counter_ns
from typing import TypeVar

from kvorum import AsyncClient, DeadlineExceeded, KvorumError, Unavailable, UnknownOutcome
from kvorum_cli.exits import stop_for
from kvorum_cli.settings import Settings

T = TypeVar("T")

Progress = Callable[[str, float, int, float], None]
"""Called with the phase, the share of it that is done, operations, and operations a second."""
Call = Callable[[], Awaitable[object]]

KEY_PREFIX = b"kvorum-bench/"
VALUES = 64
PATTERN_LENGTH = 4099
"""Prime, so that the pattern of a mixed load never falls into step with the keys."""
PROGRESS_SECONDS = 0.25
FAILURE_PAUSE_SECONDS = 0.05
PASSING = (Unavailable, DeadlineExceeded, UnknownOutcome)
"""Errors that a measurement survives: it is about clusters that fail, too."""
PERCENTILES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    operation: str
    in_flight: int
    seconds: float
    warm_up_seconds: float
    value_bytes: int
    keys: int
    keep: bool = False


@dataclass(slots=True)
class Samples:
    """What the workers of a phase have seen: nanoseconds of each success, failures by name."""

    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Report:
    """What came out. Latencies are kept in steps of a microsecond."""

    plan: Plan
    seconds: float
    latencies_us: Counter[int]
    failures: Counter[str]

    @classmethod
    def of(cls, plan: Plan, seconds: float, samples: Samples) -> Report:
        """Counts the samples of a phase that took ``seconds``."""
        latencies = Counter(nanoseconds // 1000 for nanoseconds in samples.latencies_ns)
        return cls(plan, seconds, latencies, samples.failures)

    @property
    def operations(self) -> int:
        """How many operations succeeded."""
        return self.latencies_us.total()

    @property
    def failures_total(self) -> int:
        """How many operations failed."""
        return self.failures.total()

    @property
    def per_second(self) -> float:
        """Successful operations a second."""
        return self.operations / self.seconds

    def latencies_ms(self) -> list[tuple[str, float]]:
        """Percentiles by the nearest rank, and the largest latency.

        >>> plan = Plan(
        ...     operation="put", in_flight=1, seconds=1, warm_up_seconds=0, value_bytes=1, keys=1
        ... )
        >>> Report(plan, 1.0, Counter({1000: 98, 2000: 1, 9000: 1}), Counter()).latencies_ms()
        [('p50', 1.0), ('p99', 2.0), ('p99.9', 9.0), ('max', 9.0)]
        """
        ordered = sorted(self.latencies_us.items())
        assert ordered, "percentiles need a sample"
        found: list[tuple[str, float]] = []
        for name, share in PERCENTILES:
            rank, seen = share * self.operations, 0
            for latency, count in ordered:
                seen += count
                if seen >= rank:
                    found.append((name, latency / 1000))
                    break
        return [*found, ("max", ordered[-1][0] / 1000)]

    def as_json(self) -> dict[str, object]:
        """The report for programs."""
        latencies = self.latencies_ms() if self.operations else []
        return {
            "operation": self.plan.operation,
            "in_flight": self.plan.in_flight,
            "value_bytes": self.plan.value_bytes,
            "keys": self.plan.keys,
            "seconds": round(self.seconds, 3),
            "operations": self.operations,
            "per_second": round(self.per_second, 1),
            "latency_ms": {name.replace(".", "_"): value for name, value in latencies},
            "failures": dict(self.failures),
        }


def measure(plan: Plan, settings: Settings, progress: Progress | None) -> Report:
    """Runs a plan against the cluster of the settings. Raises Stop when it cannot be run."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_measure(plan, settings, progress))
    except KvorumError as error:
        subject = f"bench {plan.operation}"
        raise stop_for(error, subject, endpoints_given=settings.endpoints_given) from None
    finally:
        if progress is not None:
            progress("", 0, 0, 0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (it comes with the server), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _measure(plan: Plan, settings: Settings, progress: Progress | None) -> Report:
    keys = [KEY_PREFIX + b"%08d" % number for number in range(plan.keys)]
    random.shuffle(keys)
    async with AsyncClient(
        settings.endpoints_or_default, timeout=settings.timeout_seconds
    ) as client:
        await client.put(keys[0], b"")
        try:
            if plan.operation != "put":
                await _fill(plan, client, keys, progress)
            calls = calls_of(plan, client, keys)
            if plan.warm_up_seconds:
                await _run_for("warm-up", plan.warm_up_seconds, plan.in_flight, calls, progress)
            seconds, samples = await _run_for(
                "measuring", plan.seconds, plan.in_flight, calls, progress
            )
        finally:
            if not plan.keep:
                await client.delete_range(prefix=KEY_PREFIX)
    return Report.of(plan, seconds, samples)


def calls_of(plan: Plan, client: AsyncClient, keys: list[bytes]) -> Iterator[Call]:
    """An endless supply of calls, ready to be made, out of C iterators only."""
    values = cycle([os.urandom(plan.value_bytes) for _ in range(VALUES)])
    puts: Iterator[Call] = map(partial, cycle([client.put]), cycle(keys), values)
    gets: Iterator[Call] = map(partial, cycle([client.get]), cycle(keys))
    if plan.operation == "put":
        return puts
    if plan.operation == "get":
        return gets
    return map(next, cycle(random.choices((gets, puts), k=PATTERN_LENGTH)))


async def _fill(
    plan: Plan, client: AsyncClient, keys: list[bytes], progress: Progress | None
) -> None:
    """Writes every key once."""
    value = os.urandom(plan.value_bytes)
    calls: Iterator[Call] = map(partial, cycle([client.put]), keys, cycle([value]))
    started, written = perf_counter_ns(), 0
    tell_at = started

    async def write() -> None:
        nonlocal written, tell_at
        for call in calls:
            await call()
            written += 1
            if progress is not None and (now := perf_counter_ns()) > tell_at:
                tell_at = now + int(PROGRESS_SECONDS * NANOSECONDS)
                rate = written / (now - started) * NANOSECONDS
                progress("filling", written / len(keys), written, rate)

    await asyncio.gather(*(write() for _ in range(plan.in_flight)))


async def _run_for(
    phase: str, seconds: float, in_flight: int, calls: Iterator[Call], progress: Progress | None
) -> tuple[float, Samples]:
    """Keeps ``in_flight`` calls going for a while: how long it took, and what was seen."""
    samples = Samples()
    started = perf_counter_ns()
    until = started + int(seconds * NANOSECONDS)
    bar = asyncio.create_task(_report_progress(phase, started, until, samples, progress))
    try:
        await asyncio.gather(*(_work(calls, until, samples) for _ in range(in_flight)))
    finally:
        bar.cancel()
    return (perf_counter_ns() - started) / NANOSECONDS, samples


async def _work(calls: Iterator[Call], until: int, samples: Samples) -> None:
    append = samples.latencies_ns.append
    now = perf_counter_ns()
    while now < until:
        started = now
        try:
            await next(calls)()
        except PASSING as error:
            samples.failures[type(error).__name__] += 1
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)
            now = perf_counter_ns()
        else:
            now = perf_counter_ns()
            append(now - started)


async def _report_progress(
    phase: str, started: int, until: int, samples: Samples, progress: Progress | None
) -> None:
    while progress is not None:
        now = perf_counter_ns()
        done = len(samples.latencies_ns)
        elapsed = max(now - started, 1)
        progress(phase, elapsed / (until - started), done, done / elapsed * NANOSECONDS)
        await asyncio.sleep(PROGRESS_SECONDS)
