"""What bench measures, without a cluster: the supply of calls, the percentiles, the report."""

from collections import Counter
from functools import partial
from itertools import islice

import pytest

from kvorum import AsyncClient
from kvorum_cli.bench import draw_bar, report_lines
from kvorum_cli.load import Plan, Report, Samples, calls_of

PLAN = Plan(operation="put", in_flight=4, seconds=2, warm_up_seconds=0, value_bytes=16, keys=3)
KEYS = [b"a", b"b", b"c"]


def plan(operation: str) -> Plan:
    return Plan(
        operation=operation, in_flight=1, seconds=1, warm_up_seconds=0, value_bytes=16, keys=3
    )


def supply(operation: str, count: int) -> list[partial[object]]:
    """The first calls that a plan would make; none is made."""
    taken = list(islice(calls_of(plan(operation), AsyncClient(), KEYS), count))
    assert all(isinstance(call, partial) for call in taken)
    return taken  # type: ignore[return-value]


def test_puts_go_over_all_keys_again_and_again() -> None:
    calls = supply("put", 7)
    assert [call.args[0] for call in calls] == [*KEYS, *KEYS, b"a"]
    assert {len(call.args[1]) for call in calls} == {16}


def test_gets_bring_a_key_only() -> None:
    assert [call.args for call in supply("get", 4)] == [(b"a",), (b"b",), (b"c",), (b"a",)]


def test_a_mixed_load_is_half_and_half_and_reaches_every_key_both_ways() -> None:
    calls = supply("mixed", 8000)
    gets = [call.args[0] for call in calls if len(call.args) == 1]
    puts = [call.args[0] for call in calls if len(call.args) == 2]
    assert 3500 < len(gets) < 4500
    assert set(gets) == set(puts) == set(KEYS)


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    samples = Samples()
    samples.latencies_ns.extend(1_000_000 * number for number in range(1, 1001))
    report = Report.of(PLAN, 2.0, samples)
    assert report.latencies_ms() == [("p50", 500), ("p99", 990), ("p99.9", 999), ("max", 1000)]
    assert (report.operations, report.per_second) == (1000, 500)


def test_the_report_for_programs() -> None:
    report = Report(PLAN, 2.0, Counter({1500: 2}), Counter({"Busy": 1}))
    assert report.as_json() == {
        "operation": "put",
        "in_flight": 4,
        "value_bytes": 16,
        "keys": 3,
        "seconds": 2.0,
        "operations": 2,
        "per_second": 1.0,
        "latency_ms": {"p50": 1.5, "p99": 1.5, "p99_9": 1.5, "max": 1.5},
        "failures": {"Busy": 1},
    }


def test_the_report_for_people() -> None:
    report = Report(PLAN, 2.0, Counter({1500: 20_000}), Counter({"Busy": 3}))
    assert report_lines(report) == [
        "put · 4 in flight · 16-byte values · 3 keys · 2.0 s",
        "10,000 operations/s   20,000 done, 3 failed",
        "latency   p50 1.50 ms   p99 1.50 ms   p99.9 1.50 ms   max 1.50 ms",
        "failed: 3 x Busy",
    ]


def test_a_run_in_which_nothing_succeeded_has_no_percentiles() -> None:
    report = Report(PLAN, 2.0, Counter(), Counter({"Unavailable": 9}))
    assert report.as_json()["latency_ms"] == {}
    assert not any("latency" in line for line in report_lines(report))


def test_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    draw_bar("measuring", 0.5, 28_000, 27_910.4)
    draw_bar("", 0, 0, 0)
    shown = capsys.readouterr().err
    assert "measuring  ████████████░░░░░░░░░░░░ 28,000 done, 27,910/s" in shown
    assert shown.endswith("\r\x1b[K"), "the bar leaves nothing behind"
