"""What a bad line does to a packet, as a pure function of a seeded generator and the time.

A :class:`Quality` says how bad a line from one host to another is; a :class:`Line` has one and
remembers how busy it is. Asked about a packet it answers when copies of it arrive: never (lost),
once, or twice. Jitter is drawn for each packet, so packets overtake each other, as they do on real
lines with more than one path. A slow line has a queue of bounded length, and what does not fit is
lost, which is how TCP notices that it sends too fast.

Left out: corrupted bytes (TCP's checksum turns nearly all of them into losses) and bursts of loss.
"""

import dataclasses
import random
from dataclasses import dataclass

QUEUE_SECONDS_MAX = 0.5
"""What a slow line keeps waiting at most, as the time that it takes to send it."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How bad a line is; the default is a perfect one.

    ``loss`` and ``duplicates`` are shares of the packets, ``kilobits_per_second`` 0 is unlimited.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    duplicates: float = 0.0
    kilobits_per_second: float = 0.0

    def __str__(self) -> str:
        """
        >>> str(Quality(delay_ms=40, jitter_ms=10, loss=0.05))
        '40±10 ms, 5% lost'
        """
        parts = []
        if self.delay_ms or self.jitter_ms:
            parts.append(f"{self.delay_ms:g}±{self.jitter_ms:g} ms")
        if self.loss:
            parts.append(f"{self.loss:.0%} lost")
        if self.duplicates:
            parts.append(f"{self.duplicates:.0%} twice")
        if self.kilobits_per_second:
            parts.append(f"{self.kilobits_per_second:g} kbit/s")
        return ", ".join(parts) or "perfect"

    def as_json(self) -> dict[str, float]:
        """The fields by name."""
        return dataclasses.asdict(self)


class Line:
    """One direction between two hosts.

    >>> Line(Quality(delay_ms=40), random.Random(1)).arrivals(1500, now=7.0)
    [7.04]
    >>> Line(Quality(loss=1.0), random.Random(1)).arrivals(1500, now=7.0)
    []
    """

    def __init__(self, quality: Quality, generator: random.Random) -> None:
        self.quality = quality
        self._generator = generator
        self._busy_until = 0.0

    def arrivals(self, size_bytes: int, now: float) -> list[float]:
        """When copies of a packet that is sent now arrive, in seconds of the same clock."""
        quality, chance = self.quality, self._generator.random
        if chance() < quality.loss:
            return []
        sent_at = now
        if quality.kilobits_per_second:
            begin = max(now, self._busy_until)
            if begin - now > QUEUE_SECONDS_MAX:
                return []
            sent_at = begin + size_bytes * 8 / (quality.kilobits_per_second * 1000)
            self._busy_until = sent_at
        copies = 2 if chance() < quality.duplicates else 1
        return [sent_at + self._delay_seconds() for _ in range(copies)]

    def _delay_seconds(self) -> float:
        quality = self.quality
        jitter_ms = self._generator.uniform(-quality.jitter_ms, quality.jitter_ms)
        return max(0.0, quality.delay_ms + jitter_ms) / 1000
