"""Every golden script, under every protocol that it speaks of."""

import os
from pathlib import Path

import pytest

from kvorum_server.consensus import PROTOCOLS
from tests.scripts.runner import protocols_of, run_script

SCRIPTS = sorted((Path(__file__).parent / "consensus").glob("*.txt"))

CASES = [
    pytest.param(path, protocol, id=f"{path.stem}-{protocol}")
    for path in SCRIPTS
    for protocol in protocols_of(path, list(PROTOCOLS))
]


@pytest.mark.parametrize(("path", "protocol"), CASES)
def test_script(path: Path, protocol: str) -> None:
    expected = path.read_text()
    happened = run_script(expected, protocol)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(happened)
        return
    assert happened == expected


def test_scripts_were_found() -> None:
    assert len(SCRIPTS) > 20
