"""What our handlers need of a gRPC call on the server side; frames are bytes."""

from typing import NoReturn, Protocol

import grpc

from kvorum_server.rpc.pipe import Stream


class ServicerContext(Stream, Protocol):
    """``grpc.aio.ServicerContext`` of a handler without serialisers."""

    async def abort(self, code: grpc.StatusCode, details: str, /) -> NoReturn:
        """Ends the call with a status and one line; never returns."""
        ...
