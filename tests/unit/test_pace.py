"""Ticks that come late: what counts, and what a follower that stood still does first."""

from kvorum_proto.command_pb2 import NOT_LEADER
from kvorum_server.consensus.core import Role
from kvorum_server.events import Received, Ticked
from kvorum_server.pace import Pace
from kvorum_server.types import HeartbeatRequest
from tests.unit.host_setup import CONFIG, PLENTY, Machine, Trio, get, trio

TICK = 0.025
STALL = 0.25


def pace(now: float = 0.0) -> Pace:
    return Pace(tick_seconds=TICK, stall_seconds=STALL, now=now)


def live(ticks: Pace, until: float, stops: dict[float, float]) -> list[float]:
    """Times of the ticks that count; the process stops at some times, until others."""
    counted = []
    now = ticks.next_at
    while now < until:
        for begin, end in stops.items():
            if begin <= now < end:
                now = end
        if ticks.tick(now):
            counted.append(now)
        now = max(now, ticks.next_at)
    return counted


def test_ticks_come_at_their_pace() -> None:
    counted = live(pace(), 1.0, {})
    assert len(counted) == 40
    assert counted[3] == 3 * TICK


def test_a_tick_that_is_a_little_late_is_made_up_for_once() -> None:
    ticks = pace()
    assert ticks.tick(0.0)
    assert ticks.tick(0.2)
    assert ticks.next_at == 0.2
    assert ticks.tick(0.2)
    assert ticks.next_at == 0.2 + TICK


def test_a_node_that_stood_still_lives_a_full_tick_before_one_counts() -> None:
    counted = live(pace(), 3.0, {1.0: 2.5})
    after = [now for now in counted if now > 1.0]
    assert after[0] >= 2.5 + TICK
    assert after[1] - after[0] >= TICK * 0.99
    assert len(counted) <= 40 + 20, "nothing of the time that was lost is made up for"


def test_a_node_that_is_always_late_still_lives() -> None:
    ticks = pace()
    counted = sum(ticks.tick(number * 1.0) for number in range(1, 21))
    assert counted >= 10


def test_the_worst_lag_is_remembered_for_a_while() -> None:
    ticks = pace()
    for now in (0.0, 1.0):
        ticks.tick(now)
    assert ticks.worst_lag_seconds == 1.0 - TICK
    live(ticks, 20.0, {})
    assert ticks.worst_lag_seconds < TICK


def stall(machine: Machine, seconds: float) -> Pace:
    """The node stands still, and its shell notices with the first tick that comes."""
    ticks = pace(machine.now / 1000)
    assert ticks.tick(machine.now / 1000)
    machine.now += int(seconds * 1000)
    assert not ticks.tick(machine.now / 1000), "the tick that finds the stall does not count"
    return ticks


def term_of(cluster: Trio) -> int:
    return max(machine.replica.consensus.term for machine in cluster.machines)


def test_a_follower_that_stood_still_hears_its_leader_before_it_campaigns() -> None:
    cluster = trio()
    leader, follower, other = cluster.machines
    term = term_of(cluster)
    for _ in range(CONFIG.election_ticks_min - 2):  # nearly patient enough already
        follower.turn(Ticked(PLENTY))
    stall(follower, 5.0)
    for machine in (leader, other):
        machine.now = follower.now
    leader.tick(CONFIG.heartbeat_ticks)
    waiting = [e for target, e in leader.sent if target == follower.identity]
    assert any(isinstance(e.message, HeartbeatRequest) for e in waiting)
    follower.turn(Received(leader.identity, tuple(waiting)), Ticked(PLENTY))
    cluster.tick(CONFIG.election_ticks_max)
    assert follower.replica.consensus.role is Role.FOLLOWER
    assert leader.is_leader()
    assert term_of(cluster) == term


def test_a_leader_that_stood_still_serves_no_read_and_steps_down_when_it_hears_of_another() -> None:
    cluster = trio()
    old, new, _ = cluster.machines
    cluster.cut_off = {old.identity}
    cluster.elect(new)
    stall(old, 3.0)
    cluster.cut_off = set()
    (read,) = old.ask(get(b"k"))
    assert read not in old.answers, "it believes to lead, and asks before it answers"
    cluster.settle()
    assert old.error(read).code == NOT_LEADER
    assert not old.is_leader()
