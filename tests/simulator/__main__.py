"""``python -m tests.simulator``: runs seeds and says which of them broke a promise, and how.

    python -m tests.simulator --seeds 200              200 seeds from --first on
    python -m tests.simulator --seed 17 --trace        one seed with its timeline
    python -m tests.simulator --seed 17 --verbose      one seed with what it has drawn
    python -m tests.simulator --profile late_messages  seeds under weather of a certain kind
    python -m tests.simulator --canary forget_the_vote --seed 1 --trace
                                                       a broken product, and how it is noticed

Without a profile, options and faults are those of the general swarm. A canary is a mistake that is
planted in the product for the length of a run; it brings its own profile along unless told
otherwise, and its seeds end at the first that has noticed it.

The same seed gives the same run on every machine and in every process; its hash proves it. The exit
status is 1 when a seed has failed. For many seeds on all cores see ``tests/simulator/campaign.py``.
"""

import argparse
import sys
import time
from collections.abc import Callable

from tests.simulator.canaries import CANARIES, canary
from tests.simulator.profiles import PROFILES, profile
from tests.simulator.simulation import Report, run_seed


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    canaries = sorted(each.name for each in CANARIES)
    profiles = sorted(each.__name__ for each in PROFILES)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="print the timeline while it runs")
    parser.add_argument("--verbose", action="store_true", help="print options and figures")
    parser.add_argument("--stop", action="store_true", help="stop at the first failure")
    parser.add_argument(
        "--profile", choices=profiles, metavar="NAME", help=f"one of {', '.join(profiles)}"
    )
    parser.add_argument(
        "--canary", choices=canaries, metavar="NAME", help=f"one of {', '.join(canaries)}"
    )
    return parser.parse_args(arguments)


def runner(options: argparse.Namespace) -> Callable[[int], Report]:
    """What to do with a seed."""
    if options.canary is None:
        weather = profile(options.profile or "general_swarm")
        return lambda seed: run_seed(seed, profile=weather, print_lines=options.trace)
    broken = canary(options.canary)
    weather = profile(options.profile) if options.profile else broken.profile
    print(f"{broken.name} ({weather.__name__}): {broken.mistake} Seen in: {broken.seen_in}.")
    return lambda seed: broken.run(seed, weather, print_lines=options.trace)


def replay_command(options: argparse.Namespace, seed: int) -> str:
    """How to see a run again."""
    words = ["python -m tests.simulator"]
    words += [f"--canary {options.canary}"] if options.canary else []
    words += [f"--profile {options.profile}"] if options.profile else []
    return " ".join([*words, f"--seed {seed} --trace"])


def print_report(report: Report, replay: str, *, verbose: bool) -> None:
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
        print(f"replay: {replay}", flush=True)


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for; the exit status."""
    options = parse_arguments(arguments)
    one = options.seed is not None
    seeds = [options.seed] if one else range(options.first, options.first + options.seeds)
    run = runner(options)
    failed: list[int] = []
    operations = undecided = ran = 0
    began = time.monotonic()
    for seed in seeds:
        report = run(seed)
        ran += 1
        operations += report.operations
        undecided += report.undecided
        if report.failure:
            failed.append(seed)
        if report.failure or options.verbose or one:
            print_report(report, replay_command(options, seed), verbose=options.verbose)
        elif sys.stderr.isatty():
            print(f"\r{ran} seeds, {len(failed)} failed", end="", file=sys.stderr, flush=True)
        if failed and (options.stop or options.canary):
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
