"""The life of calls, told one situation at a time, with the test as cluster, network and clock.

This story follows a call to the node that can serve it, through what goes wrong on the way, to what
its caller is told. ``test_dispatch_sessions.py`` tells of the session that a write belongs to.
"""

import pytest

from kvorum._dispatch import (
    PENDING_CALLS_MAX,
    REQUEST_BYTES_MAX,
    ProtocolViolation,
)
from kvorum._errors import (
    Busy,
    ClientClosed,
    DeadlineExceeded,
    DiskFull,
    KvorumError,
    LimitExceeded,
    OutOfBounds,
    Unavailable,
    UnknownOutcome,
    WrongCluster,
)
from kvorum._types import PutResult
from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import Replies, ServerFrame
from tests.unit.dispatcher_setup import (
    SESSION,
    Request,
    Setup,
    done,
    error_of,
    refusal,
    submission_of,
)


def test_the_first_put_opens_a_stream_then_a_session_then_is_sent() -> None:
    setup = Setup()
    outcome = setup.put()
    assert setup.flush() == []
    assert setup.dialled == ["n1:1"]
    setup.open("n1:1")
    (opening,) = setup.flush()
    assert opening.command == "session_open"
    setup.answer(opening, SESSION)
    (request,) = setup.flush()
    submission = submission_of(request)
    assert (submission.session, submission.sequence, submission.acknowledged_below) == (77, 1, 1)
    setup.answer(request, done(9))
    assert outcome.result == PutResult(9)
    assert setup.dispatcher.wake_at() is None, "an idle client needs no timer"


def test_calls_of_one_pass_share_a_frame_and_reads_do_not_wait_for_the_session() -> None:
    setup = Setup()
    setup.put("a")
    setup.put("b")
    setup.get("c")
    first = setup.connect()
    assert [request.command for request in first] == ["session_open", "get"]
    setup.answer(first[0], SESSION)
    frames = list(setup.dispatcher.flush(setup.now))
    assert len(frames) == 1


def test_a_follower_that_knows_the_leader_is_believed_at_once() -> None:
    setup = Setup(leader="n2:1")
    outcome = setup.put()
    (request,) = setup.start()
    assert request.address == "n2:1"
    setup.answer(request, refusal(wire.NOT_LEADER, leader="n3:1"))
    setup.flush()
    setup.open("n3:1")
    (again,) = setup.flush()
    assert again.address == "n3:1"
    assert again.message == request.message, "same session, same sequence, same bytes"
    setup.answer(again, done())
    assert outcome.result == PutResult(2)


def test_two_nodes_that_name_each_other_are_not_followed_for_ever() -> None:
    setup = Setup()
    setup.get()
    (request,) = setup.connect()
    hops = 0
    while True:
        other = "n2:1" if request.address == "n1:1" else "n1:1"
        setup.answer(request, refusal(wire.NOT_LEADER, leader=other))
        sent = setup.flush()
        if setup.dialled:
            setup.open(setup.dialled.pop())
            sent = setup.flush()
        if not sent:
            break
        (request,) = sent
        hops += 1
    assert hops == 3, "then the route searches by itself, and pauses between steps"


def test_when_the_leader_dies_one_call_searches_for_all() -> None:
    setup = Setup()
    outcomes = [setup.put(str(number)) for number in range(100)]
    assert len(setup.start()) == 100
    setup.leader = ""
    setup.break_link("n1:1")
    setup.flush()
    setup.open("n2:1")
    (probe,) = setup.flush()
    setup.answer(probe, refusal(wire.NOT_LEADER))
    assert setup.flush() == [], "not again in the same moment"
    assert setup.pass_time(0.020) == []
    setup.open("n3:1")
    (probe,) = setup.flush()
    setup.answer(probe, done())
    rest = setup.flush()
    assert {request.address for request in rest} == {"n3:1"}
    for request in rest:
        setup.answer(request, done())
    assert all(outcome.result == PutResult(2) for outcome in outcomes)
    sequences = [submission_of(request).sequence for request in (probe, *rest)]
    assert sequences == list(range(1, 101)), "repeated in their order"


def test_a_stopped_leader_is_asked_no_more_after_half_a_second() -> None:
    setup = Setup()
    outcome = setup.put()
    (request,) = setup.start()
    assert setup.pass_time(0.45) == []
    setup.pass_time(0.15)
    assert setup.dialled == ["n2:1"]
    setup.open("n2:1")
    (copy,) = setup.flush()
    assert copy.message == request.message
    setup.answer(copy, done(5))
    setup.answer(request, done(5))
    assert outcome.result == PutResult(5), "the late answer of the stopped leader changes nothing"


def test_reads_too_leave_a_stopped_node() -> None:
    setup = Setup()
    outcome = setup.get()
    setup.connect()
    setup.pass_time(0.6)
    setup.open("n2:1")
    (copy,) = setup.flush()
    setup.answer(copy, wire.Result(get=wire.GetResult()))
    assert outcome.done()
    assert outcome.result is None


def test_a_slow_leader_that_answers_others_is_not_doubted() -> None:
    setup = Setup()
    setup.get("slow")
    setup.connect()
    for _ in range(4):
        quick = setup.get("quick")
        (request,) = setup.flush()
        assert request.address == "n1:1"
        setup.answer(request, wire.Result(get=wire.GetResult()))
        assert quick.done()
        assert setup.pass_time(0.5) == []
    assert setup.dialled == []


def test_busy_is_asked_again_after_the_pause_that_it_named() -> None:
    setup = Setup()
    outcome = setup.put()
    (request,) = setup.start()
    setup.answer(request, refusal(wire.BUSY, retry_after_ms=200))
    assert setup.pass_time(0.2) == []
    (again,) = setup.pass_time(0.2)
    assert again.message == request.message
    setup.answer(again, done())
    assert outcome.result == PutResult(2)


@pytest.mark.parametrize(
    ("code", "error"),
    [(wire.BUSY, Busy), (wire.DISK_FULL, DiskFull), (wire.NOT_LEADER, Unavailable)],
)
def test_what_is_refused_until_the_deadline_says_why(
    code: wire.ErrorCode, error: type[KvorumError]
) -> None:
    setup = Setup()
    outcome = setup.put(timeout=0.5)
    (request,) = setup.start()
    requests = [request]
    while not outcome.done():
        for request in requests:
            setup.answer(request, refusal(code))
        requests = setup.pass_time(0.05)
    assert type(error_of(outcome)) is error
    assert "0.5 s" in str(error_of(outcome))


def test_a_write_that_was_sent_and_never_answered_is_an_unknown_outcome() -> None:
    setup = Setup()
    outcome = setup.put(timeout=0.5)
    setup.start()
    setup.pass_time(0.6)
    assert isinstance(error_of(outcome), UnknownOutcome)


def test_once_uncertain_a_refusal_does_not_make_it_certain() -> None:
    setup = Setup()
    outcome = setup.put(timeout=0.5)
    (request,) = setup.start()
    setup.answer(request, refusal(wire.UNCERTAIN))
    setup.flush()
    for request in setup.pass_time(0.1):
        setup.answer(request, refusal(wire.BUSY))
    setup.pass_time(0.6)
    assert isinstance(error_of(outcome), UnknownOutcome)


def test_a_read_that_was_sent_and_never_answered_exceeds_its_deadline() -> None:
    setup = Setup()
    outcome = setup.get(timeout=0.5)
    setup.connect()
    setup.pass_time(0.6)
    assert isinstance(error_of(outcome), DeadlineExceeded)
    assert isinstance(error_of(outcome), TimeoutError)


def test_a_dead_cluster_is_reported_with_every_endpoint_and_its_reason() -> None:
    setup = Setup()
    outcome = setup.put(timeout=0.5)
    setup.flush()
    while not outcome.done():
        for address in setup.dialled:
            setup.break_link(address, "connection refused")
        setup.dialled.clear()
        setup.pass_time(0.02)
    message = str(error_of(outcome))
    assert type(error_of(outcome)) is Unavailable
    for address in ("n1:1", "n2:1", "n3:1"):
        assert f"{address} connection refused" in message
    assert "\n" not in message


def test_dialling_a_dead_cluster_slows_down() -> None:
    setup = Setup()
    setup.put(timeout=20)
    attempts = 0
    setup.flush()
    for _ in range(1000):
        attempts += len(setup.dialled)
        for address in setup.dialled:
            setup.break_link(address)
        setup.dialled.clear()
        setup.pass_time(0.01)
    assert 30 < attempts < 100, "three endpoints, up to one a second each, quicker at first"


def test_one_frame_may_answer_calls_of_several_routes() -> None:
    setup = Setup()
    fresh, stale = setup.get(), setup.get(stale=True)
    requests = setup.connect()
    assert len(requests) == 2
    replies = Replies(
        group=1,
        ids=[request.number for request in requests],
        results=[refusal(wire.NOT_LEADER), wire.Result(get=wire.GetResult())],
    )
    link = setup.links[requests[0].address]
    setup.dispatcher.received(link, ServerFrame(replies=[replies]), setup.now)
    assert stale.done()
    assert not fresh.done()
    assert link.address == "n1:1"
    assert setup.dispatcher.leader_of(1) == "n1:1", "known from the hello, no longer the target"
    assert setup.dispatcher.route(1).target is None


def test_after_a_wrong_cluster_new_calls_fail_at_once() -> None:
    setup = Setup()
    setup.dispatcher.cluster_id = b"mine"
    setup.put()
    setup.flush()
    for _ in range(3):
        setup.open(setup.dialled.pop(), cluster=b"other")
        setup.pass_time(0.05)
    with pytest.raises(WrongCluster, match="check the endpoints"):
        setup.put()


def test_a_final_refusal_ends_the_call() -> None:
    setup = Setup()
    outcome = setup.increment()
    (request,) = setup.start()
    setup.answer(request, refusal(wire.OUT_OF_BOUNDS))
    assert isinstance(error_of(outcome), OutOfBounds)
    assert setup.dispatcher.wake_at() is None


def test_an_oversize_request_is_refused_before_it_is_sent() -> None:
    setup = Setup()
    setup.put("first")
    (request,) = setup.start()
    outcome = setup.put("k" * (REQUEST_BYTES_MAX + 1))
    after = setup.put("after")
    (sent,) = setup.flush()
    assert isinstance(error_of(outcome), LimitExceeded)
    assert submission_of(sent).put.key == b"after"
    setup.answer(request, done())
    setup.answer(sent, done())
    assert after.done()


def test_a_stale_read_moves_on_to_a_fresher_replica() -> None:
    setup = Setup()
    outcome = setup.get(stale=True)
    (request,) = setup.connect()
    setup.answer(request, refusal(wire.TOO_STALE))
    setup.pass_time(0.05)
    setup.open(setup.dialled.pop())
    (again,) = setup.flush()
    assert again.address != request.address
    setup.answer(again, wire.Result(get=wire.GetResult()))
    assert outcome.done()


def test_a_cluster_with_another_id_is_refused_when_no_right_one_is_left() -> None:
    setup = Setup()
    setup.dispatcher.cluster_id = b"mine"
    outcome = setup.put()
    setup.flush()
    for _ in range(3):
        assert "not 6d696e65" in setup.open(setup.dialled.pop(), cluster=b"other")
        setup.pass_time(0.05)
    assert isinstance(error_of(outcome), WrongCluster)


def test_a_node_that_belongs_to_no_cluster_yet_is_asked_again_later() -> None:
    setup = Setup()
    setup.dispatcher.cluster_id = b"c"
    setup.put()
    setup.flush()
    address = setup.dialled.pop()
    reason = setup.open(address, cluster=b"")
    assert reason == "is not part of a complete cluster yet"
    setup.dispatcher.broken(setup.links[address], reason, setup.now)
    assert setup.links[address].dialable(setup.now + 1), "it may belong to ours by then"


def test_closing_tells_apart_what_may_be_applied() -> None:
    setup = Setup()
    sent = setup.put("a")
    setup.start()
    unsent = setup.put("b")
    read = setup.get("c")
    setup.dispatcher.abandon(ClientClosed("closed"))
    assert isinstance(error_of(sent), UnknownOutcome)
    assert isinstance(error_of(unsent), ClientClosed)
    assert isinstance(error_of(read), ClientClosed)


def test_pending_calls_are_bounded() -> None:
    setup = Setup()
    for _ in range(PENDING_CALLS_MAX):
        setup.get()
    with pytest.raises(Busy, match="pending"):
        setup.get()


@pytest.mark.parametrize(
    "result", [wire.Result(get=wire.GetResult()), wire.Result()], ids=["another arm", "no arm"]
)
def test_an_answer_to_another_question_ends_the_stream(result: wire.Result) -> None:
    setup = Setup()
    setup.put()
    (request,) = setup.start()
    with pytest.raises(ProtocolViolation):
        setup.answer(request, result)


def test_an_answer_that_nobody_asked_for_ends_the_stream() -> None:
    setup = Setup()
    setup.put()
    (request,) = setup.start()
    with pytest.raises(ProtocolViolation):
        setup.answer(Request(request.address, 999, request.message), done())
