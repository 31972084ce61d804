"""What a caller is told, and the rules for counting carriers and numbers."""

import pytest

from kvorum._call import CommandCall, Outcome, QueryCall, failure_at_deadline
from kvorum._errors import Busy, DeadlineExceeded, KvorumError, Unavailable, UnknownOutcome
from kvorum._link import Link, LinkState, backoff
from kvorum._results import GET, PUT
from kvorum._route import Route
from kvorum._session import Session
from kvorum_proto import command_pb2 as wire


def put() -> CommandCall:
    """A put that was not sent yet."""
    batch = wire.CommandBatch()
    batch.submissions.add().put.key = b"k"
    return CommandCall(Route(1, any_replica=False), batch, PUT, Outcome(), 5.0, 5.0)


def get() -> QueryCall:
    """A get that was not sent yet."""
    return QueryCall(Route(1, any_replica=False), wire.Query(), GET, Outcome(), 5.0, 5.0)


def test_a_command_keeps_its_number_for_life() -> None:
    call, session = put(), Session(7, idle_ms=1000, window=10, now=0.0)
    call.encode_with(session)
    submission = wire.CommandBatch.FromString(call.encoded).submissions[0]
    assert (submission.session, submission.sequence, submission.put.key) == (7, 1, b"k")
    with pytest.raises(AssertionError, match="keeps its number"):
        call.encode_with(session)


def test_only_what_cannot_be_applied_may_leave_its_session() -> None:
    call = put()
    call.encode_with(Session(7, idle_ms=1000, window=10, now=0.0))
    call.carriers = (Link("n1:1"),)
    with pytest.raises(AssertionError, match="keeps its session"):
        call.leave_session()
    call.carriers = ()
    call.leave_session()
    assert (call.session, call.sequence, call.encoded) == (None, 0, b"")


@pytest.mark.parametrize(
    ("carried", "uncertain", "reachable", "expected"),
    [
        (True, False, True, UnknownOutcome),
        (False, True, False, UnknownOutcome),
        (False, False, True, DeadlineExceeded),
        (False, False, False, Unavailable),
    ],
)
def test_a_write_at_its_deadline(
    carried: bool, uncertain: bool, reachable: bool, expected: type[KvorumError]
) -> None:
    call = put()
    call.uncertain = uncertain
    call.carriers = (Link("n1:1"),) if carried else ()
    assert type(failure_at_deadline(call, "n1:1 connected", reachable)) is expected


def test_a_read_at_its_deadline_is_never_unknown() -> None:
    call = get()
    call.carriers = (Link("n1:1"),)
    assert type(failure_at_deadline(call, "n1:1 connected", True)) is DeadlineExceeded


def test_a_refusal_names_the_error_at_the_deadline() -> None:
    call = get()
    call.refusal = wire.Error(code=wire.BUSY, message="too much to do")
    error = failure_at_deadline(call, "n1:1 connected", True)
    assert type(error) is Busy
    assert "too much to do" in str(error)


def test_the_pause_before_dialling_again_doubles_up_to_a_second() -> None:
    assert [backoff(attempts, 1.0) for attempts in range(9)] == [
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.0, 1.0),
    ]
    assert backoff(5, 0.0) == 0.0


def test_a_link_gives_back_what_it_carried_in_order() -> None:
    link, calls = Link("n1:1"), [put(), put()]
    link.become_opening(0.0)
    link.become_ready(0.0)
    link.in_flight = dict(enumerate(calls))
    assert link.become_idle("connection reset", 1.0, 1.0) == calls
    assert link.state is LinkState.IDLE
    assert link.describe() == "n1:1 connection reset"
    assert not link.dialable(1.005)
    assert link.dialable(1.02)


def test_requeued_calls_go_in_front_in_their_order_and_only_once() -> None:
    route = Route(1, any_replica=False)
    first, second, third = put(), put(), put()
    route.commands.append(third)
    third.queued = True
    route.requeue([first, second])
    route.requeue([first, third])
    assert list(route.commands) == [first, second, third]
