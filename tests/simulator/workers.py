"""Seeds on all cores: each run in a worker process of its own interpreter, results as plain values.

A simulation is one thread of pure Python, so more cores mean more processes. Workers are spawned,
not forked: a run must not depend on what its parent has imported or patched, and a canary planted
in a worker is gone when its run ends. Ctrl-C belongs to the parent alone; it ends the workers.

A run that never ends is a finding, too: after :data:`RUN_SECONDS_MAX` it is broken off where it
stands, so that its traceback shows the loop.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tests.simulator.canaries import canary
from tests.simulator.profiles import profile
from tests.simulator.simulation import Report, run_seed

RUN_SECONDS_MAX = 300
"""Of real time; a run takes about one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of one run when its cluster is gone. ``failure`` is empty for a clean one."""

    seed: int
    failure: str
    details: str
    operations: int
    unknown: int
    turns: int
    frames: int
    virtual_ms: int
    undecided: bool
    facts: dict[str, int]
    fingerprint: str
    """The hash of the trace: equal for two runs in which the same things happened."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Hunt:
    """A canary and the first seed that caught it; ``seed`` None: none did."""

    name: str
    seed: int | None
    tried: int
    failure: str
    seconds: float


def usable_cores() -> int:
    """How many runs may go on at once without being in each other's way."""
    return os.cpu_count() or 1


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes for as long as the block lasts; whatever ends it, they are gone afterwards.

    What has not been started by then is not run.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    signal.signal(signal.SIGALRM, _give_up)


def _end_with_the_parent() -> None:
    """A parent that was killed has ended nobody: its workers see to that themselves."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are spawned"
    parent.join()
    os._exit(1)


def _give_up(signal_number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"the run has not ended after {RUN_SECONDS_MAX} s of real time")


def run_one(seed: int, weather: str = "general_swarm", mistake: str = "") -> Outcome:
    """One seed in this process: under the profile called ``weather``, with a canary or without."""
    began = time.monotonic()
    signal.alarm(RUN_SECONDS_MAX)
    try:
        if mistake:
            report = canary(mistake).run(seed, profile(weather))
        else:
            report = run_seed(seed, profile=profile(weather))
    finally:
        signal.alarm(0)
    return _outcome(report, time.monotonic() - began)


def hunt(mistake: str, seeds: Iterable[int], weather: str) -> Hunt:
    """Tries seeds until one catches the canary: fails with it, and does not fail without it."""
    began = time.monotonic()
    tried = 0
    for seed in seeds:
        tried += 1
        failure = run_one(seed, weather, mistake).failure
        if failure and not run_one(seed, weather).failure:
            return Hunt(mistake, seed, tried, failure, time.monotonic() - began)
    return Hunt(mistake, None, tried, "", time.monotonic() - began)


def _outcome(report: Report, seconds: float) -> Outcome:
    return Outcome(
        seed=report.seed,
        failure=report.failure,
        details=f"{report.options.describe()}\n{report.details}" if report.failure else "",
        operations=report.operations,
        unknown=report.unknown,
        turns=report.turns,
        frames=report.frames,
        virtual_ms=report.virtual_ms,
        undecided=report.undecided,
        facts=dict(report.facts),
        fingerprint=report.trace.hash(),
        seconds=seconds,
    )
