"""Bits that turn on a disk, only where a promise of the log has to notice.

The write-ahead log promises to recognise damage below its newest durable claim, and says itself
that it cannot tell a flip in its very last write from a torn write. So flips fall below the newest
claim that the medium holds: on entries, votes, terms, checkpoints, claims, and on the prefixes of
segments. Above the last write of a segment there are zeros that mean nothing; they are spared,
because a flip that may go unnoticed proves nothing.

After such a flip there is one right outcome: the next start ends in WalDamage. (Unless the segment
was no longer needed and is gone by then; ``SimulatedDisk.damaged`` knows.)
"""

import random

from kvorum_server.storage.segment import claims_from, segment_number
from tests.simulator.disk import SimulatedDisk


def places_below_claim(disk: SimulatedDisk) -> list[tuple[str, int]]:
    """The segments that hold claimed bytes, with how many of their first bytes those are."""
    segments = {
        number: (name, data)
        for name, data in disk.durable().items()
        if (number := segment_number(name)) is not None
    }
    claims = [claim for n, (_, data) in segments.items() for claim in claims_from(data, n, 0)]
    if not claims:
        return []
    newest = max(claims)
    places = []
    for number, (name, data) in sorted(segments.items()):
        used = newest.offset if number == newest.segment else len(data.rstrip(b"\0"))
        if number <= newest.segment and used:
            places.append((name, used))
    return places


def flip_log(disk: SimulatedDisk, generator: random.Random) -> str:
    """Turns one bit of what the log has claimed; where. Empty when nothing was claimed yet."""
    places = places_below_claim(disk)
    if not places:
        return ""
    name, used = generator.choices(places, weights=[used for _, used in places])[0]
    offset = generator.randrange(used)
    disk.flip(name, offset, generator.randrange(8))
    return f"{name} at {offset}"
