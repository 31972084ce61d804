"""Schedules: the same for a seed, never two hands on one process, everything over in time."""

import random
from itertools import pairwise

import pytest

from tests.chaos.faults import Shape, Victim
from tests.chaos.nemesis import DECK, FIRST_STRIKE_SECONDS, is_weather, plan
from tests.chaos.picture import FAMILY_COLOURS
from tests.chaos.test_chaos import SECONDS, SEED
from tests.chaos.timeline import family_of
from tests.chaos.workload import (
    LEDGER,
    Workload,
    compare_and_set,
    generation_at,
    generation_of,
    is_compare_and_set,
    prefix_of,
)
from tests.simulator.model import Delete, Model, Operation, Put, Scan, Transaction


def test_a_seed_is_a_schedule() -> None:
    assert plan(3, 120) == plan(3, 120)
    assert plan(3, 120) != plan(4, 120)
    longer = plan(3, 240)
    assert longer[: len(plan(3, 120))] == plan(3, 120), "a longer run begins like a shorter one"


@pytest.mark.parametrize("seed", range(20))
def test_schedules_are_fair(seed: int) -> None:
    seconds = 120.0
    strikes = plan(seed, seconds)
    assert strikes[0].at_seconds >= FIRST_STRIKE_SECONDS
    assert all(strike.at_seconds + strike.lasts_seconds <= seconds for strike in strikes)
    assert [s.at_seconds for s in strikes] == sorted(s.at_seconds for s in strikes)
    hands = [strike for strike in strikes if not is_weather(strike.fault)]
    for one, other in pairwise(hands):
        assert one.at_seconds + one.lasts_seconds < other.at_seconds, "two hands at once"


def test_some_schedule_overlaps_bad_weather_with_something_else() -> None:
    pairs = [pair for seed in range(10) for pair in pairwise(plan(seed, 120))]
    assert any(one.at_seconds + one.lasts_seconds > other.at_seconds for one, other in pairs)


def test_a_long_schedule_meets_every_kind_of_fault_and_every_victim() -> None:
    strikes = plan(1, 1200)
    assert {family_of(strike.fault) for strike in strikes} == set(FAMILY_COLOURS)
    assert {strike.victim for strike in strikes} == set(Victim)
    shapes = {strike.fault.shape for strike in strikes if hasattr(strike.fault, "shape")}
    assert shapes == set(Shape)
    assert len(strikes) > 2 * len(DECK)


def test_the_run_that_is_part_of_every_test_run_meets_every_family() -> None:
    families = {family_of(strike.fault) for strike in plan(SEED, SECONDS)}
    assert families == set(FAMILY_COLOURS), "choose another seed"


def operations_of(seed: str, count: int) -> list[Operation]:
    workload = Workload(3, random.Random(seed))
    return [workload.choose(number * 10_000_000) for number in range(count)]


def test_a_workload_is_repeatable_varied_and_never_writes_a_value_twice() -> None:
    operations = operations_of("a", 2000)
    assert operations == operations_of("a", 2000)
    assert {type(one).__name__ for one in operations} == {
        *("Put", "Delete", "Increment", "Get", "Scan", "Transaction")
    }
    values = [one.value for one in operations if isinstance(one, Put)]
    assert len(set(values)) == len(values)
    ledger = [o for o in operations if isinstance(o, Put) and o.key.startswith(LEDGER)]
    assert 100 < len(ledger) < 300
    assert len({put.key for put in ledger}) == len(ledger)


def test_operations_of_a_generation_touch_nothing_else() -> None:
    workload = Workload(3, random.Random("b"))
    for number in range(2000):
        now_ns = number * 10_000_000
        operation = workload.choose(now_ns)
        generation = generation_of(operation)
        assert generation in (None, generation_at(now_ns))
        if isinstance(operation, Transaction):
            prefix = prefix_of(generation_at(now_ns))
            for part in operation.success:
                assert isinstance(part, Put | Delete | Scan)
                key = part.start if isinstance(part, Scan) else part.key
                assert key.startswith(prefix)


def test_a_compare_and_set_refused_shows_the_current_item() -> None:
    model, _ = Model.unnumbered().apply(Put(b"key", b"1"))
    operation = compare_and_set(b"key", None, b"2")
    assert is_compare_and_set(operation)
    unchanged, outcome = model.apply(operation)
    assert unchanged is model
    assert "value=b'1'" in str(outcome)
