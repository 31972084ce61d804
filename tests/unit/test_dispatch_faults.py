"""Exactly once, whatever happens on the way.

A seeded adversary stands between the dispatcher and a model of one group: it delays, loses,
refuses and repeats, breaks streams, moves the leadership, applies a command and loses the answer,
expires the session. The counter that the group keeps must then agree with what the callers were
told: an answered increment counts once, one that failed with an error counts not at all, one of
unknown outcome at most once. And when the faults stop, every call ends.
"""

from random import Random

import pytest

from kvorum._call import CommandCall, Outcome
from kvorum._dispatch import Dispatcher
from kvorum._errors import UnknownOutcome
from kvorum._link import Link, LinkState
from kvorum._results import INCREMENT
from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import ClientFrame, Replies, ServerFrame
from tests.unit.dispatcher_setup import GROUP, NODES, Setup, refusal

Arrival = tuple[float, Link, int, int, wire.Submission]
Answer = tuple[float, Link, int, int, wire.Result]


def _time(event: Arrival | Answer) -> float:
    return event[0]


class Group:
    """What the cluster keeps: sessions with their results, and how often each key was increased."""

    def __init__(self) -> None:
        self.last_session = 0
        self.sessions: dict[int, dict[int, wire.Result]] = {}
        self.acknowledged: dict[int, int] = {}
        self.counts: dict[bytes, int] = {}

    def apply(self, submission: wire.Submission) -> wire.Result:
        """Applies a command, once for each sequence."""
        if submission.WhichOneof("command") == "session_open":
            self.last_session += 1
            self.sessions[self.last_session] = {}
            opened = wire.SessionOpenResult(session=self.last_session, idle_ms=60_000, window=64)
            return wire.Result(session_open=opened)
        results = self.sessions.get(submission.session)
        if results is None:
            return refusal(wire.SESSION_EXPIRED)
        below = max(self.acknowledged.get(submission.session, 0), submission.acknowledged_below)
        self.acknowledged[submission.session] = below
        sequence = submission.sequence
        if sequence < below:
            return refusal(wire.STALE_SEQUENCE)
        assert sequence < below + 64, "the client overran its window"
        if sequence not in results:
            key = submission.increment.key
            self.counts[key] = self.counts.get(key, 0) + 1
            results[sequence] = wire.Result(increment=wire.IncrementResult(value=self.counts[key]))
        return results[sequence]


class Adversary:
    """Plays three nodes and the network between them and one dispatcher."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.setup = Setup()
        self.dispatcher = Dispatcher(NODES, jitter=self.random.random)
        self.group = Group()
        self.now = 0.0
        self.leader = "n1:1"
        self.calm = False
        self.arrivals: list[Arrival] = []
        self.answers: list[Answer] = []
        self.streams: dict[Link, int] = {}
        self.outcomes: dict[bytes, Outcome] = {}

    def chance(self, probability: float) -> bool:
        """Whether a fault happens now; never once the faults have stopped."""
        return not self.calm and self.random.random() < probability

    def start_call(self, timeout: float) -> None:
        """One increment, of a key of its own."""
        key = b"%d" % len(self.outcomes)
        batch = wire.CommandBatch()
        batch.submissions.add().increment.key = key
        outcome = self.outcomes[key] = Outcome()
        route = self.dispatcher.route(GROUP)
        deadline = self.now + timeout
        call = CommandCall(route, batch, INCREMENT, outcome, deadline, timeout)
        self.dispatcher.submit(call)

    def deliver(self, link: Link, data: bytes) -> None:
        """A frame leaves; what it holds arrives later, even if the stream is cut meanwhile."""
        for proposal in ClientFrame.FromString(data).proposals:
            batch = wire.CommandBatch.FromString(proposal.commands)
            for number, submission in zip(proposal.ids, batch.submissions, strict=True):
                arrival = self.now + self.delay()
                self.arrivals.append((arrival, link, self.streams[link], number, submission))

    def delay(self) -> float:
        """How long the way takes, seconds; sometimes far too long."""
        return self.random.expovariate(200) + (1.5 if self.chance(0.02) else 0.0)

    def arrive(self) -> None:
        """Nodes judge what has arrived, and answer, unless the answer is lost."""
        due = sorted((arrival for arrival in self.arrivals if arrival[0] <= self.now), key=_time)
        self.arrivals = [arrival for arrival in self.arrivals if arrival[0] > self.now]
        for _, link, stream, number, submission in due:
            result = self.judge(link.address, submission)
            if not self.chance(0.05):
                self.answers.append((self.now + self.delay(), link, stream, number, result))

    def judge(self, address: str, submission: wire.Submission) -> wire.Result:
        """What a node does with a command."""
        if address != self.leader:
            hint = self.random.choice(["", self.leader, *NODES])
            return refusal(wire.NOT_LEADER, leader=hint)
        if self.chance(0.03):
            return refusal(wire.BUSY, retry_after_ms=self.random.choice([0, 20]))
        if self.chance(0.03):
            if self.chance(0.5):
                self.group.apply(submission)
            return refusal(wire.UNCERTAIN)
        return self.group.apply(submission)

    def step(self) -> None:
        """A few milliseconds of life."""
        self.now += self.random.uniform(0.001, 0.02)
        if self.chance(0.02):
            self.leader = self.random.choice(NODES)
        if self.chance(0.003) and self.group.sessions:
            self.group.sessions.popitem()
        for link in list(self.streams):
            if link.state is LinkState.READY and self.chance(0.02):
                self.dispatcher.broken(link, "cut", self.now)
        self.arrive()
        due = sorted((answer for answer in self.answers if answer[0] <= self.now), key=_time)
        self.answers = [answer for answer in self.answers if answer[0] > self.now]
        for _, link, stream, number, result in due:
            if link.state is LinkState.READY and self.streams[link] == stream:
                replies = Replies(group=GROUP, ids=[number], results=[result])
                self.dispatcher.received(link, ServerFrame(replies=[replies]), self.now)
        self.dispatcher.tick(self.now)
        for link, data in self.dispatcher.flush(self.now):
            self.deliver(link, data)
        for link in self.dispatcher.links_to_open():
            self.streams[link] = self.streams.get(link, 0) + 1
            if self.chance(0.2):
                self.dispatcher.broken(link, "refused", self.now)
            else:
                self.setup.leader = self.random.choice(["", self.leader, *NODES])
                self.dispatcher.opened(link, self.setup.hello(), self.now)


@pytest.mark.parametrize("seed", range(40))
def test_no_increment_is_lost_or_counted_twice(seed: int) -> None:
    adversary = Adversary(seed)
    for _ in range(400):
        for _ in range(adversary.random.choice([0, 0, 1, 3])):
            adversary.start_call(adversary.random.choice([0.1, 0.5, 2.0, 5.0]))
        adversary.step()
    adversary.calm = True
    adversary.start_call(5.0)
    for _ in range(1500):
        adversary.step()
    assert adversary.dispatcher.wake_at() is None, "every call has ended"
    kinds = set()
    for key, outcome in adversary.outcomes.items():
        count = adversary.group.counts.get(key, 0)
        if outcome.error is None:
            kinds.add("answered")
            assert count == 1, f"{key!r} was answered and counts {count} times"
        elif isinstance(outcome.error, UnknownOutcome):
            kinds.add("unknown")
            assert count <= 1, f"{key!r} is unknown and counts {count} times"
        else:
            kinds.add("failed")
            assert count == 0, f"{key!r} failed with {outcome.error} and counts {count} times"
    assert "answered" in kinds
    assert outcome.error is None, "the call after the faults went well"


def test_news_of_other_nodes_come_with_the_answers() -> None:
    setup = Setup()
    setup.put()
    setup.start()
    link = setup.links["n1:1"]
    hello = setup.hello()
    hello.addresses.append("n9:1")
    hello.table.partitions[0].leader = "n9:1"
    setup.dispatcher.received(link, ServerFrame(hello=hello), setup.now)
    assert "n9:1" in setup.dispatcher.addresses()
    setup.break_link(link.address)
    setup.pass_time(1.0)
    assert "n9:1" in setup.dialled, "when the old ones do not answer, new ones may"
