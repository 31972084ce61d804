"""The same client without ``await``: derived from AsyncClient, method by method.

A Client owns a thread with an event loop and an AsyncClient in it; each method hands the
coroutine of its namesake to that loop and waits. Nothing is written twice: ``_blocking`` turns
the type of a coroutine method into the type of a blocking one, parameters included, so editors
and type checkers see the same signatures. A test compares the two surfaces.

Many threads may share a Client. It is slower than AsyncClient (two thread switches a call), and a
single thread never has more than one call in flight: use put_many and get_many for bulk.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from kvorum._client import AsyncClient
from kvorum._endpoints import DEFAULT_ENDPOINTS

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    """The blocking form of a coroutine method."""

    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._client, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _iterating(
    method: Callable[Concatenate[AsyncClient, P], AsyncIterator[T]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    """The blocking form of a method that answers an async iterator."""

    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        iterator = method(self._client, *args, **kwargs)
        return self._iterate(iterator)

    functools.update_wrapper(call, method)
    return call


class Client:
    """A blocking client of one cluster, for any number of threads; see AsyncClient for its options.

    Use it as a context manager, or call :meth:`close`: it owns a thread and connections.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = DEFAULT_ENDPOINTS,
        *,
        timeout: float = 5.0,
        cluster_id: bytes | str | None = None,
        sessions: bool = True,
    ) -> None:
        self._client = AsyncClient(
            endpoints, timeout=timeout, cluster_id=cluster_id, sessions=sessions
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="kvorum client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Like AsyncClient.close, and ends the thread; idempotent."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the client's loop and waits; an interrupt cancels it."""
        if self._client._caller.unusable is not None:
            coroutine.close()
            raise self._client._caller.unusable
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> tuple[T, ...]:
            async for item in iterator:
                return (item,)
            return ()

        while found := self._run(following()):
            yield found[0]

    put = _blocking(AsyncClient.put)
    put_many = _blocking(AsyncClient.put_many)
    delete = _blocking(AsyncClient.delete)
    delete_range = _blocking(AsyncClient.delete_range)
    compare_and_set = _blocking(AsyncClient.compare_and_set)
    increment = _blocking(AsyncClient.increment)
    txn = _blocking(AsyncClient.txn)
    get = _blocking(AsyncClient.get)
    get_many = _blocking(AsyncClient.get_many)
    scan = _iterating(AsyncClient.scan)
    count = _blocking(AsyncClient.count)
    backup = _blocking(AsyncClient.backup)
    compact = _blocking(AsyncClient.compact)
    members = _blocking(AsyncClient.members)
    membership = _blocking(AsyncClient.membership)
    add_member = _blocking(AsyncClient.add_member)
    replace_member = _blocking(AsyncClient.replace_member)
    promote_member = _blocking(AsyncClient.promote_member)
    remove_member = _blocking(AsyncClient.remove_member)
    status = _blocking(AsyncClient.status)
    cluster_status = _blocking(AsyncClient.cluster_status)
    compare_states = _blocking(AsyncClient.compare_states)
    transfer_leadership = _blocking(AsyncClient.transfer_leadership)

    value = staticmethod(AsyncClient.value)
    version = staticmethod(AsyncClient.version)
    create_revision = staticmethod(AsyncClient.create_revision)
    mod_revision = staticmethod(AsyncClient.mod_revision)
