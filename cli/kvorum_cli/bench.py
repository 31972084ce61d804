"""The verb bench: how fast the cluster is, from where you stand.

The measuring is in ``load``; here are the options, the progress bar and the report. The bar is
drawn by hand, a line of text four times a second: a nicer one would take milliseconds out of the
event loop that is being measured, and show up in the percentiles.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kvorum_cli.output import write_json, write_line
from kvorum_cli.settings import Number, Verb, settings

if TYPE_CHECKING:
    from kvorum_cli.load import Report

SECONDS_MAX = 600
BAR_WIDTH = 24


@click.command(
    cls=Verb,
    examples="""
    kvorum bench put --in-flight 256 --seconds 10
    kvorum bench get --in-flight 1
    kvorum bench mixed --value-size 1024 --keys 100000 --output json
    """,
)
@click.argument("operation", type=click.Choice(["put", "get", "mixed"]))
@click.option(
    "--in-flight",
    type=Number(1, 4096),
    default=256,
    show_default=True,
    metavar="N",
    help="Requests that wait for an answer at any time.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, SECONDS_MAX, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long to measure.",
)
@click.option(
    "--value-size",
    type=Number(0, 1 << 20),
    default=256,
    show_default=True,
    metavar="BYTES",
    help="Size of each value.",
)
@click.option(
    "--keys",
    type=Number(1, 10_000_000),
    default=10_000,
    show_default=True,
    metavar="N",
    help="How many keys take part.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(0, SECONDS_MAX),
    default=1.0,
    show_default=True,
    metavar="S",
    help="How long to run before measuring.",
)
@click.option("--keep", is_flag=True, help="Leave the keys in the cluster.")
def bench(
    operation: str,
    in_flight: int,
    seconds: float,
    value_size: int,
    keys: int,
    warm_up: float,
    keep: bool,
) -> None:
    """Measure throughput and latency.

    Of puts, of linearizable gets, or of both in equal parts, by one client, sessions on. Works on
    keys of its own, kvorum-bench/..., writes them first where they are read, and deletes them at
    the end.
    """
    from kvorum_cli.load import Plan, measure

    plan = Plan(
        operation=operation,
        in_flight=in_flight,
        seconds=seconds,
        warm_up_seconds=warm_up,
        value_bytes=value_size,
        keys=keys,
        keep=keep,
    )
    progress = draw_bar if sys.stderr.isatty() else None
    report = measure(plan, settings(), progress)
    if settings().json:
        write_json(report.as_json())
    else:
        for line in report_lines(report):
            write_line(line)


def draw_bar(phase: str, share: float, operations: int, per_second: float) -> None:
    """Redraws the bar on standard error; an empty phase takes it away."""
    if not phase:
        sys.stderr.write("\r\x1b[K")
    else:
        done = round(BAR_WIDTH * min(share, 1.0))
        bar = "█" * done + "░" * (BAR_WIDTH - done)
        sys.stderr.write(
            f"\r\x1b[K{phase:<10} {bar} {_grouped(operations)} done, {_grouped(per_second)}/s"
        )
    sys.stderr.flush()


def report_lines(report: Report) -> list[str]:
    """The report for people."""
    plan = report.plan
    lines = [
        f"{plan.operation} · {plan.in_flight} in flight · {plan.value_bytes}-byte values · "
        f"{_grouped(plan.keys)} keys · {report.seconds:.1f} s",
        f"{_grouped(report.per_second)} operations/s   {_grouped(report.operations)} done, "
        f"{_grouped(report.failures_total)} failed",
    ]
    if report.operations:
        latencies = (f"{name} {value:.2f} ms" for name, value in report.latencies_ms())
        lines.append("latency   " + "   ".join(latencies))
    lines += [f"failed: {count} x {name}" for name, count in report.failures.most_common()]
    return lines


def _grouped(number: float) -> str:
    """
    >>> _grouped(28123.4)
    '28,123'
    """
    return f"{number:,.0f}"
