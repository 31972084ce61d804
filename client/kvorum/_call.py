"""One request, from the call of a method to its answer.

A call is *queued* until a link carries it. Each link that has sent it and not heard of it yet is
one of its *carriers*. Three things can end a carrier: the answer (the call is settled), a refusal
that says "this was never appended to the log" (safe to send again, as if it had never been sent),
and a broken stream (nobody knows). The last one makes a write *uncertain* for good: from then on
only an answer to the same (session, sequence) can tell what happened, and without one the caller
gets UnknownOutcome.

What may be sent again after a carrier was lost:

==========================  ================================================================
query                       yes: it changes nothing
command with a session      yes: the group recognises the sequence and repeats its answer
command without a session   no: at most once was asked for, so a lost carrier settles the call
SessionOpen                 yes: a session opened twice costs an idle entry that expires
==========================  ================================================================

A command is encoded once, when it is first sent, because only then it gets its sequence; a
repetition sends the same bytes. An encoded batch of one command joined to another is the encoding
of both, so a frame is made by joining bytes.

No I/O, no clock, no futures here: an answer goes to a :class:`Promise`, which an
``asyncio.Future`` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kvorum._errors import (
    DeadlineExceeded,
    KvorumError,
    Unavailable,
    UnknownOutcome,
    from_wire,
)
from kvorum._results import Decoder
from kvorum_proto import command_pb2 as wire

if TYPE_CHECKING:
    from kvorum._link import Link
    from kvorum._route import Route
    from kvorum._session import Session


class Promise(Protocol):
    """Where an answer goes. ``done`` is true as soon as nobody waits, for whatever reason."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: KvorumError, /) -> None: ...


class Outcome:
    """A promise that remembers: for the dispatcher's own calls, and for tests."""

    __slots__ = ("_done", "error", "result")

    def __init__(self) -> None:
        self._done = False
        self.result: Any = None
        self.error: KvorumError | None = None

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._done

    def set_result(self, result: Any, /) -> None:
        """The answer."""
        assert not self._done, "an outcome is set once"
        self._done, self.result = True, result

    def set_exception(self, exception: KvorumError, /) -> None:
        """The failure."""
        assert not self._done, "an outcome is set once"
        self._done, self.error = True, exception


class Call:
    """What queries and commands have in common. ``deadline`` and ``sent_at`` are seconds."""

    __slots__ = (
        "arm",
        "attempts",
        "carriers",
        "deadline",
        "decode",
        "promise",
        "queued",
        "refusal",
        "route",
        "sent_at",
        "timeout",
    )

    def __init__(
        self,
        route: Route,
        decoder: Decoder[Any],
        promise: Promise,
        deadline: float,
        timeout: float,
    ) -> None:
        self.route = route
        self.arm = decoder.arm
        self.decode = decoder.decode
        self.promise = promise
        self.deadline = deadline
        self.timeout = timeout
        self.carriers: tuple[Link, ...] = ()
        self.sent_at = 0.0
        self.queued = False
        self.attempts = 0
        self.refusal: wire.Error | None = None

    def drop_carrier(self, link: Link) -> None:
        """The link has answered, or broken: it carries the call no longer."""
        self.carriers = tuple(carrier for carrier in self.carriers if carrier is not link)


class QueryCall(Call):
    """A question: repeatable without limit."""

    __slots__ = ("query",)

    repeatable = True

    def __init__(
        self,
        route: Route,
        query: wire.Query,
        decoder: Decoder[Any],
        promise: Promise,
        deadline: float,
        timeout: float,
    ) -> None:
        super().__init__(route, decoder, promise, deadline, timeout)
        self.query = query


class CommandCall(Call):
    """A write. ``encoded`` is empty until it is first sent; ``sequence`` 0 is no session."""

    __slots__ = ("batch", "encoded", "repeatable", "sequence", "session", "uncertain")

    def __init__(
        self,
        route: Route,
        batch: wire.CommandBatch,
        decoder: Decoder[Any],
        promise: Promise,
        deadline: float,
        timeout: float,
    ) -> None:
        super().__init__(route, decoder, promise, deadline, timeout)
        self.batch = batch
        self.encoded = b""
        self.session: Session | None = None
        self.sequence = 0
        self.repeatable = False
        self.uncertain = False

    @property
    def maybe_applied(self) -> bool:
        """Whether a copy is out, or was lost, so that nobody can say that nothing happened."""
        return self.uncertain or bool(self.carriers)

    def encode_with(self, session: Session) -> None:
        """Takes the next sequence of a session. Invariant: a call is numbered before it is sent."""
        assert not self.encoded, "a repetition keeps its number"
        assert not self.carriers, "a call cannot be sent before it has a number"
        submission = self.batch.submissions[0]
        self.session = session
        self.sequence = session.take()
        submission.session = session.identifier
        submission.sequence = self.sequence
        submission.acknowledged_below = session.acknowledged_below
        self.encoded = self.batch.SerializeToString()
        self.repeatable = True

    def encode_alone(self, *, repeatable: bool) -> None:
        """Makes the bytes of a command without a session."""
        assert self.sequence == 0, "the call belongs to a session"
        self.encoded = self.batch.SerializeToString()
        self.repeatable = repeatable

    def leave_session(self) -> None:
        """Nothing of the call was ever appended: it may start again under another session."""
        assert not self.maybe_applied, "a call that may be applied keeps its session"
        self.session = None
        self.sequence = 0
        self.encoded = b""


Request: TypeAlias = CommandCall | QueryCall
"""Every call is one of the two."""


def failure_at_deadline(call: Request, circumstances: str, reachable: bool) -> KvorumError:
    """What a caller is told when the time is over.

    ``circumstances`` is one line about the endpoints; ``reachable`` says whether one of them serves
    the group as far as we know.
    """
    seconds = f"{call.timeout:g} s"
    if isinstance(call, CommandCall) and call.maybe_applied:
        return UnknownOutcome(
            f"{call.arm} was sent and not answered within {seconds}; it may or may not be applied "
            f"({circumstances})"
        )
    refusal = call.refusal
    if refusal is not None:
        error = from_wire(refusal)
        return type(error)(
            f"{call.arm} was refused until its deadline of {seconds}: {error} ({circumstances})"
        )
    if call.carriers or reachable:
        return DeadlineExceeded(
            f"{call.arm} was not answered within {seconds}; nothing was applied ({circumstances})"
        )
    return Unavailable(f"no endpoint could serve {call.arm} within {seconds}: {circumstances}")


def answer_lost(call: Request, reason: str) -> KvorumError:
    """What a caller is told when a write was sent and its answer will never come."""
    return UnknownOutcome(
        f"{call.arm} was sent and its answer is lost ({reason}); it may or may not be applied"
    )
