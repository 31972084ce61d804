"""From a message to its answer: what all methods of AsyncClient share.

A Caller is the life of a client (not started, running on one event loop, closed, inherited
through a fork) and the few ways to make a call: start it, wait for it, wait for many. Waiting is
cancellable anywhere; a call whose caller went away is given up, and the session forgets it with
its next command.

Fork: streams and threads of gRPC do not cross into a child process, where every use would hang. A
hook that runs in the child marks all clients, so a client that crossed says what is wrong.
"""

import asyncio
import os
import random
import weakref
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

from kvorum._call import CommandCall, QueryCall, Request
from kvorum._dispatch import Dispatcher
from kvorum._errors import ClientClosed
from kvorum._pump import Pump
from kvorum._results import Decoder
from kvorum._route import Route
from kvorum._routing import RoutingTable
from kvorum_proto.command_pb2 import CommandBatch, Query

T = TypeVar("T")
Pending: TypeAlias = tuple[Request, asyncio.Future[T]]
"""A call on its way, and where its answer will be."""


class Caller:
    """Makes calls. ``timeout`` is the deadline in seconds of those that bring none."""

    def __init__(
        self, addresses: Sequence[str], *, timeout: float, cluster_id: bytes, sessions: bool
    ) -> None:
        self.timeout = timeout
        self.dispatcher = Dispatcher(
            addresses, jitter=random.random, cluster_id=cluster_id, sessions=sessions
        )
        self.unusable: ClientClosed | None = None
        self._pump: Pump | None = None
        self._inherited: Pump | None = None
        _callers.add(self)

    # --- Life ---

    def pump(self) -> Pump:
        """The running pump; made by the first call. Raises ClientClosed."""
        pump = self._pump
        if pump is None:
            if self.unusable is not None:
                raise self.unusable
            pump = self._pump = Pump(self.dispatcher)
        return pump

    async def close(self) -> None:
        """Ends everything; idempotent."""
        pump, self._pump = self._pump, None
        if self.unusable is None:
            self.unusable = ClientClosed("the client is closed; make a new one")
        if pump is not None:
            await pump.close(self.unusable)

    def become_inherited(self) -> None:
        """This process is a child: the pump's streams stayed in the parent. Kept, never used."""
        self.unusable = ClientClosed(
            "this client was made before a fork, in another process; make a new one in the child"
        )
        self._inherited, self._pump = self._pump, None

    # --- Calls ---

    async def table(self, purpose: str, timeout: float | None) -> RoutingTable:
        """The partition table; the first callers wait for the first hello of any node."""
        table = self.dispatcher.table
        if table is None:
            contact: Decoder[None] = Decoder(purpose, lambda result: None)
            await self.query(self.dispatcher.contact, Query(), contact, timeout)
            table = self.dispatcher.table
            assert table is not None, "contact means a table"
        return table

    def route(self, table: RoutingTable, key: bytes, *, stale: bool = False) -> Route:
        """The route to the group of a key."""
        return self.dispatcher.route(table.group_of(key), any_replica=stale)

    def start_command(
        self, route: Route, batch: CommandBatch, decoder: Decoder[T], timeout: float | None
    ) -> Pending[T]:
        """Queues a command; it leaves at the end of this loop pass."""
        return self._start(route, batch, decoder, timeout, idempotent=False)

    def start_idempotent(
        self, route: Route, batch: CommandBatch, decoder: Decoder[T], timeout: float | None
    ) -> Pending[T]:
        """Queues a command that may be applied twice: it needs no session to be sent again."""
        return self._start(route, batch, decoder, timeout, idempotent=True)

    def _start(
        self,
        route: Route,
        batch: CommandBatch,
        decoder: Decoder[T],
        timeout: float | None,
        *,
        idempotent: bool,
    ) -> Pending[T]:
        pump = self.pump()
        if timeout is None:
            timeout = self.timeout
        future: asyncio.Future[T] = pump.loop.create_future()
        call = CommandCall(route, batch, decoder, future, pump.loop.time() + timeout, timeout)
        if idempotent:
            call.encode_alone(repeatable=True)
        pump.submit(call)
        return call, future

    def start_query(
        self, route: Route, query: Query, decoder: Decoder[T], timeout: float | None
    ) -> Pending[T]:
        """Queues a query; it leaves at the end of this loop pass."""
        pump = self.pump()
        if timeout is None:
            timeout = self.timeout
        future: asyncio.Future[T] = pump.loop.create_future()
        call = QueryCall(route, query, decoder, future, pump.loop.time() + timeout, timeout)
        pump.submit(call)
        return call, future

    async def finish(self, pending: Pending[T]) -> T:
        """Waits for one call."""
        call, future = pending
        try:
            return await future
        except asyncio.CancelledError:
            self.dispatcher.give_up(call)
            raise

    async def finish_all(self, calls: Sequence[Pending[T]]) -> list[T]:
        """Waits for all calls; raises the first error, in their order, when all have ended."""
        try:
            if calls:
                await asyncio.wait([future for _, future in calls])
        finally:
            for call, future in calls:
                if future.cancel():
                    self.dispatcher.give_up(call)
        errors = [error for _, future in calls if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for _, future in calls]

    async def command(
        self, route: Route, batch: CommandBatch, decoder: Decoder[T], timeout: float | None
    ) -> T:
        """One command to a route, and its answer."""
        return await self.finish(self.start_command(route, batch, decoder, timeout))

    async def query(
        self, route: Route, query: Query, decoder: Decoder[T], timeout: float | None
    ) -> T:
        """One query to a route, and its answer."""
        return await self.finish(self.start_query(route, query, decoder, timeout))

    async def command_on(
        self, key: bytes, batch: CommandBatch, decoder: Decoder[T], timeout: float | None
    ) -> T:
        """One command to the group of a key, and its answer."""
        table = self.dispatcher.table
        if table is None:
            table = await self.table(decoder.arm, timeout)
        route = self.dispatcher.route(table.group_of(key))
        return await self.finish(self.start_command(route, batch, decoder, timeout))


_callers: "weakref.WeakSet[Caller]" = weakref.WeakSet()


def _after_fork() -> None:
    for caller in list(_callers):
        caller.become_inherited()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
