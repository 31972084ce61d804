"""``python -m tests.bench``: speed, fail-over and size of three nodes on this machine.

    python -m tests.bench [throughput]   operations a second, latencies, CPU for each; beside etcd
    python -m tests.bench failover       the outage after a kill -9 of the leader
    python -m tests.bench size           memory, restart and a hot key with a million keys
    python -m tests.bench idle           what nodes cost that nobody uses

``--json FILE`` keeps everything that was measured. docs/benchmarks.md tells how to read it.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import failover, idle, report, size, throughput
from tests.bench.load import KEY_COUNT
from tests.bench.machine import describe
from tests.bench.systems import EtcdSystem, KvorumSystem, Stage, System
from tests.integration.cluster import Cluster

WHATS = ("throughput", "failover", "size", "idle")
OPERATIONS = "put,get,mixed"
IN_FLIGHT = "1,64,256,1024"


def main(arguments: Sequence[str]) -> None:
    """Measures, shows, and writes the JSON file."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kvorum-bench-", dir=options.directory) as name:
        directory = Path(name)
        machine = describe(directory)
        report.show_machine(machine)
        results = asyncio.run(_measure(options, directory))
    if options.json is not None:
        report.write_json(options.json, machine, arguments, results)


async def _measure(options: argparse.Namespace, directory: Path) -> object:
    match options.what:
        case "throughput":
            cells = await _throughput(options, directory)
            report.show_cells(cells)
            return cells
        case "failover":
            outages = await failover.measure(
                KvorumSystem(Cluster(directory)), options.runs, _tell, failover.Kill()
            )
            report.show_outages(outages)
            return outages
        case "size":
            found = await size.measure(
                KvorumSystem(Cluster(directory)),
                options.keys or 1_000_000,
                options.overwrites,
                _tell,
            )
            report.show_size(found)
            return found
        case "idle":
            shares = await idle.measure(KvorumSystem(Cluster(directory)), options.seconds)
            report.show_idle(shares)
            return shares
    raise AssertionError(options.what)


async def _throughput(options: argparse.Namespace, directory: Path) -> list[throughput.Cell]:
    systems: list[System] = []
    if "kvorum" in options.systems:
        systems.append(KvorumSystem(Cluster(directory)))
    if "etcd" in options.systems:
        if missing := EtcdSystem.missing(options.etcd_python):
            _tell(f"without etcd: {missing}")
        else:
            systems.append(EtcdSystem(directory, options.etcd_python))
    settings = throughput.Settings(
        operations=options.operations,
        in_flight=tuple(map(int, options.in_flight)),
        rounds=options.rounds,
        seconds=options.seconds,
        warm_up_seconds=min(1.0, options.seconds / 4),
        keys=options.keys or KEY_COUNT,
    )
    async with Stage(systems) as stage:
        return await throughput.measure(stage, settings, _tell)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", nargs="?", choices=WHATS, default="throughput")
    add("--json", type=Path, metavar="FILE", help="write all that was measured")
    add("--directory", type=Path, help="where the data goes; the system's temporary directory")
    add("--seconds", type=float, default=5.0, help="of a round; of the idle measurement")
    add("--rounds", type=int, default=3, help="of each cell, the systems in turns")
    add("--operations", type=_words, default=_words(OPERATIONS), help=OPERATIONS)
    add("--in-flight", type=_words, default=_words(IN_FLIGHT), help=IN_FLIGHT)
    add("--systems", type=_words, default=("kvorum", "etcd"), help="kvorum,etcd")
    add("--etcd-python", default=sys.executable, help="the interpreter that has aetcd")
    add("--keys", type=int, help="how many: 100,000 for throughput, 1,000,000 for size")
    add("--overwrites", type=int, default=300_000, help="of one key, for size")
    add("--runs", type=int, default=10, help="how often the leader is killed, for failover")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
