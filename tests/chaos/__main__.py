"""``python -m tests.chaos``: hostile hours for real nodes in real networks.

    python -m tests.chaos --minutes 10 --nodes 5 --seed 7 --report DIRECTORY
    python -m tests.chaos failover --kind stop --times 20

The first form strikes at a cluster with faults of every kind while clients work, judges what the
clients saw, and leaves a report; its exit code is 1 when anything is wrong. The same seed strikes
with the same faults at the same times. The second form measures how long nobody can write after
the leader has died in a given way. Both need root: every node lives in a network namespace.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from tests.chaos import report
from tests.chaos.campaign import Run, conduct
from tests.chaos.cluster import Settings, node_names
from tests.chaos.failover import KINDS, outages_of
from tests.chaos.nemesis import plan
from tests.chaos.network import Network, enter, missing, network

CLIENT_HOSTS = ("c1", "c2")
CONTROL_HOST = "control"
"""Where this process itself lives: no fault of a run touches it."""
TELL_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """Does what the command line says; the exit code."""
    options = _parser().parse_args(arguments)
    if reason := missing():
        print(f"tests.chaos: {reason}", file=sys.stderr)
        return 2
    # Whoever ends this process, by Ctrl-C or otherwise, leaves no namespaces behind. A shell that
    # starts it in the background makes it deaf to the first.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    # One host more than nodes: where members can move to.
    hosts = (*node_names(options.nodes + 1), *CLIENT_HOSTS, CONTROL_HOST)
    with network(hosts, options.seed) as made:
        enter(made.topology.namespace(CONTROL_HOST))
        if options.what == "failover":
            return failover(options, made)
        return campaign(options, made)


def failover(options: argparse.Namespace, made: Network) -> int:
    """Measures outages and shows them."""
    names = node_names(options.nodes)
    with tempfile.TemporaryDirectory(prefix="kvorum-chaos-") as name:
        work = outages_of(options.kind, made, names, options.times, progress(), Path(name))
        show_outages(options.kind, [one.milliseconds for one in asyncio.run(work)])
    return 0


def campaign(options: argparse.Namespace, made: Network) -> int:
    """Strikes, judges, reports."""
    seconds = options.seconds or options.minutes * 60
    directory = options.report or Path(f"chaos-report-{options.seed}")
    if not cleared(directory):
        print(
            f"tests.chaos: {directory} is not empty and holds no report of an earlier run; remove "
            "it, or name another one with --report",
            file=sys.stderr,
        )
        return 2
    settings = Settings(nodes=options.nodes, disk_bytes=options.disk_mebibytes << 20)
    schedule = plan(options.seed, seconds)
    print(f"seed {options.seed}: {len(schedule)} faults in {seconds:g} s", flush=True)
    run = Run(seed=options.seed, seconds=seconds, settings=settings, schedule=schedule)
    evidence = asyncio.run(conduct(made, CLIENT_HOSTS, directory, run, progress()))
    remove_mount_points(directory, node_names(options.nodes + 1))
    path = report.write(evidence, directory)
    print(f"\n{report.verdict(evidence)}\nreport: {path.resolve()}", flush=True)
    return 0 if evidence.passed else 1


def progress() -> Callable[[str], None]:
    """Shows how far we are: on one line of a terminal, else on a new one now and then."""
    shown_at = 0.0

    def tell(line: str) -> None:
        nonlocal shown_at
        if sys.stdout.isatty():
            print(f"\r{line:100}", end="", flush=True)
        elif time.monotonic() - shown_at >= TELL_SECONDS:
            shown_at = time.monotonic()
            print(line, flush=True)

    return tell


def cleared(directory: Path) -> bool:
    """Makes a directory for a report, empty; an older report in it goes, anything else does not."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / report.REPORT).exists():
            return False
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return True


def remove_mount_points(directory: Path, names: Sequence[str]) -> None:
    """Removes what is empty now that the disks are gone."""
    for name in names:
        with contextlib.suppress(OSError):
            (directory / name).rmdir()


def show_outages(kind: str, outages_ms: Sequence[float]) -> None:
    """The outages, their median and the worst."""
    found = sorted(outages_ms)
    print(f"\nms without an acknowledged write: {'  '.join(f'{one:.0f}' for one in found)}")
    print(f"{kind}: median {median(found):.0f} ms, worst {found[-1]:.0f} ms of {len(found)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", nargs="?", choices=("campaign", "failover"), default="campaign")
    add("--minutes", type=float, default=10.0, help="how long faults strike (10)")
    add("--seconds", type=float, default=0.0, help="the same in seconds")
    add("--nodes", type=int, default=3, choices=(3, 4, 5), help="how many (3)")
    add("--seed", type=int, default=random.randrange(1_000_000), help="of the faults; random")
    add("--report", type=Path, metavar="DIRECTORY", help="chaos-report-SEED")
    add("--disk-mebibytes", type=int, default=256, help="of a node's small disk (256); 0: none")
    add("--kind", choices=KINDS, default="kill", help="how the leader dies, for failover (kill)")
    add("--times", type=int, default=20, help="how often it dies, for failover (20)")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
