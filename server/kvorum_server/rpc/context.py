"""What our handlers need of a gRPC call on the server side; frames are bytes."""

import asyncio
from typing import NoReturn, Protocol

import grpc
import grpc.aio

from kvorum_server.rpc.pipe import Stream

STREAM_ERRORS = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""What gRPC raises where a stream ends under somebody who reads or writes; all else is a bug."""


class ServicerContext(Stream, Protocol):
    """``grpc.aio.ServicerContext`` of a handler without serialisers."""

    async def abort(self, code: grpc.StatusCode, details: str, /) -> NoReturn:
        """Ends the call with a status and one line; never returns."""
        ...
