"""``kvorum verify``: do the replicas of each group hold the same state?

The cluster finds out by itself from time to time; this verb has it do so now and shows what was
found. A replica that differs from a quorum of its group is given a new state without further words,
so a second ``verify`` after that should find nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.output import write_json, write_line
from kvorum_cli.settings import Verb, call, settings

if TYPE_CHECKING:
    from kvorum import StateComparison

VERIFY_SECONDS = 60.0
"""Hashing all rows takes a while; ``--timeout`` may give it longer."""


@click.command(
    cls=Verb,
    examples="""
    kvorum verify
    kvorum verify --timeout 600
    """,
)
def verify() -> None:
    """Have the replicas of every group compare their states.

    Exits with 3 when replicas differ.
    """
    timeout = max(VERIFY_SECONDS, settings().timeout_seconds)
    tell(call(lambda client: client.compare_states(timeout=timeout)), as_json=settings().json)


def tell(found: Sequence[StateComparison], *, as_json: bool) -> None:
    """Shows what was found; raises Stop when replicas differ."""
    if as_json:
        from dataclasses import asdict

        write_json({"groups": [asdict(comparison) for comparison in found]})
    else:
        for comparison in found:
            write_line(f"group {comparison.group}: {comparison.finding}")
    differing = [str(comparison.group) for comparison in found if comparison.differs]
    if differing:
        raise Stop(Exit.CONFLICT, f"replicas differ in group {', '.join(differing)}")
