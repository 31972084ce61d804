"""The client process: ``python -m tests.bench.client SYSTEM ENDPOINTS``, one job a line, JSON.

Each system under test gets such a process, with uvloop and the same loop of ``load``; only the
connection differs. It is started by the interpreter in which the system's client library is
installed. A job read from standard input is done and its measurement written to standard output;
at end of file the process ends. Standard input is read in a thread, so that the connection stays
alive while the other system has its turn.
"""

import asyncio
import importlib
import sys
from typing import Protocol, cast

import uvloop

from tests.bench.load import Connection, Job, run


class EtcdClient(Protocol):
    """The part of aetcd, which has no types of its own, that is used here."""

    async def put(self, key: bytes, value: bytes, /) -> object: ...

    async def get(self, key: bytes, /) -> object: ...

    async def close(self) -> None: ...


class EtcdConnection:
    """aetcd on the leader: a follower would only add a hop."""

    def __init__(self, endpoint: str) -> None:
        aetcd = importlib.import_module("aetcd")
        host, _, port = endpoint.rpartition(":")
        self._client = cast(EtcdClient, aetcd.Client(host=host, port=int(port), timeout=30))
        self.passing: tuple[type[Exception], ...] = (aetcd.ClientError, TimeoutError)
        self.put, self.get = self._client.put, self._client.get

    async def put_many(self, items: dict[bytes, bytes], /) -> object:
        return await asyncio.gather(*(self.put(key, value) for key, value in items.items()))

    async def close(self) -> None:
        await self._client.close()


class KvorumConnection:
    """One AsyncClient with all its defaults, sessions among them, but patient."""

    def __init__(self, endpoints: str) -> None:
        import kvorum

        self._client = kvorum.AsyncClient(endpoints, timeout=30)
        self.passing: tuple[type[Exception], ...] = (
            kvorum.Unavailable,
            kvorum.DeadlineExceeded,
            kvorum.UnknownOutcome,
        )
        self.put, self.get = self._client.put, self._client.get

    async def put_many(self, items: dict[bytes, bytes], /) -> object:
        return await self._client.put_many(items)

    async def close(self) -> None:
        await self._client.close()


def connect(system: str, endpoints: str) -> Connection:
    """The connection of a system that is named on the command line."""
    match system:
        case "kvorum":
            return KvorumConnection(endpoints)
        case "etcd":
            return EtcdConnection(endpoints)
    raise ValueError(f"{system} is no system")


async def serve(system: str, endpoints: str) -> None:
    """Does one job after the other until there are no more."""
    connection = connect(system, endpoints)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            measurement = await run(connection, Job.of(line))
            sys.stdout.buffer.write(measurement.line())
            sys.stdout.buffer.flush()
    finally:
        await connection.close()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
