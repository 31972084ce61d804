"""``python -m tests.simulator``: runs seeds and says which of them broke a promise, and how.

    python -m tests.simulator --seeds 200            200 seeds from --first on
    python -m tests.simulator --seed 17 --trace      one seed with its timeline
    python -m tests.simulator --seed 17 --verbose    one seed with what it has drawn

The same seed gives the same run on every machine and in every process; its hash proves it. The exit
status is 1 when a seed has failed.
"""

import argparse
import sys
import time

from tests.simulator.simulation import Report, run_seed


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="print the timeline while it runs")
    parser.add_argument("--verbose", action="store_true", help="print options and figures")
    parser.add_argument("--stop", action="store_true", help="stop at the first failure")
    return parser.parse_args(arguments)


def print_report(report: Report, *, verbose: bool) -> None:
    """One line for a seed that passed, everything for one that failed."""
    verdict = "FAILED" if report.failure else "undecided" if report.undecided else "passed"
    print(
        f"seed {report.seed} {verdict}: {report.operations} operations ({report.unknown} unknown), "
        f"{report.turns} turns, {report.frames} frames, {report.virtual_ms} ms, "
        f"hash {report.trace.hash()}"
    )
    if verbose or report.failure:
        print(report.options.describe())
    if report.failure:
        print(report.details)
        print(f"replay: python -m tests.simulator --seed {report.seed} --trace", flush=True)


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for; the exit status."""
    options = parse_arguments(arguments)
    seeds = (
        [options.seed]
        if options.seed is not None
        else range(options.first, options.first + options.seeds)
    )
    one = options.seed is not None
    failed: list[int] = []
    operations = undecided = ran = 0
    began = time.monotonic()
    for seed in seeds:
        report = run_seed(seed, print_lines=options.trace)
        ran += 1
        operations += report.operations
        undecided += report.undecided
        if report.failure:
            failed.append(seed)
        if report.failure or options.verbose or one:
            print_report(report, verbose=options.verbose)
        elif sys.stderr.isatty():
            print(f"\r{ran} seeds, {len(failed)} failed", end="", file=sys.stderr, flush=True)
        if failed and options.stop:
            break
    if sys.stderr.isatty():
        print(file=sys.stderr)
    seconds = time.monotonic() - began
    print(
        f"{ran} seeds in {seconds:.1f} s: {ran - len(failed)} passed, {len(failed)} failed, "
        f"{operations} operations, {undecided} histories undecided"
    )
    if failed:
        print("failed seeds: " + " ".join(map(str, failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
