"""``make campaign``: thousands of hostile histories, and every canary against the same swarm.

    python -m tests.simulator.campaign --seeds 5000          seeds 1 to 5000, then the canaries
    python -m tests.simulator.campaign --hours 8             as many seeds as eight hours allow
    python -m tests.simulator.campaign --first 5001 --no-canaries
    python -m tests.simulator.campaign --seeds 0             the canaries only
    python -m tests.simulator.campaign --report campaign     writes campaign.json and campaign.md

A campaign has two parts. The first runs seeds of the general swarm on all cores: options, limits
and faults are drawn from the seed, and no run is told what to look for. Each failure is printed
with the command that repeats it. The second plants every canary (``canaries.py``) and runs the
same swarm until a seed notices it, at most 500: what the first part found nothing of is only worth
as much as what the second part does find.

The exit status is 1 when a seed has failed or a canary went unnoticed.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.simulator.campaign_report import Facts, Totals, as_json, as_markdown
from tests.simulator.canaries import CANARIES
from tests.simulator.workers import Hunt, Outcome, hunt, run_one, usable_cores, workers

Task = TypeVar("Task")
Result = TypeVar("Result")

GENERAL_SEEDS_MAX = 500
"""A canary is caught within so many seeds of the general swarm."""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.campaign", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=5000, help="how many seeds (5000)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--hours", type=float, help="run until then instead of counting seeds")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="worker processes")
    parser.add_argument("--stop", action="store_true", help="end at the first failure")
    parser.add_argument("--report", type=Path, help="write this name with .json and .md")
    parser.add_argument(
        "--canaries",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the canaries against the general swarm afterwards (yes)",
    )
    return parser.parse_args(arguments)


@dataclass(slots=True)
class Campaign:
    """One campaign: its workers, and what they have found so far."""

    pool: ProcessPoolExecutor
    jobs: int
    progress: Progress
    totals: Totals = field(default_factory=Totals)
    hunts: list[Hunt] = field(default_factory=list)

    def run_seeds(self, seeds: Iterator[int], count: int | None, *, stop: bool) -> None:
        """Runs the seeds; ``count`` None: nobody knows how many there will be."""
        task = self.progress.add_task("seeds", total=count, note="")

        def take(outcome: Outcome) -> bool:
            self.totals.add(outcome)
            if outcome.failure:
                self._tell(outcome)
            self.progress.update(task, advance=1, note=self.totals.summary())
            return stop and bool(outcome.failure)

        self._spread(lambda seed: self.pool.submit(run_one, seed), seeds, take)

    def run_canaries(self, seeds_max: int) -> None:
        """Every canary against the general swarm."""
        task = self.progress.add_task("canaries", total=len(CANARIES), note="")
        seeds = range(1, seeds_max + 1)

        def take(result: Hunt) -> bool:
            self.hunts.append(result)
            self.progress.update(task, advance=1, note=f"{result.name}: {result.seed}")
            return False

        names = iter(canary.name for canary in CANARIES)
        self._spread(lambda name: self.pool.submit(hunt, name, seeds, "general_swarm"), names, take)
        self.hunts.sort(key=lambda each: [canary.name for canary in CANARIES].index(each.name))

    def _spread(
        self,
        submit: Callable[[Task], Future[Result]],
        tasks: Iterator[Task],
        take: Callable[[Result], bool],
    ) -> None:
        """Keeps the workers busy without a long queue; ``take`` says whether to end."""
        under_way = {submit(task) for task in itertools.islice(tasks, 2 * self.jobs)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            over = [take(future.result()) for future in done]
            if any(over):
                for future in under_way:
                    future.cancel()
                return
            under_way |= {submit(task) for task in itertools.islice(tasks, len(done))}

    def _tell(self, outcome: Outcome) -> None:
        console = self.progress.console
        console.print(f"seed {outcome.seed} FAILED: {outcome.failure}", markup=False)
        console.print(f"  python -m tests.simulator --seed {outcome.seed} --trace", markup=False)


def seeds_of(options: argparse.Namespace) -> tuple[Iterator[int], int | None]:
    """The seeds that the command line asks for, and how many they are if that is known."""
    if options.hours is None:
        return iter(range(options.first, options.first + options.seeds)), options.seeds
    end = time.monotonic() + options.hours * 3600
    endless = itertools.count(options.first)
    return itertools.takewhile(lambda _: time.monotonic() < end, endless), None


def print_hunts(console: Console, hunts: Sequence[Hunt]) -> None:
    """The table canary -> seeds needed."""
    for each in hunts:
        seeds = f"not within {each.tried}" if each.seed is None else str(each.seed)
        console.print(f"{each.name:<45} {seeds:>15} {each.seconds:>7.1f} s", highlight=False)


def main(arguments: list[str]) -> int:
    """Runs the campaign that the command line asks for; the exit status."""
    options = parse_arguments(arguments)
    console = Console()
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    totals = Totals()
    hunts: list[Hunt] = []
    ended = ""
    with Progress(*columns, console=console) as progress:
        try:
            with workers(options.jobs) as pool:
                campaign = Campaign(pool, options.jobs, progress, totals, hunts)
                campaign.run_seeds(*seeds_of(options), stop=options.stop)
                if options.canaries and not (options.stop and totals.failures):
                    campaign.run_canaries(GENERAL_SEEDS_MAX)
        except KeyboardInterrupt:
            ended = "interrupted"
    seconds = time.monotonic() - began
    console.print(f"{totals.summary()} in {seconds:.0f} s {ended}", highlight=False)
    print_hunts(console, hunts)
    if options.report is not None:
        command = " ".join(("python -m tests.simulator.campaign", *arguments))
        facts = Facts(command, options.jobs, seconds)
        options.report.with_suffix(".json").write_text(as_json(facts, totals, hunts))
        options.report.with_suffix(".md").write_text(as_markdown(facts, totals, hunts))
    unnoticed = [each.name for each in hunts if each.seed is None]
    return 1 if totals.failures or unnoticed or ended else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
