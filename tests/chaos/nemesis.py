"""Which faults strike when: a schedule made from a seed, before anything runs.

The kinds of fault come like cards from a shuffled deck, so that a run of a few minutes has met all
of them and a long one meets them in ever new orders. After most faults the cluster gets a moment of
peace, in which it must come back; sometimes the next fault does not wait for the end of the last
one. Two faults that stop processes or fill disks never overlap: undoing one would undo the other.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.faults import (
    BadLines,
    Fault,
    FullDisk,
    Kill,
    Partition,
    Pause,
    Replace,
    Restart,
    Shape,
    Strike,
    Swap,
    Victim,
)
from tests.chaos.quality import Quality

FIRST_STRIKE_SECONDS = 2.0
PEACE_SECONDS = (1.5, 3.5)
OVERLAP_CHANCE = 0.25


@dataclass(frozen=True, slots=True)
class Card:
    """One kind of fault: how it is drawn, whom it may hit, how long it lasts."""

    name: str
    draw: Callable[[random.Random], Fault]
    victims: tuple[Victim, ...]
    lasts_seconds: tuple[float, float]


def _partition(*shapes: Shape) -> Callable[[random.Random], Fault]:
    return lambda generator: Partition(generator.choice(shapes))


def _delay(generator: random.Random) -> Fault:
    delay_ms = generator.choice((5, 20, 60, 150))
    loss = generator.choice((0.0, 0.0, 0.02))
    return BadLines(Quality(delay_ms=delay_ms, jitter_ms=delay_ms / 4, loss=loss))


def _loss(generator: random.Random) -> Fault:
    loss = generator.choice((0.02, 0.1, 0.3))
    return BadLines(Quality(delay_ms=1, loss=loss, duplicates=generator.choice((0.0, 0.05))))


def _rate(generator: random.Random) -> Fault:
    return BadLines(Quality(kilobits_per_second=generator.choice((256, 1000, 4000))))


def _always(fault: Fault) -> Callable[[random.Random], Fault]:
    return lambda generator: fault


ONE = (Victim.LEADER, Victim.LEADER, Victim.FOLLOWER)
ONE_OR_ALL = (*ONE, Victim.ALL)

DECK = (
    Card("kill", _always(Kill()), ONE, (0.2, 4.0)),
    Card("kill all", _always(Kill()), (Victim.ALL,), (0.2, 2.0)),
    Card("pause", _always(Pause()), ONE, (0.3, 4.0)),
    Card("restart", _always(Restart()), ONE, (0.1, 1.0)),
    Card("isolate", _partition(Shape.ISOLATED), (Victim.LEADER,), (1.0, 6.0)),
    Card("halves", _partition(Shape.MINORITY), ONE, (1.0, 8.0)),
    Card("one way", _partition(Shape.DEAF, Shape.MUTE, Shape.ONE_WAY), ONE, (1.0, 6.0)),
    Card("bridge", _partition(Shape.BRIDGE), ONE, (1.0, 6.0)),
    Card("clients", _partition(Shape.CLIENTS), (Victim.LEADER,), (1.0, 5.0)),
    Card("delay", _delay, ONE_OR_ALL, (1.0, 6.0)),
    Card("loss", _loss, ONE_OR_ALL, (1.0, 6.0)),
    Card("rate", _rate, ONE_OR_ALL, (1.0, 6.0)),
    Card("replace", _always(Replace()), ONE, (0.0, 0.0)),
    Card("swap", _always(Swap()), ONE, (0.0, 0.0)),
    Card("disk", lambda generator: FullDisk(generator.random() < 0.5), ONE, (1.0, 4.0)),
)


def plan(seed: int, seconds: float, deck: Sequence[Card] = DECK) -> tuple[Strike, ...]:
    """The strikes of a run; all are over ``seconds`` after the load began.

    >>> plan(7, 60) == plan(7, 60)
    True
    """
    generator = random.Random(f"nemesis {seed}")
    strikes: list[Strike] = []
    at = FIRST_STRIKE_SECONDS
    for card in _cards(generator, deck):
        strike = Strike(
            at,
            generator.uniform(*card.lasts_seconds),
            card.draw(generator),
            generator.choice(card.victims),
            generator.randrange(1 << 16),
        )
        if strike.at_seconds + strike.lasts_seconds > seconds:
            break
        strikes.append(strike)
        at = _after(strike, at, generator)
    return tuple(strikes)


def _cards(generator: random.Random, deck: Sequence[Card]) -> Iterator[Card]:
    while True:
        yield from generator.sample(deck, len(deck))


def _after(strike: Strike, at: float, generator: random.Random) -> float:
    """When the next one comes."""
    if is_weather(strike.fault) and generator.random() < OVERLAP_CHANCE:
        return at + strike.lasts_seconds * generator.uniform(0.3, 0.9)
    return at + strike.lasts_seconds + generator.uniform(*PEACE_SECONDS)


def is_weather(fault: Fault) -> bool:
    """Whether a fault touches the network only, and may overlap with any other."""
    return isinstance(fault, Partition | BadLines)
