"""What is in flight on a node, by connection: nobody starves, nothing is counted twice."""

from hypothesis import given
from hypothesis import strategies as st

from kvorum_server.rpc.shares import Shares

LIMIT = 160


def shares(limit: int = LIMIT) -> Shares:
    return Shares(requests_max=limit, bytes_max=limit * 1000)


def flood(crowd: Shares, connections: range, each: int) -> dict[int, int]:
    """Every connection asks for as much as it can get, one request after the other."""
    got = dict.fromkeys(connections, 0)
    for _ in range(each):
        for connection in connections:
            got[connection] += crowd.take(connection, 1, 100)
    return got


def test_one_client_alone_may_have_half_of_everything() -> None:
    crowd = shares()
    assert flood(crowd, range(1, 2), 1000) == {1: LIMIT // 2}


def test_sixteen_floods_leave_room_for_one_who_asks_for_little() -> None:
    crowd = shares()
    got = flood(crowd, range(1, 17), 1000)
    assert max(got.values()) - min(got.values()) <= 1
    assert crowd.take(99, 1, 100)
    for connection in got:
        assert not crowd.take(connection, 1, 100)


def test_who_held_more_than_its_share_when_others_came_gives_way() -> None:
    crowd = shares()
    flood(crowd, range(1, 2), 1000)
    assert crowd.take(2, 1, 100)
    assert not crowd.take(1, 1, 100)
    crowd.give_back(1, LIMIT // 2)
    assert crowd.take(1, 1, 100)


def test_bytes_are_shared_like_requests() -> None:
    crowd = shares()
    assert crowd.take(1, 1, LIMIT * 500)
    assert not crowd.take(1, 1, LIMIT * 500)
    assert crowd.take(2, 1, 1000), "a small request finds room"
    crowd.give_back(1, 1)
    assert crowd.take(1, 1, LIMIT * 500)


def test_who_is_sent_away_comes_back_the_later_the_more_there_are() -> None:
    crowd = shares()
    flood(crowd, range(1, 2), 1000)
    pauses = [crowd.send_away(LIMIT, 0) for _ in range(6)]
    assert pauses == sorted(set(pauses)), "each crowd later than the one before"
    crowd.give_back(1, LIMIT // 4)
    assert crowd.send_away(1, 0) < pauses[-1], "answers make the queue shorter"
    crowd.give_back(1, LIMIT // 4)
    assert crowd.send_away(1, 0) < pauses[0], "an empty node begins anew"


def test_large_requests_that_were_sent_away_count_by_their_bytes() -> None:
    crowd = shares()
    assert crowd.send_away(1, LIMIT * 3000) > crowd.send_away(1, 0) // 2 > 300


def test_answers_for_a_connection_that_is_gone_count_for_nobody() -> None:
    crowd = shares()
    crowd.take(1, 3, 300)
    crowd.take(2, 1, 100)
    crowd.forget(1)
    crowd.give_back(1, 3)
    assert (crowd.held(1), crowd.held(2)) == (0, 1)
    crowd.forget(2)
    assert flood(crowd, range(3, 4), 1000) == {3: LIMIT // 2}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "give", "forget", "away"]), st.integers(1, 4), st.integers(1, 9)
    )
)


@given(STEPS)
def test_the_sum_is_always_that_of_the_parts(steps: list[tuple[str, int, int]]) -> None:
    crowd = Shares(requests_max=20, bytes_max=200)
    held = dict.fromkeys(range(1, 5), 0)
    for step, connection, count in steps:
        match step:
            case "take":
                held[connection] += count if crowd.take(connection, count, count * 7) else 0
            case "give" if held[connection]:
                given = min(count, held[connection])
                crowd.give_back(connection, given)
                held[connection] -= given
            case "forget":
                crowd.forget(connection)
                held[connection] = 0
            case _:
                assert 20 <= crowd.send_away(count, count) <= 2000
        assert [crowd.held(connection) for connection in held] == list(held.values())
        assert sum(held.values()) <= 20 + 9
    for connection in held:
        crowd.forget(connection)
    assert crowd.take(1, 10, 100), "nobody holds anything any more"
