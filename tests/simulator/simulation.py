"""One seed from beginning to end.

1.  *Safety phase*: clients work, the nemesis hurts, the checkers watch every turn.
2.  *Liveness phase*: the nemesis stops. In half of the seeds it first repairs a *core*, a quorum
    drawn by the seed, and leaves the others as bad as they may be; then, in all seeds, everything
    that can be repaired. Each time, within a bound of virtual time, every client must get an answer
    to all it asked and to some more, and all replicas that work must come to the same state.
3.  The history of all clients is judged, by the log that was committed.

Whatever goes wrong raises; ``run_seed`` turns it into a :class:`Report` that says how to see it
again.
"""

import random
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.simulator.checkers import Violation
from tests.simulator.cluster import Cluster
from tests.simulator.judgement import judge_run
from tests.simulator.nemesis import Nemesis
from tests.simulator.node import Node
from tests.simulator.options import Options, draw_options
from tests.simulator.profiles import Profile, general_swarm
from tests.simulator.scheduler import MILLISECOND, SECOND, Scheduler
from tests.simulator.trace import Trace

LIVENESS_STEP = 50 * MILLISECOND
LAST_OPERATIONS = 5
"""What each client has to get done after a repair."""


@dataclass(slots=True)
class Report:
    """What one seed came to. ``failure`` is empty when all promises were kept."""

    seed: int
    options: Options
    trace: Trace
    failure: str = ""
    details: str = ""
    operations: int = 0
    unknown: int = 0
    turns: int = 0
    frames: int = 0
    virtual_ms: int = 0
    undecided: bool = False
    facts: dict[str, int] = field(default_factory=dict)
    """How often each fault has struck."""


class Simulation:
    """A cluster, its clients and its nemesis, made from a seed."""

    def __init__(self, seed: int, options: Options, *, print_lines: bool = False) -> None:
        self.scheduler = Scheduler()
        self.trace = Trace(self.scheduler, print_lines=print_lines)
        self.options = options
        self.cluster = Cluster(seed, options, self.scheduler, self.trace)
        self.nemesis = Nemesis(self.cluster, random.Random(f"{seed} nemesis"))

    def run(self) -> None:
        """Both phases and the judgement; raises what goes wrong."""
        self.cluster.start()
        self.nemesis.start()
        self.scheduler.run(until=self.options.safety)
        self.end()

    def end(self) -> None:
        """The liveness phase and the judgement."""
        self.nemesis.stop()
        if self.options.core_first:
            self._live(self.nemesis.repair_core())
        self.trace.note("nemesis", "repair everything")
        self.nemesis.repair()
        self._live(None)
        for node in self.cluster.members:
            for group in range(2):
                self.cluster.compare_rows(node, group)
        judge_run(self.cluster)

    def _live(self, core: Sequence[Node] | None) -> None:
        """Runs until everybody is content, at most as long as the options allow; only these nodes
        have to be, if any are given.
        """
        for client in self.cluster.clients:
            client.patient = True
            client.budget = LAST_OPERATIONS
        deadline = self.scheduler.now + self.options.liveness
        missing = "nothing happened"
        while missing and self.scheduler.now < deadline:
            self.scheduler.run(until=self.scheduler.now + LIVENESS_STEP)
            missing = self._missing(core)
        if missing:
            raise Violation(
                f"no progress in {self.options.liveness // SECOND} s of calm: {missing}"
            )
        self.trace.note("cluster", "converged")

    def _missing(self, core: Sequence[Node] | None) -> str:
        for client in self.cluster.clients:
            if not client.idle:
                return f"client {client.endpoint} waits: {client.describe()}"
        missing = self.nemesis.operator.missing() if core is None else ""
        return missing or self.cluster.converged(core)


def run_seed(seed: int, *, profile: Profile = general_swarm, print_lines: bool = False) -> Report:
    """Runs a seed, its options turned as ``profile`` has it; never raises for what the cluster
    does wrong.
    """
    options = profile(draw_options(seed))
    simulation = Simulation(seed, options, print_lines=print_lines)
    cluster = simulation.cluster
    report = Report(seed, options, simulation.trace)
    try:
        simulation.run()
    except Exception as failure:  # noqa: BLE001 - a finding
        report.failure = f"{type(failure).__name__}: {failure}"
        report.details = traceback.format_exc()
    report.operations = sum(client.completed for client in cluster.clients)
    report.unknown = sum(client.unknown for client in cluster.clients)
    report.turns = cluster.turns
    report.frames = cluster.network.statistics.delivered
    network = asdict(cluster.network.statistics)
    del network["sent"], network["delivered"]
    report.facts = {**{f"frames {name}": count for name, count in network.items()}}
    report.facts |= dict(sorted(cluster.faults.items()))
    report.virtual_ms = simulation.scheduler.now // MILLISECOND
    return report
