"""What a campaign writes down: the same figures as JSON for machines and as Markdown for people.

A report says enough to judge it and to repeat it: the command, the machine's share (workers, real
time), how much was run (seeds, virtual hours, operations, turns, frames), how often each kind of
fault struck, which seeds failed and how, and for every canary how many seeds of the general swarm
it took to notice it.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.simulator.canaries import canary
from tests.simulator.workers import Hunt, Outcome

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Facts:
    """How a campaign was run."""

    command: str
    jobs: int
    seconds: float
    python: str = field(default_factory=platform.python_version)
    machine: str = field(default_factory=platform.machine)


@dataclass(slots=True)
class Totals:
    """The sums over all seeds that have been run."""

    seeds: int = 0
    virtual_ms: int = 0
    operations: int = 0
    unknown: int = 0
    turns: int = 0
    frames: int = 0
    undecided: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Takes one run in."""
        self.seeds += 1
        self.virtual_ms += outcome.virtual_ms
        self.operations += outcome.operations
        self.unknown += outcome.unknown
        self.turns += outcome.turns
        self.frames += outcome.frames
        self.undecided += outcome.undecided
        for fault, count in outcome.facts.items():
            self.faults[fault] = self.faults.get(fault, 0) + count
        if outcome.failure:
            self.failures[outcome.seed] = outcome.failure

    @property
    def virtual_hours(self) -> float:
        """Time that passed for the simulated clusters."""
        return self.virtual_ms / HOUR_MS

    def summary(self) -> str:
        """One line.

        >>> Totals(seeds=2, virtual_ms=7_200_000, operations=3000).summary()
        '2 seeds, 0 failed, 2.0 virtual hours, 3,000 operations'
        """
        return (
            f"{self.seeds:,} seeds, {len(self.failures)} failed, "
            f"{self.virtual_hours:.1f} virtual hours, {self.operations:,} operations"
        )


def as_json(facts: Facts, totals: Totals, hunts: Sequence[Hunt]) -> str:
    """Everything, for machines."""
    content = {
        "run": asdict(facts),
        "totals": asdict(totals),
        "canaries": [asdict(hunt) for hunt in hunts],
    }
    return json.dumps(content, indent=2) + "\n"


def as_markdown(facts: Facts, totals: Totals, hunts: Sequence[Hunt]) -> str:
    """Everything, for people."""
    lines = [
        "# Simulator campaign",
        "",
        f"`{facts.command}`: {facts.jobs} workers, {facts.seconds / 60:.0f} minutes, "
        f"Python {facts.python} on {facts.machine}.",
        "",
        "| | |",
        "|---|---:|",
        f"| seeds | {totals.seeds:,} |",
        f"| failed | {len(totals.failures)} |",
        f"| virtual hours | {totals.virtual_hours:.1f} |",
        f"| operations of clients | {totals.operations:,} |",
        f"| of these with an unknown outcome | {totals.unknown:,} |",
        f"| turns | {totals.turns:,} |",
        f"| frames delivered | {totals.frames:,} |",
        f"| histories undecided | {totals.undecided} |",
    ]
    lines += [f"| fault: {name} | {count:,} |" for name, count in sorted(totals.faults.items())]
    for seed, failure in sorted(totals.failures.items()):
        lines += [
            "",
            f"Seed {seed}: {failure}",
            f"`python -m tests.simulator --seed {seed} --trace`",
        ]
    if hunts:
        lines += ["", "## Canaries against the general swarm", ""]
        lines += ["| canary | the mistake | seen in | seeds needed |", "|---|---|---|---:|"]
        lines += [_row(hunt) for hunt in hunts]
    return "\n".join(lines) + "\n"


def _row(hunt: Hunt) -> str:
    broken = canary(hunt.name)
    needed = f"not within {hunt.tried}" if hunt.seed is None else str(hunt.seed)
    return f"| {hunt.name} | {broken.mistake} | {broken.seen_in} | {needed} |"
