"""Clients of the simulated cluster: they ask, wait, ask again, and write down what they were told.

There are two kinds. ``sdk_client.py`` runs the product's own library. The one here is made for
what that library never does: it knows no streams, so its frames are lost, repeated and overtaken
one by one, it sends the same command to several nodes at once, and it does not wait.

It follows the rules that every client has to follow (exactly-once sessions): one session, dense
sequences, the same sequence again after a lost answer, nothing beyond the window. What it was never
told goes into the history with an unknown outcome: a request that it gave up, one without a session
that got no answer, and all unanswered requests of a session that expired.

A client is driven by the scheduler alone. It sends ``ClientFrame`` bytes and gets ``ServerFrame``
bytes, the same that travel over gRPC; one frame carries everything that was started at one instant.
"""

import random
from dataclasses import dataclass, field
from typing import Protocol

from kvorum_proto import command_pb2, kv_pb2
from kvorum_server.types import Envelope
from tests.simulator.linearizability import NEVER, Call
from tests.simulator.model import Get, Operation, Outcome, Scan, revision_of
from tests.simulator.network import Network
from tests.simulator.options import Options
from tests.simulator.scheduler import MILLISECOND, Scheduler
from tests.simulator.serving import ClientBytes
from tests.simulator.trace import Trace
from tests.simulator.translation import UnexpectedAnswer, outcome_of, query_of, submission_of
from tests.simulator.workload import Workload

Frame = ClientBytes | tuple[Envelope, ...]
"""What the network carries: bytes, or the envelopes themselves where the codec is skipped."""

KEY_GROUP = 1

NEVER_APPENDED = frozenset(
    (
        command_pb2.NOT_LEADER,
        command_pb2.BUSY,
        command_pb2.UNAVAILABLE,
        command_pb2.WRONG_GROUP,
        command_pb2.DISK_FULL,
        command_pb2.TOO_STALE,
    )
)
"""The node refused; nothing was logged."""


class Asker(Protocol):
    """What the cluster and the nemesis know of a client."""

    endpoint: int
    reads: float
    """How many of its operations are reads. One that only reads is never stuck with a write."""
    budget: int
    """Operations that may still be started."""
    completed: int
    unknown: int
    patient: bool
    """The quiet phase: nothing is given up any more."""

    def start(self) -> None:
        """Begins to work."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way and nothing is left to start."""
        ...

    def describe(self) -> str:
        """What the client waits for."""
        ...

    def receive(self, source: int, frame: ClientBytes) -> None:
        """Something of a node has arrived."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all clients of a run share. ``history`` gets a Call for each operation that ended,
    ``nodes`` tells the endpoint of an address.
    """

    options: Options
    scheduler: Scheduler
    network: Network[Frame]
    nodes: dict[str, int]
    workload: Workload
    history: list[Call]
    trace: Trace

    def record(self, call: Call) -> None:
        """An operation has ended."""
        self.history.append(call)
        if call.outcome is not None:
            self.workload.heard(revision_of(call.outcome) or 0)


@dataclass(slots=True)
class Request:
    """One operation on its way. ``sequence`` 0: outside of the session."""

    number: int
    operation: Operation | None
    """None: opens or closes the session."""
    submission: command_pb2.Submission | None
    """None: a read."""
    begin: int
    staleness: int | None = None
    attempts: int = 0


@dataclass(slots=True)
class Client:
    """See the module's text."""

    endpoint: int
    around: Surroundings
    generator: random.Random
    reads: float
    budget: int = 0
    completed: int = 0
    unknown: int = 0
    patient: bool = False
    target: int = 0
    session: int = 0
    opening: Request | None = None
    next_sequence: int = 1
    next_number: int = 1
    requests: dict[int, Request] = field(default_factory=dict)
    waiting: list[Request] = field(default_factory=list)
    """Requests that need a session which is not open yet."""
    outgoing: list[Request] = field(default_factory=list)

    def start(self) -> None:
        """Begins to work."""
        self.target = self._any_node()
        self._think()

    def _any_node(self) -> int:
        return self.generator.choice(list(self.around.nodes.values()))

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way and nothing is left to start."""
        return self.budget == 0 and not self.requests and not self.waiting

    def describe(self) -> str:
        """What the client waits for."""
        return (
            f"{self.budget} to start, {self.waiting} for a session, {list(self.requests.values())}"
        )

    # --- Starting operations ---

    def _think(self) -> None:
        delay = int(self.generator.expovariate(1 / self.around.options.think_mean))
        self.around.scheduler.after(delay, self._work)

    def _work(self) -> None:
        burst = self.generator.randrange(1, self.around.options.in_flight + 1)
        for _ in range(burst):
            in_flight = len(self.requests) + len(self.waiting)
            if self.budget > 0 and in_flight < self.around.options.in_flight:
                self.budget -= 1
                self._begin(*self.around.workload.choose(self.reads))
        if not self.patient and not self.requests and self.session and self._chance(0.01):
            self._close_session()
        self._think()

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self.generator.random() < probability

    def _begin(self, operation: Operation, staleness: int | None) -> None:
        now = self.around.scheduler.now
        if isinstance(operation, Get | Scan):
            self._send(self._register(Request(0, operation, None, now, staleness)))
            return
        request = Request(0, operation, submission_of(operation), now)
        if self._chance(self.around.options.without_session):
            self._send(self._register(request))
        else:
            self.waiting.append(request)
            self._send_waiting()

    def _register(self, request: Request) -> Request:
        request.number = self.next_number
        self.next_number += 1
        self.requests[request.number] = request
        return request

    # --- The session ---

    def _send_waiting(self) -> None:
        """Gives out sequences as far as the window allows; opens a session if there is none."""
        if not self.waiting:
            return
        if not self.session:
            if self.opening is None:
                body = command_pb2.Submission(session_open=command_pb2.SessionOpen())
                self.opening = self._register(Request(0, None, body, self.around.scheduler.now))
                self._send(self.opening)
            return
        while self.waiting and self._window_has_room():
            request = self.waiting.pop(0)
            assert request.submission is not None
            request.submission.session = self.session
            request.submission.sequence = self.next_sequence
            self.next_sequence += 1
            self._send(self._register(request))

    def _window_has_room(self) -> bool:
        return (
            self.next_sequence
            < self._acknowledged_below() + self.around.options.config.session_window
        )

    def _acknowledged_below(self) -> int:
        unanswered = [
            request.submission.sequence
            for request in self.requests.values()
            if request.submission is not None and request.submission.session
        ]
        return min(unanswered, default=self.next_sequence)

    def _close_session(self) -> None:
        body = command_pb2.Submission(session_close=command_pb2.SessionClose(session=self.session))
        self._send(self._register(Request(0, None, body, self.around.scheduler.now)))
        self._forget_session()

    def _forget_session(self) -> None:
        self.session = 0
        self.next_sequence = 1

    def _session_expired(self, session: int) -> None:
        """What was sent in the session and not answered may have been applied or not."""
        if session != self.session:
            return
        self.around.trace.note(f"c{self.endpoint}", f"session {session} expired")
        self._forget_session()
        for request in list(self.requests.values()):
            if request.submission is not None and request.submission.session == session:
                self._end(request, None)

    # --- Sending ---

    def _send(self, request: Request) -> None:
        if not self.outgoing:
            self.around.scheduler.after(0, self._flush)
        self.outgoing.append(request)
        request.attempts += 1
        attempt = request.attempts
        timeout = int(self.around.options.timeout * self.generator.uniform(0.7, 1.5))
        self.around.scheduler.after(timeout, lambda: self._timed_out(request, attempt))

    def _flush(self) -> None:
        requests = [request for request in self.outgoing if request.number in self.requests]
        self.outgoing = []
        frame = kv_pb2.ClientFrame()
        repeatable = True
        proposal = kv_pb2.Proposal(group=KEY_GROUP)
        inquiry = kv_pb2.Inquiry(group=KEY_GROUP)
        batch = command_pb2.CommandBatch()
        for request in requests:
            if request.submission is None:
                inquiry.ids.append(request.number)
                inquiry.queries.append(self._query(request))
                continue
            if request.submission.session:
                request.submission.acknowledged_below = self._acknowledged_below()
            elif request.operation is not None:
                # Nothing protects it from being applied twice; a stream does not repeat frames.
                repeatable = False
            proposal.ids.append(request.number)
            batch.submissions.append(request.submission)
        if batch.submissions:
            proposal.commands = batch.SerializeToString()
            frame.proposals.append(proposal)
        if inquiry.ids:
            frame.inquiries.append(inquiry)
        if requests:
            data = frame.SerializeToString()
            self.around.network.send(self.endpoint, self.target, data, repeatable=repeatable)

    def _query(self, request: Request) -> command_pb2.Query:
        assert isinstance(request.operation, Get | Scan)
        query = query_of(request.operation)
        if request.staleness is not None:
            query.consistency = command_pb2.Query.STALE
            query.staleness_ms_max = request.staleness // MILLISECOND
        return query

    def _timed_out(self, request: Request, attempt: int) -> None:
        if self.requests.get(request.number) is not request or request.attempts != attempt:
            return
        self.target = self._any_node()
        if self._is_at_most_once(request) or (
            not self.patient and self._chance(self.around.options.give_up) and request.operation
        ):
            self._end(request, None)
            return
        self._send(request)

    def _is_at_most_once(self, request: Request) -> bool:
        submission = request.submission
        return submission is not None and request.operation is not None and not submission.session

    def _retry_later(self, request: Request) -> None:
        request.attempts += 1
        attempt = request.attempts
        delay = int(self.generator.uniform(1, 30) * MILLISECOND)

        def again() -> None:
            if self.requests.get(request.number) is not request or request.attempts != attempt:
                return
            if self._is_at_most_once(request):
                # A new number: a late copy of this refusal must not pass for one of the next.
                del self.requests[request.number]
                self._register(request)
            self._send(request)

        self.around.scheduler.after(delay, again)

    # --- Receiving ---

    def receive(self, source: int, frame: ClientBytes) -> None:
        """Takes a ``ServerFrame`` in; answers to what is not awaited any more are dropped."""
        assert isinstance(frame, bytes), "this client has no streams"
        for replies in kv_pb2.ServerFrame.FromString(frame).replies:
            assert replies.group == KEY_GROUP, f"an answer of group {replies.group}"
            for number, result in zip(replies.ids, replies.results, strict=True):
                request = self.requests.get(number)
                if request is not None:
                    self._answered(request, source, result)
        self._send_waiting()

    def _answered(self, request: Request, source: int, result: command_pb2.Result) -> None:
        if result.WhichOneof("result") == "error":
            self._refused(request, source, result.error)
        elif request.operation is None:
            self._session_changed(request, result)
        else:
            request.operation, outcome = outcome_of(request.operation, result)
            self._end(request, outcome)

    def _session_changed(self, request: Request, result: command_pb2.Result) -> None:
        del self.requests[request.number]
        if request is self.opening:
            if result.WhichOneof("result") != "session_open":
                raise UnexpectedAnswer(f"a session was asked for, the answer was {result}")
            self.opening = None
            self.session = result.session_open.session
            self.next_sequence = 1

    def _refused(self, request: Request, source: int, error: command_pb2.Error) -> None:
        submission = request.submission
        match error.code:
            case code if code in NEVER_APPENDED:
                if source == self.target:
                    self.target = self.around.nodes.get(error.leader, 0) or self._any_node()
                self._retry_later(request)
            case command_pb2.UNCERTAIN:
                if self._is_at_most_once(request):
                    self._end(request, None)
                else:
                    self._retry_later(request)
            case command_pb2.SESSION_EXPIRED:
                if submission is None:
                    raise UnexpectedAnswer(f"{request} was answered {error}")
                if submission.session:
                    self._session_expired(submission.session)
                else:
                    del self.requests[request.number]
            case command_pb2.STALE_SEQUENCE | command_pb2.WINDOW_EXCEEDED:
                raise UnexpectedAnswer(f"{request} kept to the rules and was answered {error}")
            case _ if request.operation is None:
                self._retry_later(request)
            case command_pb2.LIMIT_EXCEEDED:
                # The session holds too many bytes. Another copy may yet be applied.
                self._end(request, None)
            case code:
                _, outcome = outcome_of(
                    request.operation, command_pb2.Result(error=command_pb2.Error(code=code))
                )
                self._end(request, outcome)

    def _end(self, request: Request, outcome: Outcome | None) -> None:
        del self.requests[request.number]
        assert request.operation is not None
        if outcome is None:
            self.unknown += 1
        else:
            self.completed += 1
        submission = request.submission
        self.around.record(
            Call(
                client=self.endpoint,
                begin=request.begin,
                end=NEVER if outcome is None else self.around.scheduler.now,
                operation=request.operation,
                outcome=outcome,
                session=submission.session if submission is not None else 0,
                sequence=submission.sequence if submission is not None else 0,
                staleness=request.staleness,
            )
        )
