"""A dispatcher in the hands of a test: it plays the nodes, the network and the clock.

Nothing here imitates our code: the dispatcher is the real one, and the frames that it makes are
parsed as a node would parse them.
"""

from dataclasses import dataclass
from typing import Any

from kvorum._call import CommandCall, Outcome, QueryCall
from kvorum._dispatch import Dispatcher
from kvorum._errors import KvorumError
from kvorum._link import Link
from kvorum._results import GET, INCREMENT, PUT, Decoder
from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import (
    ClientFrame,
    Partition,
    PartitionTable,
    Replies,
    ServerFrame,
    ServerHello,
)

NODES = ("n1:1", "n2:1", "n3:1")
GROUP = 1
TOKEN_MAX = (1 << 64) - 1
SESSION = wire.Result(session_open=wire.SessionOpenResult(session=77, idle_ms=600_000, window=4096))


def done(revision: int = 2) -> wire.Result:
    """A put that was applied."""
    return wire.Result(put=wire.PutResult(revision=revision))


def refusal(code: wire.ErrorCode, *, leader: str = "", retry_after_ms: int = 0) -> wire.Result:
    """A refusal with this code."""
    return wire.Result(
        error=wire.Error(code=code, message="no", leader=leader, retry_after_ms=retry_after_ms)
    )


@dataclass(frozen=True)
class Request:
    """What a node received: the id to answer, and the message."""

    address: str
    number: int
    message: wire.Submission | wire.Query

    @property
    def command(self) -> str:
        """The arm of the command or query."""
        if isinstance(self.message, wire.Submission):
            return str(self.message.WhichOneof("command"))
        return str(self.message.WhichOneof("query"))


def error_of(outcome: Outcome) -> KvorumError:
    """The error that a call ended with."""
    assert outcome.error is not None, "the call has not failed"
    return outcome.error


def submission_of(request: Request) -> wire.Submission:
    """The command that a node received."""
    assert isinstance(request.message, wire.Submission)
    return request.message


class Setup:
    """One dispatcher and three nodes that do what the test says."""

    def __init__(self, *, sessions: bool = True, leader: str = "n1:1") -> None:
        self.dispatcher = Dispatcher(NODES, jitter=lambda: 0.5, sessions=sessions)
        self.now = 100.0
        self.leader = leader
        self.links: dict[str, Link] = {}
        self.dialled: list[str] = []

    def hello(self, cluster: bytes = b"c") -> ServerHello:
        """What a node says first."""
        table = PartitionTable(
            version=1,
            partitions=[
                Partition(group=GROUP, token_first=0, token_last=TOKEN_MAX, leader=self.leader)
            ],
        )
        return ServerHello(wire_version=1, cluster_id=cluster, table=table, addresses=NODES)

    def put(self, key: str = "k", timeout: float = 5.0) -> Outcome:
        """Starts a put; nothing is sent yet."""
        batch = wire.CommandBatch()
        batch.submissions.add().put.key = key.encode()
        return self._command(batch, PUT, timeout)

    def increment(self, key: str = "k", timeout: float = 5.0) -> Outcome:
        """Starts an increment by one."""
        batch = wire.CommandBatch()
        message = batch.submissions.add().increment
        message.key, message.by = key.encode(), 1
        return self._command(batch, INCREMENT, timeout)

    def _command(self, batch: wire.CommandBatch, decoder: Decoder[Any], timeout: float) -> Outcome:
        outcome = Outcome()
        route = self.dispatcher.route(GROUP)
        deadline = self.now + timeout
        call = CommandCall(route, batch, decoder, outcome, deadline, timeout)
        self.dispatcher.submit(call)
        return outcome

    def get(self, key: str = "k", *, stale: bool = False, timeout: float = 5.0) -> Outcome:
        """Starts a get."""
        outcome = Outcome()
        query = wire.Query()
        query.get.key = key.encode()
        route = self.dispatcher.route(GROUP, any_replica=stale)
        call = QueryCall(route, query, GET, outcome, self.now + timeout, timeout)
        self.dispatcher.submit(call)
        return outcome

    def flush(self) -> list[Request]:
        """What the nodes receive now."""
        requests = []
        for link, data in self.dispatcher.flush(self.now):
            frame = ClientFrame.FromString(data)
            for proposal in frame.proposals:
                batch = wire.CommandBatch.FromString(proposal.commands)
                for number, submission in zip(proposal.ids, batch.submissions, strict=True):
                    requests.append(Request(link.address, number, submission))
            for inquiry in frame.inquiries:
                for number, query in zip(inquiry.ids, inquiry.queries, strict=True):
                    requests.append(Request(link.address, number, query))
        for link in self.dispatcher.links_to_open():
            self.links[link.address] = link
            self.dialled.append(link.address)
        return requests

    def open(self, address: str, cluster: bytes = b"c") -> str:
        """A dialled node says hello."""
        return self.dispatcher.opened(self.links[address], self.hello(cluster), self.now)

    def connect(self) -> list[Request]:
        """Dials and opens until something was sent; with sessions on that is SessionOpen."""
        for _ in range(4):
            requests = self.flush()
            if requests:
                return requests
            for address in self.dialled:
                self.open(address)
            self.dialled.clear()
        raise AssertionError("nothing was sent")

    def start(self) -> list[Request]:
        """Connects and grants the session; what is sent under it."""
        (opening,) = self.connect()
        assert opening.command == "session_open"
        self.answer(opening, SESSION)
        return self.flush()

    def answer(self, request: Request, result: wire.Result) -> None:
        """A node answers."""
        replies = Replies(group=GROUP, ids=[request.number], results=[result])
        frame = ServerFrame(replies=[replies])
        self.dispatcher.received(self.links[request.address], frame, self.now)

    def break_link(self, address: str, reason: str = "connection reset") -> None:
        """The stream to a node ends."""
        self.dispatcher.broken(self.links[address], reason, self.now)

    def pass_time(self, seconds: float) -> list[Request]:
        """Time passes as the shell would let it: in steps, ticking and flushing; dials nobody."""
        requests = []
        end = self.now + seconds
        while self.now < end:
            wake = self.dispatcher.wake_at()
            self.now = end if wake is None else min(end, max(wake, self.now + 0.001))
            self.dispatcher.tick(self.now)
            requests += self.flush()
        return requests
