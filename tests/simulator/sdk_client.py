"""A client that is the product's own library: its dispatcher, in virtual time.

Everything that the library decides (which node, when again, under which session and sequence, what
a caller is told) is decided here by the very ``Dispatcher`` that runs in production, with its
routes, links, sessions and directory; ``_scan`` reads ranges page by page. This module is another
shell for it, in the place of ``_pump``: it opens streams (``streams.py``) when the dispatcher asks
for them, carries frames, and tells the time.

On top of it work callers who do what callers do: they wait for one call, page through a scan, loop
over a long deletion, give up in the middle of anything, set short deadlines, and close the client
to go on with a new one.

What the library promises is taken at its word. A call that failed with UnknownOutcome goes into the
history as unknown; a call that failed with any other error that does not come from the state
machine was *not applied*, says the library, and is left out of the history: if the log has it, the
judge finds an effect that belongs to nobody.
"""

import random
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field

from kvorum import _scan
from kvorum._call import CommandCall, QueryCall, Request
from kvorum._dispatch import Dispatcher
from kvorum._errors import (
    ClientClosed,
    Compacted,
    FutureRevision,
    KvorumError,
    NotAnInteger,
    OutOfBounds,
    UnknownOutcome,
)
from kvorum._link import Link, LinkState
from kvorum._results import RANGE, SESSION_CLOSE, Decoder
from kvorum._types import Item, ScanResult
from kvorum_proto import command_pb2
from kvorum_proto.command_pb2 import CommandBatch, Query, Result
from kvorum_proto.kv_pb2 import ClientFrame, ClientHello, ServerFrame
from tests.simulator.client import KEY_GROUP, Surroundings
from tests.simulator.linearizability import NEVER, Call
from tests.simulator.model import DeleteRange, Get, Operation, Outcome, Refused, Scan
from tests.simulator.scheduler import MILLISECOND, SECOND
from tests.simulator.serving import ClientBytes
from tests.simulator.streams import Stream, StreamFrame
from tests.simulator.translation import (
    UnexpectedAnswer,
    operation_of_query,
    outcome_of,
    query_of,
    submission_of,
)

WIRE_VERSION = 1
OPENING = 2 * SECOND
KEEPALIVE = 1 * SECOND
PATIENT_SECONDS = 30.0

REFUSALS: dict[type[KvorumError], int] = {
    Compacted: command_pb2.COMPACTED,
    FutureRevision: command_pb2.FUTURE_REVISION,
    NotAnInteger: command_pb2.NOT_AN_INTEGER,
    OutOfBounds: command_pb2.OUT_OF_BOUNDS,
}
"""Errors that are answers of the state machine: they have a place in the history."""


class Answer:
    """Where the answer of one call goes (a ``Promise``), and what a caller waits for."""

    __slots__ = ("_done", "_settled", "error", "result")

    def __init__(self, settled: "Callable[[Answer], None]") -> None:
        self._done = False
        self._settled = settled
        self.result: Result | None = None
        self.error: KvorumError | None = None

    def done(self) -> bool:
        """Whether nobody waits any more, for whatever reason."""
        return self._done

    def set_result(self, result: Result, /) -> None:
        """The answer."""
        assert not self._done, "an answer comes once"
        self._done, self.result = True, result
        self._settled(self)

    def set_exception(self, exception: KvorumError, /) -> None:
        """The failure."""
        assert not self._done, "an answer comes once"
        self._done, self.error = True, exception
        self._settled(self)

    def cancel(self) -> None:
        """Nobody waits any more."""
        assert not self._done, "what is done cannot be cancelled"
        self._done = True

    def __await__(self) -> "Generator[Answer, None, Result]":
        while not self._done:
            yield self
        if self.error is not None:
            raise self.error
        assert self.result is not None, "a caller goes on when there is an answer"
        return self.result


Procedure = Coroutine[Answer, None, None]
"""What a caller does; it waits for answers and for nothing else."""


@dataclass(slots=True)
class Errand:
    """A call on its way, and who waits for it."""

    call: Request
    operation: Operation
    begin: int
    staleness: int | None
    reverse: bool
    caller: int


def _as_it_is(result: Result) -> Result:
    return result


@dataclass(slots=True)
class SdkClient:
    """See the module's text. Callers are numbered."""

    endpoint: int
    around: Surroundings
    generator: random.Random
    reads: float
    budget: int = 0
    completed: int = 0
    unknown: int = 0
    patient: bool = False
    denied: int = 0
    """Calls of which the library said that they were not applied."""
    _dispatcher: Dispatcher = field(init=False)
    _streams: dict[int, Stream] = field(default_factory=dict)
    _stream_of: dict[Link, Stream] = field(default_factory=dict)
    _last_stream: int = 0
    _callers: dict[int, Procedure] = field(default_factory=dict)
    _last_caller: int = 0
    _errands: dict[Answer, Errand] = field(default_factory=dict)
    _closing: bool = False
    _pump_planned: bool = False
    _wake_at: int = 0
    _impatience: float = 0.0
    _seconds: float = 0.0
    _closes: float = 0.0
    _without_sessions: bool = False

    def __post_init__(self) -> None:
        """Every client has habits of its own."""
        choice = self.generator.choice
        self._impatience = choice((0.0, 0.0, 0.05, 0.3))
        self._seconds = choice((0.1, 0.5, 3.0))
        self._closes = choice((0.0, 0.0, 0.02))
        self._without_sessions = self._chance(self.around.options.without_session * 2)
        self._make_dispatcher()

    def _make_dispatcher(self) -> None:
        addresses = list(self.around.nodes)
        known = self.generator.sample(addresses, self.generator.randrange(1, len(addresses) + 1))
        self._dispatcher = Dispatcher(
            known, jitter=self.generator.random, sessions=not self._without_sessions
        )

    # --- What the cluster knows of a client ---

    def start(self) -> None:
        """Begins to work."""
        self._think()

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way and nothing is left to start."""
        return self.budget == 0 and not self._callers and not self._errands and not self._closing

    def describe(self) -> str:
        """What the client waits for."""
        return (
            f"{self.budget} to start, {[errand.operation for errand in self._errands.values()]}; "
            f"{self._dispatcher.describe()}"
        )

    def receive(self, source: int, frame: ClientBytes) -> None:
        """A frame of a stream; one of a stream that is gone is told so."""
        assert isinstance(frame, StreamFrame), "this client opens streams"
        stream = self._streams.get(frame.stream)
        if stream is not None:
            stream.receive(frame)
        elif not frame.reset:
            reset = StreamFrame(frame.stream, 0, 0, reset=True)
            self.around.network.send(self.endpoint, source, reset)

    # --- Callers ---

    def _now(self) -> float:
        return self.around.scheduler.now / SECOND

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self.generator.random() < probability

    def _think(self) -> None:
        delay = int(self.generator.expovariate(1 / self.around.options.think_mean))
        self.around.scheduler.after(delay, self._work)

    def _work(self) -> None:
        for _ in range(self.generator.randrange(1, self.around.options.in_flight + 1)):
            room = len(self._callers) < self.around.options.in_flight
            if self.budget > 0 and room and not self._closing:
                self.budget -= 1
                self._call(*self.around.workload.choose(self.reads))
        if not self.patient and not self._closing and self._chance(self._closes):
            self._close()
        self._think()

    def _call(self, operation: Operation, staleness: int | None) -> None:
        """A caller begins, and may lose patience at any later moment."""
        self._last_caller += 1
        caller = self._last_caller
        match operation:
            case Scan():
                procedure = self._scan(caller, operation, staleness)
            case Get():
                procedure = self._get_many(caller, operation, staleness)
            case DeleteRange():
                procedure = self._delete_range(caller, operation)
            case _:
                procedure = self._write(caller, operation)
        self._callers[caller] = procedure
        self._go_on(caller)
        if not self.patient and self._chance(self._impatience):
            delay = int(self.generator.expovariate(1 / (20 * MILLISECOND)))
            self.around.scheduler.after(delay, lambda: self._cancel(caller))

    def _go_on(self, caller: int) -> None:
        procedure = self._callers.get(caller)
        if procedure is None:
            return
        try:
            procedure.send(None)
        except StopIteration:
            del self._callers[caller]
        except KvorumError:
            # What the error means for the history was written down when it came.
            del self._callers[caller]

    def _cancel(self, caller: int) -> None:
        """As when a task is cancelled: whatever its calls wait for, nobody wants it any more."""
        procedure = self._callers.pop(caller, None)
        if procedure is None:
            return
        for answer, errand in list(self._errands.items()):
            if errand.caller == caller:
                del self._errands[answer]
                answer.cancel()
                maybe = isinstance(errand.call, CommandCall) and errand.call.maybe_applied
                self._dispatcher.give_up(errand.call)
                if maybe:
                    self._record(errand, None)
        procedure.close()
        self._pump_soon()

    async def _write(self, caller: int, operation: Operation) -> None:
        await self._command(caller, operation)

    async def _delete_range(self, caller: int, operation: DeleteRange) -> None:
        """Step by step, as ``AsyncClient.delete_range``."""
        start = operation.start
        while start:
            step = DeleteRange(start, operation.end, operation.limit)
            start = (await self._command(caller, step)).delete_range.next_key

    async def _get_many(self, caller: int, get: Get, staleness: int | None) -> None:
        """One key, or several at once, each read for itself."""
        keys = [get.key]
        if self._chance(0.2):
            keys += [b"key%d" % number for number in range(self.around.options.keys)]
        answers = [
            self._query(caller, query_of(Get(key, get.revision)), staleness, reverse=False)
            for key in keys
        ]
        for answer in answers:
            await answer

    async def _scan(self, caller: int, scan: Scan, staleness: int | None) -> None:
        """All pages, merged as for the callers of ``AsyncClient.scan``."""
        query = query_of(scan)
        query.range.limit = self.generator.choice((1, 3, 1000))
        query.range.reverse = self._chance(0.3)

        async def read_page(group: int, page: Query) -> ScanResult:
            answer = self._query(caller, page, staleness, reverse=page.range.reverse)
            return RANGE.decode(await answer)

        found: list[Item] = []
        async for item in _scan.items(read_page, (KEY_GROUP,), query, 0):
            found.append(item)
        keys = [item.key for item in found]
        if keys != sorted(set(keys), reverse=query.range.reverse):
            raise UnexpectedAnswer(f"{scan} was answered {keys}")

    # --- Calls ---

    def _command(self, caller: int, operation: Operation) -> Answer:
        batch = CommandBatch()
        submission = submission_of(operation)
        batch.submissions.append(submission)
        decoder = Decoder(submission.WhichOneof("command") or "", _as_it_is)
        answer, seconds = Answer(self._settled), self._timeout()
        route = self._dispatcher.route(KEY_GROUP)
        call = CommandCall(route, batch, decoder, answer, self._now() + seconds, seconds)
        self._submit(answer, Errand(call, operation, self._instant(), None, False, caller))
        return answer

    def _query(self, caller: int, query: Query, staleness: int | None, *, reverse: bool) -> Answer:
        if staleness is not None:
            query.consistency = Query.STALE
            query.staleness_ms_max = staleness // MILLISECOND
        decoder = Decoder(query.WhichOneof("query") or "", _as_it_is)
        answer, seconds = Answer(self._settled), self._timeout()
        route = self._dispatcher.route(KEY_GROUP, any_replica=staleness is not None)
        call = QueryCall(route, query, decoder, answer, self._now() + seconds, seconds)
        operation = operation_of_query(query)
        self._submit(answer, Errand(call, operation, self._instant(), staleness, reverse, caller))
        return answer

    def _instant(self) -> int:
        return self.around.scheduler.now

    def _timeout(self) -> float:
        return PATIENT_SECONDS if self.patient else self._seconds * self.generator.uniform(0.3, 2)

    def _submit(self, answer: Answer, errand: Errand) -> None:
        self._errands[answer] = errand
        self._dispatcher.submit(errand.call)
        self._pump_soon()

    def _settled(self, answer: Answer) -> None:
        errand = self._errands.pop(answer, None)
        if errand is None:
            return
        if answer.result is not None:
            errand.operation, outcome = outcome_of(
                errand.operation, answer.result, reverse=errand.reverse
            )
            self._record(errand, outcome)
            self.around.scheduler.after(0, lambda: self._go_on(errand.caller))
            return
        error = answer.error
        assert error is not None, "settled with an answer or an error"
        code = REFUSALS.get(type(error))
        if code is not None:
            self._record(errand, Refused(code))
        elif isinstance(error, UnknownOutcome):
            self._record(errand, None)
        else:
            self.denied += 1
            self.budget += self.patient
        self.around.scheduler.after(0, lambda: self._go_on(errand.caller))

    def _record(self, errand: Errand, outcome: Outcome | None) -> None:
        call = errand.call if isinstance(errand.call, CommandCall) else None
        if outcome is None:
            self.unknown += 1
        else:
            self.completed += 1
        self.around.record(
            Call(
                client=self.endpoint,
                begin=errand.begin,
                end=NEVER if outcome is None else self._instant(),
                operation=errand.operation,
                outcome=outcome,
                session=call.session.identifier if call and call.session else 0,
                sequence=call.sequence if call else 0,
                staleness=errand.staleness,
            )
        )

    # --- The shell of the dispatcher ---

    def _pump_soon(self) -> None:
        if not self._pump_planned:
            self._pump_planned = True
            self.around.scheduler.after(0, self._pump)

    def _pump(self) -> None:
        """Sends what may leave, dials whom the dispatcher wants, sets the timer."""
        self._pump_planned = False
        for link, frame in self._dispatcher.flush(self._now()):
            self._stream_of[link].send(frame)
        for link in self._dispatcher.links_to_open():
            self._dial(link)
        wake = self._dispatcher.wake_at()
        if wake is None:
            return
        now = self._instant()
        at = max(int(wake * SECOND) + 1, now + MILLISECOND)
        if not now < self._wake_at <= at:
            self._wake_at = at
            self.around.scheduler.after(at - now, self._wake)

    def _wake(self) -> None:
        self._dispatcher.tick(self._now())
        self._pump_soon()

    def _dial(self, link: Link) -> None:
        """Opens a stream: a hello there, a hello back, or the link is broken."""
        self._last_stream += 1
        node = self.around.nodes[link.address]
        dispatcher = self._dispatcher
        stream = Stream(
            number=self._last_stream,
            scheduler=self.around.scheduler,
            transmit=lambda frame: self.around.network.send(self.endpoint, node, frame),
            deliver=lambda data: self._deliver(link, data, node),
            broken=lambda reason: self._hang_up(dispatcher, link, stream, reason),
        )
        self._streams[stream.number] = self._stream_of[link] = stream
        stream.send(ClientFrame(hello=ClientHello(wire_version=WIRE_VERSION)).SerializeToString())
        scheduler = self.around.scheduler

        def give_up_opening() -> None:
            if stream.stands and link.state is LinkState.OPENING:
                stream.close()
                self._hang_up(dispatcher, link, stream, "did not say hello in time")

        def keep_alive() -> None:
            if stream.stands:
                if link.in_flight:
                    stream.send(b"")
                scheduler.after(KEEPALIVE, keep_alive)

        scheduler.after(OPENING, give_up_opening)
        scheduler.after(KEEPALIVE, keep_alive)

    def _deliver(self, link: Link, data: bytes, node: int) -> None:
        frame = ServerFrame.FromString(data)
        if link.state is LinkState.OPENING:
            if self.around.nodes[link.address] == node:
                reason = self._dispatcher.opened(link, frame.hello, self._now())
            else:
                reason = "gave its address away meanwhile"
            if reason:
                stream = self._stream_of[link]
                stream.close()
                self._hang_up(self._dispatcher, link, stream, reason)
        else:
            self._dispatcher.received(link, frame, self._now())
        self._pump_soon()

    def _hang_up(self, dispatcher: Dispatcher, link: Link, stream: Stream, reason: str) -> None:
        del self._streams[stream.number]
        del self._stream_of[link]
        if link.state in (LinkState.OPENING, LinkState.READY):
            dispatcher.broken(link, reason, self._now())
        self._pump_soon()

    def _close(self) -> None:
        """Says goodbye to the sessions, waits a little, ends everything; then a new client."""
        self._closing = True
        deadline = self._now() + 0.5
        for route, session in self._dispatcher.open_sessions():
            batch = CommandBatch()
            batch.submissions.add().session_close.session = session.identifier
            answer = Answer(self._settled)
            call = CommandCall(route, batch, SESSION_CLOSE, answer, deadline, 0.5)
            call.encode_alone(repeatable=True)
            self._dispatcher.submit(call)
        self._pump_soon()
        self.around.scheduler.after(self.generator.randrange(SECOND // 2), self._begin_anew)

    def _begin_anew(self) -> None:
        self.around.trace.note(f"c{self.endpoint}", "closed; a new one begins")
        self._dispatcher.abandon(ClientClosed("the client is closed; make a new one"))
        for stream in list(self._streams.values()):
            stream.close()
        self._streams.clear()
        self._stream_of.clear()
        self._make_dispatcher()
        self._closing = False
