"""Which endpoint a route asks next, and what a user may write as an endpoint."""

import pytest

from kvorum._directory import PROBE_SECONDS, SEARCH_SECONDS, Directory
from kvorum._endpoints import DEFAULT_ENDPOINTS, parse_endpoints
from kvorum._errors import InvalidRequest
from kvorum._link import DOUBT_SECONDS, Link
from kvorum._route import REDIRECTS_MAX, Route
from kvorum_proto.command_pb2 import NOT_LEADER, Error


def directory(*ready: str) -> Directory:
    """Three endpoints, of which some are connected."""
    made = Directory(("a:1", "b:1", "c:1"), jitter=lambda: 0.5)
    for address in ready:
        made.link(address).become_opening(0.0)
        made.link(address).become_ready(0.0)
    return made


def searched(made: Directory, route: Route, count: int) -> list[str]:
    """The endpoints that a route tries, one after the other."""
    tried = []
    for _ in range(count):
        route.search(1.0)
        link = made.find_target(route, "", 1.0)
        assert link is not None
        tried.append(link.address)
    return tried


def test_a_search_goes_round() -> None:
    route = Route(1, any_replica=False)
    assert searched(directory(), route, 4) == ["a:1", "b:1", "c:1", "a:1"]


def test_a_search_passes_over_endpoints_that_rest_or_take_long_to_open() -> None:
    made, route = directory(), Route(1, any_replica=False)
    made.link("a:1").become_opening(0.5)
    assert PROBE_SECONDS < 1.0 - 0.5
    made.link("b:1").become_opening(0.999)
    made.link("b:1").become_idle("connection refused", 0.999, 1.0)
    assert searched(made, route, 2) == ["c:1", "c:1"]


def test_a_search_asks_endpoints_that_were_silent_last() -> None:
    made, route = directory("a:1", "b:1", "c:1"), Route(1, any_replica=False)
    made.link("a:1").doubt(0.9)
    assert searched(made, route, 3) == ["b:1", "c:1", "b:1"]
    for address in ("b:1", "c:1"):
        made.link(address).doubt(0.9)
    assert searched(made, route, 3) == ["c:1", "a:1", "b:1"], "there is nobody else to ask"


def test_a_silent_endpoint_is_asked_again_in_the_end() -> None:
    made, route = directory("a:1", "b:1"), Route(1, any_replica=False)
    made.link("a:1").doubt(1.0 - DOUBT_SECONDS)
    assert searched(made, route, 2) == ["a:1", "b:1"], "its answer may have been lost"


def test_when_all_rest_the_search_waits_for_the_first() -> None:
    made, route = Directory(["a:1"], jitter=lambda: 0.5), Route(1, any_replica=False)
    made.link("a:1").become_opening(1.0)
    made.link("a:1").become_idle("connection refused", 1.0, 1.0)
    assert made.find_target(route, "", 1.0) is None
    assert route.search_at == 1.0 + SEARCH_SECONDS


def test_reads_of_any_replica_prefer_a_stream_that_stands() -> None:
    route = Route(1, any_replica=True)
    assert searched(directory("b:1", "c:1"), route, 2) == ["b:1", "b:1"]


@pytest.mark.parametrize("state", ["suspect", "resting"])
def test_a_hint_to_an_endpoint_in_trouble_is_passed_over(state: str) -> None:
    made, route = directory("a:1", "b:1"), Route(1, any_replica=False)
    route.aim(made.link("a:1"), 1.0, trusted=True)
    if state == "suspect":
        made.link("b:1").suspect = True
    else:
        made.link("b:1").become_idle("connection reset", 1.0, 1.0)
    refusal = Error(code=NOT_LEADER, leader="b:1")
    made.redirect(route, made.link("a:1"), refusal, 1.0)
    assert route.target is None
    assert route.search_at == 1.0 + 1.5 * SEARCH_SECONDS


def test_a_refusal_from_elsewhere_does_not_move_the_aim() -> None:
    made, route = directory("a:1", "b:1"), Route(1, any_replica=False)
    route.aim(made.link("a:1"), 1.0, trusted=True)
    made.redirect(route, made.link("b:1"), Error(code=NOT_LEADER, leader="c:1"), 1.0)
    assert route.target is made.link("a:1")
    assert REDIRECTS_MAX > 0


def test_a_named_address_is_learned() -> None:
    made = directory()
    assert isinstance(made.link("d:1"), Link)
    assert made.addresses() == ("a:1", "b:1", "c:1", "d:1")
    assert "d:1 was not tried" in made.describe()


@pytest.mark.parametrize("text", ["", " , ", "host", "host:", "host:port", "host:0", "host:70000"])
def test_what_cannot_be_an_endpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="host:port"):
        parse_endpoints(text)


def test_endpoints_are_kept_once_in_their_order() -> None:
    assert parse_endpoints("b:1,a:1, b:1") == ("b:1", "a:1")
    assert len(parse_endpoints(DEFAULT_ENDPOINTS)) == 3
