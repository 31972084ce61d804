"""Clients that write down what they asked and were told, so that the checker can judge real processes too.

The history has the same form as in the simulator; times are nanoseconds of this process's clock, which
all clients share. An operation that raises is unknown unless its error says that it did nothing.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from kvorum import AsyncClient, KvorumError, UnknownOutcome
from tests.simulator.linearizability import NEVER, Call, check_history
from tests.simulator.model import Found, Get, Incremented, Increment, Item, Operation, Outcome
from tests.simulator.model import Put, Written


class History:
    """Everything that the clients of one test did."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.acknowledged: dict[bytes, bytes] = {}
        self._clients = 0

    def new_client(self) -> int:
        """A number for one more client."""
        self._clients += 1
        return self._clients

    async def record(
        self, client: int, operation: Operation, run: Callable[[], Awaitable[Outcome]]
    ) -> Outcome | None:
        """Runs an operation and notes it; None when its outcome is unknown or nothing was done."""
        begin = time.monotonic_ns()
        try:
            outcome = await run()
        except UnknownOutcome:
            self.calls.append(Call(client, begin, NEVER, operation, None))
            return None
        except KvorumError:
            return None
        self.calls.append(Call(client, begin, time.monotonic_ns(), operation, outcome))
        return outcome

    def check(self) -> None:
        """Fails unless some order of the operations explains every answer."""
        verdict = check_history(self.calls)
        assert verdict.linearizable is not False, verdict.explanation


async def put(kv: AsyncClient, key: bytes, value: bytes) -> Outcome:
    """A put, as the model sees it. Revisions are left out: keys are judged one by one."""
    return Written((await kv.put(key, value)).revision)


async def get(kv: AsyncClient, key: bytes) -> Outcome:
    """A get, as the model sees it."""
    item = await kv.get(key)
    if item is None:
        return Found(0, ())
    found = Item(item.key, item.value, item.create_revision, item.mod_revision, item.version)
    return Found(item.mod_revision, (found,))


async def increment(kv: AsyncClient, key: bytes) -> Outcome:
    """An increment by one, as the model sees it."""
    return Incremented(0, await kv.increment(key))
