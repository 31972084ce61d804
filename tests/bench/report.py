"""Results as tables for people and as JSON for docs/benchmarks.md; nothing is computed elsewhere.

Every result also carries the machine and the command, since a figure without them means nothing.
"""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench.failover import Outage
from tests.bench.machine import Machine
from tests.bench.size import Read, Size
from tests.bench.throughput import Cell

OUR_NAME = "kvorum"

console = Console(highlight=False, width=132)


def write_json(path: Path, machine: Machine, arguments: Sequence[str], results: object) -> None:
    """Writes results (dataclasses, or lists of them) with what they depend on."""
    document = {
        "command": shlex.join(["python", "-m", "tests.bench", *arguments]),
        "machine": dataclasses.asdict(machine),
        "results": results,
    }
    path.write_text(json.dumps(document, default=_plain, indent=2) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, Cell):
        names = (field.name for field in dataclasses.fields(value.rounds[0]))
        spreads = {name: value.spread(name) for name in names if name != "silences_ns"}
        return {**dataclasses.asdict(value), "spreads": spreads}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def show_machine(machine: Machine) -> None:
    """One line above every table."""
    console.print(
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gigabytes} GB, Linux "
        f"{machine.kernel}, Python {machine.python}; fdatasync of 4 KiB {machine.sync_us:.0f} us; "
        f"load before {machine.load}"
    )


def show_cells(cells: Sequence[Cell]) -> None:
    """A line for each operation, calls in flight and system; all values are medians."""
    table = Table(title="Medians of the rounds; CPU in microseconds for each operation")
    for heading in ("operation", "in flight", "system"):
        table.add_column(heading)
    for heading in ("per second", "least..most", "ratio", "p50 ms", "p99 ms", "p99.9 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("servers", "client", "failed"):
        table.add_column(heading, justify="right")
    last = {(cell.operation, cell.in_flight): cell for cell in cells}.values()
    for cell, ratio in _with_ratios(cells):
        rate = cell.spread("per_second")
        table.add_row(
            cell.operation,
            str(cell.in_flight),
            cell.system,
            f"{rate.median:,.0f}",
            f"{rate.least:,.0f}..{rate.most:,.0f}",
            f"{ratio:.2f}" if ratio else "",
            *(f"{cell.spread(name).median:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms")),
            *(f"{cell.spread(f'{who}_cpu_us').median:.1f}" for who in ("servers", "client")),
            str(cell.failures),
            end_section=cell in last,
        )
    console.print(table)


def _with_ratios(cells: Sequence[Cell]) -> Iterator[tuple[Cell, float]]:
    """Each cell with our operations a second divided by its own; 0 for ours."""
    ours = {
        (cell.operation, cell.in_flight): cell.spread("per_second").median
        for cell in cells
        if cell.system == OUR_NAME
    }
    for cell in cells:
        rate = cell.spread("per_second").median
        own = ours.get((cell.operation, cell.in_flight), 0.0)
        yield cell, 0.0 if cell.system == OUR_NAME or not rate else own / rate


def show_outages(outages: Sequence[Outage]) -> None:
    """The runs, their median and the worst."""
    found = sorted(outage.milliseconds for outage in outages)
    failures = sum(outage.failures for outage in outages)
    console.print("ms without an acknowledged write: " + "  ".join(f"{one:.0f}" for one in found))
    console.print(
        f"median {median(found):.0f} ms, worst {found[-1]:.0f} ms, of {len(found)} runs; "
        f"{failures} puts failed for good"
    )


def show_size(size: Size) -> None:
    """One line for each figure."""
    table = Table(title=f"{size.keys:,} keys", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    load, overwrites = size.keys / size.load_seconds, size.overwrites_per_second
    for name, value in (
        ("load", f"{size.load_seconds:.1f} s, {load:,.0f} a second"),
        ("resident, loaded, MB a node", _list(size.resident_megabytes)),
        ("stop after SIGTERM", f"{size.stop_seconds:.2f} s"),
        ("start to serving", f"{size.restart_seconds:.2f} s"),
        ("start to serving after kill -9", f"{size.restart_after_kill_seconds:.2f} s"),
        ("resident, restarted, MB a node", _list(size.resident_after_restart_megabytes)),
        ("overwrites of one key", f"{size.overwrites:,}, {overwrites:,.0f} a second"),
        ("read of that key", _read(size.read_overwritten)),
        ("read of another key", _read(size.read_other)),
        ("resident, highest, MB a node", _list(size.resident_peak_megabytes)),
    ):
        table.add_row(name, value)
    console.print(table)


def _list(values: Sequence[float]) -> str:
    return "  ".join(f"{value:.0f}" for value in values)


def _read(read: Read) -> str:
    return f"{read.elapsed_us:.1f} us, of which servers' CPU {read.servers_us:.1f}"


def show_idle(shares: Sequence[float]) -> None:
    """A figure for each node."""
    text = "  ".join(f"{share:.1f}" for share in shares)
    console.print(f"per cent of a core without any client, for each node: {text}")
