"""The only module of this library that knows gRPC: a stream of frames, and calls to single nodes.

What gRPC does by default and we must not have:

* reconnecting with a pause that grows to two minutes: each stream gets a channel of its own, whose
  subchannels are not shared; when it breaks, both go, and the dispatcher alone decides when to
  dial;
* half-open connections that nobody notices: keepalive pings while requests are out;
* messages of at most 4 MiB: 8 MiB here, above anything that a node accepts or sends.

Bytes go in and out: messages are encoded and parsed elsewhere. An ``RpcError`` never leaves: what
is raised is :class:`StreamBroken`, one clause that says why, for people.
"""

from collections.abc import AsyncGenerator
from typing import Any, Protocol, cast

import grpc
import grpc.aio

MESSAGE_BYTES_MAX = 8 << 20
CONNECT_MS_MAX = 2000
"""gRPC gives one attempt to connect as long as its smallest pause between two of them."""

_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
    ("grpc.max_reconnect_backoff_ms", CONNECT_MS_MAX),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_retries", 0),
)


_RAW: Any = None
"""In place of a serialiser: bytes stay bytes."""
_BY_WRITE: Any = None
"""In place of an iterator of requests: they come by ``write``."""


class StreamBroken(Exception):
    """A stream ended or could not be opened, a unary call failed; the text says why."""


class _Duplex(Protocol):
    """What we use of grpc.aio's StreamStreamCall."""

    async def read(self) -> object: ...

    async def write(self, request: bytes) -> None: ...

    def cancel(self) -> bool: ...

    async def code(self) -> grpc.StatusCode: ...

    async def details(self) -> str | None: ...


class Stream:
    """One KV.Session stream: frames out, frames in. Close it whatever happens."""

    __slots__ = ("_call", "_channel")

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        method = self._channel.stream_stream("/kvorum.v1.KV/Session", _RAW, _RAW)
        self._call = cast(_Duplex, method(_BY_WRITE))

    async def write(self, frame: bytes) -> None:
        """Sends a frame; waits while the other side's flow control says so."""
        try:
            await self._call.write(frame)
        except grpc.RpcError as error:
            raise StreamBroken(_reason(error)) from None
        except grpc.aio.UsageError:
            raise StreamBroken(await self._end()) from None

    async def read(self) -> bytes:
        """The next frame."""
        try:
            frame = await self._call.read()
        except grpc.RpcError as error:
            raise StreamBroken(_reason(error)) from None
        if isinstance(frame, bytes):
            return frame
        raise StreamBroken(await self._end())

    async def _end(self) -> str:
        code, details = await self._call.code(), await self._call.details()
        return _clause(code, details or "the node ended the stream")

    async def close(self) -> None:
        """Ends the stream and its connection; idempotent."""
        self._call.cancel()
        await self._channel.close(None)


async def request(address: str, method: str, message: bytes, timeout: float) -> bytes:
    """One unary call, for example ``Cluster/Status``."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            call = channel.unary_unary(f"/kvorum.v1.{method}", _RAW, _RAW)
            answer = await call(message, timeout=timeout)
        except grpc.RpcError as error:
            raise StreamBroken(_reason(error)) from None
    return cast(bytes, answer)


async def responses(address: str, method: str, message: bytes) -> AsyncGenerator[bytes, None]:
    """The answers of a call that streams them, for example ``Cluster/Backup``, as they come.

    No more than gRPC's window is on its way while nobody asks for the next one. Close it.
    """
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        call = channel.unary_stream(f"/kvorum.v1.{method}", _RAW, _RAW)(message)
        try:
            async for answer in call:
                yield cast(bytes, answer)
        except grpc.RpcError as error:
            raise StreamBroken(_reason(error)) from None
        finally:
            call.cancel()


def _reason(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return _clause(error.code(), error.details() or "")
    return str(error) or type(error).__name__


def _clause(code: grpc.StatusCode, details: str) -> str:
    """What gRPC reports, in the words of people.

    >>> _clause(grpc.StatusCode.UNAVAILABLE, "failed ...: connect: Connection refused (111)")
    'connection refused'
    """
    for known in ("Connection refused", "Connection reset", "No route to host", "Socket closed"):
        if known in details:
            return known.lower()
    if code is grpc.StatusCode.UNAVAILABLE and "name resolution" in details.lower():
        return "unknown host name"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "did not answer in time"
    line = " ".join(details.split())[:200]
    return f"{line or 'failed'} ({code.name})"
