"""One process of clients in a namespace of its own: it works, and writes down what it sees.

``python -m tests.chaos.clients ENDPOINTS FILE FIRST WORKERS SEED`` runs WORKERS workers, numbered
from FIRST, which share one ``AsyncClient`` as the tasks of a service would. Every operation becomes
a record in FILE. What ends with UnknownOutcome is kept as unknown; any other error of the SDK says
that nothing was applied, and the checker finds out if that is not true. Several times a second a
line on standard output tells how far the process is; at the end of its input it ends, with what is
on its way still recorded.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO, assert_never

import kvorum
from tests.chaos.records import Record
from tests.chaos.workload import Workload, is_compare_and_set
from tests.simulator.model import (
    Compact,
    Decided,
    Delete,
    Deleted,
    DeleteRange,
    Found,
    Get,
    Increment,
    Incremented,
    Item,
    Operation,
    Outcome,
    Part,
    Put,
    Scan,
    Transaction,
    Written,
)

TIMEOUT_SECONDS = 4.0
PAUSE_SECONDS = (0.01, 0.05)
REPORT_SECONDS = 0.1


@dataclass(slots=True)
class Progress:
    """What a process of clients has done so far.

    ``written_at_ns`` and ``read_at_ns``: when the latest write and read that succeeded had begun.
    """

    acknowledged: int = 0
    unknown: int = 0
    failed: int = 0
    written_at_ns: int = 0
    read_at_ns: int = 0

    def count(self, record: Record) -> None:
        """Adds one operation."""
        if record.unknown:
            self.unknown += 1
        elif record.error:
            self.failed += 1
        else:
            self.acknowledged += 1
            if isinstance(record.operation, Get | Scan):
                self.read_at_ns = max(self.read_at_ns, record.begin_ns)
            else:
                self.written_at_ns = max(self.written_at_ns, record.begin_ns)

    def line(self) -> str:
        """The figures as a line of JSON."""
        return json.dumps(asdict(self))


# --- The model's operations on the SDK ---


async def perform(kv: kvorum.AsyncClient, operation: Operation) -> Outcome:
    """Carries out an operation; raises what the SDK raises. Revisions are left out."""
    match operation:
        case Put(key, value):
            return Written((await kv.put(key, value)).revision)
        case Delete(key):
            done = await kv.delete(key)
            return Deleted(done.revision, int(done.deleted))
        case Increment(key, by):
            return Incremented(0, await kv.increment(key, by))
        case Get(key):
            found = await kv.get(key)
            return Found(0, () if found is None else (_item(found),))
        case Scan(start, end):
            return Found(0, tuple([_item(item) async for item in kv.scan(start, end)]))
        case Transaction() if is_compare_and_set(operation):
            return await _compare_and_set(kv, operation)
        case Transaction():
            return await _transaction(kv, operation)
        case DeleteRange() | Compact():
            raise ValueError(f"no worker asks for {operation}")
        case _:
            assert_never(operation)


async def _compare_and_set(kv: kvorum.AsyncClient, operation: Transaction) -> Outcome:
    ((key, expected),) = operation.expected
    (put,) = operation.success
    assert isinstance(put, Put)
    assert not isinstance(expected, int), "workers expect values"
    try:
        done = await kv.compare_and_set(key, put.value, expected=expected)
    except kvorum.Conflict as conflict:
        items = () if conflict.current is None else (_item(conflict.current),)
        return Decided(0, False, (Found(0, items),))
    return Decided(done.revision, True, (Written(0),))


async def _transaction(kv: kvorum.AsyncClient, operation: Transaction) -> Outcome:
    when = [
        kv.version(key) == 0 if value is None else kv.value(key) == value
        for key, value in operation.expected
    ]
    done = await kv.txn(
        when=when,
        then=[_part(part) for part in operation.success],
        otherwise=[_part(part) for part in operation.failure],
    )
    return Decided(done.revision, done.succeeded, tuple(map(_part_outcome, done.results)))


def _part(part: Part) -> kvorum.Operation:
    match part:
        case Put(key, value):
            return kvorum.Put(key=key, value=value)
        case Delete(key):
            return kvorum.Delete(key=key)
        case Scan(start, end):
            return kvorum.Scan(start=start, end=end)
        case _:
            raise ValueError(f"no worker asks for {part} in a transaction")


def _part_outcome(result: kvorum.OperationResult) -> Outcome:
    match result:
        case kvorum.PutResult():
            return Written(0)
        case kvorum.DeleteResult():
            return Deleted(0, int(result.deleted))
        case kvorum.ScanResult():
            return Found(0, tuple(map(_item, result.items)))
        case _:
            raise ValueError(f"{result} is no answer to what was asked")


def _item(item: kvorum.Item) -> Item:
    return Item(item.key, item.value, item.create_revision, item.mod_revision, item.version)


# --- Working ---


async def work(
    kv: kvorum.AsyncClient,
    workload: Workload,
    file: TextIO,
    progress: Progress,
    stop: asyncio.Event,
) -> None:
    """One operation after the other until told to stop."""
    while not stop.is_set():
        operation = workload.choose(time.monotonic_ns())
        record = await attempt(kv, workload.client, operation)
        _learn(workload, record.outcome)
        progress.count(record)
        file.write(record.line())
        pause_seconds = workload.generator.uniform(*PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_seconds)


async def attempt(kv: kvorum.AsyncClient, client: int, operation: Operation) -> Record:
    """One operation, and what came of it."""
    begin = time.monotonic_ns()
    try:
        outcome = await perform(kv, operation)
    except kvorum.KvorumError as error:
        unknown = isinstance(error, kvorum.UnknownOutcome)
        text = f"{type(error).__name__}: {error}"
        return Record(client, begin, time.monotonic_ns(), operation, None, text, unknown)
    return Record(client, begin, time.monotonic_ns(), operation, outcome)


def _learn(workload: Workload, outcome: Outcome | None) -> None:
    """Remembers what was seen, so that some compare-and-sets succeed."""
    seen = outcome.outcomes if isinstance(outcome, Decided) else (outcome,)
    for part in seen:
        if isinstance(part, Found):
            workload.seen.update((item.key, item.value) for item in part.items)


async def serve(endpoints: str, path: Path, first: int, workers: int, seed: int) -> None:
    """Works until standard input ends."""
    stop, progress = asyncio.Event(), Progress()
    async with kvorum.AsyncClient(endpoints, timeout=TIMEOUT_SECONDS) as kv:
        with path.open("w") as file:
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + workers):
                    workload = Workload(number, random.Random(f"{seed}/{number}"))
                    group.create_task(work(kv, workload, file, progress, stop))
                await _report_until_end_of_input(progress)
                stop.set()
            print(progress.line(), flush=True)


async def _report_until_end_of_input(progress: Progress) -> None:
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    while not ended.done():
        print(progress.line(), flush=True)
        await asyncio.wait({ended}, timeout=REPORT_SECONDS)


if __name__ == "__main__":
    endpoints, file_name, *numbers = sys.argv[1:]
    asyncio.run(serve(endpoints, Path(file_name), *map(int, numbers)))
