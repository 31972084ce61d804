"""How many operations a second, how long each takes, and what they cost the processors.

Every cell of the table (operation, calls in flight) is measured in rounds, the systems taking turns
within a round (A B A B ...), so that what happens to the machine meanwhile happens to all of them.
Medians are reported with the smallest and the largest; a single best run says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import median

from tests.bench.load import KEY_COUNT, Job, Measurement
from tests.bench.systems import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    operations: tuple[str, ...]
    in_flight: tuple[int, ...]
    rounds: int
    seconds: float
    warm_up_seconds: float
    keys: int = KEY_COUNT


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Cell:
    """The rounds of one system at one operation and number of calls in flight."""

    system: str
    operation: str
    in_flight: int
    rounds: tuple[Measurement, ...]

    def spread(self, name: str) -> Spread:
        """A field of the measurements over the rounds."""
        assert name in {field.name for field in fields(Measurement)}, name
        values = [float(getattr(measurement, name)) for measurement in self.rounds]
        return Spread(median(values), min(values), max(values))

    @property
    def failures(self) -> int:
        """Calls that failed in any round."""
        return sum(measurement.failures for measurement in self.rounds)


async def measure(stage: Stage, settings: Settings, tell: Callable[[str], None]) -> list[Cell]:
    """Fills every system, then measures every cell; ``tell`` hears what is going on."""
    for client in stage.clients:
        tell(f"{client.system.name}: writing {settings.keys:,} keys")
        await client.run(Job(operation="fill", keys=settings.keys))
    return [
        cell
        for operation in settings.operations
        for in_flight in settings.in_flight
        for cell in await _cells(stage, settings, operation, in_flight, tell)
    ]


async def _cells(
    stage: Stage, settings: Settings, operation: str, in_flight: int, tell: Callable[[str], None]
) -> Sequence[Cell]:
    measured: dict[str, list[Measurement]] = {client.system.name: [] for client in stage.clients}
    for number in range(1, settings.rounds + 1):
        for client in stage.clients:
            name = client.system.name
            tell(f"{name}: {operation}, {in_flight} in flight, round {number}/{settings.rounds}")
            job = Job(
                operation=operation,
                in_flight=in_flight,
                seconds=settings.seconds,
                warm_up_seconds=settings.warm_up_seconds,
                keys=settings.keys,
                servers=client.system.processes,
            )
            measured[name].append(await client.run(job))
    return [Cell(name, operation, in_flight, tuple(all_)) for name, all_ in measured.items()]
