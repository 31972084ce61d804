"""The network and the clock of the simulator, by themselves."""

import random

from tests.simulator.network import Network
from tests.simulator.scheduler import SECOND, Scheduler

Arrival = tuple[int, int, int]


def make(
    seed: int = 1, *, loss: float = 0.0, duplication: float = 0.0, reordering: float = 0.0
) -> tuple[Scheduler, Network[int], list[Arrival]]:
    scheduler = Scheduler()
    arrivals: list[Arrival] = []
    network: Network[int] = Network(
        scheduler,
        random.Random(seed),
        lambda source, target, frame: arrivals.append((source, target, frame)),
        delay_min=10,
        delay_mean=1000,
        loss=loss,
        duplication=duplication,
        reordering=reordering,
    )
    return scheduler, network, arrivals


def send_hundred(network: Network[int]) -> None:
    for number in range(100):
        network.send(1, 2, number)


def frames(arrivals: list[Arrival]) -> list[int]:
    return [frame for _, _, frame in arrivals]


def test_a_calm_link_delivers_everything_in_order_and_not_at_once() -> None:
    scheduler, network, arrivals = make()
    send_hundred(network)
    scheduler.run(until=9)
    assert arrivals == []
    scheduler.run(until=SECOND)
    assert arrivals == [(1, 2, number) for number in range(100)]


def test_loss_loses_some() -> None:
    scheduler, network, arrivals = make(loss=0.3)
    send_hundred(network)
    scheduler.run(until=SECOND)
    assert 40 < len(arrivals) < 95
    assert network.statistics.lost + len(arrivals) == 100


def test_duplication_repeats_some_but_never_what_must_not_be_repeated() -> None:
    scheduler, network, arrivals = make(duplication=0.3)
    send_hundred(network)
    for number in range(100, 200):
        network.send(1, 2, number, repeatable=False)
    scheduler.run(until=SECOND)
    assert set(frames(arrivals)) == set(range(200))
    assert 110 < sum(frame < 100 for frame in frames(arrivals)) < 160
    assert sum(frame >= 100 for frame in frames(arrivals)) == 100


def test_reordering_lets_frames_overtake() -> None:
    scheduler, network, arrivals = make(reordering=0.3)
    send_hundred(network)
    scheduler.run(until=SECOND)
    assert sorted(frames(arrivals)) == list(range(100))
    assert frames(arrivals) != list(range(100))


def test_a_one_way_cut_stops_one_direction() -> None:
    scheduler, network, arrivals = make()
    network.cut(1, 2)
    network.send(1, 2, 12)
    network.send(2, 1, 21)
    scheduler.run(until=SECOND)
    assert arrivals == [(2, 1, 21)]
    assert not network.connected(1, 2)
    assert not network.connected(2, 1)


def test_a_frame_on_its_way_does_not_survive_a_cut_that_was_mended() -> None:
    scheduler, network, arrivals = make()
    network.send(1, 2, 12)
    network.cut(1, 2)
    network.mend(1, 2)
    scheduler.run(until=SECOND)
    assert arrivals == []
    network.send(1, 2, 13)
    scheduler.run(until=2 * SECOND)
    assert arrivals == [(1, 2, 13)]


def test_a_split_separates_sides_and_leaves_each_side_whole() -> None:
    _, network, _ = make()
    network.split((1, 2), (3,))
    assert network.connected(1, 2)
    assert not network.connected(1, 3)
    assert not network.connected(3, 2)
    network.heal()
    assert network.connected(1, 3)


def test_a_clogged_link_stands_and_delivers_everything_at_once_in_the_end() -> None:
    scheduler, network, arrivals = make()
    network.clog(1, 2)
    send_hundred(network)
    network.send(2, 1, 21)
    scheduler.run(until=SECOND)
    assert arrivals == [(2, 1, 21)]
    assert network.connected(1, 2)
    assert network.on_the_way(1, 2) == 100
    network.unclog(1, 2)
    scheduler.run(until=SECOND + 1)
    assert frames(arrivals) == [21, *range(100)]
    assert network.on_the_way(1, 2) == 0


def test_a_cut_takes_what_a_clog_has_held_back() -> None:
    scheduler, network, arrivals = make()
    network.clog(1, 2)
    send_hundred(network)
    scheduler.run(until=SECOND)
    network.cut(1, 2)
    network.calm()
    scheduler.run(until=2 * SECOND)
    assert arrivals == []


def test_a_broken_stream_loses_what_is_on_its_way_and_nothing_more() -> None:
    scheduler, network, arrivals = make()
    send_hundred(network)
    network.break_stream(1, 2)
    network.send(1, 2, 100)
    scheduler.run(until=SECOND)
    assert frames(arrivals) == [100]


def test_damaged_frames_go_to_those_who_know_what_damage_means() -> None:
    damaged: list[int] = []
    scheduler = Scheduler()
    arrivals: list[int] = []
    network: Network[int] = Network(
        scheduler,
        random.Random(1),
        lambda source, target, frame: arrivals.append(frame),
        delay_min=10,
        delay_mean=1000,
        corruption=0.3,
        damaged=lambda source, target, frame: damaged.append(frame),
    )
    send_hundred(network)
    scheduler.run(until=SECOND)
    assert 15 < len(damaged) < 50
    assert sorted([*arrivals, *damaged]) == list(range(100))
    assert network.statistics.damaged == len(damaged)


def test_a_part_of_the_network_is_mended_alone() -> None:
    _, network, _ = make()
    network.split((1,), (2, 3))
    network.clog(2, 3)
    network.mend_among((1, 2))
    assert network.connected(1, 2)
    assert not network.connected(1, 3)
    assert network.is_clogged(2, 3)
    network.mend_among((2, 3))
    assert not network.is_clogged(2, 3)


def test_a_calm_network_has_no_faults_left() -> None:
    scheduler, network, arrivals = make(loss=1.0, duplication=1.0, reordering=1.0)
    network.corruption = 1.0
    network.split((1,), (2,))
    network.calm()
    send_hundred(network)
    scheduler.run(until=SECOND)
    assert frames(arrivals) == list(range(100))


def test_a_seed_gives_the_same_network_twice() -> None:
    def run() -> list[Arrival]:
        scheduler, network, arrivals = make(7, loss=0.2, duplication=0.2, reordering=0.2)
        send_hundred(network)
        scheduler.run(until=SECOND)
        return arrivals

    assert run() == run()


def test_things_of_one_instant_happen_in_the_order_in_which_they_were_asked_for() -> None:
    scheduler = Scheduler()
    seen: list[int] = []
    for number in range(5):
        scheduler.after(10, lambda number=number: seen.append(number))  # type: ignore[misc]
    scheduler.run(until=10)
    assert seen == [0, 1, 2, 3, 4]
