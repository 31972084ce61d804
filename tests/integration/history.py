"""Clients that write down what they asked and were told, for the checker to judge real processes
too.

The history has the form that the simulator's has; times are nanoseconds of this process's clock,
which all clients share. Keys are judged one by one, since the SDK's answers do not all carry a
revision. An operation that raises is unknown unless its error says that it did nothing.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

from kvorum import AsyncClient, KvorumError, UnknownOutcome
from tests.simulator.linearizability import NEVER, Call, check_keys
from tests.simulator.model import (
    Found,
    Get,
    Increment,
    Incremented,
    Item,
    Operation,
    Outcome,
    Put,
    Written,
)

PAUSE_SECONDS = 0.002


class History:
    """Everything that the clients of one test did."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.acknowledged = 0

    async def record(
        self, client: int, operation: Operation, run: Callable[[], Awaitable[Outcome]]
    ) -> None:
        """Runs an operation and notes what came of it."""
        begin = time.monotonic_ns()
        try:
            outcome = await run()
        except UnknownOutcome:
            self.calls.append(Call(client, begin, NEVER, operation, None))
        except KvorumError:
            return
        else:
            self.calls.append(Call(client, begin, time.monotonic_ns(), operation, outcome))
            self.acknowledged += 1

    def check(self) -> None:
        """Fails unless some order of the operations explains every answer."""
        verdict = check_keys(self.calls)
        assert verdict.linearizable, verdict.explanation or "the search was given up"


async def work(kv: AsyncClient, client: int, history: History, stop: asyncio.Event) -> None:
    """Puts, gets and increments over few keys until told to stop; every value put is unique."""
    randomness = random.Random(client)
    number = 0
    while not stop.is_set():
        number += 1
        key = b"register/%d" % randomness.randrange(4)
        counter = b"counter/%d" % randomness.randrange(2)
        value = b"%d/%d" % (client, number)
        match randomness.randrange(4):
            case 0:
                await history.record(client, Put(key, value), partial(_put, kv, key, value))
            case 1:
                await history.record(client, Increment(counter, 1), partial(_add, kv, counter))
            case _:
                await history.record(client, Get(key), partial(_get, kv, key))
        await asyncio.sleep(PAUSE_SECONDS)


async def _put(kv: AsyncClient, key: bytes, value: bytes) -> Outcome:
    return Written((await kv.put(key, value)).revision)


async def _add(kv: AsyncClient, key: bytes) -> Outcome:
    return Incremented(0, await kv.increment(key))


async def _get(kv: AsyncClient, key: bytes) -> Outcome:
    item = await kv.get(key)
    if item is None:
        return Found(0, ())
    found = Item(item.key, item.value, item.create_revision, item.mod_revision, item.version)
    return Found(item.mod_revision, (found,))
