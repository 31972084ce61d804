"""A short run on real processes, and a short measurement: what ``make chaos`` does for hours."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.network import NAMESPACES, environment, sweep
from tests.chaos.permission import need_namespaces
from tests.chaos.topology import NAME_PREFIX

pytestmark = pytest.mark.timeout(300)

SEED, SECONDS = 2544, 22
"""A schedule with a fault of every family, most of them on the leader."""
PATIENCE_SECONDS = 240


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m tests.chaos`` in a process of its own, which moves into a namespace."""
    need_namespaces()
    words = [sys.executable, "-m", "tests.chaos", *arguments]
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env=environment(),
        )
    finally:
        sweep()


def test_a_short_run_is_clean_and_leaves_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = run("--seed", str(SEED), "--seconds", str(SECONDS), "--report", str(report))
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"see {report}"
    text = (report / "report.md").read_text()
    assert "**Passed.**" in text
    assert f"--seed {SEED} --seconds {SECONDS}" in text
    assert "<svg" in (report / "timeline.svg").read_text()
    assert str(report) in done.stdout
    left = [path.name for path in NAMESPACES.glob(f"{NAME_PREFIX}-*")]
    assert not [name for name in left if not Path(f"/proc/{name.split('-')[2]}").exists()]


def test_an_outage_is_measured() -> None:
    done = run("failover", "--kind", "partition", "--times", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "partition: median" in done.stdout
