"""An expected no.

A refusal is a result like any other: decided from replicated state alone, stored in the session,
sent to the client. Inside the state machine it travels as an exception, because a transaction must
be able to give up in the middle of any operation; ``machine`` turns it into a Result at one place.
Nothing else is ever caught there: any other exception is a bug and stops the node.
"""

from kvorum_proto.command_pb2 import Error, ErrorCode, Result


class Refusal(Exception):
    """A command or query that cannot be done, with its code and one line for people."""

    def __init__(self, code: ErrorCode, message: str, *, oldest_revision: int = 0) -> None:
        super().__init__(message)
        self.error = Error(code=code, message=message, oldest_revision=oldest_revision)

    def result(self) -> Result:
        """The answer that carries this refusal."""
        return Result(error=self.error)


def refused(code: ErrorCode, message: str) -> bytes:
    """An encoded refusal, for those that are always the same and made once."""
    return Refusal(code, message).result().SerializeToString()
